/* `postern send`: files and directories to a host that runs `postern receive`. */
#ifndef POSTERN_CLIENT_SEND_H
#define POSTERN_CLIENT_SEND_H

#include "client/client.h"

/* Prints `sent` for each file that the host has now, and `progress` on the way. */
MUST_CHECK int send_run(const struct client_config *c, const char *const *paths,
                        size_t count, const char *host, struct fault *f);

#endif
