/*
 * Streams and datagrams of a session: what is queued, what is acknowledged, who is
 * told. Knows no socket; a pump (session/pump.h) ties a stream to one.
 */
#include "session/internal.h"

#include <stdlib.h>
#include <string.h>

#include "io/clock.h"
#include "io/log.h"

enum {
    BRIEF_UNSENT_BYTES = 2048,
    BRIEF_SENT_BYTES = 4096, /* a stream's first, as those of an HTTP request */
    BRIEF_ROW = 16,          /* packets, then one of bulk */
};

static struct list *hash_slot(struct session *s, int64_t id)
{
    return &s->by_id[(uint64_t)id / 4 % STREAM_HASH];
}

void stream_init(struct session *s)
{
    list_init(&s->streams);
    list_init(&s->ready);
    list_init(&s->brief);
    list_init(&s->touched);
    list_init(&s->datagrams);
    list_init(&s->waiting);
    for (size_t i = 0; i < STREAM_HASH; i++)
        list_init(&s->by_id[i]);
}

struct stream *stream_new(struct session *s, int64_t id)
{
    struct stream *st = calloc(1, sizeof(*st));
    if (st == NULL)
        return NULL;
    st->session = s;
    st->id = id;
    chain_init(&st->out, &s->env->pool);
    list_push(&s->streams, &st->link);
    list_push(hash_slot(s, id), &st->hash);
    list_init(&st->ready);
    list_init(&st->touched);
    s->stream_count++;
    paths_set_streams(&s->net, session_stream_count(s));
    return st;
}

static struct stream *find_stream(struct session *s, int64_t id)
{
    struct list *slot = hash_slot(s, id);
    LIST_EACH (struct stream, st, slot, hash)
        if (st->id == id)
            return st;
    return NULL;
}

/*
 * In the order of arrival: streams that were opened one after the other are handed to
 * the host's server one after the other, as an application may expect.
 */
static void touch(struct stream *st)
{
    if (list_empty(&st->touched))
        list_push(&st->session->touched, &st->touched);
}

/*
 * The connection's credit for what arrived is given back at once: else a stream whose
 * user does not read, a paused download, would take it all, and the others of the
 * session stood still. Only who holds much waits when all sessions hold too much.
 */
static void give_credit(struct session *s)
{
    bool full = s->env->unread > SESSION_ALL_UNREAD_MAX;
    if (s->owed == 0 || s->conn == NULL)
        return;
    if (full && s->unread > SESSION_FAIR_UNREAD) {
        if (list_empty(&s->waiting))
            list_push(&s->env->waiting, &s->waiting);
        return;
    }
    ngtcp2_conn_extend_max_offset(s->conn, s->owed);
    s->owed = 0;
}

/* Nothing of its own may ever be read to remind it. */
static void wake_waiting(struct session_env *env)
{
    while (!list_empty(&env->waiting) && env->unread <= SESSION_ALL_UNREAD_MAX) {
        struct session *s = LIST_FIRST(&env->waiting, struct session, waiting);
        list_remove(&s->waiting);
        give_credit(s);
        session_touch(s);
    }
}

static void forget_unread(struct stream *st, uint64_t len)
{
    struct session *s = st->session;
    if (len > st->unread)
        len = st->unread;
    st->unread -= len;
    s->unread -= len;
    s->env->unread -= len;
    give_credit(s);
    wake_waiting(s->env);
}

/* The stream of which most lies unread is given up, for all the others. */
static void end_fullest(struct session *s)
{
    struct stream *fullest = NULL;
    LIST_EACH (struct stream, st, &s->streams, link)
        if (fullest == NULL || st->unread >= fullest->unread)
            fullest = st; /* of several the newest */
    if (fullest == NULL)
        return;
    log_debug("a stream of which %llu bytes lie unread is given up",
              (unsigned long long)fullest->unread);
    forget_unread(fullest, fullest->unread);
    stream_stop(fullest, STREAM_LIMIT);
    stream_reset(fullest, STREAM_LIMIT);
}

/* They are the user's; what QUIC brought is owed to the peer as credit apart. */
static void note_unread(struct stream *st, size_t len)
{
    struct session *s = st->session;
    st->unread += len;
    s->unread += len;
    s->env->unread += len;
    if (s->unread > SESSION_UNREAD_MAX)
        end_fullest(s);
    give_credit(s);
}

void stream_forget_unacked(struct stream *st)
{
    st->session->unacked -= st->unacked;
    st->unacked = 0;
    st->cut = true;
}

void stream_drop(struct stream *st, uint64_t code)
{
    struct session *s = st->session;
    if (st->gone)
        return;
    st->gone = true;
    list_remove(&st->ready);
    list_remove(&st->touched);
    list_remove(&st->hash);
    list_remove(&st->link);
    s->stream_count--;
    paths_set_streams(&s->net, session_stream_count(s));
    forget_unread(st, st->unread);
    stream_forget_unacked(st);
    if (st->events != NULL)
        st->events->on_close(st->ctx, code);
    chain_fini(&st->out);
    free(st);
}

/* Little waits, or little has left: who typed or has just come waits for it. */
static bool is_brief(const struct stream *st)
{
    return st->out.end - st->sent <= BRIEF_UNSENT_BYTES || st->sent < BRIEF_SENT_BYTES;
}

void stream_mark_ready(struct stream *st)
{
    struct session *s = st->session;
    if (!list_empty(&st->ready) || st->blocked || st->gone)
        return;
    list_push(is_brief(st) ? &s->brief : &s->ready, &st->ready);
    session_touch(s);
}

static struct stream *pop(struct list *of, bool credit)
{
    struct stream *st = LIST_FIRST(of, struct stream, ready);
    if (list_empty(of) || (!credit && st->sent != st->out.end))
        return NULL;
    list_remove(&st->ready);
    return st;
}

struct stream *stream_pop_ready(struct session *s, bool credit, bool bulk, bool brief)
{
    bool turn = bulk && s->briefs >= BRIEF_ROW && !list_empty(&s->ready);
    struct stream *st = brief && !turn ? pop(&s->brief, credit) : NULL;
    s->briefs = st != NULL ? s->briefs + 1 : 0;
    return st == NULL && bulk ? pop(&s->ready, credit) : st;
}

void stream_fini(struct session *s)
{
    while (!list_empty(&s->streams))
        stream_drop(LIST_LAST(&s->streams, struct stream, link), STREAM_UNREACHABLE);
    list_remove(&s->waiting);
    while (!list_empty(&s->datagrams)) {
        struct datagram *d = LIST_FIRST(&s->datagrams, struct datagram, link);
        list_remove(&d->link);
        free(d);
    }
}

int stream_open(struct session *s, struct stream **out,
                const struct stream_events *events, void *ctx)
{
    int64_t id = -1;
    if (s->conn == NULL || !session_lives(s))
        return POSTERN_ERR_CLOSED;
    int rc = ngtcp2_conn_open_bidi_stream(s->conn, &id, NULL);
    if (rc == NGTCP2_ERR_STREAM_ID_BLOCKED)
        return POSTERN_ERR_LIMIT;
    struct stream *st = rc == 0 ? stream_new(s, id) : NULL;
    if (st == NULL)
        return POSTERN_ERR_NOMEM;
    (void)ngtcp2_conn_set_stream_user_data(s->conn, id, st);
    st->events = events;
    st->ctx = ctx;
    *out = st;
    return 0;
}

void stream_accept(struct stream *st, const struct stream_events *events, void *ctx)
{
    st->events = events;
    st->ctx = ctx;
}

/*
 * How much of a stream is kept until it is acknowledged: twice what the path can hold
 * at 10 Gbit/s, so that a loss, which dams up all acknowledged after it, stops nothing.
 * Near peers so stay within the processor's caches. How much of it is on the way is
 * congestion control's business.
 */
static uint64_t kept_max(const struct session *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    uint64_t twice = info.min_rtt / 2 * 5; /* 2.5 bytes a nanosecond */
    if (twice < SESSION_KEPT_NEAR)
        return SESSION_KEPT_NEAR;
    return twice < SESSION_STREAM_WINDOW_MAX ? twice : SESSION_STREAM_WINDOW_MAX;
}

/*
 * Of many streams that nobody reads each keeps little. Never nothing: what a stream
 * keeps wakes it when it goes.
 */
static uint64_t unsent_max(const struct session *s)
{
    return s->env->pool.used > SESSION_ALL_KEPT_MAX / CHAIN_BLOCK_BYTES
               ? SESSION_UNSENT_SCARCE
               : SESSION_UNSENT_MAX;
}

size_t stream_room(const struct stream *st)
{
    uint64_t kept = st->out.end - st->out.start, unsent = st->out.end - st->sent;
    if (st->fin || st->gone)
        return 0;
    uint64_t max = kept_max(st->session), most = unsent_max(st->session);
    if (unsent >= most || kept >= max)
        return 0;
    uint64_t a = most - unsent, b = max - kept;
    return (size_t)(a < b ? a : b);
}

bool stream_is_acked(const struct stream *st)
{
    return st->out.end == st->out.start;
}

int stream_write(struct stream *st, const void *data, size_t len)
{
    int rc = chain_append(&st->out, data, len);
    if (rc == 0)
        stream_mark_ready(st);
    return rc;
}

size_t stream_reserve(struct stream *st, struct iovec *iov, size_t max)
{
    return chain_reserve(&st->out, iov, max);
}

void stream_commit(struct stream *st, size_t len)
{
    chain_commit(&st->out, len);
    if (len > 0)
        stream_mark_ready(st);
}

void stream_finish(struct stream *st)
{
    if (st->fin)
        return;
    st->fin = true;
    stream_mark_ready(st);
}

void stream_reset(struct stream *st, uint64_t code)
{
    struct session *s = st->session;
    stream_forget_unacked(st);
    st->in.over = true;
    if (s->conn != NULL && !st->gone)
        (void)ngtcp2_conn_shutdown_stream(s->conn, 0, st->id, code);
    session_touch(s);
}

void stream_stop(struct stream *st, uint64_t code)
{
    struct session *s = st->session;
    st->in.over = true;
    if (s->conn != NULL && !st->gone)
        (void)ngtcp2_conn_shutdown_stream_read(s->conn, 0, st->id, code);
    session_touch(s);
}

void stream_consumed(struct stream *st, size_t len)
{
    struct session *s = st->session;
    if (s->conn == NULL || st->gone)
        return;
    forget_unread(st, len);
    (void)ngtcp2_conn_extend_max_stream_offset(s->conn, st->id, len);
    session_touch(s);
}

void stream_on_data(struct stream *st, uint64_t offset, const uint8_t *data, size_t len,
                    bool fin)
{
    struct session *s = st->session;
    size_t known = copies_on_quic(&st->in, offset, len, fin);
    bool told = known > 0 && known == len && !fin;
    paths_on_activity(&s->net);
    s->owed += len;
    len -= known;
    note_unread(st, len);
    if (told)
        return;
    if (st->events == NULL) { /* nobody took it: refuse, and keep credit flowing */
        stream_consumed(st, len);
        stream_reset(st, STREAM_LIMIT);
        return;
    }
    touch(st);
    st->events->on_data(st->ctx, known > 0 ? data + known : data, len, fin);
}

bool stream_on_copy(struct session *s, int64_t id, uint64_t offset, const uint8_t *data,
                    size_t len)
{
    struct stream *st = find_stream(s, id);
    if (st == NULL || st == s->meta || st->events == NULL || st->gone ||
        st->unread > SESSION_STREAM_WINDOW / 2 || s->unread > SESSION_FAIR_UNREAD)
        return false;
    size_t known = copies_on_copy(&st->in, offset, len);
    if (known == len)
        return false;
    paths_on_activity(&s->net);
    note_unread(st, len - known);
    touch(st);
    st->events->on_data(st->ctx, data + known, len - known, false);
    return true;
}

void stream_on_acked(struct stream *st, uint64_t offset, uint64_t len)
{
    uint64_t n = len < st->unacked ? len : st->unacked;
    st->unacked -= n;
    st->session->unacked -= n;
    chain_release(&st->out, offset + len);
    st->left_ns = 0; /* what is behind it left later */
    if (st->events != NULL)
        touch(st);
    st->room_told = false;
}

void stream_on_sent(struct stream *st, size_t len, uint64_t now_ns)
{
    if (st->sent == st->out.start)
        st->left_ns = now_ns;
    st->sent += len;
    if (!st->cut) {
        st->unacked += len;
        st->session->unacked += len;
    }
    if (st->events != NULL && st->out.end - st->sent < SESSION_UNSENT_MAX / 2) {
        touch(st); /* the next round tells that there is room */
        st->room_told = false;
    }
}

void stream_flush_touched(struct session *s)
{
    while (!list_empty(&s->touched)) {
        struct stream *st = LIST_FIRST(&s->touched, struct stream, touched);
        list_remove(&st->touched);
        if (st->events == NULL)
            continue;
        bool room = !st->room_told;
        st->room_told = true;
        if (room)
            st->events->on_room(st->ctx);
        if (!st->gone)
            st->events->on_flush(st->ctx);
    }
}

size_t datagram_room(const struct session *s)
{
    size_t max = size_of_packets(s);
    /* Short header with the longest packet number, AEAD tag, frame header. */
    size_t overhead = 1 + SESSION_CID_LEN + 4 + 16 + 3;
    return max > overhead ? max - overhead : 0;
}

size_t stream_datagram_max(const struct stream *st)
{
    size_t room = datagram_room(st->session), id = 8;
    return room > id ? room - id : 0;
}

/* A flow id is a QUIC variable-length integer (RFC 9000 section 16). */
static size_t put_varint(uint8_t buf[static 8], uint64_t v)
{
    size_t len = v < 64 ? 1 : v < 16384 ? 2 : v < 1073741824 ? 4 : 8;
    static const uint8_t mark[9] = {0, 0x00, 0x40, 0, 0x80, 0, 0, 0, 0xc0};
    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
    buf[0] |= mark[len];
    return len;
}

static size_t get_varint(const uint8_t *buf, size_t len, uint64_t *v)
{
    if (len == 0)
        return 0;
    size_t need = (size_t)1 << (buf[0] >> 6);
    if (len < need)
        return 0;
    *v = buf[0] & 0x3f;
    for (size_t i = 1; i < need; i++)
        *v = *v << 8 | buf[i];
    return need;
}

int stream_send_datagram(struct stream *st, const uint8_t *data, size_t len)
{
    struct session *s = st->session;
    uint8_t head[8];
    if (!session_is_secure(s) || s->conn == NULL || len > stream_datagram_max(st))
        return POSTERN_ERR_LIMIT;
    size_t n = put_varint(head, (uint64_t)st->id);
    struct datagram *d = malloc(sizeof(*d) + n + len);
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    d->at_ns = clock_ns();
    d->len = n + len;
    memcpy(d->data, head, n);
    memcpy(d->data + n, data, len);
    list_push(&s->datagrams, &d->link);
    s->datagram_count++;
    if (s->datagram_count > SESSION_DATAGRAMS_QUEUED_MAX)
        output_drop_stale(s, d->at_ns);
    paths_on_activity(&s->net);
    session_touch(s);
    return 0;
}

void stream_on_datagram(struct session *s, const uint8_t *data, size_t len)
{
    uint64_t id = 0;
    size_t n = get_varint(data, len, &id);
    if (n == 0)
        return;
    paths_on_activity(&s->net);
    struct stream *st = find_stream(s, (int64_t)id);
    if (st != NULL && st->events != NULL && st->events->on_datagram != NULL)
        st->events->on_datagram(st->ctx, data + n, len - n);
}

void stream_return_datagram(struct session *s, const struct datagram *d)
{
    uint64_t id = 0;
    size_t n = get_varint(d->data, d->len, &id);
    struct stream *st = find_stream(s, (int64_t)id);
    if (st != NULL && st->events != NULL && st->events->on_unfit != NULL)
        st->events->on_unfit(st->ctx, d->data + n, d->len - n);
}

struct session *stream_session(const struct stream *st)
{
    return st->session;
}
