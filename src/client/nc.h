/* `postern nc`: stdin and stdout as one connection to a service. */
#ifndef POSTERN_CLIENT_NC_H
#define POSTERN_CLIENT_NC_H

#include "client/client.h"
#include "io/loop.h"

/*
 * Ends when both directions have ended: with an error when the connection was broken.
 * Also when stdout takes no more: at once when a write fails, and when nobody reads it
 * any more, as soon as stdin ends or pauses.
 */
MUST_CHECK int nc_run(const struct client_config *c, const char *host,
                      const char *service, struct fault *f);

/*
 * Between this process's stdin and stdout and a connected socket: two threads that
 * block, so that shared terminals and files keep their modes.
 */
struct stdio_bridge;

enum bridge_end {
    BRIDGE_DRAINED, /* stdout got the stream to its end */
    BRIDGE_BROKEN,  /* a write to stdout failed: `error` */
    BRIDGE_LEFT,    /* nobody reads stdout, and stdin has ended or pauses */
    BRIDGE_END_COUNT
};

/* `*fd` is the caller's. `on_end` runs on the loop, once for each. */
MUST_CHECK int stdio_bridge_start(struct stdio_bridge **out, struct loop *loop, int *fd,
                                  void (*on_end)(void *ctx, enum bridge_end how,
                                                 int error),
                                  void *ctx);
/* Bytes of stdin that the socket's other end has not taken. */
size_t stdio_bridge_waiting(const struct stdio_bridge *b);
/* The loop must run once more. NULL is fine. */
void stdio_bridge_free(struct stdio_bridge *b);

#endif
