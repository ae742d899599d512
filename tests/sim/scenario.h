/*
 * What one seed draws: the networks of both devices, the weather, the hostile, and what
 * goes wrong when. Knows how it is drawn and what theory says of it; runs nothing.
 */
#ifndef POSTERN_SIM_SCENARIO_H
#define POSTERN_SIM_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

#include "world.h"

enum net_kind {
    NET_NONE,     /* public address */
    NET_FW,       /* public address behind a stateful firewall */
    NET_EIM_EIF,  /* "full cone" */
    NET_EIM_ADF,  /* "address restricted" */
    NET_EIM_APDF, /* what masquerade does while ports are kept */
    NET_ADM_EIF,
    NET_ADM_ADF,
    NET_ADM_APDF,
    NET_APDM_EIF,
    NET_APDM_ADF,
    NET_APDM_APDF, /* "symmetric" */
    NET_CGN,       /* EIM_APDF behind EIM_APDF */
    NET_BLOCKED,   /* no UDP */
    NET_KIND_COUNT,
};

const char *net_kind_name(enum net_kind k);

enum theory { THEORY_UNKNOWN, THEORY_DIRECT, THEORY_RELAY };

struct scenario {
    uint64_t seed;
    enum net_kind kind[2]; /* 0 client, 1 host */
    bool preserve[2], v6[2], same_lan;
    uint64_t timeout_us[2], delay_us[2], broker_delay_us, jitter_us;
    unsigned loss_permille, double_permille;
    bool eavesdropper;
    int liar; /* 0 client, 1 host, -1 nobody */
    /* events; UINT64_MAX: never */
    uint64_t flush_us, move_us, broker_down_us, broker_up_us, end_us;
    int flushed, mover;
    enum net_kind moved_to;
    uint64_t active_until_us, idle_until_us; /* then active to the end */
    bool rough; /* the moves and failures above may happen */
};

void scenario_draw(struct scenario *s, uint64_t seed);
/* What must come out when nothing is lost and nobody is hostile. */
enum theory scenario_theory(const struct scenario *s, enum net_kind client,
                            enum net_kind host);
/* The gate of a kind; `ext` is its outer address. */
struct gate_config scenario_gate(const struct scenario *s, enum net_kind k, int side,
                                 const char *ext);

#endif
