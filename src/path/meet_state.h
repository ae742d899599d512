/* The state of a meeting, for meet.c (time and attempts) and meet_listen.c (the port).
 */
#ifndef POSTERN_PATH_MEET_STATE_H
#define POSTERN_PATH_MEET_STATE_H

#include "core/predict.h"
#include "core/privilege.h"
#include "io/loop.h"
#include "io/portmap.h"
#include "path/attempt.h"
#include "path/framed.h"
#include "path/meet.h"
#include "path/tcp_port.h"

enum {
    PLAIN_MAX = 16,
    SWEEP_PORTS = 2, /* of ours, where both sides' NATs are symmetric */
    ATTEMPTS_MAX = PLAIN_MAX + SWEEP_PORTS * PREDICT_LOW_COUNT,
    PATHS_MAX = 3,
    FAMILIES = 2,
};

enum phase {
    IDLE,
    GATHERING, /* our addresses */
    WAITING,   /* for the peer's */
    MEETING,
    LAST_WORDS, /* no new attempts, greetings may come */
};

struct meet {
    struct approach *approach;
    const struct meet_plan *plan;
    enum phase phase;
    uint32_t round, peer_round; /* the client's count; the host follows */
    struct tcp_port *port;
    bool port_done;
    struct addr peers[MEET_PEERS_MAX];
    unsigned syns[MEET_PEERS_MAX];
    size_t peer_count;
    bool symmetric, low, peer_symmetric, peer_low;
    uint32_t sequence, peer_sequence; /* of a knock, or arranged; 0: none */
    uint32_t peer_ways;               /* the options of its SYNs, enum tcp_ways */
    char refused[160];                /* why this side cannot, for the other one */
    uint32_t knock;                   /* the helper's number of it, or 0 */
    uint16_t knock_port;
    struct portmap *portmap;
    struct addr mapped;
    bool knocked;
    struct privilege_request arranged[MEET_PEERS_MAX];
    unsigned arranged_count, answers;
    bool arranged_tried;
    bool strips; /* something on the way takes options out of SYNs: never arranged again
                  */
    struct attempt *attempts[ATTEMPTS_MAX];
    bool told[PLAIN_MAX]; /* the peer believes in options that it was told of */
    struct acceptor *listeners[FAMILIES]; /* NULL: closed */
    struct framed *paths[PATHS_MAX];
    unsigned step, step_ms;
    uint64_t begun_ms;
    struct timer timer, retry;
    bool stranger; /* somebody else touched the listener */
    bool waits_for_uplink;
    bool busy, freed;
};

static inline const struct approach_config *meet_config(const struct meet *m)
{
    return approach_config_of(m->approach);
}

/* meet.c */
struct greeting_terms meet_terms(const struct meet *m);
struct attempt **meet_free_slot(struct meet *m);
void meet_on_attempt(void *ctx, struct attempt *a, int err, int fd);
/* All that can be known of our addresses is: tells the other side. */
void meet_on_addresses(struct meet *m);
/* Asks where we are, and tells the other side. */
void meet_begin_round(struct meet *m);
/* How long steps last; `told_ms`: what the client said, 0 on its side. */
void meet_set_step(struct meet *m, unsigned told_ms);
/* Begins, if both sides know each other's addresses. */
void meet_begin(struct meet *m);
/* The round is over; with the reason, unless a path stands. */
void meet_fail(struct meet *m, const char *reason);
bool meet_has_path(const struct meet *m);
void meet_connect_all(struct meet *m, unsigned hops);
/* How many packets an attempt to connect costs at most. */
unsigned meet_syn_cost(const struct meet *m);
/* Ends the round; the other side is told why when it waits for our addresses. */
void meet_refuse(struct meet *m, const char *reason);

/* meet_knock.c: the filter at the host's port, and the client's SYN for it */
bool meet_knock_open(struct meet *m);
/* Asks the router for our port; meet_on_addresses follows, or meet_refuse. False, with
 * `m->refused` filled: it cannot be asked. */
bool meet_map(struct meet *m);
/* Gives back both. */
void meet_release(struct meet *m);
/* A socket whose SYN will carry that number, or an error. */
int meet_sequenced_socket(const struct addr *local, uint32_t sequence);

/* meet_arranged.c: SYN, unilateral SYN-ACK, ACK */
bool meet_can_arrange(const struct meet *m);
void meet_arrange(struct meet *m);
/*
 * For an ordinary SYN after an arranged one: NATs that saw the one take the other for a
 * new connection only when its number is higher (RFC 9293 section 3.4.2).
 */
uint32_t meet_next_sequence(const struct meet *m, uint32_t first);
/* Sends the SYN-ACKs again; false when they were sent often enough. */
bool meet_arranged_answer(struct meet *m);
/* The client's SYNs of that step. */
void meet_arranged_connect(struct meet *m);
/* Whether such a connection has the options that the peer's socket was given: what is
 * on the way may take some out of a SYN-ACK. */
bool meet_arranged_agrees(struct meet *m, int fd);

/* meet_listen.c: the temporary port; a stranger that touches it closes it */
void meet_open_listeners(struct meet *m);
void meet_close_listeners(struct meet *m);

#endif
