/*
 * A device in the simulator: the daemon's deciding machines (punch, ladder, keepalive,
 * paths) joined as the daemon joins them, with invariants checked at every step.
 * What it says to the other device goes through struct agent_link, what the network
 * carries through struct world; it reads no clock but the world's.
 */
#ifndef POSTERN_SIM_AGENT_H
#define POSTERN_SIM_AGENT_H

#include "core/keepalive.h"
#include "core/ladder.h"
#include "core/paths.h"
#include "core/punch.h"
#include "world.h"

enum {
    AGENT_CANDS = 16,
    AGENT_PATHS = 12,
    AGENT_TALLIES = 128,
    AGENT_LIES = 8,
    AGENT_HEARD = 8192
};
enum { RELAY_PATH_ID = 1, FIRST_PUNCH_PATH_ID = 2 };

struct offer {
    uint32_t generation;
    bool complete;
    unsigned count;
    struct {
        enum cand_type type;
        struct addr addr;
    } cands[AGENT_CANDS];
};

/* The way by the broker: reliable, in order, late. */
struct agent_link {
    void (*send_offer)(void *ctx, bool to_client, const struct offer *o);
    /* A session packet over the relay; lost when the relay is down. */
    void (*send_relayed)(void *ctx, bool to_client, const uint8_t *buf, size_t len);
    /* How long a relay takes to stand, and whether it will. */
    uint64_t (*relay_setup_us)(void *ctx);
    bool (*relay_works)(void *ctx);
    /* An invariant does not hold; ends the run. */
    void (*violated)(void *ctx, const char *who, const char *what);
    void *ctx;
};

/* The checker's own count of what an address has got, apart from punch.c's. */
struct tally {
    struct addr addr;
    unsigned total, requests;
    bool answered;
};

struct agent {
    bool client, liar;
    const char *name;
    struct world *w;
    const struct agent_link *link;
    struct addr stun; /* the broker's */
    int node[2];      /* per socket: 0 IPv4, 1 IPv6; NODE_NONE without */
    struct addr local[2];
    uint64_t seed, rng;
    struct punch_config punch_config;
    struct punch punch;
    struct punch_hint hint;
    bool punching, have_peer;
    uint64_t begun_us; /* when the running try began, holds included */
    uint64_t moved_us;
    struct offer own, peer;
    struct {
        bool running;
        unsigned sends;
        uint64_t due_us, id;
    } gather;
    struct addr lies[AGENT_LIES];
    /* client only */
    struct ladder ladder;
    struct keepalive keepalive[PATH_KIND_COUNT + 1];
    struct paths net;
    struct {
        uint32_t id;
        uint8_t sock;
        struct addr remote;
    } paths[AGENT_PATHS];
    uint32_t next_path_id;
    bool relay_up;
    uint64_t relay_at_us, relay_start_us, punch_start_us;
    uint64_t relay_asked_us, relay_selected_us, direct_selected_us; /* first times */
    uint64_t active_until_us, data_at_us;
    unsigned long data_sent, data_answered, pings;
    unsigned selects;
    /* the checker's books */
    struct tally tallies[AGENT_TALLIES];
    unsigned tally_count;
    struct {
        uint64_t id;
        unsigned tally, sock;
    } asked[PUNCH_TRANSACTIONS];
    uint64_t words_us; /* when its words were looked at last */
    uint32_t heard_generation;
    bool heard[AGENT_HEARD]; /* request counts of that generation that arrived */
    bool proven[PUNCH_MAX_PAIRS];
    unsigned resets, punch_packets;
    int peer_node[2];
    uint64_t doubt_until_us; /* the network was broken on purpose: no proof checks */
};

void agent_init(struct agent *a, struct world *w, const struct agent_link *link,
                bool client, uint64_t seed);
/* Gives it an address; `port` is its socket's. */
void agent_attach(struct agent *a, unsigned sock, int node, uint16_t port);
/* Client: the user wants the host, now. */
void agent_begin(struct agent *a, uint32_t allowed_mask);
void agent_on_offer(struct agent *a, const struct offer *o);
void agent_on_packet(struct agent *a, int node, const struct world_packet *p);
void agent_on_relayed(struct agent *a, const uint8_t *buf, size_t len);
void agent_on_relay_lost(struct agent *a);
/* Its sockets have new addresses (agent_attach was called again before). */
void agent_on_moved(struct agent *a);
/* The application sends and receives until then. */
void agent_set_active(struct agent *a, uint64_t until_us);
/* Does all that is due now, and checks the invariants. */
void agent_turn(struct agent *a);
uint64_t agent_deadline_us(const struct agent *a);
bool agent_knows(const struct agent *a, unsigned sock, const struct addr *from);

#endif
