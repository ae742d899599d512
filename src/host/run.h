/*
 * `postern run`: starts a server program and publishes what it listens on, through the
 * running `postern serve` of this state directory, or through one of its own.
 */
#ifndef POSTERN_HOST_RUN_H
#define POSTERN_HOST_RUN_H

#include "host/serve.h"

struct run_config {
    struct serve_config serve; /* of its own host, when none runs */
    char *const *argv;         /* the program; ends with NULL */
    bool ask;                  /* on the terminal, before each is published */
    const char *audience;      /* devices and accounts, comma-separated; NULL: as their
                                  lists say */
    bool loopback;             /* the program listens on loopback only */
    const uint16_t *only;      /* publish these ports only; NULL: all */
    size_t only_count;
    struct events *out;
};

/*
 * Returns when the program and its children have ended, with its exit status in
 * `status` (128 and the signal's number when one ended it).
 */
MUST_CHECK int run_program(const struct run_config *c, int *status, struct fault *f);

#endif
