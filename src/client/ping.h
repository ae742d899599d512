/* `postern ping`: is the host there, over which path, and why not over another? */
#ifndef POSTERN_CLIENT_PING_H
#define POSTERN_CLIENT_PING_H

#include "client/client.h"

struct ping_config {
    struct client_config client;
    const char *host;
    unsigned count;
    unsigned timeout_ms;
};

/* Prints pong, path and rejected events; an error when no pong came in time. */
MUST_CHECK int ping_run(const struct ping_config *c, struct fault *f);

#endif
