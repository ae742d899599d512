/*
 * How late answers are that come all the same. A line that has become slow, or is full,
 * keeps packets for seconds: what is late there lives, and what is silent so long may.
 * Whoever has answers notes how long they took; who must decide whether something is
 * dead asks how late others were. Knows times only.
 *
 * An answer is late that took LATENESS_MIN_US longer than twice the least on the same
 * way. It counts for LATENESS_KEPT_US, or until others come in time: each of them,
 * though not more than ten a second, takes half of it away, down to what it took
 * itself. So the answers that an outage held up are forgotten within a second of
 * traffic. One that took LATENESS_SLEPT_US says nothing: somebody slept.
 */
#ifndef POSTERN_CORE_LATENESS_H
#define POSTERN_CORE_LATENESS_H

#include <stdint.h>

#define LATENESS_MIN_US 200000ull
#define LATENESS_MAX_US 5000000ull /* counts as no more */
#define LATENESS_KEPT_US 30000000ull
#define LATENESS_SLEPT_US 20000000ull

struct lateness { /* all zero: nothing was late */
    uint64_t most_us, noted_us, eased_us;
};

/* An answer came that took `took_us`, where the least known is `least_us` (0: none). */
void lateness_note(struct lateness *l, uint64_t took_us, uint64_t least_us,
                   uint64_t now_us);
/* How long late answers have taken of late; 0: none was. */
uint64_t lateness_us(const struct lateness *l, uint64_t now_us);

#endif
