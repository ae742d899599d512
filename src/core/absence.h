/*
 * How long a host keeps the session of a client that is silent on every path. Silence
 * is an argument; nothing is sent and nothing ended here.
 *
 * What the owner says counts for all. Without a word a session with streams waits five
 * minutes, or a day where the device is known to sleep, since its programs will go on
 * when it wakes; one without streams has nothing to lose and waits no longer than four.
 * Near the end the client is probed, so that no living one is taken for dead: a quiet
 * session may be silent for as long as its keepalive (core/keepalive.h).
 */
#ifndef POSTERN_CORE_ABSENCE_H
#define POSTERN_CORE_ABSENCE_H

#include <stdbool.h>
#include <stdint.h>

#define ABSENCE_IDLE_US (4 * 60 * 1000000ull)
#define ABSENCE_US (5 * 60 * 1000000ull)
#define ABSENCE_ASLEEP_US (24 * 3600 * 1000000ull)
#define ABSENCE_PROBE_US                                                               \
    (45 * 1000000ull) /* before the end; at most half of it all                        \
                       */

struct absence {
    uint64_t told_us; /* the owner's word; 0: none */
    bool streams, sleeps;
};

enum absence_verdict {
    ABSENCE_FINE,
    ABSENCE_PROBE, /* send what the client must answer, again and again */
    ABSENCE_OVER,
};

uint64_t absence_patience_us(const struct absence *a);
enum absence_verdict absence_judge(const struct absence *a, uint64_t silent_us);

#endif
