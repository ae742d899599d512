/*
 * What two approaches say to each other through the broker: Introduce, Signal and what
 * travels with them. The state of an approach stands here, for the two files that make
 * it; kinds see path/kind.h only.
 */
#ifndef POSTERN_PATH_EXCHANGE_H
#define POSTERN_PATH_EXCHANGE_H

#include "io/loop.h"
#include "path/kind.h"

enum { APPROACH_RETIRED_MAX = 24 };

struct approach {
    struct approach_config config;
    struct ladder ladder;
    void *kinds[PATH_KIND_COUNT]; /* NULL: was never begun */
    struct path *paths[LADDER_MAX_PATHS + APPROACH_RETIRED_MAX];
    uint8_t check_key[16];
    uint32_t next_path_id;
    uint32_t peer_generation, generation;
    uint64_t began_us;
    bool established, introduced, answered;
    bool peer_relays;     /* its latest Offer allows the relay */
    bool refused_offline; /* our latest introduction was */
    bool want_introduce, want_offer;
    unsigned introduce_tries;
    uint64_t introduce_at_ms, offer_at_ms; /* loop time; 0: not planned */
    struct timer timer;
    struct target target;
    Offer *held; /* direct kinds wait with it for approach_admit; else NULL */
    uint8_t early[1500];
    size_t early_len;
    bool busy, freed;
};

static inline bool approach_allows(const struct approach *a, enum path_kind k)
{
    return (a->config.allowed >> k & 1) != 0;
}

/* True while this kind must not begin: the peer has proven nothing yet. */
static inline bool approach_holds(const struct approach *a, enum path_kind k)
{
    return a->held != NULL && path_kind_is_direct(k);
}

/* The session goes without the relay: no pair of it tells the broker who has it. */
static inline bool approach_is_unrelayed(const struct approach *a)
{
    return !approach_allows(a, PATH_RELAY) || !a->peer_relays;
}

/* Sends our Offer with the request for an introduction, or alone. */
void exchange_introduce(struct approach *a);
void exchange_offer(struct approach *a);
/*
 * Host: the client whose introduction had `mark` is let in. Asks the broker for a relay
 * pair with it, or, where none is allowed, to tell it when this host is gone.
 */
void exchange_accept(struct approach *a, const uint8_t *mark, size_t len);
/* A sealed Offer of the peer, a ticket or a packet of the session arrived. */
void exchange_take(struct approach *a, const uint8_t *sealed, size_t len);
void exchange_ticket(struct approach *a, const Ticket *t);
void exchange_packet(struct approach *a, const uint8_t *packet, size_t len);
/* The peer may use that kind. */
bool exchange_names(const Offer *o, enum path_kind k);

#endif
