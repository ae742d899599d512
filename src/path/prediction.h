/*
 * Prediction on real sockets: opens mappings and sweeps ports as core/predict planned,
 * within a rate. Makes no packet and reads none: udp_punch does.
 *
 * What an address can be made to suffer: at most PREDICT_PACKETS_MAX packets of 30
 * bytes in one round to one address that the broker vouches for, and over all of the
 * process what core/budget.h allows: at most PREDICT_RATE a second.
 */
#ifndef POSTERN_PATH_PREDICTION_H
#define POSTERN_PATH_PREDICTION_H

#include "core/predict.h"
#include "core/stun.h"
#include "io/udp.h"
#include "path/net.h"

enum { PREDICT_PACKETS_MAX = 2560, PREDICT_RATE = 4000, PREDICT_TARGETS_MAX = 3 };

struct predict;

struct predict_events {
    /* Makes one check request; returns its length. */
    size_t (*make)(void *ctx, uint8_t *buf);
    /* One packet may go there now; it counts. */
    bool (*may)(void *ctx, const struct addr *to);
    /* The same of the STUN server that the canary goes to. */
    bool (*may_ask)(void *ctx, const struct addr *server);
    /* Nobody waits for a connection to the broker: a wave of new mappings may go. */
    bool (*is_clear)(void *ctx);
    /* Sends one from the known socket. */
    void (*send)(void *ctx, const struct addr *to, const uint8_t *buf, size_t len);
    /* Something arrived on one of the sockets; predict_release takes it over. */
    void (*arrived)(void *ctx, struct udp *s, const struct addr *from,
                    const uint8_t *buf, size_t len);
};

/*
 * `targets`: the peer's reflexive addresses, IPv4; the sweep goes to the first one's
 * IP. It begins after `delay_ms` (the sweep a little later) and ends by itself.
 */
struct predict_terms {
    struct addr targets[PREDICT_TARGETS_MAX];
    size_t target_count;
    struct addr stun;             /* that answered the known socket, `rtt_ms` away */
    uint8_t proof[STUN_MARK_LEN]; /* uplink_proof */
    unsigned delay_ms, rtt_ms;
    struct opener opener; /* its budget is the net's */
};

/*
 * New sessions of our NAT's are opened as the process may (core/sessions.h), in waves
 * with a canary after each (core/waves.h). While it opens some, net's `predictions`
 * counts it.
 */
MUST_CHECK int predict_start(struct predict **out, struct net *net,
                             const struct predict_plan *plan,
                             const struct predict_terms *terms,
                             const struct predict_events *events, void *ctx);
/* True: this STUN message at the known socket was of the canary's. NULL is fine. */
bool predict_on_stun(struct predict *p, const uint8_t *buf, size_t len);
/* The socket is the caller's now. */
void predict_release(struct predict *p, struct udp *s);
/* Closes the sockets. Fine inside events. NULL is fine. */
void predict_stop(struct predict *p);
/* All was sent, and the time for answers is over. */
bool predict_is_over(const struct predict *p);
/* It ended early, since our NAT takes no more sessions. */
bool predict_is_full(const struct predict *p);
/* It ended early, since the network cut this device off. */
bool predict_was_cut(const struct predict *p);
/* It ended early, since no more may go to that address now. */
bool predict_is_refused(const struct predict *p);
/* A socket, with a low port where this process may bind one; NULL: there is none. */
struct udp *predict_open_sample(struct net *net, const struct udp_events *events,
                                void *ctx);

#endif
