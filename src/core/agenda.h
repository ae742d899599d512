/*
 * What is due when: entries that stand in their owners' memory, in the order of their
 * times, and of their entry where times are equal. Knows no clock; whoever asks says
 * what time it is, in whatever unit it likes.
 *
 * A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986): to enter takes constant
 * time, to leave takes logarithmic time, amortised, and nothing is allocated.
 */
#ifndef POSTERN_CORE_AGENDA_H
#define POSTERN_CORE_AGENDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed: stands in no agenda. Must not move in memory while it stands in one. */
struct agenda_entry {
    uint64_t due, order;
    struct agenda_entry *child, *next;
    struct agenda_entry *prev; /* the sibling before, or a first child's parent */
    bool entered;
};

/* Zeroed: empty. */
struct agenda {
    struct agenda_entry *first; /* the earliest; NULL: empty */
    uint64_t entered;           /* ever, so far */
};

/* `e` must not stand in an agenda. */
void agenda_enter(struct agenda *a, struct agenda_entry *e, uint64_t due);
/* Harmless when `e` stands in none. */
void agenda_leave(struct agenda *a, struct agenda_entry *e);
/*
 * The earliest, taken out, if it is due by `now` and was entered before the agenda had
 * seen `entered` entries: one that enters itself again is not found twice by a caller
 * that noted `a->entered` before. NULL: none.
 */
struct agenda_entry *agenda_take(struct agenda *a, uint64_t now, uint64_t entered);

#endif
