/*
 * Two devices meet by TCP: each takes a local port, learns where the outside sees it,
 * tells the other, and at about the same time one side opens its own NATs and firewalls
 * towards the other (a SYN that dies on the way, or a listener, or both) while the
 * other connects. tcp-punch, jit-listen and jit-listen-client are plans of this.
 *
 * What an address can be made to suffer: at most MEET_SYNS_MAX connection attempts in
 * one round, of at most MEET_PEERS_MAX addresses that the peer named. When the ports of
 * a symmetric NAT are predicted, one SYN to each of 424 ports of one address in each of
 * three steps, which by their TTL die on the way to it; where both sides' NATs are
 * symmetric, two to each of the 424 ports, which the kernel repeats once. All within
 * core/budget.h.
 */
#ifndef POSTERN_PATH_MEET_H
#define POSTERN_PATH_MEET_H

#include "path/kind.h"

enum {
    MEET_PEERS_MAX = 6,
    MEET_STEPS_MAX = 6,
    MEET_SYNS_MAX = 12,
    MEET_WINDOW_MS = 900, /* a listener's life */
    MEET_HOPS_ARRANGED = 255,
    MEET_HOPS_ARRANGED_BACK = 254, /* the same with the sides exchanged */
};

struct meet_plan {
    enum path_kind kind;
    bool host_opens; /* else the client does, and the host connects */
    bool listens;    /* the opener listens for MEET_WINDOW_MS, in one step */
    unsigned steps;
    unsigned hops[MEET_STEPS_MAX]; /* of the opener's SYN in each step; 0: all the way;
                                      MEET_HOPS_ARRANGED: see meet_arranged.c */
    unsigned step_ms; /* at least; of plans with several steps longer on long ways */
    bool predicts;    /* the ports of a symmetric NAT on one side */
    bool knocks;      /* see meet_knock.c */
    bool maps;        /* the host asks its router for the port, and tells that alone */
    bool lasts;       /* the listener stays for the whole step, whoever touches it */
};

/* The operations of kinds; `plan` is a struct meet_plan. */
void *meet_new(struct approach *a, const void *plan);
void meet_free(void *k);
void meet_start(void *k);
void meet_stop(void *k);
void meet_fill_offer(void *k, Offer *o);
void meet_on_offer(void *k, const Offer *o, bool renewed);
void meet_on_uplink(void *k, bool up);
void meet_on_dead(void *k, struct path *p);

#define MEET_KIND(the_plan)                                                            \
    {                                                                                  \
        .plan = &(the_plan), .new = meet_new, .free = meet_free, .start = meet_start,  \
        .stop = meet_stop, .fill_offer = meet_fill_offer, .on_offer = meet_on_offer,   \
        .on_uplink = meet_on_uplink, .on_dead = meet_on_dead                           \
    }

#endif
