/* Pauses between tries; counts and times, nothing else. */
#include "core/backoff.h"

#include <assert.h>

#include "core/rng.h"

enum { COUNT_MAX = 32 }; /* doublings: more than any policy has room for */

void backoff_init(struct backoff *b, const struct backoff_policy *p, uint64_t seed)
{
    assert(p->first_ms > 0 && p->max_ms >= p->first_ms);
    *b = (struct backoff){.policy = p, .rng = seed};
}

void backoff_reset(struct backoff *b)
{
    b->failures = b->lives = 0;
}

void backoff_on_up(struct backoff *b, uint64_t now_ms)
{
    if (b->up)
        return;
    b->up = true;
    b->since_ms = now_ms;
    b->failures /= 2;
}

static void count(unsigned *n)
{
    if (*n < COUNT_MAX)
        (*n)++;
}

uint32_t backoff_jitter_ms(struct backoff *b, uint32_t ms)
{
    return (uint32_t)(ms - ms / 2 + rng_below(&b->rng, ms / 2 + 1));
}

uint32_t backoff_on_down(struct backoff *b, uint64_t now_ms)
{
    const struct backoff_policy *p = b->policy;
    bool healthy = b->up && now_ms - b->since_ms >= p->health_ms;
    uint64_t ms = p->first_ms;
    if (healthy)
        backoff_reset(b);
    unsigned doublings = b->failures > b->lives ? b->failures : b->lives;
    count(b->up && !healthy ? &b->lives : &b->failures);
    b->up = false;
    while (doublings-- > 0 && ms < p->max_ms)
        ms *= 2;
    return backoff_jitter_ms(b, (uint32_t)(ms < p->max_ms ? ms : p->max_ms));
}
