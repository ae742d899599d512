/*
 * Early copies of a session: finds the streams whose few bytes wait for what QUIC
 * repeats, sends them beside it on the path in use, and takes the peer's. What is
 * copied when, and what of a copy is new, stands in core/copies.h.
 *
 * None leaves while QUIC takes what is new at once. There is *trouble* when a packet
 * was full of what QUIC says again while something brief waited, and for some seconds
 * after the session moved, or its paths were silent: then what was under way is lost as
 * well.
 */
#include "io/clock.h"
#include "io/log.h"
#include "session/internal.h"

#include <string.h>

#include <sodium.h>

enum { KEYS_LEN = 2 * COPY_KEY_LEN, LOOKS_MAX = 8 };
static const uint64_t look_us = 5000; /* from one look at all streams to the next */
static const uint64_t moved_us = 10000000;  /* after a move */
static const uint64_t refused_us = 1000000; /* after QUIC took nothing new, at least */

/* ----------------------------------------------------------------------- both sides */

int copies_on_secure(struct session *s)
{
    static const char label[] = "EXPORTER-postern-copies";
    uint8_t keys[KEYS_LEN]; /* the client's, then the host's */
    if (gnutls_prf_rfc5705(s->tls, sizeof(label) - 1, label, 0, NULL, sizeof(keys),
                           (char *)keys) != 0)
        return POSTERN_ERR_NOMEM;
    const uint8_t *client = keys, *host = keys + COPY_KEY_LEN;
    memcpy(s->copies.key_out, s->is_client ? client : host, COPY_KEY_LEN);
    memcpy(s->copies.key_in, s->is_client ? host : client, COPY_KEY_LEN);
    sodium_memzero(keys, sizeof(keys));
    return 0;
}

void copies_fini(struct session *s)
{
    const struct copying *c = &s->copies;
    if (c->sent > 0 || c->came > 0)
        log_debug("early copies: %u sent; %u came, %u of them with something new",
                  c->sent, c->came, c->used);
    sodium_memzero(&s->copies, sizeof(s->copies));
}

void copies_on_peer(struct session *s)
{
    static const Meta m = {.which_body = Meta_copies_tag, .body.copies = true};
    bool first = !s->copies.peer;
    s->copies.peer = true;
    if (first && !s->is_client && session_send_meta(s, &m) != 0)
        log_debug("the client could not be told that copies are taken");
}

/* ----------------------------------------------------------------------- what comes */

void copies_on_packet(struct session *s, const uint8_t *buf, size_t len)
{
    struct copying *c = &s->copies;
    struct copy copy;
    uint32_t number = 0;
    if (!session_is_secure(s))
        return;
    if (copy_open(&copy, &number, c->key_in, buf, len) != 0) {
        c->malformed++;
        return;
    }
    if (!replay_is_fresh(&c->seen, number))
        return;
    c->came++;
    s->received_bytes += len;
    c->used +=
        stream_on_copy(s, (int64_t)copy.stream, copy.offset, copy.data, copy.len);
}

/* ---------------------------------------------------------------------- what leaves */

static uint64_t rtt_us(const struct session *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    return info.smoothed_rtt / 1000;
}

void copies_on_moved(struct session *s)
{
    LIST_EACH (struct stream, st, &s->streams, link)
        copies_on_path(&st->copied);
    copies_on_trouble(&s->copies.pace, moved_us, clock_us());
}

void copies_on_refused(struct session *s, uint64_t now_ns)
{
    uint64_t long_us = 4 * rtt_us(s);
    copies_on_trouble(&s->copies.pace, long_us > refused_us ? long_us : refused_us,
                      now_ns / 1000);
}

/* Its bytes may be said, but for QUIC's order. */
static bool may_speak(const struct session *s, const struct stream *st)
{
    uint64_t unsent = st->out.end - st->sent;
    return st != s->meta && st->events != NULL && !st->cut && !st->gone &&
           (unsent == 0 ||
            (!st->blocked &&
             unsent <= ngtcp2_conn_get_max_stream_data_left(s->conn, st->id)));
}

/* The one whose copy is due first, and when. */
static struct stream *next_stream(struct session *s, uint64_t rtt, uint64_t now_us,
                                  uint64_t *due_us)
{
    struct stream *best = NULL;
    *due_us = UINT64_MAX;
    LIST_EACH (struct stream, st, &s->streams, link) {
        if (!may_speak(s, st))
            continue;
        uint64_t due =
            copies_due_us(&st->copied, st->out.start, st->out.end,
                          st->sent < st->out.end, st->left_ns / 1000, rtt, now_us);
        if (due < *due_us) {
            *due_us = due;
            best = st;
        }
    }
    return best;
}

static void send_copy(struct session *s, struct stream *st, uint64_t now_us)
{
    struct copying *c = &s->copies;
    struct copy copy = {.stream = (uint64_t)st->id, .offset = st->out.start};
    uint8_t *buf = s->env->probe;
    copy.len = chain_copy(&st->out, st->out.start, copy.data,
                          (size_t)(st->out.end - st->out.start));
    size_t len = copy_seal(&copy, c->key_out, ++c->number, buf);
    copies_on_sent(&st->copied, copy.offset + copy.len, now_us);
    copies_spend(&c->pace, len);
    c->sent++;
    s->sent_bytes += len;
    (void)path_send(s->current, buf, len, len);
}

/* More than the session's credit must not be said either: the peer bounds itself by it.
 */
static bool may_send(const struct session *s, uint64_t now_us)
{
    const struct copying *c = &s->copies;
    return c->peer && copies_in_trouble(&c->pace, now_us) && session_lives(s) &&
           session_is_secure(s) && s->current != NULL && s->pending.buf == NULL &&
           c->number < UINT32_MAX &&
           ngtcp2_conn_get_max_data_left(s->conn) >= COPY_DATA_MAX;
}

void copies_run(struct session *s)
{
    struct copying *c = &s->copies;
    if (c->pace.until_us == 0) /* there was never any trouble */
        return;
    uint64_t now_us = clock_us();
    if (!may_send(s, now_us)) {
        c->next_us = UINT64_MAX;
        return;
    }
    uint64_t again_us = c->looked_us + look_us;
    if (now_us < again_us) {
        if (!list_empty(&s->brief) || c->next_us < again_us)
            c->next_us = again_us;
        return;
    }
    c->looked_us = now_us;
    uint64_t rtt = rtt_us(s);
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        struct stream *st = next_stream(s, rtt, now_us, &c->next_us);
        if (st == NULL || c->next_us > now_us)
            return;
        size_t len = COPY_LEN_MIN + (size_t)(st->out.end - st->out.start);
        uint64_t free_us = copies_free_us(&c->pace, len, s->flight.rate, rtt, now_us);
        if (free_us > now_us) {
            c->next_us = free_us;
            return;
        }
        send_copy(s, st, now_us);
    }
    c->next_us = now_us + look_us;
}

uint64_t copies_deadline_ns(const struct session *s)
{
    const struct copying *c = &s->copies;
    return c->pace.until_us != 0 && c->next_us < c->pace.until_us ? c->next_us * 1000
                                                                  : UINT64_MAX;
}
