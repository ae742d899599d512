/* `postern ping`: is the host there, over which path, and why not over another? */
#ifndef POSTERN_CLIENT_PING_H
#define POSTERN_CLIENT_PING_H

#include "client/client.h"

struct ping_config {
    struct client_config client;
    const char *host;
    unsigned count;
    bool settle; /* go on after `count` until every kind is in use or has its reason */
    unsigned timeout_ms;
};

/* Prints pong, path and rejected events; an error when no pong came in time. */
MUST_CHECK int ping_run(const struct ping_config *c, struct fault *f);
/* Tries each allowed kind alone; prints tried events; an error when none works. */
MUST_CHECK int ping_all_run(const struct ping_config *c, struct fault *f);

#endif
