/*
 * Sees each step of the machines (core/state.h) in the files that are compiled with it,
 * and says which of the steps that their tables allow was never made.
 */
#ifndef STATE_WATCH_H
#define STATE_WATCH_H

#include <stddef.h>
#include <stdint.h>

#define STATE_WATCH(successors, from, to)                                              \
    state_watch_saw(#successors, successors, sizeof(successors), from, to)

void state_watch_saw(const char *name, const uint8_t *table, size_t rows, unsigned from,
                     unsigned to);
/* Prints the steps of the table of that name that were never made; how many. */
unsigned state_watch_unmade(const char *name);

#endif
