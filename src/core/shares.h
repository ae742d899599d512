/*
 * What each of those who ask has had of something that is refilled as a whole: of the
 * last SHARES_KEPT that are left, nobody gets more than what makes it twice what stays
 * for others. Knows them as numbers, not 0, and time as a number; not what it is that
 * they have.
 */
#ifndef POSTERN_CORE_SHARES_H
#define POSTERN_CORE_SHARES_H

#include <stdint.h>

enum { SHARES_MAX = 32, SHARES_LIFE_S = 65, SHARES_KEPT = 128 };

/* All zero at first. Where there are more, who has had least is forgotten. */
struct shares {
    struct share {
        uint64_t who, since_us;
        unsigned had;
    } of[SHARES_MAX];
};

/* How many of those that are left `who` may have now. */
unsigned shares_allow(const struct shares *s, uint64_t who, unsigned left,
                      uint64_t now_us);
/* It has had so many more. */
void shares_count(struct shares *s, uint64_t who, unsigned n, uint64_t now_us);
/* It gives so many back. */
void shares_return(struct shares *s, uint64_t who, unsigned n);

#endif
