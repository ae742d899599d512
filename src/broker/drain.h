/*
 * The end of a broker that makes way for the next one: when it is asked on its local
 * socket it gives its ports and its state back, sends its devices there, and goes on
 * only with the sessions that it relays, until they have ended or moved, or their time
 * is over. What a thread does for that is known to it.
 */
#ifndef POSTERN_BROKER_DRAIN_H
#define POSTERN_BROKER_DRAIN_H

#include <stddef.h>

#include "core/err.h"
#include "io/loop.h"

struct drain;

struct drain_config {
    struct loop *loop;
    const char *socket_path;
    /* Devices are sent away and ports closed, by all threads, which takes a moment. */
    void (*begin)(void *ctx);
    /* All have; called until it is so. */
    bool (*has_begun)(void *ctx);
    /* Nothing may stand in the next one's way any more. */
    void (*release)(void *ctx);
    size_t (*relayed)(void *ctx); /* sessions, now */
    void (*over)(void *ctx);
    void *ctx;
};

MUST_CHECK int drain_open(struct drain **out, const struct drain_config *c,
                          struct fault *f);
/* NULL is fine. */
void drain_close(struct drain *d);

#endif
