/*
 * A small internet for tests: a broker's machine with two public addresses, and two
 * homes, each a router with a NAT and a device behind it; a second access to the
 * internet for who roams.
 */
#ifndef POSTERN_SIM_TOWN_H
#define POSTERN_SIM_TOWN_H

#include "house.h"

struct town_home {
    struct vnet_node *router;
    struct vnet_iface *outer, *device;
    struct vnet_segment *lan;
    struct machine *machine;
};

struct town {
    struct house *house;
    struct vnet_segment *internet;
    struct machine *broker; /* 203.0.113.10 and .11, "meet.example" */
    struct town_home host, client;
    struct town_home cafe; /* no machine of its own */
};

struct town *town_new(uint64_t seed, const struct nat_config *host_nat,
                      const struct nat_config *client_nat,
                      const struct vnet_wire *wire);
void town_free(struct town *t);
/* The client's device leaves its home for the cafe: another address, another NAT. */
void town_roam(struct town *t);
/* A restart of that router. */
void town_flush(struct town_home *h);

#endif
