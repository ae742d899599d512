/*
 * What a path kind implements and what it may ask of its approach. Only path/ includes
 * this. An engine is one file here, which defines NAME_engine; a kind is a row of
 * core/kinds.h, which names its engine.
 */
#ifndef POSTERN_PATH_KIND_H
#define POSTERN_PATH_KIND_H

#include "path/approach.h"
#include "path/target.h"

struct kind_ops {
    /* Makes the kind's state for this approach, or NULL when out of memory. Asked
     * before the first `start`, of an allowed kind; of the relay when the approach is
     * made. */
    void *(*new)(struct approach *a, enum path_kind kind);
    void (*free)(void *k); /* its paths are retired already */
    /* Begin, or begin anew; answers with approach_started or approach_failed. */
    void (*start)(void *k);
    /* End, forget the paths; no report. */
    void (*stop)(void *k);
    /* All below may be NULL. */
    /* Our Offer is about to be sent: add what the peer must know. */
    void (*fill_offer)(void *k, Offer *o);
    /* The peer's Offer arrived; `renewed`: of a newer generation. */
    void (*on_offer)(void *k, const Offer *o, bool renewed);
    /* A ticket of TICKET_LEN bytes; or NULL: the broker has none, and says why. */
    void (*on_ticket)(void *k, const uint8_t *ticket, const char *why_none);
    void (*on_carry)(void *k, const uint8_t *packet, size_t len);
    void (*on_uplink)(void *k, bool up);
    /* This path is now used by the session (or another is). */
    void (*on_used)(void *k, struct path *p);
    /* The session says that it is a black hole: forget it; no report. */
    void (*on_dead)(void *k, struct path *p);
    /* Nothing comes on it. True: it is kept and asked on, `silent`, while another is
     * made beside it. False, and where this is NULL: it is dead. */
    bool (*on_silent)(void *k, struct path *p);
    /* One that was kept so has answered. */
    void (*on_back)(void *k, struct path *p);
    /* The session's handshake is complete: what waited for it may begin. */
    void (*on_established)(void *k);
    /* What people should know of it beside the ladder's reason; NULL: nothing. */
    const char *(*note)(void *k);
};

extern const struct kind_ops *const kind_table[PATH_KIND_COUNT];
/* Of core/kinds.h's column "engine". */
extern const struct kind_ops udp_punch_engine, tcp_meet_engine, udp_meet_engine,
    relay_engine;

/* ---- services of the approach to its kinds */
const struct approach_config *approach_config_of(const struct approach *a);
struct target *approach_target(struct approach *a);
bool approach_is_established(const struct approach *a); /* the session once opened */
uint64_t approach_age_us(const struct approach *a);     /* since then; 0: it did not */
const uint8_t *approach_check_key(const struct approach *a); /* 16 bytes */
uint32_t approach_next_path_id(struct approach *a);
/* Round trip to the peer through the broker, as far as known, in microseconds. */
uint32_t approach_rtt_hint_us(const struct approach *a);

void approach_started(struct approach *a, enum path_kind k);
void approach_proven(struct approach *a, struct path *p);
void approach_failed(struct approach *a, enum path_kind k, const char *reason);
/* The same, for want of something that there will be in so long. */
void approach_busy(struct approach *a, enum path_kind k, const char *reason,
                   uint64_t wait_ms);
void approach_lost(struct approach *a, struct path *p, const char *reason);
/* A path object exists and can receive / must not be used any more. */
void approach_path_new(struct approach *a, struct path *p);
void approach_path_retire(struct approach *a, struct path *p);
/* Our addresses are new: send an Offer soon. `renew`: in a new generation. */
void approach_offer_soon(struct approach *a);
/* Ask the broker for a relay pair: an Introduce (client; the host gets it so). */
void approach_introduce_soon(struct approach *a);
/* Sends one packet through the uplink; lost when it cannot. */
void approach_carry(struct approach *a, const uint8_t *packet, size_t len);

#endif
