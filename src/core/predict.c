/* Who opens and who sweeps. */
#include "core/predict.h"

#include <stddef.h>

#include "core/rng.h"

static bool is_symmetric(enum nat_mapping m)
{
    return m == NAT_MAPPING_ADDRESS_PORT_DEPENDENT ||
           m == NAT_MAPPING_ADDRESS_DEPENDENT;
}

bool predict_plan(struct predict_plan *plan, const struct predict_side *own,
                  const struct predict_side *peer, const char **reason)
{
    bool own_sym = is_symmetric(own->mapping), peer_sym = is_symmetric(peer->mapping);
    *plan = (struct predict_plan){0};
    *reason = NULL;
    if ((!own_sym && !peer_sym) || own->mapping == NAT_MAPPING_UNKNOWN ||
        peer->mapping == NAT_MAPPING_UNKNOWN)
        return false;
    if (own_sym && peer_sym && !(own->low_ports && peer->low_ports)) {
        *reason = own->low_ports
                      ? "the other side may not bind ports below 1024"
                      : "this side may not bind ports below 1024, which would help";
        return false;
    }
    if (own_sym) {
        plan->hold = true;
        plan->low_bind = own->low_ports;
        plan->sockets = own->low_ports ? PREDICT_LOW_SOCKETS : PREDICT_BIRTHDAY_SOCKETS;
    }
    if (peer_sym) {
        plan->sweep = true;
        plan->all_sockets = own_sym;
        plan->low_sweep = peer->low_ports;
        plan->probes = peer->low_ports ? PREDICT_LOW_COUNT : PREDICT_BIRTHDAY_PROBES;
    }
    return true;
}

/* Random ports without keeping a list: a step through all, prime to their number. */
uint16_t predict_port(const struct predict_plan *plan, unsigned i, uint64_t seed)
{
    uint64_t rng = seed;
    if (plan->low_sweep) {
        uint64_t start = rng_below(&rng, PREDICT_LOW_COUNT);
        return (uint16_t)(PREDICT_LOW_FIRST + (start + i) % PREDICT_LOW_COUNT);
    }
    const uint64_t span = 65536 - PREDICT_PORT_MIN, step = 25013; /* a prime */
    uint64_t start = rng_below(&rng, span);
    return (uint16_t)(PREDICT_PORT_MIN + (start + i * step) % span);
}
