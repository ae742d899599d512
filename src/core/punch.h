/*
 * UDP hole punching for one approach between two devices: the ideas of ICE (RFC 8445),
 * reduced to one component and one authenticated check packet. Knows candidates,
 * pairs, checks and time as numbers; knows no socket, no clock, no broker.
 *
 * The caller feeds addresses, hints and received packets, then pulls packets with
 * punch_next_packet until it says false, after every input and at punch_deadline_us.
 * All memory is in struct punch; nothing is allocated and there is nothing to free.
 *
 * The check packet (big-endian):
 *
 *   0       0x2a: neither STUN (0x00-0x03) nor QUIC (whose fixed bit 0x40 is set)
 *   1       flags: 0x01 response, 0x02 sent by the controlling side; others zero
 *   2..5    generation of the device that sent the request
 *   6..13   transaction id, new for each transmission of a request: 4 bytes counting
 *           up, then 4 that nobody can guess, so that a peer cannot answer for an
 *           address that it does not hold
 *   14..    response only: family (4 or 6), port (2 bytes), address (4 or 16 bytes),
 *           where the request was seen to come from; port and address are masked
 *           with the transaction id, for NATs that change addresses among the data
 *   last 16 keyed BLAKE2b of all bytes before, cut to 16, with the check key
 *
 * The direction flag makes a reflected packet worthless. A transaction id that was
 * already seen never makes a candidate or a known remote: it is answered, within the
 * budget below, only when it comes from an address that is a candidate anyway. So a
 * replay has no effect but a bounded number of answers.
 *
 * What an address can be made to suffer: at most PUNCH_MAX_UNANSWERED packets go to an
 * address (with port) that has not answered: PUNCH_MAX_REQUESTS requests and
 * PUNCH_MAX_ANSWERS responses, of these at most PUNCH_MAX_REPLAYS to replays; and that
 * on at most PUNCH_MAX_PER_IP ports of one IP address. The count starts again with a
 * new generation of either side, at most once in PUNCH_RESTART_MIN_US; the peer's first
 * one after our own, which answers it, is not held back. An address that
 * has answered gets a response to each fresh request, and the same bounds on requests
 * and replays since its last answer. Over all approaches core/budget.h allows less.
 */
#ifndef POSTERN_CORE_PUNCH_H
#define POSTERN_CORE_PUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/proto.h"
#include "core/punch_wire.h"
#include "core/fates.h"

#define PUNCH_MAX_SOCKETS 11 /* three of the caller's own, and adopted ones */
#define PUNCH_MAX_REMOTES 32 /* of these at most PUNCH_MAX_LISTED from offers */
#define PUNCH_MAX_LISTED 24
#define PUNCH_MAX_PAIRS 64
#define PUNCH_MAX_PER_IP 8
#define PUNCH_MAX_REQUESTS 12
#define PUNCH_MAX_ANSWERS 8
#define PUNCH_MAX_REPLAYS 4
#define PUNCH_MAX_UNANSWERED (PUNCH_MAX_REQUESTS + PUNCH_MAX_ANSWERS)
#define PUNCH_MAX_RESPONSES 8 /* waiting to be pulled */
#define PUNCH_MAX_KNOWN 16
#define PUNCH_MAX_TRIES_AFTER_PROOF 4 /* requests on a pair once another is proven */
#define PUNCH_PACE_US 5000
#define PUNCH_RTO_MIN_US 40000
#define PUNCH_RTO_MAX_US 500000
#define PUNCH_GIVE_UP_US 5000000
#define PUNCH_LATE_US 2000000 /* at least, for a candidate that came late */
#define PUNCH_RESTART_MIN_US 1000000
#define PUNCH_TRANSACTIONS 256
#define PUNCH_NO_PAIR (-1)
#define PUNCH_REASON_LEN 340

struct punch_config {
    bool controlling;           /* the client is, the host is not */
    bool allow_loopback;        /* for peers on one machine */
    uint8_t key[PUNCH_KEY_LEN]; /* check key, agreed end to end */
    uint64_t seed;              /* random and secret: ids and jitter come from it */
    uint32_t rtt_hint_us;       /* to the peer by way of the broker; 0 unknown */
    uint32_t generation;        /* of this device's Offer; 0 is taken as 1 */
    uint32_t peer_generation;   /* of the Offer that began it; lower ones are stale */
};

enum punch_state {
    PUNCH_IDLE,     /* before punch_start */
    PUNCH_CHECKING, /* no pair proven yet */
    PUNCH_PROVEN,   /* punch_best gives a pair */
    PUNCH_FAILED,   /* punch_reason says why; a late check can still prove a pair */
};

enum punch_udp { PUNCH_UDP_UNKNOWN, PUNCH_UDP_OK, PUNCH_UDP_BLOCKED };

/* What is known beside the checks; serves the words of punch_reason only. */
struct punch_hint {
    enum nat_mapping own_mapping, peer_mapping;
    enum nat_filtering own_filtering, peer_filtering;
    enum punch_udp own_udp;  /* whether the broker's STUN answered */
    enum punch_udp peer_udp; /* the other side, as far as its Offer shows */
    unsigned own_asked;      /* requests to it that left */
    bool peer_told;          /* addresses, be they worth trying or not */
};

/* One way between a local socket and a remote address. Read only for callers. */
struct punch_pair {
    uint8_t sock;
    enum cand_type type; /* of the remote address */
    struct addr remote;
    struct addr seen;     /* this side's address as the peer saw it; ADDR_NONE before */
    bool proven;          /* a response to our request arrived: it works both ways */
    bool valid_inbound;   /* an authentic request arrived on it */
    uint32_t rtt_us;      /* the least sample; set when proven */
    uint64_t answered_us; /* when the last response arrived */
    /* below: punch.c's own */
    uint8_t remote_idx, tries;
    bool triggered;
    uint64_t due_us; /* next retransmission, once tried */
    uint32_t rto_us;
};

struct punch_remote {
    struct addr addr;
    enum cand_type type;
    bool answered;                        /* in this generation */
    bool asked;                           /* a request to it left */
    uint8_t requests, responses, replays; /* since the last answer */
};

struct punch_packet {
    uint8_t sock;
    bool request; /* else an answer */
    struct addr to;
    size_t len;
    uint8_t buf[PUNCH_PACKET_MAX];
};

struct punch {
    struct punch_config config;
    enum punch_state state;
    struct punch_hint hint;
    uint8_t families[PUNCH_MAX_SOCKETS]; /* enum addr_family by socket index */
    bool adopted[PUNCH_MAX_SOCKETS];
    struct punch_remote remotes[PUNCH_MAX_REMOTES];
    struct punch_pair pairs[PUNCH_MAX_PAIRS];
    unsigned remote_count, pair_count, listed_count;
    bool remote_complete, fresh_pair, died;
    bool awaits_peer;         /* the peer's generation that answers ours has not come */
    uint32_t peer_generation; /* of its Offers */
    uint32_t seen_generation; /* of its checks: seen_max and seen_bits are of it */
    uint32_t next_count;
    uint64_t seen_max, seen_bits[PUNCH_TRANSACTIONS / 64];
    struct {
        uint64_t id, sent_us;
        int pair;
    } sent[PUNCH_TRANSACTIONS];
    struct {
        uint8_t sock, remote;
        uint32_t generation;
        uint64_t id;
    } responses[PUNCH_MAX_RESPONSES];
    unsigned response_count;
    struct {
        uint8_t sock;
        struct addr addr;
    } known[PUNCH_MAX_KNOWN];
    unsigned known_count;
    uint64_t pace_us, hold_us, give_up_us, began_us, rng;
    struct fates fates; /* requests of this generation, for the words of the reason */
    char reason[PUNCH_REASON_LEN];
};

void punch_init(struct punch *p, const struct punch_config *config);

/*
 * Declares the caller's socket `idx` (below PUNCH_MAX_SOCKETS) of a family. Pairs are
 * made with all remote candidates of that family.
 */
void punch_add_socket(struct punch *p, unsigned idx, enum addr_family family);
/*
 * The same for one that an authentic check has reached by a mapping of its own
 * (prediction): its pairs are those from which checks come, and no others.
 */
void punch_adopt_socket(struct punch *p, unsigned idx, enum addr_family family);
/* The socket is gone, with its pairs. */
void punch_remove_socket(struct punch *p, unsigned idx);

/*
 * Adds one address of the peer's Offer, at any time. 0 also when it is known already;
 * POSTERN_ERR_INVALID for a scope that cannot work (unspecified, multicast, loopback
 * unless allowed, link-local IPv6 without a scope); POSTERN_ERR_LIMIT when full.
 */
int punch_add_remote(struct punch *p, enum cand_type type, const struct addr *addr);

/* The peer's Offer was complete: an approach without pairs need not wait for more. */
void punch_set_remote_complete(struct punch *p);
/* From now on candidates on loopback count; for peers on one machine. */
void punch_allow_loopback(struct punch *p);
void punch_set_hint(struct punch *p, const struct punch_hint *hint);

/* Begins the checks. Before it, authentic checks are answered but none is sent. */
void punch_start(struct punch *p, uint64_t now_us);

/*
 * This device's network changed, or the ladder tries again: forgets remote candidates,
 * pairs and sockets, and counts the generation up. The caller adds sockets and the
 * peer's candidates again and sends an Offer of punch_generation. Known remotes stay
 * known, so that a session's packets on the old path are still taken. Checks start.
 */
void punch_restart(struct punch *p, uint64_t now_us);
uint32_t punch_generation(const struct punch *p);

/*
 * The peer's Offer carries `generation`. When it is newer than the one known: forgets
 * the peer's candidates and the pairs, keeps the sockets, begins the checks anew (held
 * back when this comes oftener than PUNCH_RESTART_MIN_US, but not what answers our own
 * new generation) and returns true. Call it
 * before punch_add_remote of that Offer. The first Offer of all forgets nothing when
 * the checks that came before it were of its generation. False: same or older
 * generation; candidates of an older one must not be added.
 */
bool punch_on_peer_generation(struct punch *p, uint32_t generation, uint64_t now_us);

/*
 * 1: an authentic check of this approach, consumed. 0: not ours; nothing changed and
 * nothing will be sent because of it.
 */
int punch_on_packet(struct punch *p, unsigned sock, const struct addr *from,
                    const uint8_t *buf, size_t len, uint64_t now_us);

/*
 * One request of no pair, for prediction: who gets it learns a way to us, and asks
 * back. Returns its length.
 */
size_t punch_make_probe(struct punch *p, uint8_t buf[static PUNCH_PACKET_MAX]);
/* True for an authentic check of the peer. */
bool punch_is_authentic(const struct punch *p, const uint8_t *buf, size_t len);

/* The next packet to send now; false when there is none. Also lets time pass. */
bool punch_next_packet(struct punch *p, uint64_t now_us, struct punch_packet *out);
/* What became of it, for the words of the reason. */
void punch_on_sent(struct punch *p, const struct punch_packet *pkt, enum fate fate);
/* When to pull again; UINT64_MAX when only an input can change anything. */
uint64_t punch_deadline_us(const struct punch *p);

/*
 * The best proven pair or NULL: the lowest round trip, and among those within 20 % (or
 * 2 ms) of it IPv6 first, then host addresses before translated ones. The pointer
 * and the pair's index are good until the next restart of either side.
 */
const struct punch_pair *punch_best(const struct punch *p);
int punch_best_index(const struct punch *p); /* PUNCH_NO_PAIR when none */
const struct punch_pair *punch_pair_at(const struct punch *p, int idx);
/* The pair of this socket and address, or PUNCH_NO_PAIR. */
int punch_find_pair(const struct punch *p, unsigned sock, const struct addr *remote);

/* Its pair is. */
bool punch_is_proven(const struct punch *p, unsigned sock, const struct addr *remote);

/*
 * True when an authentic, fresh check came from there in any generation: only then does
 * the caller take session packets from that address. The last PUNCH_MAX_KNOWN are kept.
 */
bool punch_known_remote(const struct punch *p, unsigned sock, const struct addr *from);

/*
 * Queues one request on a pair, to be pulled at once; its answer updates rtt_us and
 * answered_us. POSTERN_ERR_INVALID for no such pair, POSTERN_ERR_LIMIT when the address
 * has left PUNCH_MAX_REQUESTS packets unanswered.
 */
int punch_probe(struct punch *p, int pair_idx, uint64_t now_us);

/*
 * The caller found that a proven pair carries nothing any more (core/paths.h): it is
 * unproven until an answer comes on it again. Without another proven pair the approach
 * has failed; the ladder says when to restart it. With one, punch_best gives it: look.
 * Out of range: no effect.
 */
void punch_on_dead(struct punch *p, int pair_idx);

enum punch_state punch_state(const struct punch *p);
/*
 * Words for why there is no proven pair (or that there is one); never empty, a single
 * line without a full stop, valid until the next call with this object.
 */
const char *punch_reason(struct punch *p);

#endif
