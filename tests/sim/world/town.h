/*
 * A small internet for tests: a broker's machine with two public addresses; two homes,
 * each a router with a NAT and a device behind it; for each a second access to the
 * internet, for who roams; and machines of others.
 */
#ifndef POSTERN_SIM_TOWN_H
#define POSTERN_SIM_TOWN_H

#include "house.h"

struct town_config {
    uint64_t seed;
    const struct nat_config *host_nat, *client_nat;
    const struct vnet_wire *wire; /* of each home's access; NULL: 5 ms, nothing else */
    bool carrier; /* the client's homes stand behind a second NAT, their carrier's */
    bool six;     /* IPv6 everywhere, through firewalls that let answers in only */
};

struct town_home {
    unsigned number;
    struct vnet_node *router;
    struct vnet_iface *device;
    struct vnet_segment *lan;
    struct machine *machine;
};

struct town {
    struct house *house;
    bool six;
    struct vnet_segment *internet, *carrier_lan;
    struct vnet_node *carrier; /* its router; NULL: none */
    struct machine *broker;    /* 203.0.113.10 and .11, "meet.example" */
    struct machine *stranger;  /* 203.0.113.50 */
    struct machine *liar;      /* 203.0.113.60 */
    struct machine *visitor;   /* 203.0.113.70 */
    struct machine *intruder;  /* 203.0.113.80 */
    struct town_home host, client;
    struct town_home inn, cafe; /* no machines of their own */
};

struct town *town_new(const struct town_config *c);
void town_free(struct town *t);
/* The client's device leaves its home for the cafe: another address, another NAT. */
void town_roam(struct town *t);
/* It comes to the host's home: both are in one LAN. */
void town_visit(struct town *t);
/* The host's for the inn. */
void town_host_roams(struct town *t);
/* A restart of that router. */
void town_flush(struct town_home *h);

#endif
