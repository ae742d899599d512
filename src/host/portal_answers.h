/*
 * Answers to what the portal asks in place of a service (enum portal_ask): JSON lines
 * on the stream, made here from what the host's commands would print.
 */
#ifndef POSTERN_HOST_PORTAL_ANSWERS_H
#define POSTERN_HOST_PORTAL_ANSWERS_H

#include "host/host.h"

struct portal_answers;

/* Freed by free(), once the streams have ended; NULL: no memory. */
struct portal_answers *portal_answers_new(struct host *h);
/* On 0 the pump is taken over, and the answer ends with it. */
MUST_CHECK int portal_answer(struct portal_answers *all, struct pump *pump,
                             const Visit *v);

#endif
