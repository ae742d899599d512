/* The black-hole detector of one path; arithmetic over times and counts. */
#include "core/liveness.h"

void liveness_init(struct liveness *l, uint64_t now_us)
{
    *l = (struct liveness){.received_us = now_us,
                           .rtt_us = LIVENESS_RTT_UNKNOWN_US,
                           .pto_us = 2 * LIVENESS_RTT_UNKNOWN_US};
}

void liveness_on_received(struct liveness *l, uint64_t now_us)
{
    if (now_us > l->received_us)
        l->received_us = now_us;
    l->unanswered = 0;
    l->pinging = false;
    l->dead = false;
}

void liveness_on_sent(struct liveness *l, uint64_t now_us)
{
    if (l->unanswered == 0)
        l->first_sent_us = now_us;
    l->last_sent_us = now_us;
    l->unanswered++;
}

void liveness_on_activity(struct liveness *l)
{
    l->armed = true;
}

void liveness_on_rtt(struct liveness *l, uint32_t smoothed_us, uint32_t variation_us)
{
    /* RFC 9002 section 6.2.1, with the default max_ack_delay of 25 ms. */
    uint32_t spread = variation_us > 250 ? 4 * variation_us : 1000;
    l->rtt_us = smoothed_us;
    l->pto_us = smoothed_us + spread + 25000;
}

void liveness_set_streams(struct liveness *l, unsigned streams)
{
    l->streams = streams;
}

void liveness_suspect(struct liveness *l)
{
    l->pinging = true;
}

static uint64_t silence_us(const struct liveness *l)
{
    uint64_t by_rtt = 4 * (uint64_t)l->rtt_us;
    return by_rtt > LIVENESS_SILENCE_MIN_US ? by_rtt : LIVENESS_SILENCE_MIN_US;
}

static uint64_t dead_after_us(const struct liveness *l)
{
    uint64_t by_pto = 3 * (uint64_t)l->pto_us;
    return by_pto > LIVENESS_DEAD_MIN_US ? by_pto : LIVENESS_DEAD_MIN_US;
}

static unsigned min_sent(const struct liveness *l)
{
    return l->streams > 0 ? LIVENESS_MIN_SENT : LIVENESS_MIN_SENT_IDLE;
}

/* When the next ping of a train is due; UINT64_MAX when none is. */
static uint64_t ping_at_us(const struct liveness *l)
{
    if (l->pinging && l->unanswered < min_sent(l))
        return l->unanswered == 0 ? 0 : l->last_sent_us + l->pto_us;
    if (!l->pinging && l->armed && l->streams > 0)
        return l->received_us + silence_us(l);
    return UINT64_MAX;
}

static uint64_t dead_at_us(const struct liveness *l)
{
    return l->unanswered < min_sent(l) ? UINT64_MAX
                                       : l->first_sent_us + dead_after_us(l);
}

enum liveness_verdict liveness_check(struct liveness *l, uint64_t now_us)
{
    if (l->dead || now_us >= dead_at_us(l)) {
        l->dead = true;
        return LIVENESS_DEAD;
    }
    if (now_us < ping_at_us(l))
        return LIVENESS_FINE;
    if (!l->pinging) {
        l->pinging = true;
        l->armed = false;
        if (l->unanswered > 0) /* what is under way already asks the question */
            return LIVENESS_FINE;
    }
    return LIVENESS_PING;
}

uint64_t liveness_deadline_us(const struct liveness *l)
{
    if (l->dead)
        return UINT64_MAX;
    uint64_t dead = dead_at_us(l), ping = ping_at_us(l);
    return dead < ping ? dead : ping;
}
