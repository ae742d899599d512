/*
 * How old is what comes, in a stream of things that each carry the time at which they
 * were sent? The two clocks have nothing in common; but the least that one ever seemed
 * to take is what the way takes, and what another seems to take above it, it waited.
 * That least is looked for anew every AGE_TURN_MS, as the way changes: where all wait
 * for long that is no reason to drop all for ever. Knows numbers only.
 */
#ifndef POSTERN_CORE_AGE_H
#define POSTERN_CORE_AGE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    AGE_MAX_MS = 1000,   /* what is older is of no use any more */
    AGE_TURN_MS = 10000, /* the least of two such whiles counts */
    AGE_ONE_MS = 1000,   /* while all are old one each so often counts as young */
};

struct age { /* all zero: nothing has come */
    bool any, dropping;
    uint32_t least[2];    /* in this while and in the one before: ours minus theirs */
    uint64_t turned_ms;   /* when this while began */
    uint64_t dropping_ms; /* since when nothing young has come */
};

/* Of two differences of clocks, which wrap around, the lesser. */
static inline uint32_t age_lesser(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0 ? a : b;
}

/* One came that was sent at `sent_ms` of their clock: is it too old? */
static inline bool age_is_old(struct age *a, uint32_t sent_ms, uint64_t now_ms)
{
    uint32_t took = (uint32_t)now_ms - sent_ms;
    if (!a->any)
        *a = (struct age){.any = true, .least = {took, took}, .turned_ms = now_ms};
    if (now_ms - a->turned_ms > AGE_TURN_MS) {
        a->least[1] = a->least[0];
        a->least[0] = took;
        a->turned_ms = now_ms;
    }
    a->least[0] = age_lesser(a->least[0], took);
    uint32_t waited = took - age_lesser(a->least[0], a->least[1]);
    if (waited <= AGE_MAX_MS) {
        a->dropping = false;
        return false;
    }
    if (!a->dropping) {
        a->dropping = true;
        a->dropping_ms = now_ms;
    }
    if (now_ms - a->dropping_ms < AGE_ONE_MS)
        return true;
    a->dropping_ms = now_ms;
    return false;
}

#endif
