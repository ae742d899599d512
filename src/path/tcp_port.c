/* A local TCP port and its reflexive addresses, one binding request a family. */
#include "path/tcp_port.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/predict.h"
#include "core/privilege.h"
#include "core/stun.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/sock.h"
#include "io/tcp.h"
#include "path/kind.h"

enum { QUERY_SYNS = 2 /* the kernel repeats it within TIMEOUT_MS */ };
enum { FAMILIES = 2, ANSWER_MAX = 256, LOW_TRIES = 8 };
enum {
    TIMEOUT_MS = 3000,
    OTHER_MS = 1200 /* when one family has answered: the kernel's second SYN */
};

/* One binding request over its own connection. */
struct query {
    struct tcp_port *port;
    struct addr local, mapped;
    int fd; /* stays open when answered */
    struct watch watch;
    uint8_t txid[STUN_TXID_LEN];
    uint8_t buf[ANSWER_MAX];
    size_t len;
    bool sent, pending;
};

struct tcp_port {
    struct approach *approach;
    struct net *net;
    struct query queries[FAMILIES]; /* 0 IPv4, 1 IPv6 */
    bool loopback;
    struct timer timer;
    void (*done)(void *ctx);
    void *ctx;
};

static void on_timer(void *ctx)
{
    struct tcp_port *p = ctx;
    if (p->done == NULL)
        return;
    void (*done)(void *ctx) = p->done;
    p->done = NULL;
    for (int i = 0; i < FAMILIES; i++)
        watch_close(&p->queries[i].watch);
    done(p->ctx);
}

static void query_end(struct query *q, bool answered)
{
    struct tcp_port *p = q->port;
    q->pending = false;
    watch_close(&q->watch);
    if (!answered && q->fd >= 0) {
        close(q->fd);
        q->fd = -1;
    }
    bool pending = p->queries[0].pending || p->queries[1].pending;
    if (!pending || answered)
        timer_start(&p->timer, pending ? OTHER_MS : 0);
}

static void send_request(struct query *q)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    static const uint8_t none[STUN_MARK_LEN]; /* the connection is proof */
    int n = stun_build_marked_request(buf, sizeof(buf), q->txid, none);
    q->sent = true;
    if (n < 0 || !sock_say(q->fd, buf, (size_t)n))
        query_end(q, false);
    else
        watch_for(&q->watch, WATCH_READ);
}

static void read_answer(struct query *q)
{
    struct stun_message m;
    ssize_t n = sock_read(q->fd, q->buf + q->len, sizeof(q->buf) - q->len);
    if (n == POSTERN_ERR_AGAIN)
        return;
    if (n <= 0) {
        query_end(q, false);
        return;
    }
    q->len += (size_t)n;
    if (q->len < STUN_HEADER_LEN)
        return;
    size_t want = STUN_HEADER_LEN + ((size_t)q->buf[2] << 8 | q->buf[3]);
    if (want <= sizeof(q->buf) && q->len < want)
        return;
    bool good = want <= sizeof(q->buf) && stun_parse(&m, q->buf, want) == 0 &&
                stun_is_response_to(&m, q->txid) && m.mapped.family != ADDR_NONE;
    if (good) {
        struct addr server;
        q->mapped = m.mapped;
        if (sock_remote(q->fd, &server) == 0)
            target_answered(q->port->approach, &server);
        target_seen(q->port->approach, &m.mapped, m.has_mark ? m.mark : NULL);
    }
    query_end(q, good);
}

static void on_ready(void *ctx, int events)
{
    struct query *q = ctx;
    (void)events;
    if (!q->sent)
        send_request(q); /* a failed connect shows in the send */
    else
        read_answer(q);
}

/* Binds one family's port and asks; a family that cannot is left out. */
static void query_begin(struct query *q, const struct addr *server, uint16_t port)
{
    q->local.port = port;
    int fd = tcp_bind(&q->local);
    if (fd == POSTERN_ERR_INUSE && port != 0) {
        q->local.port = 0;
        fd = tcp_bind(&q->local);
    }
    struct addr bound;
    if (fd < 0 || sock_local(fd, &bound) != 0) {
        q->local.family = ADDR_NONE;
        if (fd >= 0)
            close(fd);
        return;
    }
    q->local.port = bound.port;
    q->fd = fd; /* also without a server to ask: it holds the port */
    if (server->family == ADDR_NONE ||
        !target_may_ask(q->port->approach, server, QUERY_SYNS))
        return;
    randombytes_buf(q->txid, sizeof(q->txid));
    q->pending =
        tcp_connect(fd, server, 0) == 0 &&
        watch_start(&q->watch, q->port->net->loop, fd, WATCH_WRITE, on_ready, q) == 0;
    if (q->pending)
        loop_begin_session(q->port->net->loop, server);
}

/* The broker answers on its TCP port at each address that it names for STUN. */
static struct addr server_of(struct uplink *u, enum addr_family family)
{
    struct addr servers[UPLINK_STUN_MAX], at = *uplink_broker_addr(u);
    size_t n = uplink_stun(u, servers);
    if (at.family == family)
        return at;
    at.port = uplink_link(u)->port;
    for (size_t i = 0; i < n; i++) {
        if (servers[i].family != family)
            continue;
        servers[i].port = at.port;
        return servers[i];
    }
    return (struct addr){0};
}

uint16_t tcp_port_find_low(void)
{
    struct addr any = {.family = ADDR_V4};
    for (int i = 0; i < LOW_TRIES; i++) {
        any.port = (uint16_t)(PREDICT_LOW_BIND_FIRST +
                              randombytes_uniform(PREDICT_LOW_BIND_COUNT));
        int fd = tcp_bind(&any);
        if (fd == POSTERN_ERR_PERM)
            return 0;
        if (fd < 0)
            continue;
        close(fd);
        return any.port;
    }
    return 0;
}

int tcp_port_open(struct tcp_port **out, struct approach *a, bool low,
                  void (*done)(void *ctx), void *ctx)
{
    struct net *net = approach_config_of(a)->net;
    struct uplink *u = approach_config_of(a)->uplink;
    uint16_t wanted = low ? tcp_port_find_low() : 0;
    if (low && wanted == 0)
        return POSTERN_ERR_PERM;
    static const enum addr_family family_of[FAMILIES] = {ADDR_V4, ADDR_V6};
    struct tcp_port *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return POSTERN_ERR_NOMEM;
    p->approach = a;
    p->net = net;
    p->done = done;
    p->ctx = ctx;
    p->loopback = addr_scope_of(uplink_broker_addr(u)) == ADDR_SCOPE_LOOPBACK;
    timer_init(&p->timer, net->loop, on_timer, p);
    uint16_t shared = 0;
    for (int i = 0; i < FAMILIES; i++) {
        struct addr server = server_of(u, family_of[i]);
        p->queries[i] =
            (struct query){.port = p, .fd = -1, .local.family = family_of[i]};
        query_begin(&p->queries[i], &server, i == 0 ? wanted : shared);
        shared = low ? 0 : p->queries[0].local.port; /* one number for both families */
    }
    bool pending = p->queries[0].pending || p->queries[1].pending;
    timer_start(&p->timer, pending ? TIMEOUT_MS : 0);
    *out = p;
    return 0;
}

void tcp_port_close(struct tcp_port *p)
{
    if (p == NULL)
        return;
    for (int i = 0; i < FAMILIES; i++) {
        watch_close(&p->queries[i].watch);
        if (p->queries[i].fd >= 0)
            close(p->queries[i].fd);
    }
    timer_stop(&p->timer);
    free(p);
}

bool tcp_port_local(const struct tcp_port *p, enum addr_family family,
                    struct addr *local)
{
    *local = p->queries[family == ADDR_V6 ? 1 : 0].local;
    return local->family == family;
}

uint32_t tcp_ways_of(int fd)
{
    struct tcp_facts f;
    if (tcp_read_facts(fd, &f) != 0)
        return 0;
    return (f.timestamps ? TCP_WAYS_TIMESTAMPS : 0u) | (f.sack ? TCP_WAYS_SACK : 0u) |
           (f.scales ? TCP_WAYS_SCALES | f.window_shift : 0u);
}

/* Both sides of a connection have an option, or neither: what the broker agreed to is
 * what this kernel offers to anybody. */
uint32_t tcp_port_ways(const struct tcp_port *p)
{
    for (int i = 0; i < FAMILIES; i++)
        if (p->queries[i].mapped.family != ADDR_NONE)
            return tcp_ways_of(p->queries[i].fd);
    return 0;
}

bool tcp_port_is_changed(const struct tcp_port *p)
{
    const struct query *q = &p->queries[0];
    return q->mapped.family == ADDR_V4 && q->mapped.port != q->local.port;
}

bool tcp_port_is_mapped_low(const struct tcp_port *p)
{
    const struct addr *a = &p->queries[0].mapped;
    return a->family == ADDR_V4 && predict_is_low(a->port);
}

static bool has(const struct tcp_candidate *list, size_t n, const struct addr *a)
{
    for (size_t i = 0; i < n; i++)
        if (addr_equal(&list[i].addr, a))
            return true;
    return false;
}

size_t tcp_port_candidates(const struct tcp_port *p,
                           struct tcp_candidate out[static TCP_PORT_CANDIDATES_MAX])
{
    struct addr own[TCP_PORT_CANDIDATES_MAX];
    size_t n = 0;
    for (int i = 0; i < FAMILIES; i++)
        if (p->queries[i].mapped.family != ADDR_NONE)
            out[n++] = (struct tcp_candidate){p->queries[i].mapped, true};
    size_t count = netmon_candidates(own, TCP_PORT_CANDIDATES_MAX - n, p->loopback);
    for (size_t i = 0; i < count && n < TCP_PORT_CANDIDATES_MAX; i++) {
        struct addr local;
        if (!tcp_port_local(p, own[i].family, &local))
            continue;
        own[i].port = local.port;
        if (!has(out, n, &own[i]))
            out[n++] = (struct tcp_candidate){own[i], false};
    }
    return n;
}
