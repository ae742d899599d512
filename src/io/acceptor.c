/* accept4(2) until there is nothing more, and patience when it cannot; see acceptor.h.
 */
#include "io/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/linger.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sockaddr.h"

enum {
    ACCEPTS_PER_EVENT = 64, /* then others get their turn */
    KEPT_PART = 16,
    PAUSE_FIRST_MS = 50,
    PAUSE_MAX_MS = 1000,
    COUNT_MS = 60000, /* from the first line to the one that says how often */
};

struct acceptor {
    struct acceptor_config config;
    struct watch watch;
    struct timer timer; /* the end of a pause, or the time to tell the count */
    unsigned pause_ms;
    uint64_t told_ms;
    unsigned long lacks;       /* since then, the first included */
    unsigned long resets;      /* since then */
    uint64_t full_since_ms;    /* nobody was let in since then; 0: not full */
    bool paused, busy, closed; /* closed while busy: freed at the end of that */
};

static void tell_count(struct acceptor *a)
{
    if (a->lacks > 1)
        log_warn("%s was out of descriptors %lu times in the last %d s; raise the "
                 "limit of open files",
                 a->config.who, a->lacks, COUNT_MS / 1000);
    if (a->resets > 1)
        log_warn("%s reset %lu connections in the last %d s for want of descriptors",
                 a->config.who, a->resets, COUNT_MS / 1000);
    a->lacks = a->resets = 0;
}

static void on_timer(void *ctx)
{
    struct acceptor *a = ctx;
    if (!a->paused) {
        tell_count(a);
        return;
    }
    uint64_t since = loop_now_ms(a->config.loop) - a->told_ms;
    a->paused = false;
    watch_for(&a->watch, WATCH_READ);
    timer_start(&a->timer, since < COUNT_MS ? COUNT_MS - since : 0);
}

static void note_lack(struct acceptor *a, int err)
{
    uint64_t now = loop_now_ms(a->config.loop);
    if (a->lacks > 0 && now - a->told_ms >= COUNT_MS)
        tell_count(a);
    if (a->lacks++ > 0)
        return;
    a->told_ms = now;
    log_error("%s cannot accept connections (%s); raise the limit of open files",
              a->config.who, strerror(err));
    timer_start(&a->timer, COUNT_MS);
}

/* Who has waited for long learns that it is in vain, by what is kept of descriptors. */
static void reset_waiting(struct acceptor *a)
{
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        int fd = accept4(a->config.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        linger_break(fd);
        if (a->resets++ == 0)
            log_warn("%s reset a connection that waited for others to end; raise the "
                     "limit of open files",
                     a->config.who);
    }
}

static bool is_patience_over(struct acceptor *a)
{
    uint64_t now = loop_now_ms(a->config.loop);
    if (a->full_since_ms == 0)
        a->full_since_ms = now;
    return a->config.patience_ms > 0 && now - a->full_since_ms >= a->config.patience_ms;
}

/* False when no more is left than what is kept for others; of few they get less. */
static bool has_descriptor(const struct acceptor *a)
{
    struct rlimit r;
    if (a->config.keep == 0 || getrlimit(RLIMIT_NOFILE, &r) != 0)
        return true;
    rlim_t part = r.rlim_cur / KEPT_PART;
    rlim_t keep = a->config.keep < part ? a->config.keep : part;
    int next = fcntl(a->config.fd, F_DUPFD_CLOEXEC, 0); /* the lowest that is free */
    if (next < 0)
        return false;
    close(next);
    return (rlim_t)next + keep < r.rlim_cur;
}

/*
 * As accept4, but fails with EMFILE already when the rest is kept for others, and never
 * when nobody waits: the kernel looks for a descriptor first.
 */
static int accept_one(const struct acceptor *a, struct sockaddr_storage *ss)
{
    socklen_t len = sizeof(*ss);
    struct pollfd waits = {.fd = a->config.fd, .events = POLLIN};
    int fd = -1;
    if (!has_descriptor(a))
        errno = EMFILE;
    else
        fd = accept4(a->config.fd, (struct sockaddr *)ss, &len,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        int err = errno;
        errno = poll(&waits, 1, 0) > 0 ? err : EAGAIN;
    }
    return fd;
}

/* Lets others finish instead of turning; true when it is worth trying again now. */
static bool lack(struct acceptor *a, int err)
{
    note_lack(a, err);
    if (a->config.make_room != NULL && a->config.make_room(a->config.ctx))
        return !a->closed;
    if (a->closed)
        return false;
    if (is_patience_over(a))
        reset_waiting(a);
    a->pause_ms = a->pause_ms == 0 ? PAUSE_FIRST_MS : a->pause_ms * 2;
    if (a->pause_ms > PAUSE_MAX_MS)
        a->pause_ms = PAUSE_MAX_MS;
    a->paused = true;
    watch_for(&a->watch, 0);
    timer_start(&a->timer, a->pause_ms);
    return false;
}

static void accept_some(struct acceptor *a)
{
    for (int i = 0; i < ACCEPTS_PER_EVENT && !a->closed; i++) {
        struct sockaddr_storage ss = {0};
        struct addr from;
        int fd = accept_one(a, &ss);
        if (fd >= 0) {
            a->pause_ms = 0;
            a->full_since_ms = 0;
            (void)!sockaddr_to_addr(&from, (struct sockaddr *)&ss);
            a->config.on_connection(a->config.ctx, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
                   errno == ENOBUFS) {
            if (!lack(a, errno))
                return;
        } else if (errno == EAGAIN) {
            return;
        } /* ECONNABORTED and its like concern that connection only */
    }
}

static void on_readable(void *ctx, int events)
{
    struct acceptor *a = ctx;
    (void)events;
    a->busy = true;
    accept_some(a);
    a->busy = false;
    if (a->closed)
        free(a);
}

int acceptor_open(struct acceptor **out, const struct acceptor_config *c)
{
    struct acceptor *a = calloc(1, sizeof(*a));
    int rc = a == NULL
                 ? POSTERN_ERR_NOMEM
                 : watch_start(&a->watch, c->loop, c->fd, WATCH_READ, on_readable, a);
    if (rc != 0) {
        free(a);
        close(c->fd);
        return rc;
    }
    a->config = *c;
    timer_init(&a->timer, c->loop, on_timer, a);
    *out = a;
    return 0;
}

void acceptor_close(struct acceptor *a)
{
    if (a == NULL || a->closed)
        return;
    a->closed = true;
    timer_stop(&a->timer);
    watch_close(&a->watch);
    close(a->config.fd);
    if (!a->busy)
        free(a);
}

int acceptor_fd(const struct acceptor *a)
{
    return a->config.fd;
}
