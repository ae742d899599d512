/*
 * Which numbers were seen: the greatest, and of the 64 up to it each one (RFC 4303
 * section 3.4.3). Knows numbers only.
 */
#ifndef POSTERN_CORE_REPLAY_H
#define POSTERN_CORE_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

struct replay { /* all zero: none */
    uint32_t max;
    uint64_t mask;
};

/* True, once, of each number; false of one that is too old to be told from a replay. */
static inline bool replay_is_fresh(struct replay *r, uint32_t number)
{
    if (number > r->max) {
        uint32_t by = number - r->max;
        r->mask = by < 64 ? r->mask << by | 1 : 1;
        r->max = number;
        return true;
    }
    uint32_t back = r->max - number;
    if (back >= 64 || (r->mask >> back & 1) != 0)
        return false;
    r->mask |= 1ull << back;
    return true;
}

#endif
