/*
 * Connects to one of a service's targets, or has the agent's host do it: all are tried,
 * each a little after the one before (RFC 8305 section 5), and the first that connects
 * wins. What is spoken then, and who asked, is not known here.
 */
#ifndef POSTERN_HOST_RACE_H
#define POSTERN_HOST_RACE_H

#include "core/proto.h"
#include "host/agent.h"
#include "host/service.h"
#include "io/loop.h"

/* The next target starts this long after the one before; at once when that failed. */
#define RACE_STAGGER_MS 100

struct race;

/* From the loop, never from inside race_start. One of them, once. */
struct race_events {
    /* `fd` is connected, non-blocking, and the caller's. */
    void (*on_won)(void *ctx, int fd);
    /*
     * A host of the LAN took it: `stream` is the callee's, to be joined, attached or
     * dropped at once (session/pump.h).
     */
    void (*on_won_there)(void *ctx, struct pump *stream);
    /* All failed: the first target's reason, in words for people. */
    void (*on_lost)(void *ctx, enum stream_code code, const char *reason);
};

/*
 * `s` is a TCP service, or one of the agent's hosts; copied. `agent` is asked for the
 * targets of its hosts; NULL when there is none. `who` comes, as a program is told that
 * takes connections by itself. The race stays until race_free, which
 * may be called inside its callbacks.
 */
MUST_CHECK int race_start(struct race **out, struct loop *loop, struct agent *agent,
                          const struct service *s, const char *who,
                          const struct race_events *events, void *ctx);
/* Nothing is called any more. NULL is fine. */
void race_free(struct race *r);

#endif
