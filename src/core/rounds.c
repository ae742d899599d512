/* A pace for each of the latest. */
#include "core/rounds.h"

#include <stddef.h>

#include "core/least.h"

static const struct pace_policy each = {ROUNDS_AT_ONCE, ROUNDS_EVERY_MS};
static const struct pace_policy everybody = {ROUNDS_ALL_AT_ONCE, ROUNDS_ALL_EVERY_MS};

static const struct pace_policy first = {ROUNDS_FIRST, ROUNDS_FIRST_EVERY_MS};

static const struct pace_policy unproven_each = {ROUNDS_UNPROVEN_AT_ONCE,
                                                 ROUNDS_UNPROVEN_EVERY_MS};
static const struct pace_policy unproven_all = {ROUNDS_UNPROVEN_ALL_AT_ONCE,
                                                ROUNDS_UNPROVEN_ALL_EVERY_MS};
static const struct pace_policy unproven_first = {ROUNDS_UNPROVEN_FIRST,
                                                  ROUNDS_UNPROVEN_FIRST_EVERY_MS};
static const struct pace_policy eager_each = {ROUNDS_EAGER_AT_ONCE,
                                              ROUNDS_EAGER_EVERY_MS};
static const struct pace_policy eager_all = {ROUNDS_EAGER_ALL_AT_ONCE,
                                             ROUNDS_EAGER_ALL_EVERY_MS};
static const struct pace_policy eager_first = {ROUNDS_EAGER_FIRST,
                                               ROUNDS_EAGER_FIRST_EVERY_MS};
static const struct pace_policy pairs = {ROUNDS_PAIRS_AT_ONCE, ROUNDS_PAIRS_EVERY_MS};

static uint64_t full_ms(const struct rounds_peer *p)
{
    uint64_t begun = max64(p->pace.full_ms, max64(p->eager.full_ms, p->pairs.full_ms));
    return max64(begun, max64(p->unproven.full_ms, p->unproven_first.full_ms));
}

/* Its own, or that of who is nearest to having all of its rounds again. */
static struct rounds_peer *place_of(struct rounds *r, uint64_t peer)
{
    struct rounds_peer *place = &r->of[0];
    for (size_t i = 0; i < ROUNDS_PEERS; i++) {
        if (r->of[i].peer == peer)
            return &r->of[i];
        if (full_ms(&r->of[i]) < full_ms(place))
            place = &r->of[i];
    }
    *place = (struct rounds_peer){.peer = peer};
    return place;
}

bool rounds_take(struct rounds *r, uint64_t peer, uint64_t now_ms)
{
    struct rounds_peer *own = place_of(r, peer);
    if (pace_free_ms(&own->pace, &each, now_ms) > now_ms ||
        (!pace_take(&r->all, &everybody, now_ms) &&
         !pace_take(&own->first, &first, now_ms)))
        return false;
    pace_spend(&own->pace, &each, now_ms);
    return true;
}

bool rounds_take_unproven(struct rounds *r, uint64_t peer, struct rounds_unproven *had,
                          uint64_t now_ms)
{
    struct rounds_peer *own = place_of(r, peer);
    if (pace_free_ms(&own->unproven, &unproven_each, now_ms) > now_ms)
        return false;
    if (pace_take(&own->unproven_first, &unproven_first, now_ms))
        had->of_first++;
    else if (pace_take(&r->all_unproven, &unproven_all, now_ms))
        had->of_all++;
    else
        return false;
    pace_spend(&own->unproven, &unproven_each, now_ms);
    return true;
}

void rounds_prove(struct rounds *r, uint64_t peer, struct rounds_unproven *had)
{
    pace_give_back(&r->all_unproven, &unproven_all, had->of_all);
    for (size_t i = 0; i < ROUNDS_PEERS; i++) {
        struct rounds_peer *own = &r->of[i];
        if (own->peer != peer)
            continue;
        pace_give_back(&own->unproven, &unproven_each, had->of_all + had->of_first);
        pace_give_back(&own->unproven_first, &unproven_first, had->of_first);
    }
    *had = (struct rounds_unproven){0};
}

bool rounds_take_eager(struct rounds *r, uint64_t peer, uint64_t now_ms)
{
    struct rounds_peer *own = place_of(r, peer);
    if (pace_free_ms(&own->eager, &eager_each, now_ms) > now_ms ||
        (!pace_take(&own->eager_first, &eager_first, now_ms) &&
         !pace_take(&r->all_eager, &eager_all, now_ms)))
        return false;
    pace_spend(&own->eager, &eager_each, now_ms);
    return true;
}

bool rounds_take_pair(struct rounds *r, uint64_t peer, uint64_t now_ms)
{
    return pace_take(&place_of(r, peer)->pairs, &pairs, now_ms);
}

uint64_t rounds_pair_ms(const struct rounds *r, uint64_t peer, uint64_t now_ms)
{
    for (size_t i = 0; i < ROUNDS_PEERS; i++)
        if (r->of[i].peer == peer)
            return pace_free_ms(&r->of[i].pairs, &pairs, now_ms);
    return now_ms;
}
