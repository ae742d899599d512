/*
 * What strangers together may guess of one account: newcomers, of whose neighbourhood
 * few had turns (core/turns.h), STRANGERS_BURST at once and one more in each
 * STRANGERS_EVERY_MS; those and all others with a delay that grows to
 * STRANGERS_DELAY_MS (core/throttle.h). So few who guess on leave chances to the rest,
 * and many have no more than these. Keys are any bytes; only keyed hashes are kept; it
 * knows no clock.
 *
 * The table of newcomers has a fixed size: when it is full, the key that spent least
 * makes way.
 */
#ifndef POSTERN_CORE_STRANGERS_H
#define POSTERN_CORE_STRANGERS_H

#include <stdbool.h>

#include "core/throttle.h"

enum {
    STRANGERS_BURST = 1000,
    STRANGERS_EVERY_MS = 10 * 1000, /* 8,640 a day */
    STRANGERS_DELAY_MS = 20 * 1000, /* 4,320 a day */
};

struct newcomers_slot {
    uint64_t hash;
    uint64_t spent_ms; /* when it has all again; 0: the slot is free */
};

/* 80 KiB: part of something allocated, not of a stack. */
struct strangers {
    struct throttle known; /* its secret is that of both */
    struct newcomers_slot newcomers[THROTTLE_SLOTS];
};

void strangers_init(struct strangers *s,
                    const uint8_t secret[static THROTTLE_SECRET_LEN]);
/* 0: one may try now; else that long none may. */
uint64_t strangers_wait_ms(const struct strangers *s, const void *key, size_t len,
                           bool newcomer, uint64_t now_ms);
/* Before a try, as throttle_failed. */
void strangers_failed(struct strangers *s, const void *key, size_t len, bool newcomer,
                      uint64_t now_ms);
/* That was no guess: forgets the delay, and gives one chance of newcomers back. */
void strangers_succeeded(struct strangers *s, const void *key, size_t len);

#endif
