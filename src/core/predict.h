/*
 * Port prediction for NATs that give each destination another port ("symmetric":
 * address and port dependent mapping, RFC 4787): who opens many mappings, who sends to
 * many ports, and to which. Knows no socket and no time.
 *
 * What is known of the NATs it is for. netfilter's `masquerade random` draws a port
 * anew for each destination, from 1024-65535; but a source port of 512-1023 becomes one
 * of 600-1023, 424 values only (nf_nat_core.c, by the classes of RFC 6056's
 * predecessor). So a side that may bind low ports makes its mapping one of 424, and all
 * are tried, once STUN has shown that its NAT does so. A side that may not, or whose
 * NAT does not, opens 512 mappings, and 768 of the other's probes meet one with 99.8 %
 * (the birthday form, RFC 5128 section 3.6's idea).
 */
#ifndef POSTERN_CORE_PREDICT_H
#define POSTERN_CORE_PREDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/natcheck.h"

enum {
    PREDICT_LOW_FIRST = 600,
    PREDICT_LOW_COUNT = 424,
    PREDICT_LOW_BIND_FIRST = 512, /* to bind: any of these up to 1023 */
    PREDICT_LOW_BIND_COUNT = 512,
    PREDICT_LOW_SOCKETS = 3,
    PREDICT_BIRTHDAY_SOCKETS = 512,
    PREDICT_BIRTHDAY_PROBES = 768,
    PREDICT_DOUBTFUL_SOCKETS = 320, /* of a side that opens mappings and sweeps */
    PREDICT_DOUBTFUL_PROBES = 448,
    PREDICT_PORT_MIN = 1024,
    PREDICT_NEAR_MAX = 1024, /* ports of one neighbourhood that are tried */
    PREDICT_NEAR_SOCKETS = 48,
};

/*
 * A NAT that counts up, or draws from a small range, shows it: the ports that several
 * destinations saw lie together. These and their neighbours are tried then.
 */
struct predict_near {
    uint16_t first;
    unsigned count; /* 0: they do not lie together */
};

struct predict_side {
    enum nat_mapping mapping;
    bool low_ports; /* it may bind them */
    struct predict_near near;
    bool doubtful; /* its mapping looks the same to one address, and keeps no ports */
};

static inline bool predict_is_symmetric(enum nat_mapping m)
{
    return m == NAT_MAPPING_ADDRESS_PORT_DEPENDENT ||
           m == NAT_MAPPING_ADDRESS_DEPENDENT;
}

/* A NAT that leaves low ports low has drawn it from a low one. */
static inline bool predict_is_low(uint16_t port)
{
    return port >= PREDICT_LOW_FIRST && port < PREDICT_LOW_FIRST + PREDICT_LOW_COUNT;
}

/* From the ports of one socket that were seen by different destinations. */
struct predict_near predict_observe(const uint16_t *ports, size_t n);

/*
 * Two sides that seem easy and do not hear each other: what is doubtful is taken for
 * address-dependent, as a NAT that keeps its port for one broker's address alone looks.
 * False: nothing is doubtful.
 */
bool predict_presume(struct predict_side *own, struct predict_side *peer);

struct predict_plan {
    bool hold;        /* opens `sockets` mappings towards the peer's known addresses */
    bool sweep;       /* sends to `probes` ports of the peer's address */
    bool all_sockets; /* the sweep goes out of the mappings, else of the known socket */
    bool low_bind;    /* `sockets` are bound to low ports */
    bool low_sweep;   /* the ports are the low ones, else `near`, else random ones */
    struct predict_near near;
    unsigned sockets, probes;
};

/*
 * What this side does. False when prediction does not apply, with the reason in words
 * when it would be needed and cannot be, else NULL.
 */
bool predict_plan(struct predict_plan *plan, const struct predict_side *own,
                  const struct predict_side *peer, const char **reason);
/* Sessions of our own NAT that it opens, towards one target. */
unsigned predict_sessions(const struct predict_plan *plan);
/* Port number `i` of the sweep, 0 <= i < probes, or more where they are random; `seed`
 * fixes those. */
uint16_t predict_port(const struct predict_plan *plan, unsigned i, uint64_t seed);

#endif
