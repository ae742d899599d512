/*
 * Bytes between a stream and a socket, or between the streams of two sessions. Reads
 * straight into the stream's queue; writes what arrived once all packets of a round
 * were read. Does not know what the first messages say nor who owns the socket's other
 * end.
 */
#include "session/pump.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/proto.h"
#include "core/state.h"
#include "core/wire.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/sock.h"
#include "io/tcp.h"

enum {
    READ_BLOCKS = 5,   /* one that has begun, and four more: all that may be unsent */
    WRITE_BLOCKS = 16, /* what a round can bring for one stream */
    HEADER_MAX = 512,  /* StreamOpen and StreamReply, with every field full */
    DATAGRAM_MAX = 65535,
    /* Who dies after his end shows by being asked only: his kernel answers for him as
     * long as it keeps his half (tcp_fin_timeout, 60 s), and then with a reset. One
     * whose machine is away for some minutes lives: 20 of them are waited for. The
     * kernel counts what is asked in vain; TCP_USER_TIMEOUT would also end who lives
     * and does not read. */
    ASK_S = 10,
    ASK_COUNT = 120,
};

/*
 * Three machines, of which none knows the others' states.
 *
 * Out, from the socket to the stream: EMPTY means that the last read took all there
 * was, so the loop watches for more. MORE means that there may be more than the stream
 * had room for: the socket is not watched, and the stream's room lets it go on. Either
 * goes to ENDED when the socket's end was passed on; nothing follows that. A joined one
 * stays EMPTY: what comes is the other's to hand on.
 *
 * In, from the stream to the socket: in HEADER the peer's first message is awaited, and
 * nothing is for the application. Then it FLOWS; while the socket takes no more it is
 * FULL and goes on when that is writable. From FLOWS it goes to SHUT, when all that the
 * peer sends has been written and its end passed on.
 *
 * Life: LIVES, until both directions have ended (OVER) or one of them broke (BROKEN):
 * then the socket is reset, nothing moves any more, and it is OVER when QUIC has closed
 * the stream too. OVER is told, and the pump is freed. Where the socket's other end is
 * gone after its own end was passed on, it has LEFT: as with TCP, what it said goes on
 * its way, unless something is said to it, and once the peer has it all, the stream is
 * read no more (BROKEN). The peer's pump hears that from the stream's close, and its
 * socket is reset behind what came.
 */
enum pump_out { OUT_EMPTY, OUT_MORE, OUT_ENDED };
enum pump_in { IN_HEADER, IN_FLOWS, IN_FULL, IN_SHUT };
enum pump_life { PUMP_LIVES, PUMP_LEFT, PUMP_BROKEN, PUMP_OVER };

// clang-format off
static const uint8_t out_next[] = {
    [OUT_EMPTY] = 1u << OUT_MORE | 1u << OUT_ENDED,
    [OUT_MORE]  = 1u << OUT_EMPTY | 1u << OUT_ENDED,
    [OUT_ENDED] = 0,
};
static const uint8_t in_next[] = {
    [IN_HEADER] = 1u << IN_FLOWS,
    [IN_FLOWS]  = 1u << IN_FULL | 1u << IN_SHUT,
    [IN_FULL]   = 1u << IN_FLOWS,
    [IN_SHUT]   = 0,
};
static const uint8_t life_next[] = {
    [PUMP_LIVES]  = 1u << PUMP_LEFT | 1u << PUMP_BROKEN | 1u << PUMP_OVER,
    [PUMP_LEFT]   = 1u << PUMP_BROKEN | 1u << PUMP_OVER,
    [PUMP_BROKEN] = 1u << PUMP_OVER,
    [PUMP_OVER]   = 0,
};
// clang-format on

struct pump {
    struct stream *stream; /* NULL once QUIC has closed it */
    struct session_env *env;
    const struct pump_events *events;
    void *ctx;
    struct pump *other; /* joined to it, in place of a socket */
    int fd;
    struct watch watch;
    struct chain arrived; /* and not taken by the socket yet */
    enum pump_out out;
    enum pump_in in;
    enum pump_life life;
    bool peer_fin;         /* all that the peer sends has arrived */
    bool owned, datagrams; /* as its user said */
    uint64_t code;
    struct pump_stats stats;
};

/* The application sees a reset, as the peer's did; `after`: behind what was written;
 * or, without a code, an orderly end. */
static void socket_close(struct pump *p, bool after)
{
    watch_close(&p->watch);
    if (p->fd >= 0) {
        if (after && p->code != 0)
            linger_reset_after(p->fd);
        else if (after)
            linger_orderly(p->fd);
        close(p->fd);
        p->fd = -1;
    }
}

static void watch_update(struct pump *p)
{
    int want = 0;
    if (!watch_is_open(&p->watch))
        return;
    if (p->out == OUT_EMPTY && p->stream != NULL)
        want |= WATCH_READ;
    if (p->in == IN_FULL)
        want |= WATCH_WRITE;
    if (want == 0 && p->out == OUT_ENDED && p->in != IN_SHUT)
        want = WATCH_END; /* else reading or writing tells */
    watch_for(&p->watch, want);
}

static void part(struct pump *p)
{
    if (p->other != NULL)
        p->other->other = NULL;
    p->other = NULL;
}

static void break_both(struct pump *p, uint64_t code);
static void leave(struct pump *p, uint64_t code);

/* Frees the pump when nothing is left to do. Returns true when it is gone. */
static bool settle(struct pump *p)
{
    struct pump *other = p->other;
    bool broken = p->life == PUMP_BROKEN;
    bool socket_done = (p->fd < 0 && p->other == NULL) || broken || p->in == IN_SHUT;
    if (p->life == PUMP_OVER || p->stream != NULL || !socket_done) {
        watch_update(p);
        return false;
    }
    STATE_GO(life_next, p->life, PUMP_OVER);
    socket_close(p, !broken);
    part(p);
    if (other != NULL && p->code != 0) {
        leave(other, p->code);
        (void)settle(other);
    }
    chain_fini(&p->arrived);
    p->events->on_end(p->ctx, p, p->code == SESSION_LEFT_BY_APP ? 0 : p->code);
    free(p);
    return true;
}

static void break_both(struct pump *p, uint64_t code)
{
    struct pump *other = p->other;
    if (p->life >= PUMP_BROKEN)
        return;
    STATE_GO(life_next, p->life, PUMP_BROKEN);
    p->code = code;
    socket_close(p, false);
    chain_fini(&p->arrived);
    if (p->stream != NULL)
        stream_reset(p->stream, code);
    part(p);
    if (other != NULL) {
        break_both(other, code);
        (void)settle(other);
    }
}

static void look_if_heard(struct pump *p)
{
    if (p->life != PUMP_LEFT || !stream_is_acked(p->stream))
        return;
    STATE_GO(life_next, p->life, PUMP_BROKEN);
    stream_stop(p->stream, p->code);
}

/* The other end of the socket, or of the other's stream, is gone. */
static void leave(struct pump *p, uint64_t code)
{
    bool told = p->arrived.end > p->arrived.start; /* what nobody takes any more */
    if (p->life != PUMP_LIVES || p->out != OUT_ENDED || p->stream == NULL || told) {
        break_both(p, SESSION_RESET_BY_APP);
        return;
    }
    STATE_GO(life_next, p->life, PUMP_LEFT);
    p->code = code;
    socket_close(p, false);
    part(p);
    look_if_heard(p);
}

/* Socket to stream. It stays at MORE while the socket has more than we may take. */
static void read_socket(struct pump *p)
{
    struct iovec iov[READ_BLOCKS];
    while (p->out == OUT_MORE && p->stream != NULL && p->fd >= 0) {
        size_t room = stream_room(p->stream);
        if (room < CHAIN_BLOCK_BYTES / 4)
            return; /* on_room comes back here */
        size_t count = stream_reserve(p->stream, iov, READ_BLOCKS);
        size_t offered = 0;
        for (size_t i = 0; i < count; i++)
            offered += iov[i].iov_len;
        ssize_t n = sock_readv(p->fd, iov, count);
        stream_commit(p->stream, n > 0 ? (size_t)n : 0);
        if (n > 0) {
            p->stats.to_peer_bytes += (uint64_t)n;
            if ((size_t)n < offered)
                STATE_GO(out_next, p->out, OUT_EMPTY);
        } else if (n == 0 && p->owned && p->in != IN_SHUT && sock_is_over(p->fd)) {
            break_both(p, SESSION_RESET_BY_APP);
        } else if (n == 0) {
            STATE_GO(out_next, p->out, OUT_ENDED);
            tcp_keep_alive_every(p->fd, ASK_S, ASK_S, ASK_COUNT);
            stream_finish(p->stream);
        } else if (n == POSTERN_ERR_AGAIN) {
            STATE_GO(out_next, p->out, OUT_EMPTY);
        } else {
            break_both(p, SESSION_RESET_BY_APP);
        }
    }
}

/* Stream to socket. */
static void write_socket(struct pump *p)
{
    struct iovec iov[WRITE_BLOCKS];
    if (p->in == IN_HEADER)
        return; /* part of the first message: nothing for the application */
    if (p->in == IN_FULL)
        STATE_GO(in_next, p->in, IN_FLOWS);
    while (p->fd >= 0 && p->arrived.end > p->arrived.start) {
        size_t count = chain_peek(&p->arrived, p->arrived.start, iov, WRITE_BLOCKS);
        ssize_t n = sock_writev(p->fd, iov, count);
        if (n == POSTERN_ERR_AGAIN) {
            STATE_GO(in_next, p->in, IN_FULL);
            return;
        }
        if (n < 0) {
            break_both(p, SESSION_RESET_BY_APP);
            return;
        }
        chain_release(&p->arrived, p->arrived.start + (uint64_t)n);
        p->stats.from_peer_bytes += (uint64_t)n;
        if (p->stream != NULL)
            stream_consumed(p->stream, (size_t)n);
    }
    if (p->fd >= 0 && p->peer_fin && p->in != IN_SHUT) {
        STATE_GO(in_next, p->in, IN_SHUT);
        sock_end_writing(p->fd);
    }
}

/* Stream to the other's stream; what has no room there waits for its on_room. */
static void forward(struct pump *p)
{
    struct iovec iov[WRITE_BLOCKS];
    struct pump *to = p->other;
    while (to->stream != NULL && p->arrived.end > p->arrived.start) {
        size_t room = stream_room(to->stream), sent = 0;
        size_t count = chain_peek(&p->arrived, p->arrived.start, iov, WRITE_BLOCKS);
        if (room == 0)
            return;
        for (size_t i = 0; i < count && sent < room; i++) {
            size_t n = iov[i].iov_len < room - sent ? iov[i].iov_len : room - sent;
            if (stream_write(to->stream, iov[i].iov_base, n) != 0) {
                break_both(p, STREAM_LIMIT);
                return;
            }
            sent += n;
        }
        chain_release(&p->arrived, p->arrived.start + sent);
        p->stats.from_peer_bytes += sent;
        to->stats.to_peer_bytes += sent;
        if (p->stream != NULL)
            stream_consumed(p->stream, sent);
    }
    if (p->peer_fin && p->in == IN_FLOWS) {
        STATE_GO(in_next, p->in, IN_SHUT);
        pump_finish(to);
    }
}

static void on_ready(void *ctx, int events)
{
    struct pump *p = ctx;
    if ((events & WATCH_END) && sock_is_over(p->fd))
        leave(p, SESSION_LEFT_BY_APP);
    if (events & WATCH_WRITE)
        write_socket(p);
    if ((events & WATCH_READ) && p->out != OUT_ENDED) {
        STATE_GO(out_next, p->out, OUT_MORE);
        read_socket(p);
    }
    (void)settle(p);
}

/* ------------------------------------------------------------------- stream events */

/* Cuts the first message off what arrived. */
static void take_header(struct pump *p)
{
    uint8_t buf[PROTO_FRAME_HEADER + HEADER_MAX];
    size_t have = chain_copy(&p->arrived, p->arrived.start, buf, sizeof(buf));
    int n = proto_frame_size(buf, have, HEADER_MAX);
    if (n == 0 && !p->peer_fin)
        return;
    if (n <= 0) {
        break_both(p, STREAM_LIMIT);
        return;
    }
    chain_release(&p->arrived, p->arrived.start + (uint64_t)n);
    if (p->stream != NULL)
        stream_consumed(p->stream, (size_t)n);
    STATE_GO(in_next, p->in, IN_FLOWS);
    p->events->on_header(p->ctx, p, buf + PROTO_FRAME_HEADER,
                         (size_t)n - PROTO_FRAME_HEADER);
}

static void hand_datagram(struct pump *p, const uint8_t *data, size_t len)
{
    p->stats.from_peer_bytes += len;
    if (p->other != NULL)
        (void)!pump_send_datagram(p->other, data, len);
    else if (p->events->on_datagram != NULL)
        p->events->on_datagram(p->ctx, p, data, len);
}

/* Datagrams that came on the stream because they are large. */
static void take_datagrams(struct pump *p)
{
    READ_INTO uint8_t buf[PROTO_FRAME_HEADER + DATAGRAM_MAX];
    while (p->life == PUMP_LIVES && p->arrived.end > p->arrived.start) {
        size_t have = chain_copy(&p->arrived, p->arrived.start, buf, sizeof(buf));
        int n = proto_frame_size(buf, have, DATAGRAM_MAX);
        if (n == 0)
            return;
        if (n < 0) {
            break_both(p, STREAM_LIMIT);
            return;
        }
        chain_release(&p->arrived, p->arrived.start + (uint64_t)n);
        if (p->stream != NULL)
            stream_consumed(p->stream, (size_t)n);
        hand_datagram(p, buf + PROTO_FRAME_HEADER, (size_t)n - PROTO_FRAME_HEADER);
    }
    if (p->other != NULL && p->peer_fin)
        forward(p); /* the end of the flow */
}

static void on_data(void *ctx, const uint8_t *data, size_t len, bool fin)
{
    struct pump *p = ctx;
    p->peer_fin = p->peer_fin || fin;
    if (p->life == PUMP_LEFT && len > 0)
        break_both(p, SESSION_RESET_BY_APP);
    if (p->life != PUMP_LIVES) {
        stream_consumed(p->stream, len);
        return;
    }
    if (chain_append(&p->arrived, data, len) != 0)
        break_both(p, STREAM_LIMIT);
}

static void on_flush(void *ctx)
{
    struct pump *p = ctx;
    if (p->in == IN_HEADER && p->life == PUMP_LIVES &&
        (p->arrived.end > p->arrived.start || p->peer_fin))
        take_header(p);
    if (p->fd >= 0 && p->in != IN_FULL)
        write_socket(p);
    if (p->datagrams)
        take_datagrams(p);
    else if (p->other != NULL)
        forward(p);
    (void)settle(p);
}

static void on_datagram(void *ctx, const uint8_t *data, size_t len)
{
    hand_datagram(ctx, data, len);
}

/* A large datagram travels on the stream, its length before it. */
static int send_large(struct pump *p, const uint8_t *data, size_t len)
{
    uint8_t head[PROTO_FRAME_HEADER];
    if (len > DATAGRAM_MAX || stream_room(p->stream) < sizeof(head) + len)
        return POSTERN_ERR_LIMIT;
    struct wire_writer w = wire_writer(head, sizeof(head));
    wire_put_u32(&w, (uint32_t)len);
    int rc = stream_write(p->stream, head, sizeof(head));
    return rc == 0 ? stream_write(p->stream, data, len) : rc;
}

static void on_unfit(void *ctx, const uint8_t *data, size_t len)
{
    struct pump *p = ctx;
    if (p->stream != NULL && p->life == PUMP_LIVES)
        (void)!send_large(p, data, len);
}

static void on_reset(void *ctx, uint64_t code)
{
    break_both(ctx, code != 0 ? code : SESSION_RESET_BY_APP);
}

static void on_room(void *ctx)
{
    struct pump *p = ctx, *other = p->other;
    look_if_heard(p);
    read_socket(p);
    watch_update(p);
    if (other != NULL && !other->datagrams) {
        forward(other);
        (void)settle(other);
    }
}

static void on_close(void *ctx, uint64_t code)
{
    struct pump *p = ctx;
    p->stream = NULL;
    if (!p->peer_fin) /* the session ended under it */
        break_both(p, code != 0 ? code : STREAM_UNREACHABLE);
    else if (p->life == PUMP_LIVES && p->out != OUT_ENDED) /* it hears no more */
        p->code = code;
    on_flush(p); /* a stream that ends with its last packet is not flushed before */
}

static const struct stream_events stream_events = {
    .on_data = on_data,
    .on_flush = on_flush,
    .on_datagram = on_datagram,
    .on_unfit = on_unfit,
    .on_reset = on_reset,
    .on_stopped = on_reset,
    .on_room = on_room,
    .on_close = on_close,
};

/* --------------------------------------------------------------------------- calls */

static struct pump *pump_new(struct session_env *env, const struct pump_events *events,
                             void *ctx)
{
    struct pump *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->env = env;
    p->events = events;
    p->ctx = ctx;
    p->fd = -1;
    chain_init(&p->arrived, &env->pool);
    return p;
}

int pump_open(struct pump **out, struct session *s, const struct pump_events *events,
              void *ctx, const uint8_t *header, size_t len)
{
    struct pump *p = pump_new(session_env_of(s), events, ctx);
    if (p == NULL)
        return POSTERN_ERR_NOMEM;
    int rc = stream_open(s, &p->stream, &stream_events, p);
    if (rc == 0)
        rc = stream_write(p->stream, header, len);
    if (rc != 0) {
        if (p->stream != NULL) {
            stream_accept(p->stream, NULL, NULL);
            stream_reset(p->stream, STREAM_LIMIT);
        }
        free(p);
        return rc;
    }
    *out = p;
    return 0;
}

int pump_accept(struct pump **out, struct stream *st, const struct pump_events *events,
                void *ctx)
{
    struct pump *p = pump_new(session_env_of(stream_session(st)), events, ctx);
    if (p == NULL)
        return POSTERN_ERR_NOMEM;
    p->stream = st;
    stream_accept(st, &stream_events, p);
    *out = p;
    return 0;
}

void pump_set_user(struct pump *p, const struct pump_events *events, void *ctx)
{
    p->events = events;
    p->ctx = ctx;
}

int pump_send_header(struct pump *p, const uint8_t *frame, size_t len)
{
    return p->stream != NULL ? stream_write(p->stream, frame, len) : POSTERN_ERR_CLOSED;
}

int pump_attach(struct pump *p, int fd)
{
    int rc = p->stream == NULL || p->life != PUMP_LIVES
                 ? POSTERN_ERR_CLOSED
                 : watch_open(&p->watch, p->env->loop, fd, on_ready, p);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    p->fd = fd;
    linger_reset(fd);        /* until both directions have ended */
    if (p->out == OUT_EMPTY) /* a first look costs a system call and saves a round */
        STATE_GO(out_next, p->out, OUT_MORE);
    write_socket(p);
    read_socket(p);
    watch_update(p);
    return 0;
}

void pump_join(struct pump *p, struct pump *q)
{
    pump_disown(q);
    if (p->stream == NULL || p->life != PUMP_LIVES || q->stream == NULL ||
        q->life != PUMP_LIVES) {
        break_both(q, STREAM_UNREACHABLE);
        break_both(p, STREAM_UNREACHABLE);
        return;
    }
    q->datagrams = p->datagrams;
    p->other = q;
    q->other = p;
    if (p->datagrams)
        take_datagrams(p); /* what came before the answer; q goes on from its header */
    else
        forward(p);
}

void pump_set_owned(struct pump *p)
{
    p->owned = true;
}

void pump_set_datagrams(struct pump *p)
{
    p->datagrams = true;
}

int pump_send_datagram(struct pump *p, const uint8_t *data, size_t len)
{
    if (p->stream == NULL || p->life != PUMP_LIVES)
        return POSTERN_ERR_CLOSED;
    int rc = len <= stream_datagram_max(p->stream)
                 ? stream_send_datagram(p->stream, data, len)
                 : send_large(p, data, len);
    if (rc == 0)
        p->stats.to_peer_bytes += len;
    return rc;
}

void pump_finish(struct pump *p)
{
    STATE_GO(out_next, p->out, OUT_ENDED);
    if (p->stream != NULL)
        stream_finish(p->stream);
}

void pump_abort(struct pump *p, uint64_t code)
{
    break_both(p, code);
}

static void ignore_header(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    (void)ctx, (void)p, (void)msg, (void)len;
}

static void ignore_end(void *ctx, struct pump *p, uint64_t code)
{
    (void)ctx, (void)p, (void)code;
}

void pump_disown(struct pump *p)
{
    static const struct pump_events nobody = {ignore_header, NULL, ignore_end};
    p->events = &nobody;
}

void pump_drop(struct pump *p)
{
    pump_disown(p);
    break_both(p, SESSION_RESET_BY_APP);
}

bool pump_is_sent(const struct pump *p)
{
    return p->out == OUT_ENDED && (p->stream == NULL || stream_is_acked(p->stream));
}

struct pump_stats pump_stats(const struct pump *p)
{
    return p->stats;
}
