/* Terminals without echo, and files. The password stands in the caller's memory only.
 */
#include "cli/password.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <sodium.h>

#include "io/given_file.h"

/*
 * One line, byte after byte: no buffer keeps a copy, and what follows stays unread.
 * Returns 0 or a negative error.
 */
static int read_line(int fd, char *out, size_t cap)
{
    size_t n = 0;
    while (true) {
        char c;
        ssize_t got = read(fd, &c, 1);
        if (got < 0)
            return errno == EINTR ? POSTERN_ERR_CLOSED : POSTERN_ERR_IO;
        if (got == 0 || c == '\n')
            break;
        if (c == '\0')
            return POSTERN_ERR_INVALID;
        if (n + 1 == cap)
            return POSTERN_ERR_LIMIT;
        out[n++] = c;
    }
    if (n > 0 && out[n - 1] == '\r')
        n--;
    out[n] = '\0';
    return 0;
}

static int line_fault(int err, size_t cap, struct fault *f)
{
    switch (err) {
    case POSTERN_ERR_LIMIT:
        return fault_set(f, POSTERN_ERR_INVALID, "choose a shorter one",
                         "the password is longer than %zu bytes", cap - 1);
    case POSTERN_ERR_INVALID:
        return fault_set(f, POSTERN_ERR_INVALID, "use text",
                         "the password has a byte that is no character");
    case POSTERN_ERR_CLOSED:
        return fault_set(f, err, "run it again", "interrupted; nothing was changed");
    default:
        return fault_set(f, err, "check it and try again",
                         "the password cannot be read: %s", strerror(errno));
    }
}

/* Only so that read(2) is interrupted and the terminal's echo comes back. */
static void on_signal(int signum)
{
    (void)signum;
}

static int ask(int fd, const char *prompt, char *out, size_t cap)
{
    struct termios before, silent;
    struct sigaction act = {.sa_handler = on_signal}, old_int, old_term, old_hup;
    if (tcgetattr(fd, &before) != 0)
        return POSTERN_ERR_IO;
    silent = before;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
    (void)sigaction(SIGINT, &act, &old_int);
    (void)sigaction(SIGTERM, &act, &old_term);
    (void)sigaction(SIGHUP, &act, &old_hup);
    int err = tcsetattr(fd, TCSAFLUSH, &silent) == 0 ? 0 : POSTERN_ERR_IO;
    if (err == 0) {
        (void)!write(fd, prompt, strlen(prompt));
        err = read_line(fd, out, cap);
        (void)!write(fd, "\n", 1);
        (void)tcsetattr(fd, TCSAFLUSH, &before);
    }
    (void)sigaction(SIGINT, &old_int, NULL);
    (void)sigaction(SIGTERM, &old_term, NULL);
    (void)sigaction(SIGHUP, &old_hup, NULL);
    return err;
}

/* One that is too short is not asked for again: password_read refuses it. */
static int ask_twice(char *out, size_t cap, size_t min, struct fault *f)
{
    char again[1024] = "";
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return fault_set(f, POSTERN_ERR_IO, "use --password-file",
                         "the terminal cannot be opened: %s", strerror(errno));
    int err = ask(fd, "Password: ", out, cap);
    bool enough = err == 0 && strlen(out) >= min;
    if (enough)
        err = ask(fd, "Again: ", again, cap < sizeof(again) ? cap : sizeof(again));
    if (err != 0)
        err = line_fault(err, cap, f);
    else if (enough && strcmp(out, again) != 0)
        err = fault_set(f, POSTERN_ERR_INVALID, "run it again",
                        "the two passwords are not the same");
    sodium_memzero(again, sizeof(again));
    close(fd);
    return err;
}

static int from_file(char *out, size_t cap, const char *file, struct fault *f)
{
    bool is_stdin = strcmp(file, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : given_file_open(file, "the password", f);
    if (fd < 0)
        return fd;
    int err = read_line(fd, out, cap);
    if (err != 0)
        err = line_fault(err, cap, f);
    if (!is_stdin)
        close(fd);
    return err;
}

int password_read(char *out, size_t cap, size_t min, const char *file, struct fault *f)
{
    out[0] = '\0';
    int err = file == NULL && isatty(STDIN_FILENO) == 1
                  ? ask_twice(out, cap, min, f)
                  : from_file(out, cap, file != NULL ? file : "-", f);
    if (err == 0 && out[0] == '\0')
        err = fault_set(f, POSTERN_ERR_INVALID,
                        "type one, or give a file's name with --password-file",
                        "no password was given");
    else if (err == 0 && strlen(out) < min)
        err = fault_set(f, POSTERN_ERR_INVALID,
                        "choose a longer one, four words for example",
                        "the password has fewer than %zu characters", min);
    if (err != 0)
        sodium_memzero(out, cap);
    return err;
}
