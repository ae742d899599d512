/* `postern receive`: takes files that joined devices send, until it is ended. */
#ifndef POSTERN_HOST_RECEIVE_H
#define POSTERN_HOST_RECEIVE_H

#include "core/err.h"
#include "io/events.h"
#include "io/statedir.h"

#define RECEIVE_SERVICE "receive"
#define RECEIVE_PORT "4481"

/*
 * Into `dir`, through the `serve` of that state directory. Each sender is a process of
 * its own. What is sent at once may have `max` bytes in all; 0: any. 0 after a signal.
 */
MUST_CHECK int receive_run(const struct statedir *state, const char *dir, uint64_t max,
                           struct events *out, struct fault *f);

#endif
