/*
 * How many sessions (mappings and what passes them: entries of a NAT's table) port
 * prediction may open in this device's own NAT, over all approaches and rounds. Each
 * port that is tried is one, it stands for a minute or longer, and many NATs bound them
 * for a customer: a full table keeps out whatever else stands behind that NAT.
 *
 * At most SESSIONS_AT_ONCE in any SESSIONS_LIFE_S, and so many more than a network was
 * seen to bear (core/waves.h asks it). Where it was seen to take no more: a quarter of
 * what it took, for SESSIONS_BORNE_S. Knows no socket and no NAT, and time as a number.
 */
#ifndef POSTERN_CORE_SESSIONS_H
#define POSTERN_CORE_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SESSIONS_AT_ONCE = 768,
    SESSIONS_MOST = 16384,
    SESSIONS_BORNE_S = 1800,
    SESSIONS_LIFE_S = 60,
    SESSIONS_LEAST = 256, /* worth beginning a large one with */
    SESSIONS_SLOTS = 13,  /* of 5 s: those of a life, and the one that has begun */
    SESSIONS_SLOT_S = 5,
};

/* All zero at first. */
struct sessions {
    uint64_t slot;                   /* the newest: which since time began */
    uint16_t opened[SESSIONS_SLOTS]; /* by slot modulo their number */
    unsigned proven;                 /* with so many open the network took another */
    unsigned borne;                  /* it took so many and no more; 0: not known */
    uint64_t borne_us;               /* seen then */
};

/* One is opened now, and counts. False: it may not be. */
bool sessions_take(struct sessions *s, uint64_t now_us);
/* One is, whether it may be or not. */
void sessions_count(struct sessions *s, uint64_t now_us);
/* How many may be opened now. */
unsigned sessions_left(const struct sessions *s, uint64_t now_us);
/* Whether one that would open `wanted` may begin: with SESSIONS_LEAST, or with
 * what a network that bears few allows in a life. */
bool sessions_are_enough(const struct sessions *s, unsigned wanted, uint64_t now_us);
/* Opened within the last life. */
unsigned sessions_open(const struct sessions *s, uint64_t now_us);
/* It took another beside those that are open now. */
void sessions_bear(struct sessions *s, uint64_t now_us);
/* The network takes no more than are open now. */
void sessions_full(struct sessions *s, uint64_t now_us);
/* What it took, while that counts; 0: not known. */
unsigned sessions_borne(const struct sessions *s, uint64_t now_us);
/* False of what another start of this machine left. */
bool sessions_are_of_now(const struct sessions *s, uint64_t now_us);
/* Why no more may be opened, for people. */
void sessions_words(const struct sessions *s, uint64_t now_us, char *buf, size_t cap);
/* The network is another one. */
void sessions_forget(struct sessions *s);

#endif
