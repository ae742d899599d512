/*
 * Rounds that peers make this device begin: each has sockets of its own, asks the
 * broker's servers from them, and perhaps the router. A peer may begin a new one with
 * each Offer. Each peer has so many at once and then two a second, all of them together
 * a sum, beside which everybody has a few. Knows peers and time as numbers. Bounded:
 * who began one longest ago is forgotten.
 *
 * A session that is over soon needs no direct path: of those that a device begins the
 * first few go for one at once, the others when they have lived for a while. Of relay
 * pairs it has many at once, then each waits for its turn; Carry goes on meanwhile.
 *
 * Much less is begun for an introduction while its handshake is not over, relay pairs
 * among it: to introduce itself costs a device nothing. What it has so is given back
 * with the handshake.
 */
#ifndef POSTERN_CORE_ROUNDS_H
#define POSTERN_CORE_ROUNDS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/pace.h"

enum {
    ROUNDS_PEERS = 64,
    ROUNDS_FIRST = 12, /* of a peer, whatever the others do: all kinds once */
    ROUNDS_FIRST_EVERY_MS = 5000,
    ROUNDS_AT_ONCE = 64,
    ROUNDS_EVERY_MS = 500,
    ROUNDS_ALL_AT_ONCE = 320,
    ROUNDS_ALL_EVERY_MS = 200,
    /* Rounds and pairs before a handshake: eight introductions with one of each. */
    ROUNDS_UNPROVEN_AT_ONCE = 16,
    ROUNDS_UNPROVEN_EVERY_MS = 3000,
    ROUNDS_UNPROVEN_ALL_AT_ONCE = 64,
    ROUNDS_UNPROVEN_ALL_EVERY_MS = 2000,
    ROUNDS_UNPROVEN_FIRST = 2, /* one introduction's, whatever the others do */
    ROUNDS_UNPROVEN_FIRST_EVERY_MS = 30000,
    /* Sessions that go for a direct path before they have lived for a while. */
    ROUNDS_EAGER_AT_ONCE = 10,
    ROUNDS_EAGER_EVERY_MS = 6000,
    ROUNDS_EAGER_ALL_AT_ONCE = 64,
    ROUNDS_EAGER_ALL_EVERY_MS = 200,
    ROUNDS_EAGER_FIRST = 2,
    ROUNDS_EAGER_FIRST_EVERY_MS = 30000,
    /* Relay pairs of a device. */
    ROUNDS_PAIRS_AT_ONCE = 200,
    ROUNDS_PAIRS_EVERY_MS = 500,
};

/* All zero at first. 4 KB. */
struct rounds {
    struct rounds_peer {
        uint64_t peer; /* 0: nobody's */
        struct pace pace;
        struct pace first; /* of those beside the sum */
        struct pace unproven, unproven_first;
        struct pace eager, eager_first;
        struct pace pairs;
    } of[ROUNDS_PEERS];
    struct pace all, all_unproven, all_eager;
};

/* What an introduction has had before its handshake is over; all zero at first. */
struct rounds_unproven {
    unsigned of_all, of_first;
};

/* `peer`, not 0, makes us begin one: whether it may, and then it counts. */
bool rounds_take(struct rounds *r, uint64_t peer, uint64_t now_ms);
/* The same for a round or a pair of an introduction whose handshake is not over. */
bool rounds_take_unproven(struct rounds *r, uint64_t peer, struct rounds_unproven *had,
                          uint64_t now_ms);
/* It is over: `had` is given back, and zero. */
void rounds_prove(struct rounds *r, uint64_t peer, struct rounds_unproven *had);
/* A session of `peer` may go for a direct path at once, and counts. */
bool rounds_take_eager(struct rounds *r, uint64_t peer, uint64_t now_ms);
/* It may have a relay pair, and then that counts. */
bool rounds_take_pair(struct rounds *r, uint64_t peer, uint64_t now_ms);
/* When it may, as far as is known now: not before now. */
uint64_t rounds_pair_ms(const struct rounds *r, uint64_t peer, uint64_t now_ms);

#endif
