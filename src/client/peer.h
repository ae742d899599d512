/*
 * A peer: one host as a client sees it. Keeps a session to it over the best path,
 * comes back by itself, and says in words what stands in the way.
 */
#ifndef POSTERN_CLIENT_PEER_H
#define POSTERN_CLIENT_PEER_H

#include <stdbool.h>

#include "client/book.h"
#include "core/kinds.h"
#include "core/ladder.h"
#include "session/endpoint.h"
#include "session/pump.h"

struct peer;

/* What is known of this host from this network. */
struct peer_memory {
    enum path_kind kind;   /* worked last; PATH_KIND_NONE: not known */
    uint64_t keepalive_us; /* 0: not known */
};

struct peer_events {
    /* Fill `m` for the network that we are in now; and keep it. */
    void (*on_recall)(void *ctx, struct peer *p, struct peer_memory *m);
    void (*on_learned)(void *ctx, struct peer *p, const struct peer_memory *m);
    /* The session is open (again); streams can be opened. */
    void (*on_ready)(void *ctx, struct peer *p);
    /* Packets take another path now; `elapsed_us` since the attempt began. */
    void (*on_path)(void *ctx, struct peer *p, const struct path *path,
                    uint64_t elapsed_us);
    /* A kind was tried, or ruled out, and is not in use. */
    void (*on_rejected)(void *ctx, struct peer *p, enum path_kind kind,
                        const char *reason);
    /* It goes over the relay, since no direct kind has come through, of which this
     * one's reason tells most. Once an attempt. */
    void (*on_relayed)(void *ctx, struct peer *p, enum path_kind kind,
                       const char *reason);
    /* What this device may use; `m` is borrowed. */
    void (*on_services)(void *ctx, struct peer *p, const Services *m);
    void (*on_pong)(void *ctx, struct peer *p, uint64_t nonce);
    /* The host has a new key, proven by the old one. */
    void (*on_rotated)(void *ctx, struct peer *p,
                       const uint8_t new_key[static KEY_LEN]);
    /* Joining: the host's key followed this one, which has proven it. */
    void (*on_earlier)(void *ctx, struct peer *p,
                       const uint8_t old_key[static KEY_LEN]);
    /* The host has taken note of our new key. */
    void (*on_own_rotated)(void *ctx, struct peer *p,
                           const uint8_t new_key[static KEY_LEN]);
    /*
     * No session now, and why. It goes on trying by itself; `fatal` when that cannot
     * help until something is changed (not invited, revoked, wrong key).
     */
    void (*on_fault)(void *ctx, struct peer *p, const struct fault *f, bool fatal);
    /* The session goes on after an on_fault that said that nothing comes through. */
    void (*on_heard)(void *ctx, struct peer *p, unsigned silent_s);
    /* The session lives, which was not sure when peer_call was asked of late. */
    void (*on_sure)(void *ctx, struct peer *p);
};

struct peer_config {
    struct endpoint *endpoint;    /* borrowed */
    char name[BOOK_NAME_LEN];     /* for people */
    const struct statedir *state; /* borrowed; NULL: says nothing of live programs */
    uint8_t key[KEY_LEN];
    uint32_t paths;         /* mask of enum path_kind */
    unsigned jit_window_ms; /* 0: the default */
    bool visiting;          /* the portal's: asks for no list, shows a Visit each */
    bool joining;           /* prove `secret` first */
    uint8_t secret[LINK_SECRET_LEN];
    char own_name[64]; /* what a joiner calls itself */
    const struct keypair
        *rotated; /* announce this key to the host; or NULL; borrowed */
    const struct peer_events *events; /* borrowed; each may be NULL */
    void *ctx;
};

MUST_CHECK int peer_open(struct peer **out, const struct peer_config *c);
/* Ends the session and its streams. Not inside its own events. NULL is fine. */
void peer_close(struct peer *p);

/* The endpoint's uplink reports here; control messages of this peer's conv too. */
void peer_on_uplink(struct peer *p, bool up);
bool peer_owns(const struct peer *p, const Control *m);
void peer_on_control(struct peer *p, const Control *m);
void peer_on_network_change(struct peer *p);

/* Why the broker cannot be reached; NULL while it can. `fatal` as of uplink_fault. */
const struct fault *peer_broker_fault(const struct peer *p, bool *fatal);
/*
 * Somebody waits: a pause before the broker or the host is tried again is cut short,
 * to a second; but not that for a host which its broker misses, and will announce.
 */
void peer_hurry(struct peer *p);
/* Its broker is there: before that no kind can have been tried. */
bool peer_has_broker(const struct peer *p);
bool peer_is_ready(const struct peer *p);
/* The host has said something in this try, by itself or through its broker. */
bool peer_is_answered(const struct peer *p);
/* Why no session stands, as it was told last; NULL while one does, or is awaited. */
const struct fault *peer_why_none(const struct peer *p);
/* The same, also where one stands from which nothing comes any more. */
const struct fault *peer_why_away(const struct peer *p);
/* In on_fault: the same was told before, and no session has stood since. */
bool peer_fault_repeats(const struct peer *p);
/* The broker said so, when it was last asked for. */
bool peer_is_offline(const struct peer *p);
/* It had hardly time to come back: its broker has just begun anew, or is there for us
 * only since `within_us`. */
bool peer_may_return(const struct peer *p, uint64_t within_us);
/* It has a session, from which nothing has come on any path for some seconds. */
bool peer_is_silent(const struct peer *p);
const char *peer_name(const struct peer *p);
/* The newest that is known of the host. */
const uint8_t *peer_key(const struct peer *p);
/* Ours, by which this host knows us. */
const uint8_t *peer_own_key(const struct peer *p);
/*
 * Between two tries: the next, at once, is by another key of this device, whose
 * endpoint that is. `rotated` as in the configuration.
 */
void peer_come_as(struct peer *p, struct endpoint *endpoint,
                  const struct keypair *rotated);
/* This device has that newer key (borrowed): the host is told, now if a session stands.
 */
void peer_rotated(struct peer *p, const struct keypair *newest);
/* It goes by that, or what it had by it is not taken down yet. */
bool peer_holds(const struct peer *p, const struct endpoint *endpoint);
/* What kept it from the host is mended: it begins anew at once, unless it stands. */
void peer_again(struct peer *p);
/* The host has this key now. A session that stands goes on; the next asks for it. */
void peer_rekey(struct peer *p, const uint8_t key[static KEY_LEN]);
struct session *peer_session(const struct peer *p); /* NULL when there is none */
const struct path *peer_path(const struct peer *p);
/* How long the path in use took to be chosen, as on_path said; false: it did not. */
bool peer_path_elapsed(const struct peer *p, uint64_t *us);
const Services *peer_services(const struct peer *p); /* NULL before they came */
/* Words for why `k` is not in use. */
const char *peer_reason(const struct peer *p, enum path_kind k,
                        char buf[static LADDER_REASON_LEN]);
/* The same where nothing will be tried any more. */
const char *peer_closing_reason(const struct peer *p, enum path_kind k,
                                char buf[static LADDER_REASON_LEN]);
/*
 * Over the relay: the one reason in `buf` why not directly, and the kind whose it is;
 * NONE where the path is direct, there is none, or nothing is known yet.
 */
enum path_kind peer_why_relayed(const struct peer *p,
                                char buf[static LADDER_REASON_LEN]);
bool peer_told_relayed(const struct peer *p); /* on_relayed has, and it is so still */
/* Why the path in use is preferred to one that carries less; else empty. */
const char *peer_preference(const struct peer *p, char buf[static LADDER_REASON_LEN]);
/* This kind's latest try has ended, or it was ruled out. */
/* A person has not read just that of this kind: it counts as told from now on. */
bool peer_is_news(struct peer *p, enum path_kind k, const char *reason);
bool peer_kind_ended(const struct peer *p, enum path_kind k);
/* Before there is a session: what it waits for, in words; the broker's answer first. */
const char *peer_why_waiting(const struct peer *p, char buf[static LADDER_REASON_LEN]);
/* Fills `f` where each kind that is allowed came to nothing; else leaves it, and false.
 */
bool peer_explain(const struct peer *p, struct fault *f);
/* Round trip now: POSTERN_ERR_CLOSED when there is no session. */
MUST_CHECK int peer_ping(struct peer *p, uint64_t nonce);

/*
 * Opens a stream as `open` asks (a service's name or port); the pump's on_header gets
 * the encoded StreamReply. POSTERN_ERR_CLOSED when there is no session now, or one
 * whose host may have ended.
 */
MUST_CHECK int peer_call(struct peer *p, struct pump **out, const StreamOpen *open,
                         const struct pump_events *events, void *ctx);

#endif
