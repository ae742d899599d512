/* `postern nc`: stdin and stdout as one connection to a service. */
#ifndef POSTERN_CLIENT_NC_H
#define POSTERN_CLIENT_NC_H

#include "client/client.h"

/*
 * Ends when both directions have ended: with an error when the connection was broken,
 * or stdin failed before its end, which breaks it. Also when stdout takes no more: at
 * once when a write fails, and when nobody reads it any more, as soon as stdin ends or
 * pauses.
 */
MUST_CHECK int nc_run(const struct client_config *c, const char *host,
                      const char *service, struct fault *f);

#endif
