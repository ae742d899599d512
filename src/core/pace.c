/* A bucket that is kept as the time at which it will be full. */
#include "core/pace.h"

#include "core/least.h"

uint64_t pace_free_ms(const struct pace *p, const struct pace_policy *policy,
                      uint64_t now_ms)
{
    uint64_t room_ms = (uint64_t)policy->at_once * policy->every_ms - policy->every_ms;
    return p->full_ms > now_ms + room_ms ? p->full_ms - room_ms : now_ms;
}

void pace_spend(struct pace *p, const struct pace_policy *policy, uint64_t now_ms)
{
    p->full_ms = max64(p->full_ms, now_ms) + policy->every_ms;
}

bool pace_take(struct pace *p, const struct pace_policy *policy, uint64_t now_ms)
{
    if (pace_free_ms(p, policy, now_ms) > now_ms)
        return false;
    pace_spend(p, policy, now_ms);
    return true;
}

void pace_give_back(struct pace *p, const struct pace_policy *policy, unsigned n)
{
    uint64_t ms = (uint64_t)n * policy->every_ms;
    p->full_ms = p->full_ms > ms ? p->full_ms - ms : 0;
}
