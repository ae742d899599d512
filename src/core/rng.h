/*
 * Repeatable jitter from a seed (splitmix64, Steele, Lea and Flood 2014). For spreading
 * timers and drawing simulated networks; never for keys or anything to be guessed at.
 */
#ifndef POSTERN_CORE_RNG_H
#define POSTERN_CORE_RNG_H

#include <stdint.h>

static inline uint64_t rng_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Uniform below `bound`; 0 for a bound of 0. Bias is beneath notice for small bounds.
 */
static inline uint64_t rng_below(uint64_t *state, uint64_t bound)
{
    uint64_t v = rng_next(state);
    return bound == 0 ? 0 : v % bound;
}

#endif
