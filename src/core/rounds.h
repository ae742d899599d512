/*
 * Rounds that peers make this device begin: each has sockets of its own, asks the
 * broker's servers from them, and perhaps the router. A peer may begin a new one with
 * each Offer. Each peer has so many at once and then two a second, all of them together
 * a sum, beside which everybody has a few. Knows peers and time as numbers. Bounded:
 * who began one longest ago is forgotten.
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
};

/* All zero at first. 1.5 KB. */
struct rounds {
    struct rounds_peer {
        uint64_t peer; /* 0: nobody's */
        struct pace pace;
        struct pace first; /* of those beside the sum */
    } of[ROUNDS_PEERS];
    struct pace all;
};

/* `peer`, not 0, makes us begin one: whether it may, and then it counts. */
bool rounds_take(struct rounds *r, uint64_t peer, uint64_t now_ms);

#endif
