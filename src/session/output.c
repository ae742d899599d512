/*
 * Everything that leaves a session: packets are written side by side into one buffer
 * and handed to the path in batches, so that one system call carries many. Once a
 * loop round, however many streams became ready in it.
 */
#include "core/least.h"
#include "session/internal.h"

#include <stdlib.h>
#include <string.h>

#include "io/clock.h"
#include "io/log.h"

enum { REPEATS_MIN = 256 };          /* less may be acknowledgements and credit alone */
#define STALE_NS 1000000000ull       /* of a datagram */
#define STALE_TELL_NS 10000000000ull /* from one line of the log to the next */

struct batch {
    size_t len, segment_len;
    uint64_t ts;
    unsigned most;    /* packets in it */
    uint64_t witness; /* in one of them; 0 none */
    uint64_t fresh;   /* in the packet that is being written */
    bool asked;       /* for an empty one */
    bool news;        /* there is something new in the packet that is being written */
};

/* Keeps what the path did not take. POSTERN_ERR_AGAIN when it was kept. */
static int keep_pending(struct session *s, const struct batch *b)
{
    struct pending *k = &s->pending;
    k->buf = malloc(b->len);
    if (k->buf == NULL)
        return 0; /* as if the network lost it */
    memcpy(k->buf, s->env->batch, b->len);
    k->len = b->len;
    k->segment_len = b->segment_len;
    k->path = s->current;
    return POSTERN_ERR_AGAIN;
}

static struct batch batch_begin(const struct session *s, uint64_t ts)
{
    return (struct batch){.ts = ts, .most = bundle_limit(s, ts)};
}

static int batch_send(struct session *s, struct batch *b)
{
    int rc = 0;
    if (b->len > 0) {
        size_t count = (b->len + b->segment_len - 1) / b->segment_len;
        s->sent_bytes += b->len;
        if (b->witness != 0)
            bundle_on_sent(s, b->witness, count, b->ts);
        opening_on_batch(s, s->env->batch, b->len, b->segment_len);
        rc = path_send(s->current, s->env->batch, b->len, b->segment_len);
        if (rc == POSTERN_ERR_AGAIN)
            rc = keep_pending(s, b);
    }
    *b = batch_begin(s, b->ts);
    return rc == POSTERN_ERR_AGAIN ? rc : 0;
}

void output_flush_pending(struct session *s)
{
    struct pending *k = &s->pending;
    if (k->buf == NULL)
        return;
    if (path_send(k->path, k->buf, k->len, k->segment_len) == POSTERN_ERR_AGAIN)
        return;
    free(k->buf);
    *k = (struct pending){0};
}

void output_drop_path(struct session *s, struct path *p)
{
    if (s->pending.path == p) {
        free(s->pending.buf);
        s->pending = (struct pending){0};
    }
}

/*
 * Adds the packet of `n` bytes that stands at the end of the batch. Packets of one
 * batch have the same size, but for a shorter last one.
 */
static int batch_add(struct session *s, struct batch *b, size_t n)
{
    uint8_t *packet = s->env->batch + b->len;
    bool stream = s->current->stream;
    uint64_t fresh = b->fresh; /* goes where its packet goes */
    b->fresh = 0;
    if (b->len > 0 && n > b->segment_len) {
        int rc = batch_send(s, b);
        memmove(s->env->batch, packet, n);
        if (rc != 0) { /* blocked: the packet counts as lost, QUIC sends it again */
            return rc;
        }
    }
    if (b->len == 0)
        b->segment_len = n;
    b->len += n;
    if (b->witness == 0)
        b->witness = fresh;
    size_t max = stream ? STREAM_BATCH_MAX : UDP_BATCH_MAX;
    size_t count_max = stream ? SIZE_MAX : b->most;
    if (n < b->segment_len || b->len + b->segment_len > max ||
        b->len / b->segment_len >= count_max)
        return batch_send(s, b);
    return 0;
}

static void drop_datagram(struct session *s, struct datagram *d)
{
    list_remove(&d->link);
    s->datagram_count--;
    s->moved++;
    free(d);
}

static void tell_stale(struct session *s, uint64_t ts)
{
    if (s->stale.count == s->stale.told || ts < s->stale.told_ns + STALE_TELL_NS)
        return;
    log_info(
        "%llu datagrams of UDP services waited over a second for the line, or were "
        "too many, and were dropped",
        (unsigned long long)(s->stale.count - s->stale.told));
    s->stale.told = s->stale.count;
    s->stale.told_ns = ts;
}

/*
 * After a second DNS, QUIC and games have asked again, and speech was left out: what
 * waits longer only delays what comes behind it. The newest one stays, so
 * that one is there when the line is.
 */
void output_drop_stale(struct session *s, uint64_t ts)
{
    while (s->datagram_count > 1) {
        struct datagram *d = LIST_FIRST(&s->datagrams, struct datagram, link);
        if (s->datagram_count <= SESSION_DATAGRAMS_QUEUED_MAX &&
            ts < d->at_ns + STALE_NS)
            break;
        list_remove(&d->link); /* nothing has moved */
        s->datagram_count--;
        s->stale.count++;
        free(d);
    }
    tell_stale(s, ts);
}

/* The first of a bundle is its witness: another frame would make its packet longer. */
static ngtcp2_ssize write_datagram(struct session *s, struct batch *b,
                                   ngtcp2_path *path)
{
    struct datagram *d = LIST_FIRST(&s->datagrams, struct datagram, link);
    int accepted = 0;
    ngtcp2_pkt_info pi;
    if (d->len > datagram_room(s)) { /* the path changed under it */
        stream_return_datagram(s, d);
        drop_datagram(s, d);
        return NGTCP2_ERR_WRITE_MORE;
    }
    uint64_t witness = b->witness == 0 && b->fresh == 0 ? bundle_witness(s, b->ts) : 0;
    ngtcp2_ssize n = ngtcp2_conn_write_datagram(
        s->conn, path, &pi, s->env->batch + b->len, size_limit(s), &accepted,
        NGTCP2_WRITE_DATAGRAM_FLAG_MORE, datagram_id(witness, d->len), d->data, d->len,
        b->ts);
    if (accepted != 0)
        b->news = true;
    if (accepted != 0 && witness != 0)
        b->fresh = witness;
    if (accepted != 0)
        s->owed_bytes += stream_is_any_ready(s) ? d->len : 0;
    if (accepted != 0 || n == NGTCP2_ERR_INVALID_ARGUMENT ||
        n == NGTCP2_ERR_INVALID_STATE)
        drop_datagram(s, d); /* taken, or the peer cannot take it at this size */
    if (n == NGTCP2_ERR_INVALID_ARGUMENT || n == NGTCP2_ERR_INVALID_STATE)
        return NGTCP2_ERR_WRITE_MORE;
    return n;
}

static ngtcp2_ssize write_stream(struct session *s, struct batch *b, struct stream *st,
                                 ngtcp2_path *path)
{
    struct iovec iov[8];
    ngtcp2_vec vec[8];
    ngtcp2_ssize taken = -1;
    ngtcp2_pkt_info pi;
    uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_MORE;
    size_t count = 0;
    int64_t id = -1;
    if (st != NULL) {
        id = st->id;
        count = chain_peek(&st->out, st->sent, iov, 8);
        uint64_t covered = st->sent;
        for (size_t i = 0; i < count; i++) {
            vec[i] = (ngtcp2_vec){iov[i].iov_base, iov[i].iov_len};
            covered += iov[i].iov_len;
        }
        if (st->fin && covered == st->out.end)
            flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
    }
    ngtcp2_ssize n =
        ngtcp2_conn_writev_stream(s->conn, path, &pi, s->env->batch + b->len,
                                  size_limit(s), &taken, flags, id, vec, count, b->ts);
    if (st != NULL && taken >= 0) {
        b->news = true;
        stream_on_sent(st, (size_t)taken, b->ts);
        s->owed_bytes -= min64(s->owed_bytes, (uint64_t)taken);
        if ((flags & NGTCP2_WRITE_STREAM_FLAG_FIN) && st->sent == st->out.end)
            st->fin_sent = true;
        paths_on_activity(&s->net);
    }
    return n;
}

static bool has_more(const struct stream *st)
{
    return st->sent < st->out.end || (st->fin && !st->fin_sent);
}

/*
 * Begins the second packet of a bundle of streams' bytes with a witness, when one is
 * due. Behind a packet that is not full it stands only before more of them.
 */
static ngtcp2_ssize write_witness(struct session *s, struct batch *b, ngtcp2_path *path)
{
    int accepted = 0;
    ngtcp2_pkt_info pi;
    bool full = b->len >= size_of_packets(s);
    if (b->asked || b->witness != 0 || b->fresh != 0 || b->len == 0 ||
        b->len != b->segment_len || !list_empty(&s->datagrams) ||
        !(full || stream_is_any_ready(s)))
        return NGTCP2_ERR_WRITE_MORE;
    b->asked = true;
    uint64_t witness = bundle_witness(s, b->ts);
    if (witness == 0)
        return NGTCP2_ERR_WRITE_MORE;
    ngtcp2_ssize n = ngtcp2_conn_writev_datagram(
        s->conn, path, &pi, s->env->batch + b->len, size_limit(s), &accepted,
        NGTCP2_WRITE_DATAGRAM_FLAG_MORE, datagram_id(witness, 0), NULL, 0, b->ts);
    b->fresh = accepted != 0 ? witness : 0;
    return n == NGTCP2_ERR_INVALID_STATE ? NGTCP2_ERR_WRITE_MORE : n;
}

/*
 * What leaves next: a stream's bytes, or NULL. Datagrams go first, as nobody repeats
 * them and they are worth little later; but what streams waited for meanwhile they are
 * owed, a packet at a time, and also where no more may be under way: a packet leaves
 * in any case.
 */
static struct stream *next_stream(struct session *s, uint64_t flying)
{
    bool datagrams = !list_empty(&s->datagrams) && session_is_secure(s);
    bool turn = datagrams && s->owed_bytes >= size_of_packets(s);
    if (!stream_is_any_ready(s))
        s->owed_bytes = 0;
    if (datagrams && !turn)
        return NULL;
    bool mute = paths_is_mute(&s->net, clock_us());
    return stream_pop_ready(s, ngtcp2_conn_get_max_data_left(s->conn) > 0,
                            turn || (!mute && flight_room(s, flying, false) > 0),
                            turn || flight_room(s, flying, true) > 0);
}

/*
 * ngtcp2 1.11 takes nothing new while it has something to repeat: a whole packet
 * without news, though something brief waits, is one of repeats, or of a search or a
 * proof.
 */
static void note_repeats(struct session *s, struct batch *b, size_t len)
{
    bool news = b->news;
    b->news = false;
    if (!news && len >= REPEATS_MIN && !list_empty(&s->brief))
        copies_on_refused(s, b->ts);
}

/*
 * One step of writing: 1 a packet of *out_len bytes stands behind the batch, 0 nothing
 * can be sent now, POSTERN_ERR_AGAIN go on, else dead.
 */
static int write_step(struct session *s, struct batch *b, ngtcp2_path *path,
                      uint64_t flying, size_t *out_len)
{
    struct stream *st = NULL;
    ngtcp2_ssize n = write_witness(s, b, path);
    if (n == NGTCP2_ERR_WRITE_MORE) {
        st = next_stream(s, flying);
        if (st == NULL && !list_empty(&s->datagrams) && session_is_secure(s))
            n = write_datagram(s, b, path);
        else
            n = write_stream(s, b, st, path);
    }
    if (st != NULL && n != NGTCP2_ERR_STREAM_DATA_BLOCKED &&
        n != NGTCP2_ERR_STREAM_SHUT_WR && n != NGTCP2_ERR_STREAM_NOT_FOUND &&
        has_more(st))
        stream_mark_ready(st);
    if (n > 0) {
        note_repeats(s, b, (size_t)n);
        *out_len = (size_t)n;
        return 1;
    }
    switch (n) {
    case 0:
        return 0;
    case NGTCP2_ERR_WRITE_MORE:
        return POSTERN_ERR_AGAIN;
    case NGTCP2_ERR_STREAM_DATA_BLOCKED:
        if (st != NULL)
            st->blocked = true;
        return POSTERN_ERR_AGAIN;
    case NGTCP2_ERR_STREAM_SHUT_WR:
    case NGTCP2_ERR_STREAM_NOT_FOUND:
        return POSTERN_ERR_AGAIN;
    default:
        break;
    }
    session_fail(s, POSTERN_ERR_PROTO, ngtcp2_strerror((int)n));
    return POSTERN_ERR_PROTO;
}

static uint64_t in_flight(const struct session *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    return info.bytes_in_flight;
}

static size_t round_budget(const struct session *s)
{
    size_t quantum = ngtcp2_conn_get_send_quantum(s->conn);
    if (s->flight.held)
        return 1; /* packet */
    if (!s->paced)
        return ROUND_BYTES_MAX;
    return quantum < ROUND_BYTES_MAX ? quantum : ROUND_BYTES_MAX;
}

/* Is the path the limit now, and not the application nor the peer's credit? */
static bool waits_for_path(const struct session *s)
{
    return s->pending.buf != NULL ||
           (stream_is_any_ready(s) && ngtcp2_conn_get_max_data_left(s->conn) > 0);
}

/*
 * It was for most of a second: between two acknowledgements there may be a moment
 * without anything to send. The client is told by its host, since it chooses the path.
 */
static void watch_pressure(struct session *s, uint64_t ts)
{
    static const uint64_t second_ns = 1000000000ull;
    static const Meta m = {.which_body = Meta_pressed_tag, .body.pressed = true};
    struct pressure *p = &s->pressure;
    if (p->waits)
        p->waited_ns += ts - p->noted_ns;
    p->noted_ns = ts;
    uint64_t span = ts - p->since_ns;
    if (span < second_ns)
        return;
    bool pressed = session_is_secure(s) && 3 * p->waited_ns >= 2 * span;
    *p = (struct pressure){.since_ns = ts, .noted_ns = ts, .waits = p->waits};
    if (!pressed)
        return;
    s->pressed_us = ts / 1000;
    if (!s->is_client && session_send_meta(s, &m) != 0)
        log_debug("the client could not be told what it waits for");
}

static bool run_quic(struct session *s)
{
    ngtcp2_path_storage ps;
    size_t round = 0, max;
    if (s->conn == NULL || s->current == NULL)
        return false;
    uint64_t ts = clock_ns(), before = in_flight(s);
    watch_pressure(s, ts);
    seal_renew(s, ts);
    output_drop_stale(s, ts);
    output_flush_pending(s);
    if (s->pending.buf != NULL)
        return false;
    if (ts < flight_pause_until_ns(s))
        return false;
    steer_vouch(s, ts);
    struct batch b = batch_begin(s, ts);
    bool ping = s->ping_due && session_is_secure(s);
    if (ping)
        ngtcp2_conn_set_keep_alive_timeout(s->conn, 1); /* a PING in the next packet */
    max = round_budget(s);
    bool blocked = false, large = false;
    while (round < max && !blocked) {
        size_t n = 0;
        ngtcp2_path_storage_zero(&ps);
        int rc = write_step(s, &b, &ps.path, before + round, &n);
        if (rc == POSTERN_ERR_AGAIN)
            continue;
        if (rc <= 0)
            break;
        round += n;
        s->keyed_packets++;
        size_on_packet(s, n, ts);
        large = large || n > PROBE_LEN_BASE;
        blocked = batch_add(s, &b, n) != 0;
    }
    if (ping) {
        ngtcp2_conn_set_keep_alive_timeout(s->conn, UINT64_MAX);
        s->ping_due = false;
    }
    if (!blocked)
        blocked = batch_send(s, &b) != 0;
    if (!session_lives(s))
        return false;
    s->pressure.waits = waits_for_path(s);
    if (round > 0)
        keepalive_on_sent(&s->keep, ts / 1000);
    flight_on_sent(s, before, in_flight(s), ts);
    if (in_flight(s) > before)
        paths_on_sent(&s->net, large, ts / 1000);
    if (s->paced && !s->flight.held) /* flight.c says when the next one leaves */
        ngtcp2_conn_update_pkt_tx_time(s->conn, ts);
    return (!s->paced || s->flight.held) && round >= max && !blocked;
}

bool output_run(struct session *s)
{
    bool more = run_quic(s);
    copies_run(s);
    return more;
}

void output_close(struct session *s, uint64_t code, const char *reason)
{
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_ccerr err;
    if (s->conn == NULL || s->current == NULL ||
        ngtcp2_conn_in_closing_period(s->conn) ||
        ngtcp2_conn_in_draining_period(s->conn))
        return;
    ngtcp2_path_storage_zero(&ps);
    ngtcp2_ccerr_set_application_error(&err, code, (const uint8_t *)reason,
                                       strlen(reason));
    ngtcp2_ssize n = ngtcp2_conn_write_connection_close(
        s->conn, &ps.path, &pi, s->env->batch, 1200, &err, clock_ns());
    if (n > 0)
        (void)path_send(s->current, s->env->batch, (size_t)n, (size_t)n);
}
