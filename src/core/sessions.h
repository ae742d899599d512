/*
 * How many sessions (mappings and what passes them: entries of a NAT's table) port
 * prediction may open in this device's own NAT, over all approaches and rounds. Each
 * port that is tried is one, it stands for a minute or longer, and many NATs bound them
 * for a customer: a full table keeps out whatever else stands behind that NAT.
 *
 * What is opened for any other reason counts, and is never refused: prediction has what
 * that leaves of SESSIONS_AT_ONCE in any SESSIONS_LIFE_S, whatever was seen. It leaves
 * room for as many again: who has just begun opens more. It is all of one network:
 * another one's NAT begins with none. Where the network
 * was seen to take fewer (core/waves.h asks it): a quarter of what were open when it
 * last took another, for SESSIONS_BORNE_S. Whose answers told that is a broker, which
 * may lie: until another one's have told it too, it counts for less long for what is
 * done by way of others. A network that cut this device off right after many were
 * opened (a guard against scans, a customer's ban) has none opened for SESSIONS_CUT_S,
 * since that may have been an outage; after a second time for SESSIONS_BORNE_S.
 * Brokers are numbers, not 0. Knows no socket and no NAT, and time as a number.
 */
#ifndef POSTERN_CORE_SESSIONS_H
#define POSTERN_CORE_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SESSIONS_AT_ONCE = 848, /* a network of 1,024 keeps 176 for others */
    SESSIONS_TO_COME = 128, /* of other reasons, at most, for which room is left */
    SESSIONS_BORNE_S = 1800,
    SESSIONS_HEARSAY_S = 120, /* of one broker, for another's */
    SESSIONS_CUT_S = 120,     /* for the first time */
    SESSIONS_LIFE_S = 60,
    SESSIONS_BEGIN = 64,  /* worth beginning a large one with */
    SESSIONS_LEAST = 256, /* of others: more than that may fill a small table */
    SESSIONS_SLOTS = 13,  /* of 5 s: those of a life, and the one that has begun */
    SESSIONS_SLOT_S = 5,
    SESSIONS_NETWORKS = 4, /* of which sums are kept */
};

/* All zero at first. */
struct sessions {
    uint64_t network;                /* which; 0: not known */
    uint64_t slot;                   /* the newest: which since time began */
    uint16_t opened[SESSIONS_SLOTS]; /* by slot modulo their number */
    uint16_t others[SESSIONS_SLOTS]; /* of them: not by prediction */
    unsigned seen;                   /* with so many open it last took another */
    unsigned borne;                  /* it took so many and no more; 0: not known */
    uint64_t borne_us;               /* seen then */
    uint64_t borne_by;               /* by that broker's answers; 0: by several's */
    unsigned cut, cut_s; /* it cut us off after so many in a second; counts so long */
    uint64_t cut_us;     /* seen then */
    uint64_t cut_by;     /* as borne_by */
};

/* `n` are opened now, or are about to be. */
void sessions_count(struct sessions *s, unsigned n, uint64_t now_us);
/* The same, for another reason than prediction. */
void sessions_count_others(struct sessions *s, unsigned n, uint64_t now_us);
/* Of those that were counted last, `n` are not opened. */
void sessions_return(struct sessions *s, unsigned n, uint64_t now_us);
/* How many may be open at once, by way of that broker. */
unsigned sessions_most(const struct sessions *s, uint64_t broker, uint64_t now_us);
/* How many of them may be opened now. */
unsigned sessions_left(const struct sessions *s, uint64_t broker, uint64_t now_us);
/* Whether one that would open `wanted` may begin where it may have `left`: with
 * SESSIONS_BEGIN, or with a fifth of what a network that bears few allows in a life. */
bool sessions_are_enough(const struct sessions *s, unsigned wanted, unsigned left,
                         uint64_t broker, uint64_t now_us);
/* More are open than may be: the network was seen to take no more meanwhile. */
bool sessions_are_too_many(const struct sessions *s, uint64_t broker, uint64_t now_us);
/* Opened within the last life. */
unsigned sessions_open(const struct sessions *s, uint64_t now_us);
/* It took another when so many were open. */
void sessions_saw(struct sessions *s, unsigned open);
/* It takes no more. What was sent since it last took another may never have been one.
 */
void sessions_full(struct sessions *s, uint64_t broker, uint64_t now_us);
/* What it took, while that counts; 0: not known. */
unsigned sessions_borne(const struct sessions *s, uint64_t broker, uint64_t now_us);
/* It cut this device off after `n` in a second. */
void sessions_cut(struct sessions *s, unsigned n, uint64_t broker, uint64_t now_us);
/* What another program of the device saw, if that is newer. */
void sessions_learn(struct sessions *s, const struct sessions *other);
/* False of what another start of this machine left. */
bool sessions_are_of_now(const struct sessions *s, uint64_t now_us);
/* From now: until so many have ended that half of what may be is left, and some have
 * ended at least, and a cut counts no longer, in ms; 0: now. */
uint64_t sessions_wait_ms(const struct sessions *s, uint64_t broker, uint64_t now_us);
/* Why no more may be opened, for people. */
void sessions_words(const struct sessions *s, uint64_t broker, uint64_t now_us,
                    char *buf, size_t cap);
/* It is that network now: empty, where it was another one. */
void sessions_enter(struct sessions *s, uint64_t network);
/* That network's, which takes the place of the one that was used longest ago. */
struct sessions *sessions_of(struct sessions all[static SESSIONS_NETWORKS],
                             uint64_t network);

#endif
