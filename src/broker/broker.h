/*
 * The broker as one object: what a command needs to run it. How devices are served
 * is known to the worker threads behind it, not here.
 */
#ifndef POSTERN_BROKER_BROKER_H
#define POSTERN_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>

#include "broker/broker_config.h"
#include "core/addr.h"

struct broker;
struct figures;

/*
 * Opens state and sockets, starts the threads and calls on_ready. Fills `f` on
 * failure, when nothing is left behind. The threads log at the caller's log_level().
 * SIGPIPE is ignored from here on.
 */
MUST_CHECK int broker_open(struct broker **out, const struct broker_config *c,
                           struct fault *f);
/* The broker's link, with the enrolment token unless open; lives as long as `b`. */
const char *broker_link(const struct broker *b);
const struct keypair *broker_key(const struct broker *b); /* likewise */
/* The name or address by which others know it, and an address where it listens. */
const char *broker_public_name(const struct broker *b);
uint16_t broker_port(const struct broker *b);
void broker_local(const struct broker *b, struct addr *a);
/* The addresses it is bound to, from 0; false when there are no more. */
bool broker_bound(const struct broker *b, size_t i, struct addr *a, bool *dual_stack);
/* What all threads count, as of the last second. */
void broker_figures(const struct broker *b, struct figures *sum);
/* Says goodbye to every device, ends the threads and frees. NULL is fine. */
void broker_close(struct broker *b);

/* broker_open, then waits for a signal to stop (io/stop.h), then broker_close. */
MUST_CHECK int broker_run(const struct broker_config *c, struct fault *f);

#endif
