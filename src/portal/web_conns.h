/*
 * The connections to the portal's pages: from whom they are, since when each owes a
 * whole request, and what it has proven. libmicrohttpd carries them; here it is decided
 * who goes when places or time run out.
 */
#ifndef POSTERN_PORTAL_WEB_CONNS_H
#define POSTERN_PORTAL_WEB_CONNS_H

#include <microhttpd.h>

#include "core/list.h"
#include "core/addr.h"

enum {
    WEB_CONNS_MAX = 2048,
    WEB_CONNS_ADDRESS_MAX = 64, /* and by blocks of addresses: crowd.h */
    WEB_UNPROVEN_MAX = 256,     /* without a request yet: 100 KB each */
    WEB_REQUEST_MS = 60 * 1000, /* from a connection's start, or its last answer */
};

/* All zero and web_conns_init is a table without connections. The caller sets on_end.
 */
struct web_conns {
    struct list all; /* struct web_conn, by start */
    unsigned count;
    unsigned
        max; /* at most WEB_CONNS_MAX: what the process's descriptors suffice for */
    /* What carries libmicrohttpd's descriptor `fd` is to end with it; or NULL. */
    void (*on_end)(void *ctx, int fd);
    /* Somebody is logged in there: counts as if a request had come already. */
    bool (*is_known)(void *ctx, const struct addr *from);
    void *ctx;
    uint64_t now_ms; /* the caller keeps it */
};

void web_conns_init(struct web_conns *c);
/*
 * One more comes from `from`: where its address, a block around it, or the table is
 * full the connection that proved least among those goes, and of these the oldest. Of
 * those without a request the oldest goes whose address has most of them. It ends in
 * libmicrohttpd's next turn.
 */
void web_conns_make_room(struct web_conns *c, const struct addr *from);
/* For MHD_OPTION_NOTIFY_CONNECTION, with the struct web_conns. */
void web_conns_notify(void *conns, struct MHD_Connection *http, void **of_connection,
                      enum MHD_ConnectionNotificationCode what);
/* A request was answered; somebody who is logged in sent it, or not. */
void web_conns_answered(struct web_conns *c, struct MHD_Connection *http,
                        bool logged_in);
/* Ends those that owe a request for too long, bytes or not. */
void web_conns_sweep(struct web_conns *c);
/* How many have not sent a request yet. */
unsigned web_conns_unproven(const struct web_conns *c);

#endif
