/* The client commands, one call each. All return 0 or a negative error with `f`. */
#ifndef POSTERN_CLIENT_JOIN_H
#define POSTERN_CLIENT_JOIN_H

#include "client/client.h"

/*
 * Accepts the invite `link`: proves its secret to the host, writes the host into the
 * book under the name it gives itself (or `alias`), and prints a `joined` event.
 */
MUST_CHECK int join_run(const struct client_config *c, const char *link,
                        const char *own_name, struct fault *f);

#endif
