/* `postern connect`: a service of a host at a local address. */
#ifndef POSTERN_CLIENT_CONNECT_H
#define POSTERN_CLIENT_CONNECT_H

#include "client/client.h"

struct connect_config {
    const char *target; /* HOST:SERVICE */
    /* ADDR:PORT, PORT or NULL: the service's own port on 127.0.0.1 when it can be had,
     * else one that the kernel picks. */
    const char *local;
    /* From the loop, once it listens there; NULL: nobody asks. */
    void (*on_local)(void *ctx, const struct addr *at);
    void *ctx;
};

/* Runs until a signal. */
MUST_CHECK int connect_run(const struct client_config *c,
                           const struct connect_config *what, struct fault *f);

#endif
