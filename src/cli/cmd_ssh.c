/*
 * ssh through Postern: `postern ssh`, which becomes ssh itself, and the lines for
 * ~/.ssh/config by which a plain ssh does the same.
 */
#include "cli/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/lack.h"
#include "io/textfile.h"

#define ZONE ".postern"

enum { COMMAND_LEN = 4 * PATH_MAX, WORDS_BEFORE = 4 };

/* As one word of a shell, and of ssh, which knows '%'. False: there was no room. */
static bool add_quoted(char *to, size_t cap, const char *word)
{
    size_t used = strlen(to);
    bool plain = word[0] != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyz"
                                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                 "0123456789/._-") == strlen(word);
    FILE *f = fmemopen(to + used, cap - used, "w");
    if (f == NULL)
        return false;
    if (!plain)
        (void)fputc('\'', f);
    for (const char *at = word; *at != '\0'; at++)
        (void)fprintf(f, *at == '\'' ? "'\\''" : *at == '%' ? "%%%%" : "%c", *at);
    if (!plain)
        (void)fputc('\'', f);
    (void)fputc('\0', f);
    bool fits = fflush(f) == 0 && ferror(f) == 0;
    (void)fclose(f);
    return fits;
}

/* "postern" where a shell finds this program by it, else its path. */
static const char *own_name(char path[static PATH_MAX])
{
    char found[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    const char *at = getenv("PATH");
    if (n <= 0)
        return "postern";
    path[n] = '\0';
    for (size_t len; at != NULL && *at != '\0'; at += len + (at[len] == ':')) {
        char real[PATH_MAX];
        len = strcspn(at, ":");
        (void)snprintf(found, sizeof(found), "%.*s/postern", (int)len, at);
        if (access(found, X_OK) == 0)
            return realpath(found, real) != NULL && strcmp(real, path) == 0 ? "postern"
                                                                            : path;
    }
    return path;
}

/* What ssh starts in place of a TCP connection; `host` is ssh's word for it. */
static int proxy_command(char *to, size_t cap, const char *state, const char *host,
                         struct fault *f)
{
    char path[PATH_MAX];
    bool fits;
    to[0] = '\0';
    fits = add_quoted(to, cap, own_name(path)) && strlen(to) + 16 < cap;
    if (fits)
        (void)strncat(to, " nc", cap - strlen(to) - 1);
    if (fits && state != NULL) {
        (void)strncat(to, " --state ", cap - strlen(to) - 1);
        fits = add_quoted(to, cap, state);
    }
    if (!fits || strpbrk(to, "\r\n") != NULL || strlen(to) + 16 > cap)
        return fault_set(f, POSTERN_ERR_INVALID, "use a shorter and plain one",
                         "ssh cannot be told of this state directory");
    (void)snprintf(to + strlen(to), cap - strlen(to), " %s %%p", host);
    return 0;
}

/* [USER@]HOST as [USER@]HOST.postern, which is one name for known_hosts as well. */
static int destination(char *to, size_t cap, const char *text, struct fault *f)
{
    const char *at = strrchr(text, '@'), *host = at != NULL ? at + 1 : text;
    size_t len = strlen(host), zone = sizeof(ZONE) - 1;
    bool whole = len > zone && strcasecmp(host + len - zone, ZONE) == 0;
    if (len == 0 || at == text || text[0] == '-' || host[0] == '-' ||
        strpbrk(host, "/: ") != NULL || strlen(text) + sizeof(ZONE) > cap)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "write it as in: postern ssh me@home -p 2222",
                         "'%.60s' is not a host", text);
    (void)snprintf(to, cap, "%s%s", text, whole ? "" : ZONE);
    return 0;
}

int cmd_ssh(const struct options *o, struct events *out, struct fault *f)
{
    static const char option[] = "ProxyCommand=";
    char command[COMMAND_LEN], target[512];
    (void)out;
    (void)snprintf(command, sizeof(command), "%s", option);
    int err = destination(target, sizeof(target), o->args[0], f);
    if (err == 0)
        err = proxy_command(command + sizeof(option) - 1,
                            sizeof(command) - sizeof(option), o->values[OPT_STATE].text,
                            "%n", f);
    if (err != 0)
        return err;
    const char **argv = calloc(o->arg_count + WORDS_BEFORE + 1, sizeof(*argv));
    if (argv == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    argv[0] = "ssh";
    argv[1] = "-o";
    argv[2] = command;
    argv[3] = target;
    for (size_t i = 1; i < o->arg_count; i++)
        argv[WORDS_BEFORE - 1 + i] = o->args[i];
    (void)fflush(NULL);
    (void)execvp("ssh", (char *const *)(uintptr_t)argv);
    err = fault_set(f, POSTERN_ERR_NOTFOUND,
                    errno == ENOENT ? "install it: apt install openssh-client"
                                    : "see that it can be run",
                    "ssh cannot be started: %s", strerror(errno));
    free(argv);
    return err;
}

/* ---------------------------------------------------------------- ~/.ssh/config */

/* Makes the file with mode 0600 when it is not there, and ~/.ssh with 0700. */
static int touch(const char *dir, const char *path, struct fault *f)
{
    int fd = mkdir(dir, 0700) == 0 || errno == EEXIST
                 ? open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600)
                 : -1;
    if (fd < 0)
        return fault_set(f, POSTERN_ERR_PERM, "see that it can be written",
                         "%.200s cannot be made: %s", path, strerror(errno));
    close(fd);
    return 0;
}

static bool has_line(const struct textfile *t, const char *line)
{
    size_t want = strlen(line);
    for (size_t at = 0; at < t->len;) {
        const char *stop = memchr(t->text + at, '\n', t->len - at);
        size_t n = stop != NULL ? (size_t)(stop - t->text) - at : t->len - at;
        if (n == want && memcmp(t->text + at, line, n) == 0)
            return true;
        at += n + 1;
    }
    return false;
}

/* `text` before what is there, unless it is a line of it; or in its place. */
static int put_text(const char *dir, const char *name, const char *text, bool before,
                    struct fault *f)
{
    char path[PATH_MAX];
    struct textfile t;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int err = touch(dir, path, f);
    if (err != 0)
        return err;
    err = textfile_read(&t, path, false, f);
    if (err == 0 && !(before && has_line(&t, text))) {
        size_t len = strlen(text), more = before ? t.len : 0;
        char *all = malloc(len + 2 + more);
        if (all == NULL) {
            err = fault_lack(f, POSTERN_ERR_NOMEM);
        } else {
            (void)snprintf(all, len + 2, "%s\n", text);
            len++;
            if (more > 0)
                memcpy(all + len, t.text, more);
            err = textfile_write(&t, all, len + more, f);
        }
        free(all);
    }
    textfile_free(&t);
    return err;
}

static int install(const char *stanza, struct events *out, struct fault *f)
{
    char dir[PATH_MAX - 64], text[COMMAND_LEN + 256];
    const char *home = getenv("HOME");
    if (home == NULL || home[0] != '/')
        return fault_set(f, POSTERN_ERR_INVALID, "set HOME", "there is no home");
    (void)snprintf(dir, sizeof(dir), "%.3800s/.ssh", home);
    (void)snprintf(
        text, sizeof(text),
        "# Made by 'postern nc --ssh-config --install', which makes it anew\n"
        "%s",
        stanza);
    int err = put_text(dir, "postern.conf", text, false, f);
    if (err == 0) /* at the head: behind a Host it would be for that host only */
        err = put_text(dir, "config", "Include postern.conf", true, f);
    if (err != 0)
        return err;
    struct event e;
    event_begin(&e, "ssh-config");
    event_text(&e, "file", dir);
    events_print(out, &e);
    return 0;
}

int cmd_ssh_config(const struct options *o, struct events *out, struct fault *f)
{
    char command[COMMAND_LEN], stanza[COMMAND_LEN + 128];
    const char *pattern = o->arg_count > 0 ? o->args[0] : "*" ZONE;
    int err =
        proxy_command(command, sizeof(command), o->values[OPT_STATE].text, "%n", f);
    if (err != 0)
        return err;
    if (strpbrk(pattern, "\r\n") != NULL || strlen(pattern) > 100)
        return fault_set(f, POSTERN_ERR_USAGE, "name one host, or none",
                         "that is no pattern for hosts");
    (void)snprintf(stanza, sizeof(stanza), "Host %s\n    ProxyCommand %s", pattern,
                   command);
    if (o->values[OPT_INSTALL].given)
        return install(stanza, out, f);
    (void)printf("%s\n", stanza);
    return 0;
}
