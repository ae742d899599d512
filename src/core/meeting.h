/*
 * A meeting: two devices do something at the same moment, so that the NATs and
 * firewalls of each take what comes from the other for answers. Here stands when that
 * is, whose turn it is, with which addresses, and when it is over, for TCP and UDP
 * alike. Knows Offers, plans and time as numbers; knows no socket, no helper, no
 * router: those are the engines' (path/tcp_meet.c, path/udp_meet.c).
 *
 * A meeting is tried in rounds. The client counts them and begins; the host follows
 * when the client's addresses of a newer round arrive, and answers with the same
 * number. What speaks of another round is not heard.
 *
 *            client: start                       host: addresses of a newer round
 *                 |                                            |
 *   IDLE --- no uplink ---> ASLEEP --- uplink ---+             |
 *                                                v             v
 *                                             GATHERING <------+
 *                                                | where the outside sees us is known
 *                                                v
 *                                             PREPARING --- refused, which is told -->
 * IDLE | what must stand first stands: | a filter at the host, a router's mapping
 *                                                v
 *     IDLE <----- 8 s, and nothing was told -- WAITING  our addresses are told
 *                                                | the other side's of this round are
 * here
 *                                                v
 *      +--------> more addresses: anew -----> MEETING   steps in time, one after the
 * other |                                         | the last one is over | v
 *      +------------------------------------ LINGERING  no new tries; what is under way
 * may end
 *                                                |
 *                                                v
 *                                               IDLE    with the reason in words
 *
 *   MEETING, LINGERING --- a path is proven ---> MET    the client ends all else at
 * once, the host after LINGERING's time
 *
 * Everything but MET and the end of a stop leads to a new round from anywhere: a start,
 * or the client's newer addresses. So a late word never finds a state without a way
 * out.
 *
 * Steps. One side opens its own NATs towards the other (a packet that dies on the way,
 * a temporary port, both), the other connects, a little later. Which one opens is the
 * plan's, but where one side's NAT is symmetric: whose port nobody can know connects. A
 * step lasts two round trips and a bit, so that what opens arrives before the next one
 * begins; the client, who knows a round trip, says so to both.
 *
 * Callers say the time with meeting_at before each input, give inputs, and pull actions
 * with meeting_next until it says false, after each input and at meeting_due_ms.
 *
 * What an address can be made to suffer: at most MEETING_TRIES_MAX tries by TCP, or a
 * check in each of MEETING_TURNS steps by UDP, in a round, of at most MEETING_PEERS_MAX
 * addresses that the peer named. When the ports of a symmetric NAT are predicted, one
 * SYN to each of 424 ports of one address in each of three steps, which by their TTL
 * die on the way to it; where both sides' NATs are symmetric, two to each of the 424
 * ports, which the kernel repeats once. All within core/budget.h.
 */
#ifndef POSTERN_CORE_MEETING_H
#define POSTERN_CORE_MEETING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/kinds.h"
#include "core/proto.h"
#include "core/fates.h"

enum {
    MEETING_PEERS_MAX = 6,
    MEETING_STEPS_MAX = 6, /* of a plan with hops */
    MEETING_TRIES_MAX = 12,
    MEETING_TURNS = 20, /* the steps of a meeting by UDP */
    MEETING_TURN_MS = 100,
    MEETING_WINDOW_MS = 900,     /* a listener's life */
    MEETING_HOPS_ARRANGED = 255, /* the opener's SYN dies, and it answers unseen ones */
    MEETING_HOPS_BACK = 254,     /* the same with the sides exchanged */
    MEETING_KNOCK_LEN = 16,
    MEETING_WORDS_LEN = 300, /* an Offer's, and "the host cannot: " */
};

/* What the kinds of the two engines differ in: a column of core/kinds.h. */
struct meeting_plan {
    bool host_opens; /* else the client does, and the host connects */
    bool listens;    /* the opener listens for MEETING_WINDOW_MS, in one step */
    bool lasts;      /* the listener stays for the whole step, whoever touches it */
    bool predicts;   /* the ports of a symmetric NAT on one side, and arranges */
    bool knocks; /* the host's filter waits at a closed port; nothing is opened there
                    before */
    bool maps;   /* the host asks its router for a port */
    bool spoofs; /* packets arrive from, and leave with, the broker's address */
    unsigned steps;
    unsigned hops[MEETING_STEPS_MAX]; /* of the opener's SYN in each step; 0: all the
                                         way; or MEETING_HOPS_ARRANGED, _BACK */
    unsigned step_ms; /* at least; of TCP with several steps longer on long ways */
};

enum meeting_phase {
    MEETING_IDLE,
    MEETING_ASLEEP, /* nobody could say yet where we are seen */
    MEETING_GATHERING,
    MEETING_PREPARING,
    MEETING_WAITING,
    MEETING_MEETING,
    MEETING_LINGERING,
    MEETING_MET,
    MEETING_PHASE_COUNT,
};

enum meeting_action_type {
    /* The round is over: close everything of it but what paths need. */
    MEETING_END,
    /* And it came to nothing, for meeting_words. Of no meaning where a path stands. */
    MEETING_FAILED,
    /* Ask where the outside sees us; answer with meeting_gathered. */
    MEETING_GATHER,
    /* Do what must be done before we are told; answer with meeting_ready or _refuse. */
    MEETING_PREPARE,
    /* Send an Offer soon. */
    MEETING_TELL,
    /* The host told no address to check (maps, by UDP): find one of our own, then
     * meeting_found; or meeting_fail. */
    MEETING_ALONE,
    MEETING_STEP,
    /* No new tries; with nothing under way meeting_over. */
    MEETING_LAST,
    MEETING_ACTION_COUNT,
};

/* What is done in a step. */
enum meeting_move {
    MEETING_CHECK, /* UDP: a packet to each peer */
    MEETING_OPEN,  /* a SYN of `hops` to each peer, and the port where the plan listens
                    */
    MEETING_CONNECT,  /* all the way */
    MEETING_AWAIT,    /* the other side's knock */
    MEETING_SWEEP,    /* both NATs are symmetric: all low ports, from low ports */
    MEETING_ANSWER,   /* arranged: our SYN dies; answer what we cannot see */
    MEETING_CALL,     /* arranged: the SYN that is answered so */
    MEETING_KEEP_STEP /* nothing */
};

struct meeting_step {
    enum meeting_move move;
    unsigned hops;
    bool sweeps;        /* OPEN: also towards all ports that the peer's NAT may give */
    unsigned number;    /* from 1 */
    unsigned answer_ms; /* ANSWER, CALL: after so long */
};

/* What one side tells of its NAT and its SYNs in a round. */
struct meeting_side {
    bool symmetric;    /* it changes the port, and may change it again */
    bool low;          /* our port is one that core/predict.h tries */
    uint32_t sequence; /* first sequence number: of a knock, or arranged; 0: none */
    uint32_t ways;     /* options of its SYNs: enum tcp_ways of core/privilege.h */
};

struct meeting_address {
    struct addr addr;
    bool shown; /* not to be checked: it only shows where we are */
};

struct meeting {
    const struct meeting_plan *plan;
    enum path_kind kind;
    bool client, udp;
    enum meeting_phase phase;
    uint32_t round, peer_round;
    struct meeting_side own, peer;
    struct addr peers[MEETING_PEERS_MAX];
    uint8_t tries[MEETING_PEERS_MAX];
    size_t peer_count;
    struct addr peer_seen;            /* where the broker sees the other side, IPv4 */
    uint8_t knock[MEETING_KNOCK_LEN]; /* of UDP: ours at the host, else the host's */
    bool refused;                     /* the host says so in its Offers */
    struct addr stranger; /* touched the listener, and was not named by the peer */
    struct fates fates;   /* packets by UDP, connections begun by TCP; in this round */
    bool left[MEETING_PEERS_MAX]; /* something of it, for that one */
    unsigned rejected;            /* connections that were refused from there */
    unsigned swept; /* connections begun to ports that the peer's NAT may give */
    unsigned step, step_ms, window_ms;
    uint64_t now_ms, due_ms;
    uint32_t rtt_ms;
    unsigned todo; /* bits of enum meeting_action_type */
    char words[MEETING_WORDS_LEN];
};

/* NULL for a kind that is more than a plan. */
const struct meeting_plan *meeting_plan_of(enum path_kind kind);

/* Once. `window_ms`: a listener's life where the plan does not say more; 0: as usual.
 */
void meeting_init(struct meeting *m, enum path_kind kind, bool client,
                  unsigned window_ms);
/* The time, and the round trip by way of the broker, as of the next input. */
void meeting_at(struct meeting *m, uint64_t now_ms, uint32_t rtt_ms);

/* ---- inputs */
/* Client: a new round, at once or when the uplink is up. */
void meeting_start(struct meeting *m, bool uplink_is_up);
void meeting_on_uplink(struct meeting *m);
void meeting_stop(struct meeting *m);
/* Of no effect in other phases than GATHERING and PREPARING. */
void meeting_gathered(struct meeting *m, const struct meeting_side *own);
void meeting_ready(struct meeting *m);
/* This side cannot, in words: the round ends, and a host tells. */
void meeting_refuse(struct meeting *m, const char *words);
/* The same, but the round goes on: the other side may find a way. */
void meeting_regret(struct meeting *m, const char *words);
void meeting_fail(struct meeting *m, const char *words);
/* WAITING, after ALONE: we can be reached all the same. */
void meeting_found(struct meeting *m);
/* The host's filter has seen the client's knock come from there: it is the only peer
 * from now on. False: too late, or too early. */
bool meeting_on_knock(struct meeting *m, const struct addr *from);
/* Packets of the peer come from there too; false: known already, or no room. */
bool meeting_add_peer(struct meeting *m, const struct addr *a);
void meeting_on_stranger(struct meeting *m, const struct addr *from);
/* An Offer of the peer. `fits`: whether an address is worth sending to. */
void meeting_on_offer(struct meeting *m, const Offer *o,
                      bool (*fits)(void *ctx, const struct addr *a), void *ctx);
/* One more try to reach peer `i`; false: it has had enough in this round. */
bool meeting_try(struct meeting *m, size_t i);
/* What became of it, for the words. */
void meeting_sent(struct meeting *m, size_t i, enum fate fate);
/* By TCP: somebody there said no. */
void meeting_on_rejected(struct meeting *m);
/* A path is proven. Of no effect but where one is awaited: while the steps last, or
 * after they failed, since the other side's try may outlive ours. */
bool meeting_awaits_path(const struct meeting *m);
void meeting_on_path(struct meeting *m);
/* After LAST: nothing is under way any more. */
void meeting_over(struct meeting *m);

/* ---- outputs */
bool meeting_next(struct meeting *m, enum meeting_action_type *out);
/* No round is under way: what no path needs may be given back. */
bool meeting_rests(const struct meeting *m);
/* UINT64_MAX: when only an input can change anything. */
uint64_t meeting_due_ms(const struct meeting *m);
/* What is to be done in the current step. */
struct meeting_step meeting_step_now(const struct meeting *m);
/* Our addresses belong into each Offer now. */
bool meeting_tells(const struct meeting *m);
/* Our part of an Offer, if there is any; of the addresses what has room. */
void meeting_fill(const struct meeting *m, const struct meeting_address *own, size_t n,
                  Offer *o);
bool meeting_opens(const struct meeting *m);
/* Both know each other's sequence numbers, and no NAT is in the way. */
bool meeting_arranges(const struct meeting *m);
const char *meeting_words(const struct meeting *m);

#endif
