/*
 * What a broker counts, as one table: a thread counts for itself, shows a copy once a
 * second, and who asks sums the copies. So counting is one addition, and asking stops
 * nobody.
 */
#ifndef POSTERN_BROKER_FIGURES_H
#define POSTERN_BROKER_FIGURES_H

#include <stdint.h>

#include "core/metrics.h"

/* Bounds of broker/limits.h that somebody ran into. */
enum limit_hit {
    HIT_CONNECTIONS, /* all places are taken */
    HIT_HANDSHAKES,
    HIT_ADDRESS,
    HIT_MESSAGES,
    HIT_CARRY,
    HIT_INTRODUCTIONS, /* of one device or address */
    HIT_HOST,          /* of one host, by all */
    HIT_SAID,          /* in sessions that a host or client has not asked for */
    HIT_QUEUE,         /* a device reads too slowly, or a thread is behind */
    HIT_RELAYS,
    HIT_STUN,
    HIT_DRAINING,
    HIT_COUNT
};

enum figure {
    FIGURE_HANDSHAKING,
    FIGURE_CLIENTS,
    FIGURE_HOSTS,
    FIGURE_VISITORS,
    FIGURE_IN_LINE,
    FIGURE_PAIRS_WAITING,
    FIGURE_PAIRS_JOINED,
    FIGURE_PAIRS_MOVING,
    FIGURE_ACCEPTED_CONNECTIONS,
    FIGURE_SILENT,
    FIGURE_GARBAGE,
    FIGURE_HANDSHAKES,
    FIGURE_HELLOS,
    FIGURE_ROUTED,
    FIGURE_DROPPED,
    FIGURE_INTRODUCED,
    FIGURE_ACCEPTED_RELAY,
    FIGURE_ACCEPTED_DIRECT,
    FIGURE_REFUSED,                         /* by enum refuse_code, from 1 */
    FIGURE_BYES = FIGURE_REFUSED + 11,      /* by enum bye_code, from 1 */
    FIGURE_HITS = FIGURE_BYES + 6,          /* by enum limit_hit */
    FIGURE_PAIRS = FIGURE_HITS + HIT_COUNT, /* all that were joined */
    FIGURE_BYTES_SPLICED,
    FIGURE_BYTES_COPIED,
    FIGURE_TICKETS_EXPIRED,
    FIGURE_TICKETS_UNKNOWN,
    FIGURE_STUN_ANSWERED,
    FIGURE_STUN_IGNORED,
    FIGURE_COUNT
};

/* From accept to the proven key; from Introduce to the host's Accept; from that until
 * both sides of the pair are there. */
enum figure_time { TIME_HANDSHAKE, TIME_INTRODUCTION, TIME_PAIR, TIME_COUNT };

/* Only 64-bit words: copied word by word. */
struct figures {
    uint64_t values[FIGURE_COUNT];
    struct histogram times[TIME_COUNT];
};

/* By the thread that counts; and by any other, at any time. */
void figures_show(struct figures *shown, const struct figures *now);
void figures_add(struct figures *sum, const struct figures *shown);

void figures_write(const struct figures *sum, struct metrics *m);

#endif
