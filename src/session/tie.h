/*
 * A tie: the approach to one device and the session that its paths carry, as one thing,
 * from the introduction to the end. What the approach finds the session gets, and what
 * the session learns of a path the approach is told. Client and host have one for each
 * try; what they make of its troubles is theirs.
 */
#ifndef POSTERN_SESSION_TIE_H
#define POSTERN_SESSION_TIE_H

#include "path/approach.h"
#include "session/endpoint.h"

struct tie;

/* Its owner may not free it in any of these. */
struct tie_events {
    /* Host, in the handshake: may the holder of this proven key come in? */
    bool (*authorize)(void *ctx, const uint8_t peer[static KEY_LEN]);
    /* The session is open; streams may be opened. */
    void (*on_open)(void *ctx);
    void (*on_meta)(void *ctx, const Meta *m);
    /* The session ended, and says why. */
    void (*on_close)(void *ctx, int err, const char *why);
    /* As of struct approach_events. */
    void (*on_refused)(void *ctx, unsigned code, const char *reason);
    /* All below may be NULL. */
    /* As of struct session_events; NULL: streams of the peer's are reset. */
    void (*on_stream)(void *ctx, struct stream *st);
    /* Packets travel on `p` now. */
    void (*on_used)(void *ctx, struct path *p);
    /* A probe was answered on `p`. */
    void (*on_answered)(void *ctx, struct path *p);
    /* Client: the session is about to be led to `p`. */
    void (*on_select)(void *ctx, struct path *p);
    /* The other end of a path over TCP was closed in order. */
    void (*on_path_ended)(void *ctx);
    /* The peer knows no session of this approach: begin anew. */
    void (*on_forgotten)(void *ctx);
};

struct tie_config {
    struct endpoint *endpoint; /* borrowed */
    /* net, uplink, client, events and ctx of it are the tie's to fill. */
    struct approach_config approach;
    const struct tie_events *events; /* borrowed */
    void *ctx;
};

MUST_CHECK int tie_new_client(struct tie **out, const struct tie_config *c);
/* As approach_new_host. */
MUST_CHECK int tie_new_host(struct tie **out, const struct tie_config *c,
                            const Offer *offer, const Introduce *in);
/* Tells the peer, where there is a session, and nothing more to its owner. */
void tie_close(struct tie *t, uint64_t code, const char *reason);
/* Says nothing to the peer: tie_close does. NULL is fine. */
void tie_free(struct tie *t);
/*
 * The owner will try anew in a while and begins nothing more with this one. What is
 * under way may open yet, which on_open tells; not if it was open, nor where it is
 * given up for good.
 */
void tie_give_up(struct tie *t, bool for_good);

/* How its packets went last, when the session is over too. */
struct tie_way {
    enum path_kind kind; /* PATH_KIND_NONE: they never did */
    struct addr remote;
};
const struct tie_way *tie_way(const struct tie *t);
struct approach *tie_approach(const struct tie *t);
struct session *tie_session(const struct tie *t);      /* NULL: none yet */
struct session *tie_open_session(const struct tie *t); /* NULL: it is not open */
/* Neither given up nor closed. */
bool tie_is_on(const struct tie *t);
/* on_open was told, and it is on still. */
bool tie_is_open(const struct tie *t);
/* It may open no more. */
bool tie_is_over(const struct tie *t);
/* The path in use; NULL: none is, or it is not open. */
struct path *tie_path(const struct tie *t);
/* Client: when a packet of the host last arrived; 0: none has. */
uint64_t tie_heard_us(const struct tie *t);

/* The endpoint's uplink reports here. */
void tie_on_uplink(struct tie *t, bool up);
void tie_on_network_change(struct tie *t);

#endif
