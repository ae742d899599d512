/* Staggered connects; knows nothing of what will be spoken. */
#include "io/dial.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/egress.h"
#include "io/loop.h"
#include "io/nat64_way.h"
#include "io/oserr.h"
#include "io/resolve.h"
#include "io/sock.h"
#include "io/sockaddr.h"
#include "io/sockfile.h"
#include "io/tcp.h"

struct attempt {
    struct dial *dial;
    struct watch watch;
    int fd;
};

struct dial {
    struct loop *loop;
    struct timer timer;
    struct resolve *resolve;
    struct nat64_look *look; /* IPv4 has no way: is there a translator? */
    bool looked;
    int resolve_err;
    dial_resolved_cb on_resolved;
    struct addr doubtful; /* ADDR_NONE: none */
    struct addr addrs[DIAL_ADDRS_MAX];
    size_t count, next, failed;
    struct attempt attempts[DIAL_ADDRS_MAX];
    unsigned timeout_ms;
    uint64_t deadline_ms;
    uint64_t name_ms, idle_ms; /* for the name; the same, once all addresses failed */
    int first_err;
    dial_cb cb;
    void *ctx;
    bool outward;
    unsigned also;                 /* an interface; 0: none */
    unsigned over[DIAL_ADDRS_MAX]; /* of each address; 0: the routes', or the chosen */
    int segment; /* largest of TCP, in bytes; 0: what the kernel finds */
};

static void attempt_end(struct attempt *a, bool keep_fd)
{
    watch_close(&a->watch);
    if (a->fd >= 0 && !keep_fd)
        close(a->fd);
    a->fd = -1;
}

static void destroy(struct dial *d)
{
    resolve_cancel(d->resolve);
    nat64_look_cancel(d->look);
    for (size_t i = 0; i < DIAL_ADDRS_MAX; i++)
        attempt_end(&d->attempts[i], false);
    timer_stop(&d->timer);
    free(d);
}

static void finish(struct dial *d, int err, int fd)
{
    dial_cb cb = d->cb;
    void *ctx = d->ctx;
    destroy(d);
    cb(ctx, err, fd);
}

static void note_failure(struct dial *d, int err)
{
    if (d->first_err == 0)
        d->first_err = err;
    d->failed++;
    timer_start(&d->timer, 0); /* the next one at once, or the end */
}

static void on_ready(void *ctx, int events)
{
    struct attempt *a = ctx;
    struct dial *d = a->dial;
    (void)events;
    int err = sock_error(a->fd);
    if (err == 0) {
        int fd = a->fd;
        attempt_end(a, true);
        finish(d, 0, fd);
        return;
    }
    attempt_end(a, false);
    note_failure(d, err);
}

static void attempt_watch(struct dial *d, struct attempt *a)
{
    if (watch_start(&a->watch, d->loop, a->fd, WATCH_WRITE, on_ready, a) == 0)
        return;
    attempt_end(a, false);
    note_failure(d, POSTERN_ERR_LIMIT);
}

static void add(struct dial *d, const struct addr *a);

static void add_translated(struct dial *d)
{
    struct addr v6;
    for (size_t i = 0, n = d->next; i < n; i++)
        if (d->addrs[i].family == ADDR_V4 && nat64_way_try(0, &d->addrs[i], &v6))
            add(d, &v6);
}

static void on_looked(void *ctx)
{
    struct dial *d = ctx;
    d->look = NULL;
    add_translated(d);
    timer_start(&d->timer, 0);
}

/* RFC 8305 section 7.1: a network with IPv6 only may translate (NAT64). */
static void translate(struct dial *d)
{
    if (!nat64_way_is_wanted())
        return;
    add_translated(d); /* by what is known; this may be another network */
    if (!d->looked && nat64_look_start(&d->look, d->loop, on_looked, d) != 0)
        d->look = NULL;
    d->looked = true;
}

static void attempt_start(struct dial *d)
{
    struct sockaddr_storage ss = {0};
    size_t i = d->next++;
    struct attempt *a = &d->attempts[i];
    socklen_t len = sockaddr_from_addr(&ss, &d->addrs[i]);
    int fd = len == 0
                 ? -1
                 : socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        note_failure(d, len == 0 ? POSTERN_ERR_IO : oserr(errno));
        return;
    }
    a->dial = d;
    a->fd = fd;
    if (d->segment > 0)
        tcp_segment_max(fd, d->segment);
    if (d->over[i] != 0)
        egress_bind_over(fd, d->over[i], &d->addrs[i]);
    else if (d->outward)
        egress_bind(fd, &d->addrs[i]);
    if (connect(fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS) {
        int err = oserr(errno);
        attempt_end(a, false);
        if (err == POSTERN_ERR_UNREACHABLE && d->addrs[i].family == ADDR_V4)
            translate(d);
        note_failure(d, err);
        return;
    }
    if (addr_scope_of(&d->addrs[i]) == ADDR_SCOPE_GLOBAL) /* not a LAN's service */
        loop_begin_session(d->loop, &d->addrs[i]);
    attempt_watch(d, a);
}

/* A socket that is a file connects at once or not at all. */
static void attempt_file(struct dial *d, const char *path)
{
    struct attempt *a = &d->attempts[d->next++];
    d->count = d->next;
    a->dial = d;
    a->fd = sockfile_connect(path, 0);
    if (a->fd < 0)
        note_failure(d, oserr(errno));
    else
        attempt_watch(d, a);
}
/* Why nothing came of it: the name where no address said anything. */
static int reason(const struct dial *d)
{
    if (d->first_err != 0)
        return d->first_err;
    if (d->resolve != NULL) /* still waiting for it */
        return POSTERN_ERR_DNS;
    return d->resolve_err != 0 ? d->resolve_err : POSTERN_ERR_TIMEOUT;
}

static uint64_t ends_ms(const struct dial *d, bool idle)
{
    if (d->resolve != NULL && idle)
        return d->idle_ms;
    if (d->resolve != NULL && d->name_ms > d->deadline_ms)
        return d->name_ms;
    return d->deadline_ms;
}

static void on_timer(void *ctx)
{
    struct dial *d = ctx;
    uint64_t now = loop_now_ms(d->loop);
    bool idle = d->failed == d->count; /* else a connection may come about */
    bool asks = d->resolve != NULL, looks = d->look != NULL;
    uint64_t until = ends_ms(d, idle);
    if ((idle && !asks && !looks) || now >= until) {
        finish(d, reason(d), -1);
        return;
    }
    uint64_t wait = until - now;
    bool other = d->next + 1 < d->count && d->over[d->next + 1] != 0;
    unsigned stagger_ms = other ? DIAL_OTHER_MS : DIAL_STAGGER_MS;
    if (d->next < d->count && wait > stagger_ms)
        wait = stagger_ms;
    timer_start(&d->timer, wait);
    if (d->next < d->count)
        attempt_start(d);
}

static struct dial *dial_new(struct loop *loop, unsigned timeout_ms, dial_cb cb,
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
    timer_init(&d->timer, loop, on_timer, d);
    loop_refresh(loop);
    d->timeout_ms = timeout_ms;
    d->deadline_ms = loop_now_ms(loop) + timeout_ms;
    d->name_ms = d->idle_ms = loop_now_ms(loop) + DIAL_NAME_MS;
    return d;
}

/* ------------------------------------------------------------- what is to be tried */

static void add_over(struct dial *d, const struct addr *a, unsigned interface)
{
    for (size_t i = 0; i < d->count; i++)
        if (addr_equal(&d->addrs[i], a) && d->over[i] == interface)
            return;
    if (d->count < DIAL_ADDRS_MAX) {
        d->over[d->count] = interface;
        d->addrs[d->count++] = *a;
    }
}

static void add(struct dial *d, const struct addr *a)
{
    add_over(d, a, 0);
    if (d->also != 0)
        add_over(d, a, d->also);
}

/*
 * Adds a list in its order, but the families in turn (RFC 8305 section 4), so that one
 * that leads nowhere costs one pause; the doubtful one last.
 */
static void add_all(struct dial *d, const struct addr *addrs, size_t n)
{
    bool taken[RESOLVE_MAX] = {false};
    uint8_t last = d->count > 0 ? d->addrs[d->count - 1].family : (uint8_t)ADDR_NONE;
    bool doubt = false;
    if (n > RESOLVE_MAX)
        n = RESOLVE_MAX;
    for (size_t i = 0; i < n; i++) {
        taken[i] = addr_equal(&addrs[i], &d->doubtful);
        doubt = doubt || taken[i];
    }
    for (size_t left = n; left > 0; left--) {
        size_t pick = n;
        for (size_t i = n; i-- > 0;)
            if (!taken[i] &&
                (pick == n || addrs[i].family != last || addrs[pick].family == last))
                pick = i;
        if (pick == n)
            break;
        taken[pick] = true;
        last = (uint8_t)addrs[pick].family;
        add(d, &addrs[pick]);
    }
    if (doubt)
        add(d, &d->doubtful);
}

static void try_soon(struct dial *d)
{
    timer_start(&d->timer, 0);
}

static void wait_for_name(struct dial *d)
{
    timer_start(&d->timer, d->name_ms - loop_now_ms(d->loop));
}

int dial_start(struct dial **out, struct loop *loop, const struct addr *addrs, size_t n,
               unsigned timeout_ms, dial_cb cb, void *ctx)
{
    if (n == 0)
        return POSTERN_ERR_INVALID;
    struct dial *d = dial_new(loop, timeout_ms, cb, ctx);
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        add(d, &addrs[i]);
    try_soon(d);
    *out = d;
    return 0;
}

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct dial *d = ctx;
    d->resolve = NULL;
    d->resolve_err = err;
    bool idle = d->next == d->count; /* else the next pause's end takes them up */
    size_t before = d->count;
    add_all(d, addrs, n);
    if (err != 0 && d->doubtful.family != ADDR_NONE)
        add(d, &d->doubtful);
    if (d->count > before) /* their time begins now */
        d->deadline_ms = loop_now_ms(d->loop) + d->timeout_ms;
    else if (loop_now_ms(d->loop) >= d->deadline_ms)
        try_soon(d); /* over: only the name was waited for */
    if (idle)
        try_soon(d);
    if (d->on_resolved != NULL)
        d->on_resolved(d->ctx, err, addrs, n);
}

int dial_start_name(struct dial **out, struct loop *loop, const char *host,
                    uint16_t port, unsigned timeout_ms, dial_cb cb, void *ctx)
{
    struct dial *d = dial_new(loop, timeout_ms, cb, ctx);
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    if (host[0] == '/') {
        attempt_file(d, host);
        *out = d;
        return 0;
    }
    int rc = resolve_start(&d->resolve, loop, host, port, on_resolved, d);
    if (rc != 0) {
        d->resolve = NULL;
        destroy(d);
        return rc;
    }
    wait_for_name(d);
    *out = d;
    return 0;
}

int dial_start_known(struct dial **out, struct loop *loop,
                     const struct dial_known *known, unsigned timeout_ms, dial_cb cb,
                     void *ctx)
{
    if (known->host == NULL)
        return dial_start(out, loop, known->addrs, known->count, timeout_ms, cb, ctx);
    struct dial *d = dial_new(loop, timeout_ms, cb, ctx);
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    d->on_resolved = known->on_resolved;
    if (known->idle_ms != 0)
        d->idle_ms = loop_now_ms(loop) + known->idle_ms;
    if (known->doubtful != NULL)
        d->doubtful = *known->doubtful;
    int rc = resolve_start_apart(&d->resolve, loop, known->host, known->port,
                                 on_resolved, d);
    if (rc != 0) {
        d->resolve = NULL;
        destroy(d);
        return rc;
    }
    for (size_t i = 0; i < known->count && i < DIAL_KNOWN_MAX; i++)
        if (!addr_equal(&known->addrs[i], &d->doubtful))
            add(d, &known->addrs[i]);
    if (d->count > 0)
        try_soon(d);
    else
        wait_for_name(d);
    *out = d;
    return 0;
}

void dial_limit_segments(struct dial *d, int bytes)
{
    d->segment = bytes;
}

void dial_go_out(struct dial *d, unsigned also)
{
    struct addr addrs[DIAL_ADDRS_MAX];
    size_t n = d->count;
    d->outward = true;
    d->also = also;
    memcpy(addrs, d->addrs, sizeof(addrs));
    d->count = 0;
    for (size_t i = 0; i < n; i++)
        add(d, &addrs[i]);
}

void dial_go_by(struct dial *d, unsigned interface)
{
    for (size_t i = 0; i < d->count; i++)
        d->over[i] = interface;
}

void dial_cancel(struct dial *d)
{
    if (d != NULL)
        destroy(d);
}
