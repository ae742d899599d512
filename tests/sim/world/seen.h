/* Before the files whose machines have tables: each step is seen by guard.c. */
#ifndef POSTERN_SIM_SEEN_H
#define POSTERN_SIM_SEEN_H

#include <stddef.h>

void seen_step(const char *table, const void *successors, size_t bytes, size_t size,
               unsigned from, unsigned to);

#define STATE_WATCH(successors, from, to)                                              \
    seen_step(#successors, successors, sizeof(successors), sizeof((successors)[0]),    \
              (unsigned)(from), (unsigned)(to))

#endif
