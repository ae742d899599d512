/*
 * The way to the agent of a LAN: this host hands its services to it in place of a
 * broker, comes back by itself, and makes the connections that the agent asks for. It
 * needs no route to the internet. The other side is host/agent.h.
 */
#ifndef POSTERN_HOST_VIA_H
#define POSTERN_HOST_VIA_H

#include <stdbool.h>

#include "core/link.h"

struct via;
struct serve;

struct via_events {
    /* The agent took us in. `first`: for the first time in this run. */
    void (*on_up)(void *ctx, bool first);
    /*
     * Not connected; it tries again by itself in `retry_ms`. `fatal`: until something
     * is changed trying again cannot help.
     */
    void (*on_down)(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal);
};

/* Begins to connect to the agent of `link`. Events come from the loop. */
MUST_CHECK int via_open(struct via **out, struct serve *s, const struct link *link,
                        const struct via_events *events, struct fault *f);
/* Ends its connections. NULL is fine. */
void via_close(struct via *v);
/* What is published has changed. NULL is fine. */
void via_tell_services(struct via *v);
/* The network changed: a pause between tries is over. NULL is fine. */
void via_kick(struct via *v);

#endif
