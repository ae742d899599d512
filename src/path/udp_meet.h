/*
 * Two devices meet by UDP in a round: each side prepares, tells its addresses, and
 * checks (core/punch_wire.h) until one is answered. udp-knock, spoof and mapped are
 * plans of this; what they differ in stands in struct udp_meet_plan.
 *
 * What an address can be made to suffer: at most UDP_MEET_TURNS packets of at most 49
 * bytes in one round, of at most UDP_MEET_PEERS_MAX addresses that the peer named; and
 * answers to packets that carry the approach's MAC; all within core/budget.h.
 */
#ifndef POSTERN_PATH_UDP_MEET_H
#define POSTERN_PATH_UDP_MEET_H

#include "core/privilege.h"
#include "io/loop.h"
#include "io/udp.h"
#include "path/kind.h"
#include "io/portmap.h"
#include "path/reflexive.h"

enum {
    UDP_MEET_PEERS_MAX = 6,
    UDP_MEET_TURNS = 20,
    UDP_MEET_TURN_MS = 100,
    UDP_MEET_WAYS_MAX = 3,
    UDP_MEET_SOCKETS = REFLEXIVE_SOCKETS, /* 0 IPv4, 1 IPv6 */
};

struct udp_meet;

struct udp_meet_address {
    struct addr addr;
    bool shown; /* not to be checked: it only shows where we are */
};

struct udp_meet_plan {
    enum path_kind kind;
    bool host_waits; /* the host opens no socket by itself, and asks nobody where it is
                      */
    /* Before our addresses are told: true, or udp_meet_refuse was called; a plan that
     * needs time calls udp_meet_ready later and leaves `u->preparing` set. */
    bool (*prepare)(struct udp_meet *u);
    size_t (*addresses)(struct udp_meet *u,
                        struct udp_meet_address out[static UDP_MEET_PEERS_MAX]);
    /* One turn of the meeting; NULL: udp_meet_check for each peer. */
    void (*turn)(struct udp_meet *u);
    /* Everything of the plan's own is to go; NULL when there is nothing. */
    void (*end)(struct udp_meet *u);
    /* The client got no address to check; NULL: then it fails. `why`: the host's words.
     */
    void (*alone)(struct udp_meet *u, const char *why);
    bool from_broker; /* packets arrive from, and leave with, the broker's address */
};

enum udp_meet_phase {
    UDP_MEET_IDLE,
    UDP_MEET_GATHERING,
    UDP_MEET_WAITING, /* for the other side's addresses */
    UDP_MEET_MEETING,
};

struct udp_way {
    struct path base; /* first */
    struct udp_meet *owner;
    unsigned sock;
    struct addr from; /* of its packets: the remote's, or the broker's */
};

struct udp_meet {
    struct approach *approach;
    const struct udp_meet_plan *plan;
    enum udp_meet_phase phase;
    uint32_t round, peer_round;
    struct udp *sockets[UDP_MEET_SOCKETS];
    struct udp *senders[UDP_MEET_SOCKETS]; /* from_broker: what leaves goes here */
    struct reflexive reflexive;
    bool gathered, preparing;
    struct addr peers[UDP_MEET_PEERS_MAX]; /* to check */
    size_t peer_count;
    struct addr peer_seen; /* where the broker sees the other side, IPv4 */
    struct udp_way *ways[UDP_MEET_WAYS_MAX];
    uint64_t check_base, sent_us[UDP_MEET_TURNS];
    unsigned turn;
    bool proven;
    uint8_t knock_id[PRIVILEGE_KNOCK_ID_LEN]; /* ours at the host, else the host's */
    uint32_t knock;                           /* the helper's number of it, or 0 */
    uint16_t knock_port;
    struct portmap *portmap;
    struct addr mapped;
    char refused[160];
    struct timer timer;
    bool waits_for_uplink;
    bool busy, freed;
};

static inline const struct approach_config *udp_meet_config(const struct udp_meet *u)
{
    return approach_config_of(u->approach);
}

/* Asks where we are, and tells the other side. */
void udp_meet_begin_round(struct udp_meet *u);
/* Begins, if both sides know each other's addresses. */
void udp_meet_begin(struct udp_meet *u);
bool udp_meet_has_way(const struct udp_meet *u);
/* This side is a host that opens no socket before it is knocked at. */
bool udp_meet_waits(const struct udp_meet *u);
/* The plan's preparations are over. */
void udp_meet_ready(struct udp_meet *u);
/* Ends the round; the other side is told why. */
void udp_meet_refuse(struct udp_meet *u, const char *reason);
/* Begins to check, and to answer checks. */
void udp_meet_go(struct udp_meet *u);
/* The round came to nothing. */
void udp_meet_fail(struct udp_meet *u, const char *reason);
/* Opens our socket of that family, if it is not. */
bool udp_meet_open(struct udp_meet *u, unsigned sock, const struct addr *at);
/* What leaves goes by this socket from now on, which is taken over on success. */
MUST_CHECK int udp_meet_adopt(struct udp_meet *u, unsigned sock, int fd);
/* Sends a check to that peer from now on in each turn, and now. */
void udp_meet_add_peer(struct udp_meet *u, const struct addr *a);
void udp_meet_check(struct udp_meet *u, const struct addr *to);

void *udp_meet_new(struct approach *a, const void *plan);
void udp_meet_free(void *k);
void udp_meet_start(void *k);
void udp_meet_stop(void *k);
void udp_meet_fill_offer(void *k, Offer *o);
void udp_meet_on_offer(void *k, const Offer *o, bool renewed);
void udp_meet_on_uplink(void *k, bool up);
void udp_meet_on_dead(void *k, struct path *p);

#define UDP_MEET_KIND(the_plan)                                                        \
    {                                                                                  \
        .plan = &(the_plan), .new = udp_meet_new, .free = udp_meet_free,               \
        .start = udp_meet_start, .stop = udp_meet_stop,                                \
        .fill_offer = udp_meet_fill_offer, .on_offer = udp_meet_on_offer,              \
        .on_uplink = udp_meet_on_uplink, .on_dead = udp_meet_on_dead                   \
    }

#endif
