/* Who opens and who sweeps. */
#include "core/predict.h"

#include <stddef.h>

#include "core/rng.h"

bool predict_presume(struct predict_side *own, struct predict_side *peer)
{
    if (own->mapping != NAT_MAPPING_ENDPOINT_INDEPENDENT ||
        peer->mapping != NAT_MAPPING_ENDPOINT_INDEPENDENT)
        return false;
    if (own->doubtful)
        own->mapping = NAT_MAPPING_ADDRESS_DEPENDENT;
    if (peer->doubtful)
        peer->mapping = NAT_MAPPING_ADDRESS_DEPENDENT;
    return own->doubtful || peer->doubtful;
}

/* The middle is the likeliest. */
static struct predict_near narrow(struct predict_near near, unsigned most)
{
    if (near.count > most) {
        near.first = (uint16_t)(near.first + (near.count - most) / 2);
        near.count = most;
    }
    return near;
}

/* One of the two is what it seems, and nobody knows which: each does both parts. */
static void plan_both(struct predict_plan *plan, const struct predict_side *peer)
{
    plan->hold = plan->sweep = true;
    plan->sockets = PREDICT_DOUBTFUL_SOCKETS;
    plan->near = narrow(peer->near, PREDICT_DOUBTFUL_PROBES);
    plan->probes = plan->near.count > 0 ? plan->near.count : PREDICT_DOUBTFUL_PROBES;
}

bool predict_plan(struct predict_plan *plan, const struct predict_side *own,
                  const struct predict_side *peer, const char **reason)
{
    bool own_sym = predict_is_symmetric(own->mapping),
         peer_sym = predict_is_symmetric(peer->mapping);
    *plan = (struct predict_plan){0};
    *reason = NULL;
    if ((!own_sym && !peer_sym) || own->mapping == NAT_MAPPING_UNKNOWN ||
        peer->mapping == NAT_MAPPING_UNKNOWN)
        return false;
    bool own_known = own->low_ports || own->near.count > 0;
    bool peer_known = peer->low_ports || peer->near.count > 0;
    if (own_sym && own->doubtful && peer_sym && peer->doubtful) {
        plan_both(plan, peer);
        return true;
    }
    if (own_sym && peer_sym && !(own_known && peer_known)) {
        *reason = own_known
                      ? "the other side has no ports below 1024 that its NAT keeps"
                      : "this side may not bind ports below 1024, which would help";
        return false;
    }
    if (own_sym) {
        plan->hold = true;
        plan->low_bind = own->low_ports && own->near.count == 0;
        plan->sockets = plan->low_bind || peer_sym ? PREDICT_LOW_SOCKETS
                        : own->near.count > 0      ? PREDICT_NEAR_SOCKETS
                                                   : PREDICT_BIRTHDAY_SOCKETS;
    }
    if (peer_sym) {
        plan->sweep = true;
        plan->all_sockets = own_sym;
        plan->near =
            narrow(peer->near, PREDICT_BIRTHDAY_PROBES / (own_sym ? plan->sockets : 1));
        plan->low_sweep = peer->low_ports && peer->near.count == 0;
        plan->probes = plan->near.count > 0 ? plan->near.count
                       : plan->low_sweep    ? PREDICT_LOW_COUNT
                                            : PREDICT_BIRTHDAY_PROBES;
    }
    return true;
}

unsigned predict_sessions(const struct predict_plan *plan)
{
    unsigned held = plan->hold && !plan->all_sockets ? plan->sockets : 0;
    unsigned froms = plan->all_sockets ? plan->sockets : 1;
    return held + (plan->sweep ? plan->probes * froms : 0);
}

struct predict_near predict_observe(const uint16_t *ports, size_t n)
{
    unsigned low = 65535, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = ports[i] < low ? ports[i] : low;
        high = ports[i] > high ? ports[i] : high;
    }
    /* Two of 64,512 random ports lie so close once in thirty times, three never. */
    if (n < 2 || low < PREDICT_PORT_MIN || high - low > PREDICT_NEAR_MAX)
        return (struct predict_near){0};
    unsigned span = high - low, margin = span > 128 ? span : 128;
    if (span + 2 * margin > PREDICT_NEAR_MAX)
        margin = (PREDICT_NEAR_MAX - span) / 2;
    unsigned first = low > PREDICT_PORT_MIN + margin ? low - margin : PREDICT_PORT_MIN;
    unsigned last = high + margin < 65535 ? high + margin : 65535;
    unsigned count = last - first + 1;
    return (struct predict_near){(uint16_t)first,
                                 count < PREDICT_NEAR_MAX ? count : PREDICT_NEAR_MAX};
}

/* Random ports without keeping a list: a step through all, prime to their number. */
uint16_t predict_port(const struct predict_plan *plan, unsigned i, uint64_t seed)
{
    uint64_t rng = seed;
    if (plan->low_sweep) {
        uint64_t start = rng_below(&rng, PREDICT_LOW_COUNT);
        return (uint16_t)(PREDICT_LOW_FIRST + (start + i) % PREDICT_LOW_COUNT);
    }
    if (plan->near.count > 0) {
        uint64_t start = rng_below(&rng, plan->near.count);
        return (uint16_t)(plan->near.first + (start + i) % plan->near.count);
    }
    const uint64_t span = 65536 - PREDICT_PORT_MIN, step = 25013; /* a prime */
    uint64_t start = rng_below(&rng, span);
    return (uint16_t)(PREDICT_PORT_MIN + (start + i * step) % span);
}
