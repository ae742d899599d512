/*
 * What each of those who ask has had of something that is refilled as a whole. The last
 * third (SHARES_KEPT) is kept for first turns: of it, who has had none may take two
 * thirds, and another as much as makes it half of what stays for others. The rest is
 * for whoever asks, but who asked in vain lately goes before all that have had more.
 * Knows them as numbers, not 0, and time as a number; not what it is that they have.
 */
#ifndef POSTERN_CORE_SHARES_H
#define POSTERN_CORE_SHARES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SHARES_MAX = 32,
    SHARES_LIFE_S = 65,
    SHARES_KEPT = 35, /* of 100 */
};

/* All zero at first. Where there are more, who has had least is forgotten. */
struct shares {
    struct share {
        uint64_t who, since_us;
        unsigned had;
        bool waits; /* it asked for more than it could have */
    } of[SHARES_MAX];
};

/* How many of the `left` that are left of `all` `who` may have now. */
unsigned shares_allow(const struct shares *s, uint64_t who, unsigned left, unsigned all,
                      uint64_t now_us);
/* It asked for more than that. */
void shares_wait(struct shares *s, uint64_t who, uint64_t now_us);
/* It has had so many more, and waits no longer. */
void shares_count(struct shares *s, uint64_t who, unsigned n, uint64_t now_us);
/* It gives so many back. */
void shares_return(struct shares *s, uint64_t who, unsigned n);

#endif
