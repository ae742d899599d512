/* A pace for each of the latest. */
#include "core/rounds.h"

#include <stddef.h>

static const struct pace_policy each = {ROUNDS_AT_ONCE, ROUNDS_EVERY_MS};
static const struct pace_policy everybody = {ROUNDS_ALL_AT_ONCE, ROUNDS_ALL_EVERY_MS};

static const struct pace_policy first = {ROUNDS_FIRST, ROUNDS_FIRST_EVERY_MS};

/* Its own, or that of who is nearest to having all of its rounds again. */
static struct rounds_peer *place_of(struct rounds *r, uint64_t peer)
{
    struct rounds_peer *place = &r->of[0];
    for (size_t i = 0; i < ROUNDS_PEERS; i++) {
        if (r->of[i].peer == peer)
            return &r->of[i];
        if (r->of[i].pace.full_ms < place->pace.full_ms)
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
