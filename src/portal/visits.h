/*
 * Visits: each connection or flow of a visitor that came by port, with its entry in the
 * table (core/routes.h) and its call to the host.
 */
#ifndef POSTERN_PORTAL_VISITS_H
#define POSTERN_PORTAL_VISITS_H

#include "client/early.h"
#include "core/repeat.h"
#include "portal/hosts.h"

struct gate;
struct udp_door;

/* Of a portal; the memory is doors.c's. */
struct visits {
    const struct rooms *rooms;
    struct routes *routes;
    struct list all;        /* struct visit */
    struct minute unproven; /* of their lines in the log */
};

struct visit {
    struct list link;
    struct visits *of;
    uint64_t entry; /* in the table, unless it was ended there */
    struct call *call;
    struct addr from;
    char account[64], object[128];
    bool open;
    bool proven;       /* the visitor is where he says, as far as anybody can tell */
    bool told;         /* in the log, that it was opened */
    struct gate *gate; /* its SYN waits there as `syn`; NULL: it has been decided */
    uint64_t syn;
    bool awaited; /* the host's server has accepted, the client's socket is to come */
    uint64_t began_ms;
    struct pump_stats stats;
    /* A flow's: */
    struct udp_door *door; /* NULL: it is closed */
    struct addr local;     /* where the client sends to */
    bool answered;         /* the client was sent something */
    struct early early;    /* until the host has answered */
};

/*
 * For what came from `from` to the local port: an entry with its visit. `proven`, and
 * what comes when it may not come in: routes_open. Why is logged.
 */
MUST_CHECK int visit_new(struct visit **out, struct visits *vs, const struct addr *from,
                         uint16_t port, bool udp, bool proven);
/* The one that is under way already, or NULL. */
struct visit *visit_find(const struct visits *vs, const struct addr *from,
                         uint16_t port, bool udp);
/*
 * Starts the call; takes c->fd. When that fails it has called c->on_end, without a
 * call, and `v` is gone.
 */
void visit_call(struct visit *v, const struct call_config *c);
void visit_on_answer(void *ctx, struct call *c, unsigned code, const char *reason);
/* Frees `v`. */
void visit_on_end(void *ctx, struct call *c);
/* As routes_prove: the visitor is where he says. */
int visit_prove(struct visit *v);
/* Something passed. */
void visit_touch(struct visit *v);
/* What moved nothing for so long ends; as does who was let in and did not come. */
void visits_sweep(struct visits *vs, uint64_t idle_ms);

#endif
