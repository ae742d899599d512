/* Staggered connects; knows nothing of what will be spoken. */
#include "io/dial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/resolve.h"
#include "io/sockaddr.h"

struct attempt {
    struct dial *dial;
    uv_poll_t *poll;
    int fd;
};

struct dial {
    uv_loop_t *loop;
    uv_timer_t *timer; /* own allocation */
    struct resolve *resolve;
    struct addr addrs[DIAL_ADDRS_MAX];
    size_t count, next, failed;
    struct attempt attempts[DIAL_ADDRS_MAX];
    uint64_t deadline_ms;
    int first_err;
    dial_cb cb;
    void *ctx;
};

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void attempt_end(struct attempt *a, bool keep_fd)
{
    if (a->poll != NULL) {
        (void)uv_poll_stop(a->poll);
        a->poll->data = NULL;
        uv_close((uv_handle_t *)a->poll, free_handle);
        a->poll = NULL;
    }
    if (a->fd >= 0 && !keep_fd)
        close(a->fd);
    a->fd = -1;
}

static void destroy(struct dial *d)
{
    resolve_cancel(d->resolve);
    for (size_t i = 0; i < DIAL_ADDRS_MAX; i++)
        attempt_end(&d->attempts[i], false);
    if (d->timer != NULL) {
        d->timer->data = NULL;
        uv_close((uv_handle_t *)d->timer, free_handle);
    }
    free(d);
}

static void finish(struct dial *d, int err, int fd)
{
    dial_cb cb = d->cb;
    void *ctx = d->ctx;
    destroy(d);
    cb(ctx, err, fd);
}

static int error_of(int err)
{
    switch (err) {
    case ECONNREFUSED:
        return POSTERN_ERR_REFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
        return POSTERN_ERR_UNREACHABLE;
    case ETIMEDOUT:
        return POSTERN_ERR_TIMEOUT;
    case EACCES:
    case EPERM:
        return POSTERN_ERR_PERM;
    default:
        return POSTERN_ERR_IO;
    }
}

static void on_timer(uv_timer_t *t);

static void note_failure(struct dial *d, int err)
{
    if (d->first_err == 0)
        d->first_err = error_of(err);
    d->failed++;
    (void)uv_timer_start(d->timer, on_timer, 0,
                         0); /* the next one at once, or the end */
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct attempt *a = poll->data;
    int err = 0;
    socklen_t len = sizeof(err);
    (void)status, (void)events;
    if (a == NULL)
        return;
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    struct dial *d = a->dial;
    if (err == 0) {
        int fd = a->fd;
        attempt_end(a, true);
        finish(d, 0, fd);
        return;
    }
    attempt_end(a, false);
    note_failure(d, err);
}

static void attempt_start(struct dial *d)
{
    struct sockaddr_storage ss = {0};
    size_t i = d->next++;
    struct attempt *a = &d->attempts[i];
    socklen_t len = sockaddr_from_addr(&ss, &d->addrs[i]);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || len == 0) {
        int err = fd < 0 ? errno : EINVAL;
        if (fd >= 0)
            close(fd);
        note_failure(d, err);
        return;
    }
    a->dial = d;
    a->fd = fd;
    if (connect(fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS) {
        int err = errno;
        attempt_end(a, false);
        note_failure(d, err);
        return;
    }
    a->poll = malloc(sizeof(*a->poll));
    if (a->poll == NULL || uv_poll_init(d->loop, a->poll, fd) != 0) {
        free(a->poll);
        a->poll = NULL;
        attempt_end(a, false);
        note_failure(d, ENOMEM);
        return;
    }
    a->poll->data = a;
    (void)uv_poll_start(a->poll, UV_WRITABLE, on_poll);
}

static void on_timer(uv_timer_t *t)
{
    struct dial *d = t->data;
    if (d == NULL)
        return;
    uint64_t now = uv_now(d->loop);
    if (d->failed == d->count || now >= d->deadline_ms) {
        finish(d, d->first_err != 0 ? d->first_err : POSTERN_ERR_TIMEOUT, -1);
        return;
    }
    uint64_t wait = d->deadline_ms - now;
    if (d->next < d->count && wait > DIAL_STAGGER_MS)
        wait = DIAL_STAGGER_MS;
    (void)uv_timer_start(d->timer, on_timer, wait, 0);
    if (d->next < d->count)
        attempt_start(d);
}

static struct dial *dial_new(uv_loop_t *loop, unsigned timeout_ms, dial_cb cb,
                             void *ctx)
{
    struct dial *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return NULL;
    d->loop = loop;
    d->cb = cb;
    d->ctx = ctx;
    for (size_t i = 0; i < DIAL_ADDRS_MAX; i++)
        d->attempts[i].fd = -1;
    d->timer = malloc(sizeof(*d->timer));
    if (d->timer == NULL) {
        free(d);
        return NULL;
    }
    (void)uv_timer_init(loop, d->timer);
    d->timer->data = d;
    uv_update_time(loop);
    d->deadline_ms = uv_now(loop) + timeout_ms;
    return d;
}

static void begin(struct dial *d, const struct addr *addrs, size_t n)
{
    d->count = n < DIAL_ADDRS_MAX ? n : DIAL_ADDRS_MAX;
    memcpy(d->addrs, addrs, d->count * sizeof(*addrs));
    (void)uv_timer_start(d->timer, on_timer, 0, 0);
}

int dial_start(struct dial **out, uv_loop_t *loop, const struct addr *addrs, size_t n,
               unsigned timeout_ms, dial_cb cb, void *ctx)
{
    if (n == 0)
        return POSTERN_ERR_INVALID;
    struct dial *d = dial_new(loop, timeout_ms, cb, ctx);
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    begin(d, addrs, n);
    *out = d;
    return 0;
}

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct dial *d = ctx;
    d->resolve = NULL;
    if (err != 0 || n == 0)
        finish(d, err != 0 ? err : POSTERN_ERR_NOTFOUND, -1);
    else
        begin(d, addrs, n);
}

int dial_start_name(struct dial **out, uv_loop_t *loop, const char *host, uint16_t port,
                    unsigned timeout_ms, dial_cb cb, void *ctx)
{
    struct dial *d = dial_new(loop, timeout_ms, cb, ctx);
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    int rc = resolve_start(&d->resolve, loop, host, port, on_resolved, d);
    if (rc != 0) {
        d->resolve = NULL;
        destroy(d);
        return rc;
    }
    *out = d;
    return 0;
}

void dial_cancel(struct dial *d)
{
    if (d != NULL)
        destroy(d);
}
