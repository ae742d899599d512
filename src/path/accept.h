/*
 * A host's yes to an introduction, with which the broker makes a relay pair. A pair
 * that may not be made yet (path/target.h) is asked for later by the same introduction:
 * when the handshake is over, or when its device's turn has come.
 */
#ifndef POSTERN_PATH_ACCEPT_H
#define POSTERN_PATH_ACCEPT_H

#include "path/approach.h"

/* Of one approach; all zero at first. */
struct accept {
    Introduce_mark_t mark; /* of the introduction whose pair waits; or empty */
    uint64_t turn_ms;      /* loop time; 0: it waits for the handshake */
};

/* Says yes to the introduction with that mark: with a pair, where one may be made. */
void accept_say(struct accept *ac, struct approach *a, Introduce_mark_t mark);
/* The handshake is over, or the time has come: asks for the pair that waits, if any. */
void accept_ask(struct accept *ac, struct approach *a);
/* When that is to be done; loop time. UINT64_MAX: not by the clock. */
uint64_t accept_due_ms(const struct accept *ac, const struct approach *a);

#endif
