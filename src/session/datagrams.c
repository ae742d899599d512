/*
 * Datagrams of a session: what waits to be sent, how it is cut to the path's packets,
 * and what comes. To a peer that knows of it each carries the time when it was given to
 * us, so that the other end drops what is late wherever it waited; one that is larger
 * than a packet goes in fragments, and those that QUIC finds lost go again, as long as
 * the datagram is young: of a large one with fifty fragments hardly one would arrive
 * whole otherwise. To others a large one goes on its stream.
 *
 * A frame begins with a number: the flow's (the id of its stream, of which the last two
 * bits are zero) for an older peer, with 1 added for a datagram with its time, 2 for a
 * fragment.
 */
#include "session/internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/wire.h"
#include "io/clock.h"
#include "io/log.h"

enum { TIME_LEN = 4, VARINT_MAX = 8, KIND_BARE = 0, KIND_TIMED = 1, KIND_FRAGMENT = 2 };
static const uint64_t stale_ns = 1000000000ull;       /* of a datagram */
static const uint64_t stale_tell_ns = 10000000000ull; /* from one line of the log to the
                                                         next */

void datagrams_init(struct session *s)
{
    list_init(&s->datagrams);
    list_init(&s->fragments.flown);
    partials_init(&s->fragments.partials, &s->env->partial_bytes);
}

static void free_datagram(struct session *s, struct datagram *d)
{
    list_remove(&d->link);
    s->datagram_bytes -= d->len;
    s->env->datagram_bytes -= d->len;
    free(d);
}

/* Those that wait are counted. */
static void drop_waiting(struct session *s, struct datagram *d)
{
    s->datagram_count--;
    free_datagram(s, d);
}

static void drop_flown(struct session *s, struct datagram *d)
{
    s->fragments.flown_count--;
    free_datagram(s, d);
}

static struct datagram *first_flown(const struct session *s)
{
    return LIST_FIRST(&s->fragments.flown, struct datagram, link);
}

void datagrams_fini(struct session *s)
{
    while (!list_empty(&s->datagrams))
        drop_waiting(s, LIST_FIRST(&s->datagrams, struct datagram, link));
    while (!list_empty(&s->fragments.flown))
        drop_flown(s, first_flown(s));
    free(s->fragments.slips);
    s->fragments.slips = NULL;
    partials_fini(&s->fragments.partials);
}

/* ---------------------------------------------------------------- what the peer takes
 */

static const Meta say_fragments = {.which_body = Meta_fragments_tag,
                                   .body.fragments = true};

void session_say_fragments(struct session *s)
{
    if (session_send_meta(s, &say_fragments) != 0)
        log_debug("the host could not be told that fragments are taken");
}

void datagrams_on_peer(struct session *s)
{
    bool first = !s->fragments.peer;
    s->fragments.peer = true;
    if (first && !s->is_client && session_send_meta(s, &say_fragments) != 0)
        log_debug("the client could not be told that fragments are taken");
}

/* ------------------------------------------------------------------ QUIC's own numbers
 */

/* A QUIC variable-length integer (RFC 9000 section 16). */
static size_t put_varint(uint8_t buf[static VARINT_MAX], uint64_t v)
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

/* ---------------------------------------------------------------------- what waits */

/* Bytes of the largest frame's contents that fit on the path now. */
static size_t frame_room(const struct session *s)
{
    size_t max = size_of_packets(s);
    /* Short header with the longest packet number, AEAD tag, frame header. */
    size_t overhead = 1 + SESSION_CID_LEN + 4 + 16 + 3;
    return max > overhead ? max - overhead : 0;
}

size_t stream_datagram_max(const struct stream *st)
{
    size_t room = frame_room(st->session);
    if (st->session->fragments.peer)
        return FRAGMENT_WHOLE_MAX;
    return room > VARINT_MAX ? room - VARINT_MAX : 0;
}

static struct datagram *datagram_new(const struct stream *st, const uint8_t *data,
                                     size_t len)
{
    size_t words = cells_words(len);
    struct datagram *d = malloc(sizeof(*d) + 2 * words * sizeof(d->unsent[0]) + len);
    if (d == NULL)
        return NULL;
    *d = (struct datagram){.at_ns = clock_ns(),
                           .at_ms = (uint32_t)clock_boot_ms(),
                           .flow = st->id,
                           .len = len,
                           .unacked = d->unsent + words,
                           .data = (uint8_t *)(d->unsent + 2 * words)};
    cells_fill(d->unsent, len);
    cells_fill(d->unacked, len);
    memcpy(d->data, data, len);
    return d;
}

int stream_send_datagram(struct stream *st, const uint8_t *data, size_t len)
{
    struct session *s = st->session;
    if (!session_is_secure(s) || s->conn == NULL || len > stream_datagram_max(st))
        return POSTERN_ERR_LIMIT;
    struct datagram *d = datagram_new(st, data, len);
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    list_push(&s->datagrams, &d->link);
    s->datagram_count++;
    s->datagram_bytes += len;
    s->env->datagram_bytes += len;
    datagrams_drop_stale(s, d->at_ns);
    paths_on_activity(&s->net);
    session_touch(s);
    return 0;
}

static bool too_many(const struct session *s)
{
    bool scarce = s->env->datagram_bytes > SESSION_ALL_DATAGRAM_BYTES;
    size_t most = scarce ? SESSION_DATAGRAM_BYTES_SCARCE : SESSION_DATAGRAM_BYTES_MAX;
    return s->datagram_bytes > most;
}

static void tell_stale(struct session *s, uint64_t ts)
{
    if (s->stale.count == s->stale.told || ts < s->stale.told_ns + stale_tell_ns)
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
void datagrams_drop_stale(struct session *s, uint64_t ts)
{
    while (s->fragments.flown_count > 0 &&
           (s->fragments.flown_count > FLOWN_MAX || too_many(s) ||
            ts >= first_flown(s)->at_ns + stale_ns))
        drop_flown(s, first_flown(s));
    while (s->datagram_count > 1) {
        struct datagram *d = LIST_FIRST(&s->datagrams, struct datagram, link);
        if (s->datagram_count <= SESSION_DATAGRAMS_QUEUED_MAX && !too_many(s) &&
            ts < d->at_ns + stale_ns)
            break;
        drop_waiting(s, d); /* nothing has moved */
        s->stale.count++;
    }
    tell_stale(s, ts);
}

/* -------------------------------------------------------------------- what leaves */

/* Hands it back to who sent it, for the stream. */
static void give_back(struct session *s, struct datagram *d)
{
    struct stream *st = stream_find(s, d->flow);
    if (st != NULL && st->events != NULL && st->events->on_unfit != NULL)
        st->events->on_unfit(st->ctx, d->data, d->len);
}

static void put_fragment(struct session *s, struct frame *f, size_t n, size_t room)
{
    struct datagram *d = f->of;
    size_t head = n + TIME_LEN + FRAGMENT_HEAD_LEN;
    if (d->number == 0)
        d->number =
            ++s->fragments.number != 0 ? s->fragments.number : ++s->fragments.number;
    f->from = cells_first(d->unsent, d->len, room - head, &f->len);
    fragment_put(f->head + n + TIME_LEN, d->number, f->from, d->len);
}

bool datagrams_next(struct session *s, struct frame *f)
{
    struct datagram *d = LIST_FIRST(&s->datagrams, struct datagram, link);
    size_t room = frame_room(s);
    bool timed = s->fragments.peer;
    *f = (struct frame){.of = d, .len = d->len};
    size_t n =
        put_varint(f->head, (uint64_t)d->flow | (timed ? KIND_TIMED : KIND_BARE));
    size_t head = n + (timed ? TIME_LEN : 0);
    if (timed && (d->number != 0 || head + d->len > room)) {
        n = put_varint(f->head, (uint64_t)d->flow | KIND_FRAGMENT);
        put_fragment(s, f, n, room);
        head = n + TIME_LEN + FRAGMENT_HEAD_LEN;
    } else if (head + d->len > room) {
        give_back(s, d);
        datagrams_drop(s, d);
        return false;
    }
    if (timed) {
        struct wire_writer w = wire_writer(f->head + n, TIME_LEN);
        wire_put_u32(&w, d->at_ms);
    }
    f->vec[0] = (ngtcp2_vec){f->head, head};
    f->vec[1] = (ngtcp2_vec){d->data + f->from, f->len};
    f->vecs = f->len > 0 ? 2 : 1;
    f->bytes = head + f->len;
    return true;
}

unsigned datagrams_slip(struct session *s, const struct frame *f)
{
    struct fragmenting *g = &s->fragments;
    if (f->of->number == 0)
        return 0;
    if (g->slips == NULL)
        g->slips = calloc(FRAGMENT_SLIPS, sizeof(*g->slips));
    if (g->slips == NULL)
        return 0; /* what is lost of it is not said again */
    g->slip = g->slip % (FRAGMENT_SLIPS - 1) + 1;
    g->slips[g->slip] =
        (struct slip){f->of->number, (uint16_t)f->from, (uint16_t)f->len};
    return g->slip;
}

void datagrams_drop(struct session *s, struct datagram *d)
{
    s->moved++;
    drop_waiting(s, d);
}

void datagrams_on_taken(struct session *s, const struct frame *f)
{
    struct datagram *d = f->of;
    size_t left = 0;
    if (d->number == 0) {
        datagrams_drop(s, d);
        return;
    }
    s->moved++;
    (void)cells_set(d->unsent, f->from, f->len, false);
    (void)cells_first(d->unsent, d->len, d->len, &left);
    if (left > 0)
        return;
    list_remove(&d->link);
    s->datagram_count--;
    list_push(&s->fragments.flown, &d->link);
    s->fragments.flown_count++;
}

/* ------------------------------------------------------------- what became of it */

static struct datagram *find(struct list *in, uint32_t number)
{
    LIST_EACH (struct datagram, d, in, link)
        if (d->number == number)
            return d;
    return NULL;
}

static void say_again(struct session *s, struct datagram *d, const struct slip *p,
                      bool flown)
{
    size_t len = 0;
    if (clock_ns() >= d->at_ns + stale_ns)
        return;
    for (size_t at = p->from; at < (size_t)p->from + p->len; at += FRAGMENT_CELL)
        if (cells_set(d->unacked, at, 1, false) != 0) {
            (void)cells_set(d->unacked, at, 1, true);
            (void)cells_set(d->unsent, at, 1, true);
        }
    (void)cells_first(d->unsent, d->len, d->len, &len);
    if (!flown || len == 0)
        return;
    list_remove(&d->link);
    s->fragments.flown_count--;
    list_push_first(&s->datagrams, &d->link);
    s->datagram_count++;
    session_touch(s);
}

void datagrams_on_told(struct session *s, unsigned slip, bool lost)
{
    if (slip == 0 || s->fragments.slips == NULL)
        return;
    const struct slip *p = &s->fragments.slips[slip];
    struct datagram *d = find(&s->fragments.flown, p->number);
    bool flown = d != NULL;
    if (!flown)
        d = find(&s->datagrams, p->number);
    if (d == NULL || (size_t)p->from + p->len > d->len)
        return;
    if (lost) {
        say_again(s, d, p, flown);
        return;
    }
    size_t left = 0;
    (void)cells_set(d->unacked, p->from, p->len, false);
    (void)cells_set(d->unsent, p->from, p->len, false);
    (void)cells_first(d->unacked, d->len, d->len, &left);
    if (left == 0 && flown)
        drop_flown(s, d);
    else if (left == 0)
        drop_waiting(s, d);
}

/* ---------------------------------------------------------------------- what comes */

static void hand_out(struct session *s, uint64_t flow, const uint8_t *data, size_t len)
{
    struct stream *st = stream_find(s, (int64_t)flow);
    if (st != NULL && st->events != NULL && st->events->on_datagram != NULL)
        st->events->on_datagram(st->ctx, data, len);
}

static void take_fragment(struct session *s, uint64_t flow, const uint8_t *data,
                          size_t len, uint64_t now_ms)
{
    struct fragment f;
    struct stream *st = stream_find(s, (int64_t)flow);
    if (st == NULL || st->events == NULL || fragment_get(&f, data, len) != 0)
        return;
    struct partial *whole = partials_take(&s->fragments.partials, flow, &f, now_ms);
    if (whole != NULL)
        hand_out(s, flow, whole->data, whole->len);
    free(whole);
}

void datagrams_on_frame(struct session *s, const uint8_t *data, size_t len)
{
    uint64_t id = 0;
    size_t n = get_varint(data, len, &id);
    unsigned kind = id & 3;
    if (n == 0)
        return;
    paths_on_activity(&s->net);
    if (kind == KIND_BARE) {
        hand_out(s, id, data + n, len - n);
        return;
    }
    if (kind > KIND_FRAGMENT || len - n < TIME_LEN)
        return;
    struct wire_reader r = wire_reader(data + n, TIME_LEN);
    uint32_t sent_ms = wire_get_u32(&r);
    uint64_t now_ms = clock_boot_ms();
    data += n + TIME_LEN;
    len -= n + TIME_LEN;
    if (age_is_old(&s->fragments.age, sent_ms, now_ms))
        s->stale.count++;
    else if (kind == KIND_TIMED)
        hand_out(s, id - kind, data, len);
    else
        take_fragment(s, id - kind, data, len, now_ms);
}

void datagrams_run(struct session *s)
{
    struct partials *p = &s->fragments.partials;
    if (!list_empty(&p->list))
        partials_expire(p, clock_boot_ms());
}

uint64_t datagrams_deadline_ns(const struct session *s)
{
    uint64_t at_ms = partials_deadline_ms(&s->fragments.partials);
    if (at_ms == UINT64_MAX)
        return UINT64_MAX;
    uint64_t now_ms = clock_boot_ms();
    return clock_ns() + (at_ms > now_ms ? at_ms - now_ms : 0) * 1000000;
}
