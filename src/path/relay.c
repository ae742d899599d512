/*
 * relay: packets through the broker, which joins two TCP connections and reads
 * neither. Works wherever the broker can be reached at all.
 *
 * Until the pair stands, a few packets travel inside the control connections (Carry),
 * so that the first byte never waits for a handshake with the broker. When the pair
 * breaks they do so again until a new one stands. Packets on the pair are framed: 2
 * bytes of length, big-endian, then the packet; large ones cost less.
 */
#include "path/kind.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/relay_preface.h"
#include "io/dial.h"
#include "io/sockaddr.h"
#include "io/udp.h"

enum {
    DIAL_TIMEOUT_MS = 8000,
    JOIN_TIMEOUT_MS = 10000,
    RETRY_FIRST_MS = 500,
    RETRY_MAX_MS = 30000,
    FRAME_HEADER = 2,
    IOV_PAIRS = 256,
    NOTSENT_LOWAT_BYTES = 256 * 1024,
};

struct relay;

struct relay_path {
    struct path base; /* first: struct path * points here */
    struct relay *relay;
};

struct relay {
    struct approach *approach;
    struct relay_path carry; /* through the control connections */
    struct relay_path *pair; /* through the joined TCP pair; NULL while there is none */
    bool carry_listed, carry_proven, running;
    uint8_t ticket[TICKET_LEN];
    struct dial *dial;
    int fd;
    bool joined;
    uv_poll_t *poll;
    uv_timer_t *timer; /* join timeout, or the pause before asking again */
    unsigned failures;
    uint8_t *rx; /* an incomplete frame */
    size_t rx_len;
    uint8_t *tx; /* what the socket did not take */
    size_t tx_len, tx_from;
    bool busy, freed;
};

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_timer(uv_timer_t *t);

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static struct net *net_of(struct relay *r)
{
    return approach_config_of(r->approach)->net;
}

static void set_timer(struct relay *r, uint64_t ms)
{
    (void)uv_timer_start(r->timer, on_timer, ms, 0);
}

/* ------------------------------------------------------------------ the carried path
 */

static int carry_send(struct path *p, const uint8_t *buf, size_t len,
                      size_t segment_len)
{
    struct relay *r = ((struct relay_path *)p)->relay;
    for (size_t at = 0; at < len; at += segment_len)
        approach_carry(r->approach, buf + at,
                       len - at < segment_len ? len - at : segment_len);
    return 0;
}

static const struct path_ops carry_ops = {carry_send};

static void carry_works(struct relay *r)
{
    if (r->carry_proven || r->pair != NULL || !r->running)
        return;
    r->carry_proven = true;
    r->carry.base.rtt_us = approach_rtt_hint_us(r->approach);
    uplink_local(approach_config_of(r->approach)->uplink, &r->carry.base.local);
    r->carry.base.remote = *uplink_broker_addr(approach_config_of(r->approach)->uplink);
    approach_proven(r->approach, &r->carry.base);
}

static void carry_list(struct relay *r)
{
    if (r->carry_listed)
        return;
    r->carry_listed = true;
    r->carry.base.id = approach_next_path_id(r->approach);
    approach_path_new(r->approach, &r->carry.base);
}

/* --------------------------------------------------------------------- the joined pair
 */

static void socket_close(struct relay *r)
{
    dial_cancel(r->dial);
    r->dial = NULL;
    if (r->poll != NULL) {
        (void)uv_poll_stop(r->poll);
        r->poll->data = NULL;
        uv_close((uv_handle_t *)r->poll, free_handle);
        r->poll = NULL;
    }
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    r->joined = false;
    free(r->rx);
    free(r->tx);
    r->rx = r->tx = NULL;
    r->rx_len = r->tx_len = r->tx_from = 0;
}

static void pair_retire(struct relay *r)
{
    struct relay_path *p = r->pair;
    if (p == NULL)
        return;
    r->pair = NULL;
    approach_path_retire(r->approach, &p->base);
    free(p);
}

/* The pair, or the try to make one, is over: go on carrying, and ask for a new one. */
static void pair_broke(struct relay *r, const char *why)
{
    struct relay_path *p = r->pair;
    struct uplink *u = approach_config_of(r->approach)->uplink;
    socket_close(r);
    if (p != NULL) {
        r->pair = NULL;
        r->carry_proven = false;
        if (uplink_is_up(u))
            carry_works(r);
        approach_lost(r->approach, &p->base, why);
        r->pair = p;
        pair_retire(r);
    }
    if (!r->running || !approach_config_of(r->approach)->client)
        return;
    unsigned shift = r->failures < 6 ? r->failures : 6;
    unsigned ms = (unsigned)RETRY_FIRST_MS << shift;
    r->failures++;
    set_timer(r, ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS);
}

static int pair_send(struct path *path, const uint8_t *buf, size_t len,
                     size_t segment_len);
static const struct path_ops pair_ops = {pair_send};

static void on_joined(struct relay *r)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    struct relay_path *p = calloc(1, sizeof(*p));
    r->joined = true;
    r->failures = 0;
    (void)uv_timer_stop(r->timer);
    if (p == NULL) {
        pair_broke(r, "out of memory");
        return;
    }
    p->relay = r;
    p->base = (struct path){.ops = &pair_ops,
                            .kind = PATH_RELAY,
                            .stream = true,
                            .id = approach_next_path_id(r->approach)};
    (void)!sockaddr_local(r->fd, &p->base.local);
    (void)!sockaddr_remote(r->fd, &p->base.remote);
    if (getsockopt(r->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        p->base.rtt_us = 2 * info.tcpi_rtt;
    r->pair = p;
    approach_path_new(r->approach, &p->base);
    approach_proven(r->approach, &p->base);
    if (r->carry_proven) {
        r->carry_proven = false;
        approach_lost(r->approach, &r->carry.base, "the relay pair stands");
    }
}

static void on_dialed(void *ctx, int err, int fd)
{
    struct relay *r = ctx;
    uint8_t preface[RELAY_PREFACE_LEN];
    int on = 1, lowat = NOTSENT_LOWAT_BYTES;
    r->dial = NULL;
    if (err != 0) {
        pair_broke(r, "the broker's relay cannot be reached");
        return;
    }
    r->fd = fd;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
    relay_preface_encode(preface, r->ticket);
    uv_poll_t *poll = malloc(sizeof(*poll));
    if (poll == NULL || uv_poll_init(net_of(r)->loop, poll, fd) != 0) {
        free(poll);
        pair_broke(r, "out of memory");
        return;
    }
    r->poll = poll;
    r->poll->data = r;
    (void)uv_poll_start(r->poll, UV_READABLE, on_poll);
    set_timer(r, JOIN_TIMEOUT_MS);
    if (send(fd, preface, sizeof(preface), MSG_NOSIGNAL) != (ssize_t)sizeof(preface))
        pair_broke(r, "the broker's relay did not take our ticket");
}

static void on_ticket(void *k, const uint8_t *ticket, size_t len)
{
    struct relay *r = k;
    const struct addr *broker =
        uplink_broker_addr(approach_config_of(r->approach)->uplink);
    if (len != TICKET_LEN || broker->family == ADDR_NONE)
        return;
    bool had = r->pair != NULL;
    struct relay_path *old = r->pair;
    socket_close(r);
    if (had) { /* the other side's half broke: ours is worth nothing */
        r->pair = NULL;
        carry_works(r);
        approach_lost(r->approach, &old->base, "the relay pair is made anew");
        r->pair = old;
        pair_retire(r);
    }
    memcpy(r->ticket, ticket, TICKET_LEN);
    if (dial_start(&r->dial, net_of(r)->loop, broker, 1, DIAL_TIMEOUT_MS, on_dialed,
                   r) != 0) {
        r->dial = NULL;
        pair_broke(r, "the broker's relay cannot be reached");
    }
}

/* ------------------------------------------------------------------------- bytes out
 */

static void flush_tx(struct relay *r)
{
    while (r->tx_from < r->tx_len) {
        ssize_t n =
            send(r->fd, r->tx + r->tx_from, r->tx_len - r->tx_from, MSG_NOSIGNAL);
        if (n < 0) /* a dead socket shows in on_poll */
            return;
        r->tx_from += (size_t)n;
    }
    free(r->tx);
    r->tx = NULL;
    r->tx_len = r->tx_from = 0;
    (void)uv_poll_start(r->poll, UV_READABLE, on_poll);
}

/* Keeps the rest of a batch whose first `sent` bytes the socket took. */
static void keep_rest(struct relay *r, const struct iovec *iov, size_t count,
                      size_t sent)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += iov[i].iov_len;
    r->tx = sent < total ? malloc(total - sent) : NULL;
    if (r->tx == NULL) {
        (void)shutdown(r->fd, SHUT_RDWR); /* half a frame is out: this stream is lost */
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
        memcpy(r->tx + r->tx_len, (uint8_t *)iov[i].iov_base + skip,
               iov[i].iov_len - skip);
        r->tx_len += iov[i].iov_len - skip;
        sent -= skip;
    }
    r->tx_from = 0;
    (void)uv_poll_start(r->poll, UV_READABLE | UV_WRITABLE, on_poll);
}

static int pair_send(struct path *path, const uint8_t *buf, size_t len,
                     size_t segment_len)
{
    struct relay *r = ((struct relay_path *)path)->relay;
    struct iovec iov[2 * IOV_PAIRS];
    uint8_t headers[IOV_PAIRS][FRAME_HEADER];
    size_t count = 0, total = 0;
    if (r->pair == NULL || &r->pair->base != path || !r->joined)
        return POSTERN_ERR_CLOSED;
    if (r->tx != NULL)
        return POSTERN_ERR_AGAIN;
    for (size_t at = 0; at < len && count < IOV_PAIRS; at += segment_len, count++) {
        size_t n = len - at < segment_len ? len - at : segment_len;
        headers[count][0] = (uint8_t)(n >> 8);
        headers[count][1] = (uint8_t)n;
        iov[2 * count] = (struct iovec){headers[count], FRAME_HEADER};
        iov[2 * count + 1] = (struct iovec){(void *)(uintptr_t)(buf + at), n};
        total += FRAME_HEADER + n;
    }
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2 * count};
    ssize_t n = sendmsg(r->fd, &msg, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return 0; /* lost; on_poll finds the socket dead */
    if (n < (ssize_t)total)
        keep_rest(r, iov, 2 * count, n > 0 ? (size_t)n : 0);
    return 0;
}

/* -------------------------------------------------------------------------- bytes in
 */

/* Delivers whole frames; returns the bytes used, or -1 when the path went away. */
static ssize_t deliver(struct relay *r, const uint8_t *buf, size_t len)
{
    size_t at = 0;
    while (len - at >= FRAME_HEADER) {
        size_t n = (size_t)buf[at] << 8 | buf[at + 1];
        if (len - at - FRAME_HEADER < n)
            break;
        const uint8_t *packet = buf + at + FRAME_HEADER;
        at += FRAME_HEADER + n;
        if (n > 0)
            path_deliver(&r->pair->base, packet, n, n);
        if (r->freed || r->pair == NULL)
            return -1;
    }
    return (ssize_t)at;
}

static void read_pair(struct relay *r)
{
    uint8_t *buf = net_of(r)->scratch;
    for (int round = 0; round < 4; round++) {
        size_t have = r->rx_len;
        if (have > 0)
            memcpy(buf, r->rx, have);
        ssize_t n = recv(r->fd, buf + have, UDP_SCRATCH_BYTES - have, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            pair_broke(r,
                       n == 0 ? "the relay was closed" : "the relay connection broke");
            return;
        }
        size_t len = have + (size_t)n;
        ssize_t used = deliver(r, buf, len);
        if (used < 0)
            return;
        free(r->rx);
        r->rx = NULL;
        r->rx_len = len - (size_t)used;
        if (r->rx_len > 0) {
            r->rx = malloc(r->rx_len);
            if (r->rx == NULL) {
                r->rx_len = 0;
                pair_broke(r, "out of memory");
                return;
            }
            memcpy(r->rx, buf + used, r->rx_len);
        }
        if (len < UDP_SCRATCH_BYTES)
            return;
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct relay *r = poll->data;
    if (r == NULL)
        return;
    r->busy = true;
    if (status < 0) {
        pair_broke(r, "the relay connection broke");
    } else if (!r->joined) {
        uint8_t byte = 0;
        ssize_t n = recv(r->fd, &byte, 1, 0);
        if (n == 1 && byte == RELAY_JOINED)
            on_joined(r);
        else if (n >= 0 || (errno != EAGAIN && errno != EINTR))
            pair_broke(r, "the broker's relay did not take our ticket");
    } else {
        if ((events & UV_WRITABLE) && r->tx != NULL) {
            flush_tx(r);
            if (r->tx == NULL)
                path_writable(&r->pair->base);
        }
        if (!r->freed && r->pair == NULL)
            socket_close(r); /* nobody would read it */
        else if ((events & UV_READABLE) && !r->freed)
            read_pair(r);
    }
    r->busy = false;
    if (r->freed)
        free(r);
}

/* -------------------------------------------------------------------------- the kind
 */

static void on_timer(uv_timer_t *t)
{
    struct relay *r = t->data;
    if (r == NULL)
        return;
    if (r->fd >= 0 && !r->joined)
        pair_broke(r, "the other side did not come to the relay");
    else if (r->fd < 0 && r->running && r->dial == NULL)
        approach_introduce_soon(r->approach);
}

static void *relay_new(struct approach *a)
{
    struct relay *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->timer = malloc(sizeof(*r->timer));
    if (r->timer == NULL) {
        free(r);
        return NULL;
    }
    r->approach = a;
    r->fd = -1;
    r->carry = (struct relay_path){.base = {.ops = &carry_ops, .kind = PATH_RELAY},
                                   .relay = r};
    (void)uv_timer_init(approach_config_of(a)->net->loop, r->timer);
    r->timer->data = r;
    if (approach_config_of(a)->allowed & (1u << PATH_RELAY))
        carry_list(r);
    return r;
}

static void relay_start(void *k)
{
    struct relay *r = k;
    bool again = r->running && r->pair == NULL && r->dial == NULL && r->fd < 0;
    r->running = true;
    carry_list(r);
    approach_started(r->approach, PATH_RELAY);
    if (again)
        approach_introduce_soon(r->approach);
}

static void relay_stop(void *k)
{
    struct relay *r = k;
    r->running = false;
    r->carry_proven = false;
    (void)uv_timer_stop(r->timer);
    socket_close(r);
    pair_retire(r);
}

static void relay_free(void *k)
{
    struct relay *r = k;
    socket_close(r);
    free(r->pair);
    r->pair = NULL;
    r->timer->data = NULL;
    uv_close((uv_handle_t *)r->timer, free_handle);
    r->freed = true;
    if (!r->busy)
        free(r);
}

static void relay_on_offer(void *k, const Offer *o, bool renewed)
{
    (void)o, (void)renewed;
    carry_works(k); /* the peer heard us through the broker, and we hear it */
}

static void relay_on_carry(void *k, const uint8_t *packet, size_t len)
{
    struct relay *r = k;
    r->busy = true;
    carry_works(r);
    path_deliver(&r->carry.base, packet, len, len);
    r->busy = false;
    if (r->freed)
        free(r);
}

static void relay_on_uplink(void *k, bool up)
{
    struct relay *r = k;
    if (!r->running)
        return;
    if (!up && r->carry_proven) {
        r->carry_proven = false;
        approach_lost(r->approach, &r->carry.base, "the broker cannot be reached");
    }
    if (up && r->pair == NULL && r->dial == NULL && r->fd < 0)
        approach_introduce_soon(r->approach);
}

static void relay_on_dead(void *k, struct path *p)
{
    struct relay *r = k;
    if (r->pair != NULL && p == &r->pair->base)
        pair_broke(r, "nothing came through the relay any more");
    else if (p == &r->carry.base)
        r->carry_proven = false;
}

const struct kind_ops relay_kind = {
    .new = relay_new,
    .free = relay_free,
    .start = relay_start,
    .stop = relay_stop,
    .on_offer = relay_on_offer,
    .on_ticket = on_ticket,
    .on_carry = relay_on_carry,
    .on_uplink = relay_on_uplink,
    .on_dead = relay_on_dead,
};
