/*
 * Which path a session uses while it begins. Until both ends have proven their keys
 * nobody can answer a probe, so that core/paths tells no dead path from a living one;
 * and QUIC waits twice as long after each packet in vain, and moves to no other path.
 *
 * So the client goes by what happens, never by a clock of its own. When QUIC repeats
 * itself after a silence (its probe timeout) the session is *mute*: that repeat goes to
 * another path that stands, the newest first and then one after the other, and the user
 * is asked to look for more (on_mute); the path is kept, since it may be slow, or the
 * peer busy. Whatever path is proven then, or is taken in place of one that went away
 * with the answer to come, carries at once what was said last: the same packets, which
 * count once to QUIC. A host answers where the client's packets come from, and says
 * there again what the client has not acknowledged. Only so often: where much is lost,
 * or a line is full, more of the same helps nobody.
 */
#include "io/clock.h"
#include "session/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROUND_TRIPS = 3, /* an answer, and one that was lost */
    LATE_TIMES = 2,
    AGAIN_MAX = 4
};
static const uint64_t patience_min_us = 200000, patience_stream_us = 1500000,
                      mute_min_us = 700000, host_patience_us = 150000;

/* What is said may be of use to say again. */
static bool is_opening(const struct session *s)
{
    return session_lives(s) && !s->confirmed && s->answered_us == 0 &&
           s->current != NULL && s->conn != NULL;
}

static bool leads(const struct session *s)
{
    return s->is_client && is_opening(s);
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

static void say_again(struct session *s)
{
    struct opening *o = &s->opening;
    if (o->again == AGAIN_MAX)
        return;
    o->again++;
    o->again_us = o->said_us = clock_us();
    for (unsigned i = 0; i < o->kept_count; i++) {
        s->sent_bytes += o->kept[i].len;
        (void)path_send(s->current, o->kept[i].buf, o->kept[i].len,
                        o->kept[i].segment_len);
    }
}

/* ---------------------------------------------------------------- the client's part */

static bool is_mute(const struct session *s)
{
    return s->opening.mute_us > s->heard_us;
}

static uint64_t bound_us(const struct session *s, uint64_t least_us)
{
    const struct path *p = s->current;
    uint64_t us = ROUND_TRIPS * (uint64_t)p->rtt_us;
    uint64_t late = LATE_TIMES * steer_late_us(s, clock_us());
    us = us > late ? us : late;
    us = us > least_us ? us : least_us;
    return (p->stream || p->meagre) && us < patience_stream_us ? patience_stream_us
                                                               : us;
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
static void take(struct session *s, const struct path *p, uint64_t now_us)
{
    struct opening *o = &s->opening;
    uint32_t taken = s->current->id > p->id ? s->current->id : p->id;
    if (p == s->current)
        return;
    o->newest = taken > o->newest ? taken : o->newest;
    o->wish = o->wish != 0 ? o->wish : s->current->id;
    paths_want(&s->net, o->wish, now_us);
    paths_force(&s->net, p->id, now_us);
    steer_follow(s);
}

void opening_on_expiry(struct session *s)
{
    uint64_t now_us = clock_us(), from_us = paths_heard_us(&s->net);
    if (from_us < s->opening.mute_us)
        from_us = s->opening.mute_us;
    if (!leads(s) || now_us < from_us + bound_us(s, patience_min_us))
        return;
    s->opening.mute_us = now_us;
    if (s->events->on_mute != NULL && now_us >= s->heard_us + bound_us(s, mute_min_us))
        s->events->on_mute(s->ctx, s->current);
    take(s, next_path(s), now_us);
}

/* A new one, or one on which nothing arrived so far: there are new mappings at NATs. */
void opening_on_proven(struct session *s, const struct path *p)
{
    uint64_t now_us = clock_us();
    if (!leads(s) || !is_mute(s) ||
        now_us < s->opening.again_us + bound_us(s, patience_min_us))
        return;
    take(s, p, now_us);
    say_again(s);
}

void opening_on_change(struct session *s, bool lost)
{
    if (leads(s) && s->heard_us <= s->opening.said_us && (lost || is_mute(s)))
        say_again(s);
}

/* ------------------------------------------------------------------ the host's part */

/*
 * What comes by another way than before, or again to who has answered a while ago: the
 * answer was lost on the way that it took, which may be dead in this direction alone.
 * QUIC answers no packet that it has, and both would wait for one another.
 */
void opening_on_packets(struct session *s, const struct path *p)
{
    uint64_t now_us = clock_us(), patience_us = host_patience_us;
    if (s->is_client)
        return;
    if (p != s->current) {
        paths_force(&s->net, p->id, now_us);
        steer_follow(s);
        patience_us = 0;
    }
    if (is_opening(s) && s->opening.kept_count > 0 &&
        now_us >= s->opening.said_us + patience_us)
        say_again(s);
}
