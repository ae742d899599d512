/*
 * Before a daemon says how its brokers stand they are asked: what a keepalive would
 * find out in half a minute is known in a second. Who asked waits for that, no longer.
 */
#ifndef POSTERN_PATH_INQUIRY_H
#define POSTERN_PATH_INQUIRY_H

#include "core/list.h"
#include "io/local.h"
#include "io/loop.h"

struct inquiry_events {
    /* Asks each broker (uplink_ask). */
    void (*ask)(void *ctx);
    /* Whether one of them owes an answer still (uplink_is_awaited). */
    bool (*pending)(void *ctx);
    /* Says how they stand; `c` is the owner's again. */
    void (*answer)(void *ctx, struct local_conn *c);
};

struct inquiries {
    struct list all;
    struct timer timer;
    struct loop *loop;
    const struct inquiry_events *events;
    void *ctx;
};

void inquiries_init(struct inquiries *q, struct loop *loop,
                    const struct inquiry_events *events, void *ctx);
/* Answered when the brokers have, at the latest after a second. */
void inquiries_add(struct inquiries *q, struct local_conn *c);
/* `c` went away. */
void inquiries_forget(struct inquiries *q, const struct local_conn *c);
/* Those that wait are not answered any more. */
void inquiries_fini(struct inquiries *q);

#endif
