/*
 * What an error means for who waits for a host: whether waiting can help at all, and
 * for how long a command waits that has something to do and is done then. The one place
 * where that is decided: a standing command (connect, socks, up, serve) ends by itself
 * for no error that passes. Knows errors and who spoke, no words.
 */
#ifndef POSTERN_CORE_PATIENCE_H
#define POSTERN_CORE_PATIENCE_H

#include <stdbool.h>

/* Who is behind an error: the same one may be a passing one of the network's, and the
 * last word of a peer. */
enum patience_from {
    PATIENCE_LINE = 1,   /* what became of a try to reach the broker */
    PATIENCE_BROKER = 2, /* the broker said it */
    PATIENCE_HOST = 4,   /* the host did, or its session */
};

/* Trying again cannot help until somebody has done something. */
bool patience_ends(int err, enum patience_from from);

/* How it stands with the broker of who waits. */
enum patience_broker {
    PATIENCE_BROKER_UP,
    PATIENCE_BROKER_LOST, /* it was there in this run */
    PATIENCE_BROKER_UNSEEN,
    PATIENCE_BROKERS,
};

enum { PATIENCE_LONG_MS = 30000 };

/* For so long a command waits that cannot begin; 0: for that not at all. */
unsigned patience_ms(int err, enum patience_broker broker);

#endif
