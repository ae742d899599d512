/* `postern netcheck`: what this network lets through, in words. */
#ifndef POSTERN_CLIENT_NETCHECK_H
#define POSTERN_CLIENT_NETCHECK_H

#include "core/link.h"
#include "io/events.h"

struct netcheck_config {
    const char *state; /* the directory, for where the broker was last */
    struct link broker;
    const struct keypair *key; /* borrowed */
    struct events *out;        /* borrowed */
};

/* Prints one netcheck event and, for people, what it means. At most about 10 s. */
MUST_CHECK int netcheck_run(const struct netcheck_config *c, struct fault *f);

#endif
