/*
 * Which path a session uses while it begins. Until both ends have proven their keys
 * nobody can answer a probe, so that core/paths tells no dead path from a living one;
 * and QUIC waits twice as long after each packet in vain, and moves to no other path.
 *
 * So the client goes by what arrives. Nothing for `patience`, and it takes another path
 * that stands, the newest first and then one after the other, and says there again what
 * it said last: the same packets, which count once to QUIC. Where no other stands it
 * says it again on this one, unless that is a stream, which loses nothing. Where that
 * goes on the user is asked to look for ways anew (on_mute); the path is kept, since it
 * may be slow, or the peer busy. A host answers where the client's packets come from,
 * and says again what a client missed that repeats itself.
 */
#include "io/clock.h"
#include "session/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROUND_TRIPS = 3,      /* an answer, and one that was lost */
    MUTE_ROUND_TRIPS = 8, /* and a few more */
    LATE_TIMES = 2,
    MOVES_QUICK = 4, /* before pauses grow */
    SHIFT_MAX = 2,
    MUTE_SHIFT_MAX = 1
};
static const uint64_t patience_min_us = 200000, patience_stream_us = 1500000,
                      mute_min_us = 700000, repeat_us = 150000;

/* What is said may be of use to say again. */
static bool is_opening(const struct session *s)
{
    return session_lives(s) && !s->confirmed && s->answered_us == 0 &&
           s->current != NULL && s->conn != NULL;
}

static bool in_order(const struct path *p)
{
    return p->stream || p->meagre;
}

/* ------------------------------------------------------------------ what was said */

void opening_fini(struct session *s)
{
    struct opening *o = &s->opening;
    for (unsigned i = 0; i < o->kept_count; i++)
        free(o->kept[i].buf);
    o->kept_count = 0;
}

void opening_on_batch(struct session *s, const uint8_t *buf, size_t len,
                      size_t segment_len)
{
    struct opening *o = &s->opening;
    if (!is_opening(s)) {
        opening_fini(s);
        return;
    }
    if (session_is_secure(s) && !o->secured) {
        opening_fini(s);
        o->secured = true;
    }
    if ((o->secured && o->kept_count == OPENING_KEPT) || len > OPENING_BYTES_MAX)
        return;
    uint8_t *copy = malloc(len);
    if (copy == NULL)
        return;
    memcpy(copy, buf, len);
    if (o->kept_count == OPENING_KEPT) {
        free(o->kept[0].buf);
        memmove(o->kept, o->kept + 1, sizeof(o->kept) - sizeof(o->kept[0]));
        o->kept_count--;
    }
    o->kept[o->kept_count].buf = copy;
    o->kept[o->kept_count].len = len;
    o->kept[o->kept_count++].segment_len = segment_len;
    o->said_us = clock_us();
}

static void say_again(struct session *s, uint64_t now_us)
{
    struct opening *o = &s->opening;
    o->said_us = now_us;
    for (unsigned i = 0; i < o->kept_count; i++) {
        s->sent_bytes += o->kept[i].len;
        (void)path_send(s->current, o->kept[i].buf, o->kept[i].len,
                        o->kept[i].segment_len);
    }
}

/* ---------------------------------------------------------------- the client's part */

static bool leads(const struct session *s)
{
    return s->is_client && is_opening(s);
}

static uint64_t bound_us(const struct session *s, uint64_t least_us, unsigned times)
{
    uint64_t us = times * (uint64_t)s->current->rtt_us;
    uint64_t late = LATE_TIMES * steer_late_us(s, clock_us());
    us = us > late ? us : late;
    us = us > least_us ? us : least_us;
    return in_order(s->current) && us < patience_stream_us ? patience_stream_us : us;
}

static bool is_alone(const struct session *s)
{
    return LIST_FIRST(&s->paths, struct path, user_link) ==
           LIST_LAST(&s->paths, struct path, user_link);
}

static uint64_t move_at_us(const struct session *s)
{
    const struct opening *o = &s->opening;
    uint64_t from_us = paths_heard_us(&s->net);
    unsigned shift = o->moves / MOVES_QUICK;
    if (is_alone(s) && in_order(s->current))
        return UINT64_MAX;
    if (from_us < o->said_us)
        from_us = o->said_us;
    return from_us + (bound_us(s, patience_min_us, ROUND_TRIPS)
                      << (shift < SHIFT_MAX ? shift : SHIFT_MAX));
}

/* The newest that was not taken yet; else the next older one, and so on in a circle. */
static struct path *next_path(const struct session *s)
{
    struct path *newest = s->current, *older = NULL;
    LIST_EACH (struct path, p, &s->paths, user_link) {
        if (p == s->current)
            continue;
        if (newest == s->current || p->id > newest->id)
            newest = p;
        if (p->id < s->current->id && (older == NULL || p->id > older->id))
            older = p;
    }
    return older == NULL || newest->id > s->opening.newest ? newest : older;
}

/* The user's choice counts again as soon as it can answer. */
static void move(struct session *s, uint64_t now_us)
{
    struct opening *o = &s->opening;
    struct path *p = next_path(s);
    o->moves++;
    if (p != s->current) {
        o->newest = p->id > o->newest ? p->id : o->newest;
        o->wish = o->wish != 0 ? o->wish : s->current->id;
        paths_want(&s->net, o->wish, now_us);
        paths_force(&s->net, p->id, now_us);
        steer_follow(s);
    }
    say_again(s, now_us);
}

static uint64_t mute_at_us(const struct session *s)
{
    const struct opening *o = &s->opening;
    uint64_t us = bound_us(s, mute_min_us, MUTE_ROUND_TRIPS);
    return s->heard_us > o->told_us ? s->heard_us + us : o->told_us + (us << o->told);
}

static void tell_mute(struct session *s, uint64_t now_us)
{
    struct opening *o = &s->opening;
    o->told = s->heard_us > o->told_us ? 0 : o->told;
    o->told += o->told < MUTE_SHIFT_MAX;
    o->told_us = now_us;
    if (s->events->on_mute != NULL)
        s->events->on_mute(s->ctx, s->current);
}

void opening_run(struct session *s)
{
    uint64_t now_us = clock_us();
    if (!leads(s))
        return;
    if (s->opening.newest < s->current->id)
        s->opening.newest = s->current->id;
    if (now_us >= move_at_us(s))
        move(s, now_us);
    if (now_us >= mute_at_us(s))
        tell_mute(s, now_us);
}

uint64_t opening_deadline_ns(const struct session *s)
{
    if (!leads(s))
        return UINT64_MAX;
    uint64_t move_us = move_at_us(s), mute_us = mute_at_us(s);
    return 1000 * (move_us < mute_us ? move_us : mute_us);
}

/* ---------------------------------------------------------------------- both parts */

void opening_on_packets(struct session *s, struct path *p)
{
    uint64_t now_us = clock_us();
    s->opening.moves = 0;
    if (s->is_client)
        return;
    bool elsewhere = p != s->current;
    if (elsewhere) {
        paths_force(&s->net, p->id, now_us);
        steer_follow(s);
    }
    if (is_opening(s) && !in_order(p) &&
        (elsewhere || now_us >= s->opening.said_us + repeat_us))
        say_again(s, now_us);
}
