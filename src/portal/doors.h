/* What doors.c and doors_udp.c share. */
#ifndef POSTERN_PORTAL_DOORS_H
#define POSTERN_PORTAL_DOORS_H

#include "client/early.h"
#include "io/acceptor.h"
#include "io/loop.h"
#include "portal/internal.h"

/* A listener, or a UDP socket, on a port that somebody chose. */
struct door {
    struct door *next, **at;
    struct portal *portal;
    struct acceptor *acceptor; /* TCP */
    struct watch watch;
    int fd;
    struct addr bound;
    struct gate *gate; /* holds SYNs until the host's server has accepted; or NULL */
    uint16_t port;
    bool udp;
    bool ungated; /* for want of a helper; doors_sweep looks for one */
};

/* One connection or flow: an entry of the table with its call. */
struct visit {
    struct visit *next, **at;
    struct portal *portal;
    uint64_t entry; /* in the table, unless it was ended there */
    struct call *call;
    struct addr from;
    char account[64], object[128];
    bool open;
    struct gate *gate; /* its SYN waits there as `syn`; NULL: it has been decided */
    uint64_t syn;
    bool awaited; /* the host's server has accepted, the client's socket is to come */
    uint64_t began_ms;
    struct pump_stats stats;
    /* A flow's: */
    struct addr local;  /* where the client sends to */
    struct early early; /* until the host has answered */
};

struct visit *visit_new(struct portal *p, const struct route_entry *e,
                        const struct addr *from);
/* Starts the call; takes cc->fd. After a failure call visit_on_end. */
MUST_CHECK int visit_call(struct visit *v, const struct call_config *cc);
void visit_on_answer(void *ctx, struct call *c, unsigned code, const char *reason);
/* Frees `v`. */
void visit_on_end(void *ctx, struct call *c);

void door_on_datagrams(void *ctx, int events);

#endif
