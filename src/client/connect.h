/* `postern connect`: a service of a host at a local address. */
#ifndef POSTERN_CLIENT_CONNECT_H
#define POSTERN_CLIENT_CONNECT_H

#include "client/client.h"

/*
 * `target` is HOST:SERVICE, `local` ADDR:PORT, PORT or NULL (the service's own port on
 * 127.0.0.1 when it can be had, else one that the kernel picks). Runs until a signal.
 */
MUST_CHECK int connect_run(const struct client_config *c, const char *target,
                           const char *local, struct fault *f);

#endif
