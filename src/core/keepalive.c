/* Learning the safe silence of one path; arithmetic over times, nothing else. */
#include "core/keepalive.h"

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
    return v < low ? low : v > high ? high : v;
}

void keepalive_init(struct keepalive *k, bool leads, uint64_t learned_us,
                    uint64_t now_us)
{
    *k = (struct keepalive){.leads = leads,
                            .max_us = KEEPALIVE_MAX_US,
                            .interval_us = KEEPALIVE_START_US,
                            .last_us = now_us};
    if (learned_us > 0) {
        k->limit_us = clamp(learned_us, KEEPALIVE_MIN_US, KEEPALIVE_MAX_US);
        k->interval_us = k->limit_us;
    }
}

void keepalive_bound(struct keepalive *k, uint64_t max_us)
{
    k->max_us = max_us;
    if (k->limit_us > max_us)
        k->limit_us = max_us;
    if (k->interval_us > max_us)
        k->interval_us = max_us;
}

void keepalive_on_new_path(struct keepalive *k, uint64_t now_us)
{
    k->probing = false;
    k->last_us = now_us;
}

static uint64_t wait_us(const struct keepalive *k)
{
    return k->leads ? k->interval_us : KEEPALIVE_FOLLOWER_US;
}

void keepalive_on_sent(struct keepalive *k, uint64_t now_us)
{
    if (now_us > k->last_us)
        k->last_us = now_us;
}

static uint64_t limit(const struct keepalive *k)
{
    return k->limit_us > 0 ? k->limit_us : k->max_us;
}

static uint64_t least(const struct keepalive *k)
{
    return KEEPALIVE_MIN_US < k->max_us ? KEEPALIVE_MIN_US : k->max_us;
}

static void survived(struct keepalive *k)
{
    if (k->doubt > 0)
        k->doubt--;
    if (k->silence_us > k->longest_us)
        k->longest_us = k->silence_us;
    if (!k->leads || k->silence_us < k->interval_us)
        return;
    if (k->interval_us < limit(k)) {
        k->interval_us = clamp(k->interval_us + k->interval_us / 2, least(k), limit(k));
        return;
    }
    if (k->limit_us == 0 || ++k->survived < KEEPALIVE_RETRY_SURVIVED)
        return;
    k->survived = 0;
    k->limit_us = clamp(k->limit_us + k->limit_us / 4, least(k), k->max_us);
    k->interval_us = k->limit_us;
}

void keepalive_on_received(struct keepalive *k, uint64_t now_us)
{
    (void)now_us; /* when it came teaches nothing; callers report both ways alike */
    if (!k->probing)
        return;
    k->probing = false;
    survived(k);
}

bool keepalive_due(struct keepalive *k, uint64_t now_us)
{
    if (k->probing || now_us < k->last_us + wait_us(k))
        return false;
    k->silence_us = now_us - k->last_us;
    k->probing = true;
    return true;
}

uint64_t keepalive_deadline_us(const struct keepalive *k)
{
    return k->probing ? UINT64_MAX : k->last_us + wait_us(k);
}

void keepalive_on_dead(struct keepalive *k)
{
    if (!k->probing)
        return; /* it died under traffic: no NAT timer did that */
    bool credible = k->silence_us > k->longest_us || k->doubt > 0;
    uint64_t limit_us = k->silence_us / 10 * 7;
    k->probing = false;
    k->survived = 0;
    k->doubt = credible ? 0 : KEEPALIVE_DOUBT;
    if (!credible)
        return;
    k->longest_us = 0;
    k->limit_us = clamp(limit_us, least(k), limit(k));
    k->interval_us = clamp(k->interval_us, least(k), k->limit_us);
}

uint64_t keepalive_export(const struct keepalive *k)
{
    if (k->limit_us > 0)
        return k->limit_us < k->interval_us ? k->limit_us : k->interval_us;
    return k->interval_us > KEEPALIVE_START_US ? k->interval_us : 0;
}
