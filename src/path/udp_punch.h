/*
 * The state of udp-punch, for the two files that make it: udp_punch.c the checks,
 * udp_predict.c what is done about symmetric NATs.
 */
#ifndef POSTERN_PATH_UDP_PUNCH_H
#define POSTERN_PATH_UDP_PUNCH_H

#include "core/punch.h"
#include "io/loop.h"
#include "path/kind.h"
#include "path/predict.h"
#include "path/reflexive.h"

/* Two of our own, IPv4 and IPv6; the others are mappings that prediction found. */
enum { UDP_PUNCH_SOCKETS = PUNCH_MAX_SOCKETS, UDP_PUNCH_PATHS_MAX = 8 };

struct udp_punch;

struct udp_path {
    struct path base; /* first */
    struct udp_punch *owner;
    unsigned sock;
};

struct udp_punch {
    struct approach *approach;
    struct punch punch;
    struct udp *sockets[UDP_PUNCH_SOCKETS];
    struct addr locals[UDP_PUNCH_SOCKETS]; /* bound: the port of host candidates */
    struct udp_path *paths[UDP_PUNCH_PATHS_MAX];
    struct path *used; /* what the session uses, ours or another's */
    struct reflexive reflexive;
    Offer peer; /* the newest Offer, for a new round */
    bool has_peer, running, reported;
    bool peer_is_old; /* no Offer came since this round began: its ports may be gone */
    uint32_t generation; /* of the round before */
    struct predict *predict;
    bool predicted; /* it was begun in this round, or cannot be */
    bool low_known, low_ports;
    bool predicted_low;   /* with ports of ours below 1024 */
    bool low_failed;      /* so it was in the round before: without them in the next */
    char predict_why[96]; /* why prediction was not tried though it was needed */
    struct timer timer;
    bool busy, freed;
};

extern const struct udp_events udp_punch_events;

/* Sends what is due, reports, and sets the next wake-up. */
void udp_punch_pump(struct udp_punch *u);

/* Begins to predict when both sides' NATs call for it and nothing is proven. */
void udp_predict(struct udp_punch *u);
void udp_predict_end(struct udp_punch *u);
/* This side's NAT is symmetric, and low ports may be bound. */
bool udp_predict_low_ports(struct udp_punch *u);

#endif
