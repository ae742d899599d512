/*
 * A network in memory under virtual time: address realms joined by NATs and firewalls,
 * an internet with delay, jitter, loss and doubled packets, and an eavesdropper who can
 * inject. Knows addresses and packets; knows nothing of what devices say or want.
 *
 *   public realm (one a family)
 *     |-- node (broker, victim, device without NAT)
 *     `-- gate (NAT or firewall) -- realm -- gate -- realm -- node
 */
#ifndef POSTERN_SIM_WORLD_H
#define POSTERN_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/proto.h"

enum {
    WORLD_REALMS = 12,
    WORLD_GATES = 10,
    WORLD_NODES = 40,
    WORLD_MAPPINGS = 512, /* of one gate */
    WORLD_PERMITS = 24,   /* of one mapping */
    WORLD_FLIGHTS = 4096,
    WORLD_PACKET_MAX = 64,
    REALM_PUBLIC4 = 0,
    REALM_PUBLIC6 = 1,
    NODE_NONE = -1,
};

struct world_packet {
    struct addr from, to;
    uint8_t buf[WORLD_PACKET_MAX];
    size_t len;
};

/* What a gate does (RFC 4787 sections 4 and 5). */
struct gate_config {
    bool translates; /* false: a stateful firewall */
    bool blocks;     /* no UDP at all */
    enum nat_mapping mapping;
    enum nat_filtering filtering;
    bool preserves_port, hairpins, inbound_refreshes;
    uint64_t timeout_us;
    struct addr ext; /* translates: the outer address */
};

struct gate_mapping {
    struct addr inner, dest; /* dest: zeroed in what the mapping does not depend on */
    uint16_t ext_port;
    uint64_t last_us;
    struct {
        struct addr remote;
        uint64_t last_us;
    } permits[WORLD_PERMITS];
    unsigned permit_count;
};

struct gate {
    struct gate_config c;
    int inner, outer;
    struct gate_mapping *mappings; /* WORLD_MAPPINGS of them */
    unsigned mapping_count;
};

struct node {
    int realm;
    struct addr ip;    /* port 0 */
    uint64_t delay_us; /* its share of the way, one way */
    void *owner;       /* for the caller */
};

struct flight {
    uint64_t at_us, order;
    int realm;
    struct world_packet p;
};

struct world {
    uint64_t now_us, rng, order;
    uint64_t jitter_us;
    unsigned loss_permille, double_permille;
    int realm_gate[WORLD_REALMS];
    unsigned realm_count, gate_count, node_count, flight_count;
    struct gate gates[WORLD_GATES];
    struct node nodes[WORLD_NODES];
    struct flight flights[WORLD_FLIGHTS]; /* a heap by time, then order */
    /* The eavesdropper: sees each packet in a public realm; may be NULL. */
    void (*on_seen)(void *ctx, const struct world_packet *p);
    /* A packet reached a node; NODE_NONE cannot happen. */
    void (*on_packet)(void *ctx, int node, const struct world_packet *p);
    void *ctx;
    unsigned long delivered, filtered, lost;
};

struct world *world_new(void);
void world_free(struct world *w);
/* Empties it for the next run. */
void world_reset(struct world *w, uint64_t seed);

/* A realm behind a new gate; its index. `outer` is a realm. */
int world_add_gate(struct world *w, int outer, const struct gate_config *c);
int world_add_node(struct world *w, int realm, const char *ip, uint64_t delay_us,
                   void *owner);
/* Forgets all that the gate of `realm` remembers, as after a restart of the router. */
void world_flush_gate(struct world *w, int realm);

/* Sends from a node; `p->from` must hold its address. */
void world_send(struct world *w, int node, const struct world_packet *p);
/* Injects in the public realm with any source. */
void world_inject(struct world *w, const struct world_packet *p);
/* The node that a packet would reach now, loss aside; changes nothing. */
int world_probe(const struct world *w, int node, const struct addr *from,
                const struct addr *to);

/* Delivers the next flight when it is due by `until_us`; moves the time to it. */
bool world_step(struct world *w, uint64_t until_us);
uint64_t world_next_us(const struct world *w);

#endif
