/*
 * An approach: everything that is done to reach one device, from the introduction
 * through the broker to the paths that work. The client's approach runs the ladder
 * and picks; the host's follows. Kinds plug in through the table in kinds.c.
 *
 * Offers (addresses, keys of checks) travel sealed to the other device's key: the
 * broker carries them and can neither read nor forge them.
 */
#ifndef POSTERN_PATH_APPROACH_H
#define POSTERN_PATH_APPROACH_H

#include <stdbool.h>

#include "core/ladder.h"
#include "core/pace.h"
#include "core/proto.h"
#include "path/path.h"
#include "path/uplink.h"

struct approach;

struct approach_events {
    /* A path works, at least one way; receive on it. */
    void (*on_path)(void *ctx, struct path *p);
    /* It has shown to work both ways, once more perhaps. */
    void (*on_proven)(void *ctx, struct path *p);
    /* The ladder picked `p` (client only); NULL when none is left. */
    void (*on_select)(void *ctx, struct path *p);
    /* `p` is gone when this returns. */
    void (*on_path_gone)(void *ctx, struct path *p);
    /* The broker or the peer refused; enum refuse_code. It may be tried again. */
    void (*on_refused)(void *ctx, unsigned code, const char *reason);
    /* The peer begins anew: its network may have changed, and the paths with it. */
    void (*on_renewed)(void *ctx);
    /* The peer knows no session of this approach (it was restarted): begin anew. */
    void (*on_forgotten)(void *ctx);
};

struct approach_config {
    struct net *net;
    struct uplink *uplink; /* borrowed */
    uint8_t peer[KEY_LEN];
    uint8_t conv[CONV_LEN];
    bool client;
    uint32_t allowed;       /* mask of enum path_kind */
    unsigned jit_window_ms; /* how long jit-listen may listen; 0: MEETING_WINDOW_MS */
    uint8_t invite_id[INVITE_ID_LEN];
    uint8_t invite_pass[INVITE_PASS_LEN];
    bool has_invite;
    bool brief;        /* client: it ends at once: no ports are tried where the relay is
                          there, on either side */
    bool unlisted;     /* host: the peer named an invite, and has proven nothing yet */
    struct pace *said; /* client: of all approaches to this peer; NULL: its own */
    enum path_kind preferred; /* worked from here before: starts at once; or NONE */
    const struct approach_events *events; /* borrowed */
    void *ctx;
};

/*
 * Client: begins at once, or when the uplink comes up. Host: `offer` is that
 * of the Introduce `in`, which was opened and accepted; it answers by itself. Of an
 * unlisted peer only the relay is served before approach_admit, where both allow it.
 */
MUST_CHECK int approach_new_client(struct approach **out,
                                   const struct approach_config *c);
MUST_CHECK int approach_new_host(struct approach **out, const struct approach_config *c,
                                 const Offer *offer, const Introduce *in);
/* Its session is over, and the peer has said so: its paths end as NATs forget soonest.
 */
void approach_settle(struct approach *a);
/* on_path_gone is called for each path first. Fine inside events. NULL is fine. */
void approach_free(struct approach *a);

/*
 * The path that a session may begin on before anything is proven: the relay's, or
 * NULL when the relay is not allowed.
 */
struct path *approach_first_path(struct approach *a);
/* All that exist, by `link`, the oldest first; and that of this id, or NULL. */
const struct list *approach_paths(const struct approach *a);
struct path *approach_path(const struct approach *a, uint32_t id);

/* ---- what the owner reports */
/* Host: the peer is no stranger any more; its direct paths may begin. */
void approach_admit(struct approach *a);
/* The session exists: from now on an unknown conv at the host means it was lost. */
void approach_set_established(struct approach *a);
/* Packets are going over `p` now. */
void approach_on_path_used(struct approach *a, struct path *p);
/* `p` swallows packets. */
void approach_on_path_dead(struct approach *a, struct path *p, const char *reason);
/* Nothing comes on it any more. True: it is kept, `silent`, and another made beside. */
bool approach_on_path_silent(struct approach *a, struct path *p);
/*
 * Client: what this kind has found may lead nowhere, and nobody can tell yet: it begins
 * another round beside it.
 */
void approach_again(struct approach *a, enum path_kind kind);
/* It was silent, and has answered. */
void approach_on_path_back(struct approach *a, struct path *p);
/* Client: its round trip was measured once more; p->rtt_us. Nothing at a host. */
void approach_on_path_rtt(struct approach *a, const struct path *p);
void approach_on_uplink(struct approach *a, bool up);
void approach_on_network_change(struct approach *a);
/*
 * Client: is the host still there, and does it know this session? Asked by an
 * introduction, which the broker refuses or the host answers (on_forgotten). Where the
 * relay is allowed nothing is asked: what becomes of the pair says as much.
 */
void approach_ask(struct approach *a);
/* Client: the host is heard again after a silence. */
void approach_on_heard(struct approach *a);
/* Client: verdicts of trials, as ladder_on_outdone and _on_cleared; that they hold no
 * more. */
void approach_on_outdone(struct approach *a, enum path_kind kind, uint64_t own_bit_s,
                         enum path_kind rival, uint64_t rival_bit_s);
void approach_on_cleared(struct approach *a, enum path_kind kind);
void approach_forgive(struct approach *a);
/* A message of this peer and conv arrived. */
void approach_on_control(struct approach *a, const Control *m);
/* Host: the packet that came with the Introduce that made it, if one did. */
void approach_on_early(struct approach *a, const Introduce *in);

/* ---- what people want to know */
/* The client's. */
const struct ladder *approach_ladder(const struct approach *a);
/*
 * Where the broker sees the peer's connection come from (the port says nothing), as its
 * last message said; of family ADDR_NONE when none did.
 */
struct addr approach_peer_seen(const struct approach *a);
/* Host: why `k` came to nothing here, since it last worked; NULL: it did not. */
const char *approach_failure(const struct approach *a, enum path_kind k);
/* Client: words for why `k` is not in use; as ladder_reason. */
const char *approach_reason(const struct approach *a, enum path_kind k,
                            char buf[static LADDER_REASON_LEN]);
const uint8_t *approach_conv(const struct approach *a);
/* When the peer last spoke through the broker, which may have missed it since: then 0.
 */
uint64_t approach_signal_us(const struct approach *a);

#endif
