/* Drawing a seed's world, and what RFC 4787's behaviours promise of it. */
#include "scenario.h"

#include <string.h>

#include "core/rng.h"

#define S 1000000ull
#define MS 1000ull

static const struct {
    const char *name;
    enum nat_mapping mapping;
    enum nat_filtering filtering;
} kinds[NET_KIND_COUNT] = {
    [NET_NONE] = {"none", NAT_MAPPING_NONE, NAT_FILTERING_ENDPOINT_INDEPENDENT},
    [NET_FW] = {"fw", NAT_MAPPING_NONE, NAT_FILTERING_ADDRESS_PORT_DEPENDENT},
    [NET_EIM_EIF] = {"ei/ei", NAT_MAPPING_ENDPOINT_INDEPENDENT,
                     NAT_FILTERING_ENDPOINT_INDEPENDENT},
    [NET_EIM_ADF] = {"ei/ad", NAT_MAPPING_ENDPOINT_INDEPENDENT,
                     NAT_FILTERING_ADDRESS_DEPENDENT},
    [NET_EIM_APDF] = {"ei/apd", NAT_MAPPING_ENDPOINT_INDEPENDENT,
                      NAT_FILTERING_ADDRESS_PORT_DEPENDENT},
    [NET_ADM_EIF] = {"ad/ei", NAT_MAPPING_ADDRESS_DEPENDENT,
                     NAT_FILTERING_ENDPOINT_INDEPENDENT},
    [NET_ADM_ADF] = {"ad/ad", NAT_MAPPING_ADDRESS_DEPENDENT,
                     NAT_FILTERING_ADDRESS_DEPENDENT},
    [NET_ADM_APDF] = {"ad/apd", NAT_MAPPING_ADDRESS_DEPENDENT,
                      NAT_FILTERING_ADDRESS_PORT_DEPENDENT},
    [NET_APDM_EIF] = {"apd/ei", NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
                      NAT_FILTERING_ENDPOINT_INDEPENDENT},
    [NET_APDM_ADF] = {"apd/ad", NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
                      NAT_FILTERING_ADDRESS_DEPENDENT},
    [NET_APDM_APDF] = {"apd/apd", NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
                       NAT_FILTERING_ADDRESS_PORT_DEPENDENT},
    [NET_CGN] = {"cgn", NAT_MAPPING_ENDPOINT_INDEPENDENT,
                 NAT_FILTERING_ADDRESS_PORT_DEPENDENT},
    [NET_BLOCKED] = {"blocked", NAT_MAPPING_ENDPOINT_INDEPENDENT,
                     NAT_FILTERING_ADDRESS_PORT_DEPENDENT},
};

const char *net_kind_name(enum net_kind k)
{
    return kinds[k].name;
}

struct gate_config scenario_gate(const struct scenario *s, enum net_kind k, int side,
                                 const char *ext)
{
    struct gate_config c = {
        .translates = k != NET_FW && k != NET_NONE,
        .blocks = k == NET_BLOCKED,
        .mapping = kinds[k].mapping,
        .filtering = kinds[k].filtering,
        .preserves_port = s->preserve[side],
        .hairpins = s->seed % 2 == 0,
        .inbound_refreshes = s->seed % 3 != 0,
        .timeout_us = s->timeout_us[side],
    };
    if (addr_parse_ip(&c.ext, ext) != 0)
        c.ext = (struct addr){0};
    return c;
}

static bool chance(uint64_t *rng, unsigned percent)
{
    return rng_below(rng, 100) < percent;
}

static void draw_events(struct scenario *s, uint64_t *rng)
{
    uint64_t at = s->active_until_us;
    s->flush_us = s->move_us = s->broker_down_us = s->broker_up_us = UINT64_MAX;
    s->rough = chance(rng, 50);
    if (s->rough && chance(rng, 40)) {
        s->flush_us = 4 * S + rng_below(rng, 30 * S);
        s->flushed = (int)rng_below(rng, 2);
        at = s->flush_us > at ? s->flush_us : at;
    }
    if (s->rough && !s->same_lan && chance(rng, 40)) {
        s->move_us = 3 * S + rng_below(rng, 40 * S);
        s->mover = (int)rng_below(rng, 2);
        s->moved_to = (enum net_kind)rng_below(rng, NET_KIND_COUNT);
        at = s->move_us > at ? s->move_us : at;
    }
    if (s->rough && chance(rng, 30)) {
        s->broker_down_us = S + rng_below(rng, 30 * S);
        s->broker_up_us = s->broker_down_us + rng_below(rng, 20 * S);
        at = s->broker_up_us > at ? s->broker_up_us : at;
    }
    s->idle_until_us = at + (chance(rng, 30) ? rng_below(rng, 900 * S) : S);
    s->end_us = s->idle_until_us + 45 * S;
}

void scenario_draw(struct scenario *s, uint64_t seed)
{
    static const unsigned losses[] = {0, 0, 0, 10, 50, 150};
    uint64_t rng = seed * 0x2545f4914f6cdd1du + 1;
    memset(s, 0, sizeof(*s));
    s->seed = seed;
    for (int i = 0; i < 2; i++) {
        s->kind[i] = (enum net_kind)rng_below(&rng, NET_KIND_COUNT);
        s->preserve[i] = chance(&rng, 40);
        s->v6[i] = chance(&rng, 25);
        s->timeout_us[i] = 20 * S + rng_below(&rng, 300 * S);
        s->delay_us[i] = 500 + rng_below(&rng, chance(&rng, 20) ? 300 * MS : 40 * MS);
    }
    s->same_lan = chance(&rng, 4);
    s->broker_delay_us = 500 + rng_below(&rng, 30 * MS);
    s->jitter_us = chance(&rng, 50) ? rng_below(&rng, 20 * MS) : 0;
    s->loss_permille = losses[rng_below(&rng, 6)];
    s->double_permille = chance(&rng, 20) ? 50 : 0;
    s->eavesdropper = chance(&rng, 20);
    s->liar = chance(&rng, 10) ? (int)rng_below(&rng, 2) : -1;
    s->active_until_us = 2 * S + rng_below(&rng, 12 * S);
    draw_events(s, &rng);
}

static bool symmetric(enum net_kind k)
{
    return kinds[k].mapping >= NAT_MAPPING_ADDRESS_DEPENDENT;
}

enum theory scenario_theory(const struct scenario *s, enum net_kind client,
                            enum net_kind host)
{
    if (s->same_lan || (s->v6[0] && s->v6[1]))
        return THEORY_DIRECT;
    if (client == NET_BLOCKED || host == NET_BLOCKED)
        return THEORY_RELAY;
    if (!symmetric(client) && !symmetric(host))
        return THEORY_DIRECT;
    if (symmetric(client) && symmetric(host))
        return THEORY_UNKNOWN;
    /* One side's port is unforeseen: the other must let it in by address alone. */
    int side = symmetric(client) ? 0 : 1;
    enum net_kind other = side == 0 ? host : client;
    if (kinds[other].filtering != NAT_FILTERING_ADDRESS_PORT_DEPENDENT)
        return THEORY_DIRECT;
    return s->preserve[side] ? THEORY_UNKNOWN : THEORY_RELAY;
}
