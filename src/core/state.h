/*
 * A machine whose states are an enum and whose allowed successors stand in a table, a
 * bit by state. What goes another way than the table has it is a fault of ours, and
 * ends the program where asserts are on.
 */
#ifndef POSTERN_CORE_STATE_H
#define POSTERN_CORE_STATE_H

#include <assert.h>
#include <stdint.h>

/* A test that wants to see each step defines it before this file is read. */
#ifndef STATE_WATCH
#define STATE_WATCH(successors, from, to) ((void)0)
#endif

/* Goes from `state`, an lvalue, to `to`; to where it is already is no step. */
#define STATE_GO(successors, state, to)                                                \
    do {                                                                               \
        if ((state) != (to)) {                                                         \
            assert((successors)[state] >> (to)&1);                                     \
            STATE_WATCH(successors, state, to);                                        \
            (state) = (to);                                                            \
        }                                                                              \
    } while (0)

#endif
