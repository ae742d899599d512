/*
 * Where packets of an approach may go, and how many: which of the addresses that the
 * other side names are worth anything here, which of them the broker vouches for, and
 * what core/budget leaves to the process. Every kind asks before each packet that it
 * sends to anything but a path that stands.
 *
 * Vouched for is an address that the broker knows to be the other device's: its control
 * connection comes from there, or the broker's STUN marked it (core/vouch_mark.h). Only
 * the IP counts, of IPv6 the /64. For all others there is the small allowance.
 */
#ifndef POSTERN_PATH_TARGET_H
#define POSTERN_PATH_TARGET_H

#include "core/fates.h"
#include "core/rounds.h"
#include "core/vouch_mark.h"
#include "io/sidenet.h"
#include "path/approach.h"

enum {
    TARGET_VOUCHED_MAX = 8,
    TARGET_MARKS_MAX = 4,
    TARGET_BRIEF_MS = 1000,         /* many sessions are over by then */
    TARGET_VOUCHED_MS = 15 * 60000, /* how long the broker's word counts */
};

/* Of one approach; all zero at first. */
struct target {
    struct {
        struct addr addr;
        uint64_t at_us;
    } vouched[TARGET_VOUCHED_MAX]; /* the newest first */
    size_t vouched_count;
    struct {
        struct addr addr; /* ours, as a STUN server of the broker saw it */
        uint8_t mark[VOUCH_MARK_LEN];
        bool has_mark;
    } marks[TARGET_MARKS_MAX]; /* the newest first, one for an IP */
    size_t mark_count;
    bool translated; /* the peer's own addresses are none that the broker vouches for */
    struct sidenets side;
    uint64_t side_at_us; /* when `side` was read; 0: never */
    /* Host: begun before the handshake is over, and what of it is paid beforehand. */
    struct rounds_unproven unproven;
    bool pair_paid, round_paid;
    bool pair_waits; /* for the device's turn */
    struct pace pairs;
};

/* What the broker vouches for came with a message; the list is checked here. */
void target_take(struct target *t, const Vouch *list, size_t n, uint64_t now_us);
/* The peer's Offer names its own addresses. */
void target_hear(struct target *t, const Offer *o);
/* Our marks, to be sent along; returns how many. */
size_t target_show(const struct target *t, Vouch *list, size_t max);

/*
 * An address that the peer named is worth sending to: global, or private (RFC 1918,
 * shared, unique local, link-local) where the broker vouches for it, where the peer is
 * seen from outside as we are, or in a network of ours beside the default one. Two
 * homes that are numbered alike therefore leave each other's machines in peace.
 */
bool target_fits(struct approach *a, const struct addr *to);
/* The peer is behind a NAT, as far as its Offers and the broker show. */
bool target_is_translated(struct approach *a);
/*
 * That many packets may go there now; they count. False: pass over them as if they had
 * been lost on the way.
 */
bool target_may_send(struct approach *a, const struct addr *to, unsigned packets);
/*
 * The same for what may open a session in our own NAT: from that port of ours, 0 for
 * another one each time, by TCP or UDP. FATE_LEFT: they may go now, and count; else why
 * not.
 */
enum fate target_may_open(struct approach *a, bool tcp, uint16_t from,
                          const struct addr *to, unsigned packets);
/*
 * A session's packets on a path of UDP: as many as it likes where a check of ours was
 * answered. Before that the source of what came may be forged, and they count.
 */
bool target_may_carry(struct approach *a, const struct path *p, size_t len,
                      size_t segment_len);
/* The same for a server that the broker named. */
bool target_may_ask(struct approach *a, const struct addr *server, unsigned packets);
/*
 * Prediction may sweep that address's ports: the broker vouches for it, and it is one
 * that the internet knows (or a private one where the broker itself is in private).
 */
bool target_may_be_swept(struct approach *a, const struct addr *to);
/*
 * Prediction may begin: the session's handshake is complete, so that the relay carries
 * it meanwhile. Where no relay is allowed nothing could complete it: then at once, but
 * not for who has only named an invite.
 */
bool target_is_time_to_sweep(const struct approach *a);
/*
 * The peer makes us begin a round, with sockets of its own: whether that may be now, of
 * all that this peer makes us begin (core/rounds.h). What a client begins by itself is
 * its own wish. TARGET_ROUNDS_WORDS says why not.
 */
#define TARGET_ROUNDS_WORDS "too many tries were begun from the other side just now"
bool target_may_begin(struct approach *a);
/*
 * Host, before a handshake shows who wants it: a new approach may have its relay pair
 * and its first round at once. False: both wait for the handshake, which Carry brings.
 */
bool target_may_approach(struct approach *a);
/* Host: after the handshake, direct kinds may begin before the session has lived for
 * TARGET_BRIEF_MS, of all that its device begins; it counts. */
bool target_may_hasten(struct approach *a);
/* Host: a relay pair may be made now, of all that the peer asks for; it counts. */
bool target_may_pair(struct approach *a);
/* Where it was refused for what its device has had: in how long its turn comes. Else 0.
 */
uint64_t target_pair_wait_ms(struct approach *a);
/* Host: the handshake is over. */
void target_proven(struct approach *a);
/* It is over before a direct path would help. */
bool target_is_brief(const struct approach *a);
/* A session that is worth it: where this device's other programs opened many lately,
 * as short ones in a loop do, each for nothing, it is one that has lived a while. */
bool target_has_lived(const struct approach *a);
/* Whose sessions of our NAT a prediction's are. */
struct opener target_opener(const struct approach *a);
/* One packet of a sweep to such an address; it counts. */
bool target_may_sweep(struct approach *a, const struct addr *to, unsigned packets);
/* An answer to what we sent came from there (see budget_answered). */
void target_answered(struct approach *a, const struct addr *from);
/*
 * A router says that the outside reaches us at `external`: false, with words, where
 * the broker's servers see us elsewhere, so that a NAT beyond that router lets nothing
 * in (or where nobody outside knows such an address).
 */
bool target_leads_here(struct approach *a, const struct addr *external, char *why,
                       size_t cap);
/* A server of the broker's sees us there; `mark` is STUN_MARK_LEN bytes or NULL. */
void target_seen(struct approach *a, const struct addr *mapped, const uint8_t *mark);

#endif
