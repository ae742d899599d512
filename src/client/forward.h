/*
 * A forward: a local address and port, TCP or UDP, whose connections go to a service
 * of a host.
 */
#ifndef POSTERN_CLIENT_FORWARD_H
#define POSTERN_CLIENT_FORWARD_H

#include "client/call.h"
#include "io/loop.h"

enum {
    FORWARD_FILES_KEPT = 8, /* connections leave so many to the session */
    FORWARD_PATIENCE_MS = 5000,
};

struct forward;

struct forward_config {
    struct loop *loop;
    struct calls *calls;          /* borrowed */
    struct peer *peer;            /* borrowed; NULL: share the daemon's session */
    const char *host;             /* borrowed; for people and for the daemon */
    const struct statedir *state; /* borrowed; of the daemon */
    struct share_list *shares;    /* borrowed, with it */
    /* No daemon takes connections any more: gives a peer to go on with, or NULL. */
    struct peer *(*on_unshared)(void *ctx);
    /* A connection waits for the host, and why; may be NULL. */
    void (*on_wait)(void *ctx, const char *why);
    void *ctx;
    const char *service; /* copied */
    bool udp;
    struct addr local;  /* port 0: the kernel picks one */
    const char *path;   /* borrowed; a socket that is a file instead, or NULL */
    int fd;             /* one that listens instead, taken over; 0: none */
    struct events *out; /* borrowed; refusals are told there */
};

/*
 * Listens. POSTERN_ERR_INUSE or _PERM with `f` filled when the address cannot be had.
 */
MUST_CHECK int forward_open(struct forward **out, const struct forward_config *c,
                            struct fault *f);
/* Connections that stand go on. NULL is fine. */
void forward_close(struct forward *fw);
void forward_local(const struct forward *fw, struct addr *a);

/*
 * A listener that other machines reach is warned of, once it listens: no one is asked
 * who he is there. `what`, with its verb, is what they may use.
 */
void forward_warn_open(const struct addr *at, const char *what);

/* The event that tells a refused or failed connection; `code` is a stream's. */
void forward_refused_event(struct event *e, const char *peer, const char *service,
                           unsigned code, const char *reason);

#endif
