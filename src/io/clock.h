/* The monotonic clock, read when asked; loop_now_ms is cheaper and often enough. */
#ifndef POSTERN_IO_CLOCK_H
#define POSTERN_IO_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_us(void)
{
    return clock_ns() / 1000;
}

#endif
