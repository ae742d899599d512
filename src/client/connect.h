/* `postern connect`: services of hosts at local addresses. */
#ifndef POSTERN_CLIENT_CONNECT_H
#define POSTERN_CLIENT_CONNECT_H

#include "client/client.h"

struct connect_config {
    /*
     * HOST:SERVICE, and behind each where it is found: ADDR:PORT, PORT, unix:PATH, or
     * nothing, which is a socket that systemd gave, the service's own port on 127.0.0.1
     * when it can be had, or one that the kernel picks.
     */
    const char *const *words;
    size_t count;
    /* From the loop, once it listens there; NULL: nobody asks. */
    void (*on_local)(void *ctx, const struct addr *at);
    void *ctx;
};

/* Runs until a signal. */
MUST_CHECK int connect_run(const struct client_config *c,
                           const struct connect_config *what, struct fault *f);

#endif
