/*
 * Signals to one callback. The dispositions themselves remember what was ignored at the
 * start, and the kernel, as pending, which signal ended a loop, so nothing is kept
 * between stop_prepare, stop_open and stop_end_by_signal.
 */
#include "io/loop_uv.h"
#include "io/stop.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIGNALS = 3 };
static const int numbers[SIGNALS] = {SIGINT, SIGTERM, SIGHUP};

struct stop {
    uv_signal_t signals[SIGNALS];
    struct sigaction before[SIGNALS];
    struct loop *loop;
    struct watch output;
    int output_fd; /* an epoll that watches stdout, or -1 */
    bool had_terminal;
    int came; /* the first of them; 0 */
    int open; /* of the signals, in whatever order libuv closes them */
    void (*on_stop)(void *ctx, int signum);
    void *ctx;
};

/* The kernel's own, for a write to a closed pipe, names this process as the sender. */
static void on_pipe(int signum, siginfo_t *info, void *context)
{
    (void)signum, (void)context;
    if (info->si_code == SI_USER && info->si_pid != getpid())
        (void)raise(SIGTERM);
}

static bool is_ignored(int signum)
{
    struct sigaction now;
    return sigaction(signum, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) == 0 &&
           now.sa_handler == SIG_IGN;
}

/* The write fails with EFBIG, as on a full disk; exec gives others the default again.
 */
static void on_file_limit(int signum)
{
    (void)signum;
}

void stop_prepare(void)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
    struct sigaction act = {.sa_sigaction = on_pipe,
                            .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction limit = {.sa_handler = on_file_limit, .sa_flags = SA_RESTART};
    if (!is_ignored(SIGPIPE))
        (void)sigaction(SIGPIPE, &act, NULL);
    if (!is_ignored(SIGXFSZ))
        (void)sigaction(SIGXFSZ, &limit, NULL);
}

/* Nothing is under way that could be told of it; what was printed was flushed. */
static void on_idle_signal(int signum)
{
    (void)signum;
    _exit(0);
}

void stop_prepare_command(void)
{
    struct sigaction act = {.sa_handler = on_idle_signal};
    for (int i = 0; i < SIGNALS; i++) /* a script's `&` ignores SIGINT */
        if (numbers[i] != SIGHUP || !is_ignored(SIGHUP))
            (void)sigaction(numbers[i], &act, NULL);
}

static bool has_terminal(void)
{
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static void on_signal(uv_signal_t *h, int signum)
{
    struct stop *s = h->data;
    if (s->came == 0)
        s->came = signum;
    s->on_stop(s->ctx, signum);
}

int stop_open(struct stop **out, struct loop *loop,
              void (*on_stop)(void *ctx, int signum), void *ctx)
{
    struct stop *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    s->loop = loop;
    s->on_stop = on_stop;
    s->ctx = ctx;
    s->output_fd = -1;
    s->had_terminal = has_terminal();
    for (int i = 0; i < SIGNALS; i++) {
        (void)uv_signal_init(loop_uv(loop), &s->signals[i]);
        s->signals[i].data = s;
        s->open++;
        (void)sigaction(numbers[i], NULL, &s->before[i]);
        if (numbers[i] != SIGHUP || !is_ignored(SIGHUP))
            (void)uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
    *out = s;
    return 0;
}

/* What is typed on a terminal wakes it too, and is nobody's end. */
static void on_output(void *ctx, int events)
{
    struct stop *s = ctx;
    struct epoll_event e;
    (void)events;
    if (epoll_wait(s->output_fd, &e, 1, 0) != 1 ||
        (e.events & (EPOLLERR | EPOLLHUP)) == 0)
        return;
    watch_close(&s->output);
    s->on_stop(s->ctx, SIGPIPE);
}

/* Is its closed other end ours to hear? Not with nohup or setsid, for a terminal. */
static bool is_heard(const struct stop *s, int fd)
{
    struct stat st;
    if (isatty(fd) == 1)
        return s->had_terminal && !is_ignored(SIGHUP);
    return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) &&
           !is_ignored(SIGPIPE);
}

/*
 * Errors are told without being asked for, and an epoll of its own keeps the loop
 * from making stdout nonblocking, which others may share. A terminal that hangs up
 * says so only to who waits for input.
 */
void stop_watch_output(struct stop *s)
{
    struct epoll_event e = {.events =
                                isatty(STDOUT_FILENO) == 1 ? EPOLLIN | EPOLLET : 0};
    if (s->output_fd >= 0 || !is_heard(s, STDOUT_FILENO))
        return;
    s->output_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->output_fd < 0)
        return;
    if (epoll_ctl(s->output_fd, EPOLL_CTL_ADD, STDOUT_FILENO, &e) != 0 ||
        watch_start(&s->output, s->loop, s->output_fd, WATCH_READ, on_output, s) != 0) {
        (void)close(s->output_fd);
        s->output_fd = -1;
    }
}

bool stop_terminal_closed(const struct stop *s)
{
    return s->had_terminal && !has_terminal();
}

bool stop_now(void)
{
    struct sigaction now;
    return sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler != SIG_DFL &&
           now.sa_handler != SIG_IGN && now.sa_handler != on_idle_signal &&
           raise(SIGTERM) == 0;
}

static void on_closed(uv_handle_t *h)
{
    struct stop *s = h->data;
    if (--s->open == 0)
        free(s);
}

void stop_close(struct stop *s)
{
    sigset_t all, mask;
    if (s == NULL)
        return;
    (void)sigfillset(&all); /* libuv leaves the default behind, for a moment */
    (void)pthread_sigmask(SIG_BLOCK, &all, &mask);
    for (int i = 0; i < SIGNALS; i++) {
        uv_close((uv_handle_t *)&s->signals[i], on_closed);
        (void)sigaction(numbers[i], &s->before[i], NULL);
    }
    if (s->came != 0) { /* for stop_end_by_signal */
        (void)sigaddset(&mask, s->came);
        (void)raise(s->came);
    }
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    watch_close(&s->output);
    if (s->output_fd >= 0)
        (void)close(s->output_fd);
}

static sigset_t all_numbers(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    for (int i = 0; i < SIGNALS; i++)
        (void)sigaddset(&set, numbers[i]);
    return set;
}

void stop_hold(sigset_t *before)
{
    sigset_t set = all_numbers();
    (void)pthread_sigmask(SIG_BLOCK, &set, before);
}

bool stop_is_due(void)
{
    sigset_t set;
    bool due = false;
    (void)sigpending(&set);
    for (int i = 0; i < SIGNALS; i++)
        due = due || (sigismember(&set, numbers[i]) == 1 && !is_ignored(numbers[i]));
    return due;
}

void stop_forget(const sigset_t *before)
{
    sigset_t set = all_numbers();
    struct timespec none = {.tv_sec = 0};
    while (sigtimedwait(&set, NULL, &none) > 0)
        ;
    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

void stop_end_by_signal(void)
{
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t due, one;
    (void)sigpending(&due);
    for (int i = 0; i < SIGNALS; i++) {
        if (sigismember(&due, numbers[i]) != 1)
            continue;
        (void)sigemptyset(&one);
        (void)sigaddset(&one, numbers[i]);
        (void)sigaction(numbers[i], &usual, NULL);
        (void)pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    }
}
