/* The lesser and the greater of two numbers. */
#ifndef POSTERN_CORE_LEAST_H
#define POSTERN_CORE_LEAST_H

#include <stdint.h>

static inline uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

#endif
