/*
 * The addresses of a whole /16 of victims, as hostile client and hostile broker name
 * them without a word between them: five at a time, by the clock of the machine on
 * which both run. They are in the lower half; in the upper half are those that nobody
 * vouches for.
 */
#ifndef POSTERN_LAB_SPREAD_H
#define POSTERN_LAB_SPREAD_H

#include <stdint.h>
#include <sodium.h>
#include <time.h>

#include "core/addr.h"

enum { SPREAD_AT_ONCE = 5, SPREAD_MS = 100 };

static inline struct addr spread_vouched(const struct addr *net, unsigned i)
{
    struct timespec t;
    struct addr a = *net;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    uint64_t n = ms / SPREAD_MS * SPREAD_AT_ONCE + i % SPREAD_AT_ONCE;
    a.ip[2] = (uint8_t)(n >> 8 & 0x7f);
    a.ip[3] = (uint8_t)n;
    return a;
}

static inline struct addr spread_other(const struct addr *net)
{
    struct addr a = *net;
    a.ip[2] = (uint8_t)(0x80 | randombytes_uniform(0x80));
    a.ip[3] = (uint8_t)randombytes_uniform(256);
    return a;
}

#endif
