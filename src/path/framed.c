/*
 * Packets over a TCP connection: 2 bytes of length, big-endian, then the packet; large
 * ones cost less. A batch goes out in one system call and is never cut: what the socket
 * does not take is kept, and the path is full until it went out.
 */
#include "path/framed.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/sock.h"
#include "io/tcp.h"
#include "io/udp.h"

enum {
    FRAME_HEADER = 2,
    IOV_PAIRS = 256,
    READ_ROUNDS = 4,
    /* What waits in the socket behind what is under way: as much as leaves in a tenth
     * of a second, or whoever asks whether the path lives waits behind it for long. */
    UNSENT_MAX_BYTES = 256 * 1024,
    UNSENT_MIN_BYTES = 16 * 1024,
    UNSENT_PER_S = 10,
    PACE_EVERY_MS = 100,
    BESIDE_BYTES_MAX = 4096, /* a packet that may wait behind a full batch */
    BESIDE_QUEUED_MAX = 512 * 1024,
    CHOKED_MS = 400,
};

struct framed {
    struct path base; /* first: struct path * points here */
    struct net *net;
    framed_broke_cb broke;
    void *ctx;
    int fd;
    struct watch watch;
    uint8_t *rx; /* an incomplete frame */
    size_t rx_len;
    uint8_t *tx; /* what the socket did not take */
    size_t tx_len, tx_from;
    uint64_t paced_ms;
    uint64_t asked_us; /* the first was sent since something came; 0: nothing was */
    bool busy, freed, told;
    bool failed; /* a write was told of a reset: the read behind it sees an end */
};

static void on_ready(void *ctx, int events);

static void tell_broken(struct framed *f, const char *why)
{
    if (f->told || f->freed)
        return;
    f->told = true;
    watch_for(&f->watch, 0);
    f->broke(f->ctx, f, why);
}

/* ----------------------------------------------------------------------- bytes out */

static void flush_tx(struct framed *f)
{
    while (f->tx_from < f->tx_len) {
        ssize_t n = sock_write(f->fd, f->tx + f->tx_from, f->tx_len - f->tx_from);
        if (n < 0) { /* a dead socket shows in on_ready */
            f->failed = n != POSTERN_ERR_AGAIN;
            return;
        }
        f->tx_from += (size_t)n;
    }
    free(f->tx);
    f->tx = NULL;
    f->tx_len = f->tx_from = 0;
    watch_for(&f->watch, WATCH_READ);
}

/* Keeps the rest of a batch whose first `sent` bytes the socket took. */
static void keep_rest(struct framed *f, const struct iovec *iov, size_t count,
                      size_t sent)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += iov[i].iov_len;
    f->tx = sent < total ? malloc(total - sent) : NULL;
    if (f->tx == NULL) {
        f->failed = true;
        sock_end(f->fd); /* half a frame is out: this stream is lost */
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;
        memcpy(f->tx + f->tx_len, (uint8_t *)iov[i].iov_base + skip,
               iov[i].iov_len - skip);
        f->tx_len += iov[i].iov_len - skip;
        sent -= skip;
    }
    f->tx_from = 0;
    watch_for(&f->watch, WATCH_READ | WATCH_WRITE);
}

/*
 * One small packet more, behind what the socket did not take: a probe must not be lost
 * because the path is busy.
 */
static int send_beside(struct framed *f, const uint8_t *buf, size_t len)
{
    if (f->tx_len - f->tx_from > BESIDE_QUEUED_MAX)
        return POSTERN_ERR_AGAIN;
    uint8_t *tx = realloc(f->tx, f->tx_len + FRAME_HEADER + len);
    if (tx == NULL)
        return POSTERN_ERR_AGAIN;
    tx[f->tx_len] = (uint8_t)(len >> 8);
    tx[f->tx_len + 1] = (uint8_t)len;
    memcpy(tx + f->tx_len + FRAME_HEADER, buf, len);
    f->tx = tx;
    f->tx_len += FRAME_HEADER + len;
    return 0;
}

static void pace(struct framed *f)
{
    struct tcp_facts facts;
    uint64_t now_ms = loop_now_ms(f->net->loop);
    if (now_ms - f->paced_ms < PACE_EVERY_MS || tcp_read_facts(f->fd, &facts) != 0 ||
        facts.rate_bytes_s == 0)
        return;
    if (f->base.kind == PATH_RELAY)
        f->net->relay_rtt_us = facts.rtt_us;
    uint64_t bytes = facts.rate_bytes_s / UNSENT_PER_S;
    f->paced_ms = now_ms;
    tcp_unsent_max(f->fd, bytes < UNSENT_MIN_BYTES   ? UNSENT_MIN_BYTES
                          : bytes > UNSENT_MAX_BYTES ? UNSENT_MAX_BYTES
                                                     : (int)bytes);
}

static int op_send(struct path *path, const uint8_t *buf, size_t len,
                   size_t segment_len)
{
    struct framed *f = (struct framed *)path;
    struct iovec iov[2 * IOV_PAIRS];
    uint8_t headers[IOV_PAIRS][FRAME_HEADER];
    size_t count = 0, total = 0;
    if (f->told || f->freed)
        return POSTERN_ERR_CLOSED;
    if (f->tx != NULL)
        return len <= BESIDE_BYTES_MAX && len == segment_len ? send_beside(f, buf, len)
                                                             : POSTERN_ERR_AGAIN;
    for (size_t at = 0; at < len && count < IOV_PAIRS; at += segment_len, count++) {
        size_t n = len - at < segment_len ? len - at : segment_len;
        headers[count][0] = (uint8_t)(n >> 8);
        headers[count][1] = (uint8_t)n;
        iov[2 * count] = (struct iovec){headers[count], FRAME_HEADER};
        iov[2 * count + 1] = (struct iovec){(void *)(uintptr_t)(buf + at), n};
        total += FRAME_HEADER + n;
    }
    pace(f);
    if (f->asked_us == 0)
        f->asked_us = clock_us();
    ssize_t n = sock_writev(f->fd, iov, 2 * count);
    if (n < 0 && n != POSTERN_ERR_AGAIN) {
        f->failed = true; /* lost; on_ready finds the socket dead */
        return 0;
    }
    if (n < (ssize_t)total)
        keep_rest(f, iov, 2 * count, n > 0 ? (size_t)n : 0);
    return 0;
}

static const struct path_ops ops = {op_send};

/* ------------------------------------------------------------------------ bytes in */

/* Delivers whole frames; returns the bytes used, or -1 when the path went away. */
static ssize_t deliver(struct framed *f, const uint8_t *buf, size_t len)
{
    size_t at = 0;
    while (len - at >= FRAME_HEADER) {
        size_t n = (size_t)buf[at] << 8 | buf[at + 1];
        if (len - at - FRAME_HEADER < n)
            break;
        const uint8_t *packet = buf + at + FRAME_HEADER;
        at += FRAME_HEADER + n;
        if (n > 0)
            path_deliver(&f->base, packet, n, n);
        if (f->freed)
            return -1;
    }
    return (ssize_t)at;
}

static void read_frames(struct framed *f)
{
    uint8_t *buf = f->net->scratch;
    for (int round = 0; round < READ_ROUNDS; round++) {
        size_t have = f->rx_len;
        if (have > 0)
            memcpy(buf, f->rx, have);
        ssize_t n = sock_read(f->fd, buf + have, UDP_SCRATCH_BYTES - have);
        if (n == POSTERN_ERR_AGAIN)
            return;
        if (n <= 0) {
            f->base.ended = n == 0 && !f->failed;
            tell_broken(f, f->base.ended ? "the connection was closed"
                                         : "the connection broke");
            return;
        }
        size_t len = have + (size_t)n;
        f->asked_us = 0;
        if (f->base.kind == PATH_RELAY)
            f->net->relay_heard_us = clock_us();
        ssize_t used = deliver(f, buf, len);
        if (used < 0)
            return;
        free(f->rx);
        f->rx = NULL;
        f->rx_len = len - (size_t)used;
        if (f->rx_len > 0) {
            f->rx = malloc(f->rx_len);
            if (f->rx == NULL) {
                f->rx_len = 0;
                tell_broken(f, "out of memory");
                return;
            }
            memcpy(f->rx, buf + used, f->rx_len);
        }
        if (len < UDP_SCRATCH_BYTES)
            return;
    }
}

static void on_ready(void *ctx, int events)
{
    struct framed *f = ctx;
    f->busy = true;
    if ((events & WATCH_WRITE) && f->tx != NULL) {
        flush_tx(f);
        if (f->tx == NULL)
            path_writable(&f->base);
    }
    if ((events & WATCH_READ) && !f->freed && !f->told)
        read_frames(f);
    f->busy = false;
    if (f->freed)
        free(f);
}

/* ---------------------------------------------------------------------- life cycle */

static void describe(struct path *p, int fd)
{
    struct tcp_facts facts;
    tcp_no_delay(fd);
    tcp_unsent_max(fd, UNSENT_MAX_BYTES);
    (void)!sock_local(fd, &p->local);
    (void)!sock_remote(fd, &p->remote);
    if (tcp_read_facts(fd, &facts) != 0)
        return;
    p->rtt_us = facts.rtt_us;
    if (!facts.scales)
        p->window_bytes = UINT16_MAX;
}

int framed_new(struct framed **out, struct net *net, int fd, enum path_kind kind,
               uint32_t path_id, framed_broke_cb broke, void *ctx)
{
    struct framed *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return POSTERN_ERR_NOMEM;
    int rc = watch_start(&f->watch, net->loop, fd, WATCH_READ, on_ready, f);
    if (rc != 0) {
        free(f);
        return rc;
    }
    f->base = (struct path){.ops = &ops, .kind = kind, .stream = true, .id = path_id};
    f->net = net;
    f->broke = broke;
    f->ctx = ctx;
    f->fd = fd;
    describe(&f->base, fd);
    *out = f;
    return 0;
}

void framed_reset(struct framed *f)
{
    linger_reset(f->fd);
}

void framed_free(struct framed *f)
{
    if (f == NULL || f->freed)
        return;
    f->freed = true;
    watch_close(&f->watch);
    /* IPv6 routes outlive an address: who is told of an end takes it for the program's
     */
    if (netmon_way_of(&f->base.local, &f->base.remote) == NETMON_WAY_GONE ||
        f->base.settled) /* NATs keep what ends in order for minutes */
        linger_reset(f->fd);
    close(f->fd);
    free(f->rx);
    free(f->tx);
    f->rx = f->tx = NULL;
    if (!f->busy)
        free(f);
}

struct path *framed_path(struct framed *f)
{
    return &f->base;
}

bool framed_is_stuck(const struct framed *f)
{
    struct tcp_facts t;
    return tcp_read_facts(f->fd, &t) == 0 && t.retransmits > 1;
}

/*
 * TCP_INFO does not say how large what was acknowledged is. But where the first segment
 * under way is sent again and again, what the other end says arrives or it is found to
 * live otherwise; and where all of ours is acknowledged since something came last, what
 * is small has passed, there and back.
 */
bool framed_is_choked(const struct framed *f, uint64_t since_us)
{
    struct tcp_facts t;
    if (tcp_read_facts(f->fd, &t) != 0 || t.data_ms * 1000ull >= since_us ||
        t.data_ms < CHOKED_MS)
        return false;
    return t.unacked > 0 ? t.retransmits > 1 : t.ack_ms < t.data_ms;
}

bool framed_is_unheard(const struct framed *f, unsigned ms)
{
    struct tcp_facts t;
    if (f->asked_us == 0 || tcp_read_facts(f->fd, &t) != 0 || t.unacked == 0)
        return false;
    uint32_t patience_ms = ms + 3 * t.rtt_us / 1000;
    return clock_us() - f->asked_us > patience_ms * 1000ull && t.ack_ms > patience_ms &&
           t.data_ms > patience_ms;
}
