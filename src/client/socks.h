/* `postern socks`: a SOCKS5 proxy for every host joined, and for nothing else. */
#ifndef POSTERN_CLIENT_SOCKS_H
#define POSTERN_CLIENT_SOCKS_H

#include "client/client.h"

/* `listen` is ADDR:PORT or NULL (127.0.0.1:1080). Runs until a signal. */
MUST_CHECK int socks_run(const struct client_config *c, const char *listen,
                         struct fault *f);

#endif
