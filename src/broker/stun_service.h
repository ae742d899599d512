/*
 * The broker's UDP side, one for each thread: answers STUN binding requests from the
 * address that they were sent to, or from the other one when asked (RFC 5780), and
 * nothing else. A source address gets LIMIT_RATE_STUN answers a second, and as many
 * more to who proves that it is his (core/vouch_mark.h); with headers an answer is at
 * most 2.2 times its request, so that this is a poor amplifier.
 */
#ifndef POSTERN_BROKER_STUN_SERVICE_H
#define POSTERN_BROKER_STUN_SERVICE_H

#include <stdint.h>

#include "broker/limits.h"
#include "broker/plan.h"
#include "core/err.h"
#include "io/loop.h"

struct stun_service;

struct stun_stats {
    uint64_t answered, limited, ignored;
};

/*
 * `plan`, `limits` and `secret` (of marks: broker/vouch.h) are borrowed while it lives;
 * `limits` NULL for no limit.
 */
MUST_CHECK int stun_service_open(struct stun_service **out, struct loop *loop,
                                 const struct plan *plan, struct addr_limits *limits,
                                 const uint8_t *secret);
/* NULL is fine. Memory goes when the loop next turns. */
void stun_service_close(struct stun_service *s);
void stun_service_read_stats(const struct stun_service *s, struct stun_stats *out);

#endif
