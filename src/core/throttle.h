/*
 * Growing delays for who fails to log in: three failures are free, then 1 s, 2 s, 4 s
 * ... up to a maximum; a quarter of an hour without failure forgets it all. Keys are
 * any bytes, an account's name or an address; the caller asks about each that it knows
 * and puts something in front that tells the kinds apart. It knows no clock: times are
 * milliseconds of any clock that never goes back.
 *
 * The table has a fixed size. When it is full, the key whose last failure is longest
 * ago makes way. Only keyed hashes are kept.
 */
#ifndef POSTERN_CORE_THROTTLE_H
#define POSTERN_CORE_THROTTLE_H

#include <stddef.h>
#include <stdint.h>

#define THROTTLE_SECRET_LEN 16

enum {
    THROTTLE_SLOTS = 2048,
    THROTTLE_FREE = 3, /* failures without a delay */
    THROTTLE_FIRST_MS = 1000,
    THROTTLE_FORGET_MS = 15 * 60 * 1000,
};

struct throttle_slot {
    uint64_t hash;
    uint64_t failed_ms; /* the last one */
    uint32_t failures;  /* 0: the slot is free */
};

/* 48 KiB: part of something allocated, not of a stack. */
struct throttle {
    uint8_t secret[THROTTLE_SECRET_LEN];
    uint64_t delay_max_ms;
    struct throttle_slot slots[THROTTLE_SLOTS];
};

/* `delay_max_ms` is at most THROTTLE_FORGET_MS. */
void throttle_init(struct throttle *t, const uint8_t secret[static THROTTLE_SECRET_LEN],
                   uint64_t delay_max_ms);

/* 0: this key may try now. Else it must wait that long, and a try does not count. */
uint64_t throttle_wait_ms(const struct throttle *t, const void *key, size_t len,
                          uint64_t now_ms);
/*
 * A try failed. Where the check takes time (a password's hash), call this before it and
 * throttle_succeeded after it, so that tries at the same time do not all pass.
 */
void throttle_failed(struct throttle *t, const void *key, size_t len, uint64_t now_ms);
/* Forgets the key. */
void throttle_succeeded(struct throttle *t, const void *key, size_t len);

#endif
