/*
 * getaddrinfo(3) in the loop's pool of threads, or in a thread of its own that writes
 * its result into a pipe and shares nothing. A numeric address takes a timer instead,
 * so that the callback's contract is the same. Knows nothing of what the addresses are
 * for.
 *
 * There are DNS servers that answer what they are asked of IPv4 and swallow what they
 * are asked of IPv6. getaddrinfo() waits for both, which takes it 10 s and more: where
 * it is late, two threads more ask for one family each, and what one of them finds is
 * taken.
 */
#include "io/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/ready.h"
#include "io/sockaddr.h"
#include "io/work.h"

enum {
    ALONE_AFTER_MS = 500,
    TELL_MS = 1000, /* who waits without a loop hears for what */
    NOW_MS = 3000,  /* and waits for so long at most */
};

/* What a thread of its own finds; goes through the pipe in one piece. */
struct finding {
    int family; /* that was asked for; AF_UNSPEC: all */
    int err;
    size_t n;
    struct addr addrs[RESOLVE_MAX];
};

_Static_assert(sizeof(struct finding) <= PIPE_BUF, "a finding is written at once");

struct job {
    char host[256];
    uint16_t port;
    int family, flags; /* of getaddrinfo */
    int fd;            /* of a thread of its own */
};

struct resolve {
    struct timer timer; /* a numeric address; when a thread of its own is late */
    struct watch watch; /* threads of its own */
    int fd, fd_theirs;  /* the pipe; theirs is -1 when all have it that shall */
    bool in_pool, cancelled;
    struct job job;       /* as in the pool, or for each thread */
    struct finding found; /* there, or numeric */
    resolve_cb cb;
    void *ctx;
};

static void finish(struct resolve *r)
{
    resolve_cb cb = r->cb;
    void *ctx = r->ctx;
    struct finding f = r->found;
    bool cancelled = r->cancelled;
    free(r);
    if (!cancelled)
        cb(ctx, f.err, f.addrs, f.n);
}

static void on_numeric(void *ctx)
{
    finish(ctx);
}

static int error_of(int status)
{
    switch (status) {
    case 0:
        return 0;
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return POSTERN_ERR_NOTFOUND;
    case EAI_AGAIN:
    case EAI_FAIL:
        return POSTERN_ERR_DNS;
    case EAI_MEMORY:
        return POSTERN_ERR_NOMEM;
    default:
        return POSTERN_ERR_IO;
    }
}

static size_t collect(struct addr *out, const struct addrinfo *list, uint16_t port)
{
    size_t n = 0;
    for (; list != NULL && n < RESOLVE_MAX; list = list->ai_next) {
        bool known = false;
        if (sockaddr_to_addr(&out[n], list->ai_addr) != 0)
            continue;
        out[n].port = port;
        for (size_t i = 0; i < n; i++)
            known = known || addr_equal(&out[i], &out[n]);
        n += !known;
    }
    return n;
}

static void look_up(const struct job *j, struct finding *f)
{
    struct addrinfo hints = {
        .ai_family = j->family, .ai_socktype = SOCK_STREAM, .ai_flags = j->flags};
    struct addrinfo *list = NULL;
    memset(f, 0, sizeof(*f)); /* its padding goes through the pipe as well */
    f->family = j->family;
    f->err = error_of(getaddrinfo(j->host, NULL, &hints, &list));
    if (f->err != 0)
        return;
    f->n = collect(f->addrs, list, j->port);
    f->err = f->n > 0 ? 0 : POSTERN_ERR_NOTFOUND;
    freeaddrinfo(list);
}

/* No signal is this thread's; SIGPIPE least of all. */
static int start_thread(void *(*entry)(void *), void *arg)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, entry, arg);
    (void)pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : POSTERN_ERR_NOMEM;
}

/* ------------------------------------------------------------------ without a loop */

/* Shared by who waits and the thread that asks; freed by the last of the two. */
struct asked {
    atomic_int holders;
    struct finding found;
    struct job job;
    int done; /* a flag: raised when there is an answer */
};

static void let_go(struct asked *a)
{
    if (atomic_fetch_sub(&a->holders, 1) > 1)
        return;
    if (a->done >= 0)
        (void)close(a->done);
    free(a);
}

static void *run_asked(void *arg)
{
    struct asked *a = arg;
    look_up(&a->job, &a->found);
    ready_flag_raise(a->done);
    let_go(a);
    return NULL;
}

/* Whether there is an answer by then. */
static bool wait_answer(const struct asked *a, uint64_t until_us)
{
    struct ready answer = {.fd = a->done, .wanted = WATCH_READ};
    uint64_t now_us;
    int rc = 0;
    while (rc <= 0 && (now_us = clock_us()) < until_us)
        rc = ready_wait(&answer, 1, (int)((until_us - now_us) / 1000) + 1);
    return rc > 0;
}

int resolve_now(const char *host, struct addr out[static RESOLVE_MAX])
{
    struct asked *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    uint64_t began_us = clock_us();
    (void)snprintf(a->job.host, sizeof(a->job.host), "%s", host);
    a->done = ready_flag_open();
    atomic_store(&a->holders, 2);
    int rc = a->done < 0 ? POSTERN_ERR_LIMIT : start_thread(run_asked, a);
    if (rc != 0) {
        atomic_store(&a->holders, 1);
    } else if (!wait_answer(a, began_us + TELL_MS * 1000ull)) {
        log_warn("waiting: the resolver is asked for %.100s", host);
        if (!wait_answer(a, began_us + NOW_MS * 1000ull))
            rc = POSTERN_ERR_DNS;
    }
    if (rc == 0) {
        memcpy(out, a->found.addrs, sizeof(a->found.addrs));
        rc = a->found.err != 0 ? a->found.err : (int)a->found.n;
    }
    let_go(a);
    return rc;
}

/* --------------------------------------------------------------------- in the pool */

static void run(void *ctx)
{
    struct resolve *r = ctx;
    look_up(&r->job, &r->found);
}

static void on_done(void *ctx)
{
    finish(ctx);
}

static int start_in_pool(struct resolve *r, struct loop *loop)
{
    r->in_pool = true;
    r->job.flags = AI_ADDRCONFIG;
    return work_start(loop, run, on_done, r);
}

/* ------------------------------------------------------------- a thread of its own */

static void *run_apart(void *arg)
{
    struct job *j = arg;
    struct finding f;
    look_up(j, &f);
    (void)!write(j->fd, &f, sizeof(f)); /* EPIPE: nobody wants it any more */
    close(j->fd);
    free(j);
    return NULL;
}

static void close_pipe(struct resolve *r)
{
    if (!watch_is_open(&r->watch))
        return;
    watch_close(&r->watch);
    close(r->fd);
    if (r->fd_theirs >= 0)
        close(r->fd_theirs);
}

/* What was found of one family is enough; that nothing was is for both to say. */
static void on_found(void *ctx, int events)
{
    struct resolve *r = ctx;
    (void)events;
    ssize_t got = read(r->fd, &r->found, sizeof(r->found));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got != (ssize_t)sizeof(r->found))
        r->found = (struct finding){.err = POSTERN_ERR_NOMEM};
    if (r->found.family != AF_UNSPEC && r->found.err != 0)
        return;
    timer_stop(&r->timer);
    close_pipe(r);
    finish(r);
}

static int ask(const struct resolve *r, int family)
{
    struct job *j = malloc(sizeof(*j));
    if (j == NULL)
        return POSTERN_ERR_NOMEM;
    *j = r->job;
    j->family = family;
    j->fd = fcntl(r->fd_theirs, F_DUPFD_CLOEXEC, 0);
    int rc = j->fd < 0 ? POSTERN_ERR_NOMEM : start_thread(run_apart, j);
    if (rc != 0) {
        if (j->fd >= 0)
            close(j->fd);
        free(j);
    }
    return rc;
}

/* Without them the first one is waited for, as before. */
static void on_late(void *ctx)
{
    struct resolve *r = ctx;
    (void)ask(r, AF_INET);
    (void)ask(r, AF_INET6);
    close(r->fd_theirs);
    r->fd_theirs = -1;
}

static int start_apart(struct resolve *r, struct loop *loop)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return POSTERN_ERR_NOMEM;
    r->fd = ends[0];
    r->fd_theirs = ends[1];
    (void)fcntl(r->fd, F_SETFL, O_NONBLOCK);
    int rc = watch_start(&r->watch, loop, r->fd, WATCH_READ, on_found, r);
    if (rc != 0) {
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    rc = ask(r, AF_UNSPEC);
    if (rc != 0) {
        close_pipe(r);
        return rc;
    }
    timer_init(&r->timer, loop, on_late, r);
    timer_start(&r->timer, ALONE_AFTER_MS);
    return 0;
}

bool resolve_configured(void)
{
    char line[256];
    bool found = false;
    FILE *f = fopen("/etc/resolv.conf", "re");
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
        found = strncmp(line, "nameserver", 10) == 0;
    if (f != NULL)
        (void)fclose(f);
    return found;
}

/* --------------------------------------------------------------------------- calls */

static int start(struct resolve **out, struct loop *loop, const char *host,
                 uint16_t port, resolve_cb cb, void *ctx, bool apart)
{
    char bare[256];
    size_t len = strlen(host);
    bool bracket = len > 2 && host[0] == '[' && host[len - 1] == ']';
    if (len == 0 || len >= sizeof(bare))
        return POSTERN_ERR_INVALID;
    (void)snprintf(bare, sizeof(bare), "%.*s", (int)(bracket ? len - 2 : len),
                   host + (bracket ? 1 : 0));
    struct resolve *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    r->cb = cb;
    r->ctx = ctx;
    int err = 0;
    if (addr_parse_ip(&r->found.addrs[0], bare) == 0) {
        r->found.addrs[0].port = port;
        r->found.n = 1;
        timer_init(&r->timer, loop, on_numeric, r);
        timer_start(&r->timer, 0);
    } else {
        r->job.port = port;
        (void)snprintf(r->job.host, sizeof(r->job.host), "%s", bare);
        err = bracket ? POSTERN_ERR_INVALID
              : apart ? start_apart(r, loop)
                      : start_in_pool(r, loop);
    }
    if (err != 0)
        free(r);
    else
        *out = r;
    return err;
}

int resolve_start(struct resolve **out, struct loop *loop, const char *host,
                  uint16_t port, resolve_cb cb, void *ctx)
{
    return start(out, loop, host, port, cb, ctx, false);
}

int resolve_start_apart(struct resolve **out, struct loop *loop, const char *host,
                        uint16_t port, resolve_cb cb, void *ctx)
{
    return start(out, loop, host, port, cb, ctx, true);
}

void resolve_cancel(struct resolve *r)
{
    if (r == NULL)
        return;
    r->cancelled = true; /* a lookup that already runs cannot be stopped */
    if (r->in_pool)
        return;
    timer_stop(&r->timer);
    close_pipe(r);
    free(r);
}

static int split_port(const char *text, uint16_t *port)
{
    unsigned v = 0;
    for (; *text >= '0' && *text <= '9' && v <= 65535; text++)
        v = v * 10 + (unsigned)(*text - '0');
    if (*text != '\0' || v == 0 || v > 65535)
        return POSTERN_ERR_INVALID;
    *port = (uint16_t)v;
    return 0;
}

int resolve_split(const char *text, char *host, size_t cap, uint16_t *port)
{
    struct addr bare;
    const char *end = text + strlen(text), *tail = end;
    if (text[0] == '[') {
        end = strchr(++text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return POSTERN_ERR_INVALID;
        tail = end + 1;
    } else if (addr_parse_ip(&bare, text) != 0) {
        const char *colon = strrchr(text, ':');
        if (colon != NULL)
            end = tail = colon;
    }
    size_t len = (size_t)(end - text);
    if (len == 0 || len >= cap)
        return POSTERN_ERR_INVALID;
    if (*tail == ':' && split_port(tail + 1, port) != 0)
        return POSTERN_ERR_INVALID;
    memmove(host, text, len);
    host[len] = '\0';
    return 0;
}
