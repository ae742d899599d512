/*
 * When a device that has lost its broker tries again: what a try costs decides how far
 * pauses grow. Knows times and why tries failed; makes no connection.
 *
 * Where nothing listens a broker is restarted, most often; a try is two packets there,
 * and one into the dark hardly more. So pauses are short while it is away for a moment,
 * and then grow with the time that it is away. A connection that is taken and then
 * ended costs a handshake, so such ends lengthen pauses one by one; but not far where
 * the broker that ended is one that had just begun: it was restarted again, and turns
 * nobody away. Half of each pause is chance (core/backoff.h): thousands that lost one
 * broker come back spread out.
 */
#ifndef POSTERN_CORE_COMEBACK_H
#define POSTERN_CORE_COMEBACK_H

#include "core/backoff.h"

enum comeback_why {
    COMEBACK_REFUSED,  /* nothing listens there */
    COMEBACK_DARK,     /* no answer, or no way there */
    COMEBACK_TURNED,   /* taken, and reset before the welcome */
    COMEBACK_ENDED,    /* what was welcomed ended without a word */
    COMEBACK_STRANGER, /* another program answers: a network's login page, most often */
    COMEBACK_OTHER,
    COMEBACK_FATAL, /* somebody must change something first */
};

struct comeback {
    struct backoff backoff, fatal;
    bool up;              /* it is welcomed, and neither is known */
    uint64_t down_ms;     /* since when it is not */
    uint64_t stranger_ms; /* when the first stranger was met; 0: a broker was since */
    bool refused;         /* since it was up last */
    bool anew;            /* the broker that was up last had just begun then */
};

/* Down, and not for long. `seed`: as of backoff_init. */
void comeback_init(struct comeback *c, uint64_t seed, uint64_t now_ms);
/* Welcomed; `begun`: the broker says that it began a moment ago. */
void comeback_on_up(struct comeback *c, bool begun, uint64_t now_ms);
/* A try failed, or what was up ended: milliseconds until the next. */
uint32_t comeback_on_down(struct comeback *c, enum comeback_why why, uint64_t now_ms);
/* The network changed: what was before says nothing of it. */
void comeback_reset(struct comeback *c);

#endif
