/*
 * The line before the door: TLS connections of addresses that have opened more than
 * their share, each with its whole first message, wait here for their turn. It is
 * next whose address has a share again; of the others, while the thread has something
 * to spare, who comes from where the longest nobody was let in beyond a share, the
 * widest block first, and of one address any: nothing tells who of it is honest.
 * Time is an argument. Bounded: where all places are taken, one of the address with
 * most goes, whichever, and be it the newcomer.
 */
#ifndef POSTERN_BROKER_PORCH_H
#define POSTERN_BROKER_PORCH_H

#include <stddef.h>
#include <stdint.h>

#include "broker/limits.h"
#include "core/list.h"

struct porch_guest { /* in its owner's memory */
    struct list link;
    struct addr_place place;
};

struct porch {
    struct addr_limits *limits; /* borrowed */
    struct list guests;         /* by arrival */
    size_t count;
    struct bucket spare;
    uint64_t rng;
};

/* `seed` is random. */
void porch_init(struct porch *p, struct addr_limits *limits, uint64_t seed);
/* Returns who has to go, of the line already; NULL: nobody. */
struct porch_guest *porch_enter(struct porch *p, struct porch_guest *g);
void porch_leave(struct porch *p, struct porch_guest *g);
/* Whose turn it is, of the line already; NULL: nobody's now. */
struct porch_guest *porch_next(struct porch *p, uint64_t now_ms);

#endif
