/* Pauses of who has lost its broker; times and kinds of failure, nothing else. */
#include "core/comeback.h"

static const struct backoff_policy usual = {
    .first_ms = 200, .max_ms = 15000, .health_ms = 20000};
/* When it is changed, it works again in seconds. */
static const struct backoff_policy fatal = {
    .first_ms = 2000, .max_ms = 10000, .health_ms = 20000};

enum {
    AWAY_PAUSE_MS = 1000,
    AWAY_SHARE = 30, /* of the time that it is away */
    ENDED_PAUSE_MS = 4000,
    BEGUN_PAUSE_MS = 1500,
    STRANGER_PAUSE_MS = 3000, /* who logs in at the network's page wants to get on */
    STRANGER_MS = 600000,     /* for so long */
};

void comeback_init(struct comeback *c, uint64_t seed, uint64_t now_ms)
{
    *c = (struct comeback){.down_ms = now_ms};
    backoff_init(&c->backoff, &usual, seed);
    backoff_init(&c->fatal, &fatal, seed);
}

void comeback_on_up(struct comeback *c, bool begun, uint64_t now_ms)
{
    c->up = true;
    c->anew = begun || c->refused;
    c->refused = false;
    c->stranger_ms = 0;
    backoff_on_up(&c->backoff, now_ms);
    backoff_on_up(&c->fatal, now_ms);
}

static uint32_t away_ms(const struct comeback *c, uint64_t now_ms)
{
    uint64_t ms = (now_ms - c->down_ms) / AWAY_SHARE;
    ms = ms > AWAY_PAUSE_MS ? ms : AWAY_PAUSE_MS;
    return (uint32_t)(ms < usual.max_ms ? ms : usual.max_ms);
}

static uint32_t most_ms(const struct comeback *c, enum comeback_why why,
                        uint64_t now_ms)
{
    switch (why) {
    case COMEBACK_REFUSED:
        return away_ms(c, now_ms);
    case COMEBACK_DARK:
    case COMEBACK_TURNED: /* by a proxy before it; or it is overrun */
        return 2 * away_ms(c, now_ms);
    case COMEBACK_ENDED:
        return c->anew ? BEGUN_PAUSE_MS : ENDED_PAUSE_MS;
    case COMEBACK_STRANGER:
        if (now_ms - c->stranger_ms <= STRANGER_MS)
            return STRANGER_PAUSE_MS;
        break;
    case COMEBACK_OTHER:
    case COMEBACK_FATAL:
        break;
    }
    return UINT32_MAX;
}

uint32_t comeback_on_down(struct comeback *c, enum comeback_why why, uint64_t now_ms)
{
    struct backoff *b = why == COMEBACK_FATAL ? &c->fatal : &c->backoff;
    uint32_t ms = backoff_on_down(b, now_ms);
    if (c->up)
        c->down_ms = now_ms;
    c->up = false;
    c->refused = c->refused || why == COMEBACK_REFUSED;
    if (why == COMEBACK_STRANGER && c->stranger_ms == 0)
        c->stranger_ms = now_ms;
    uint32_t most = most_ms(c, why, now_ms);
    return ms <= most ? ms : backoff_jitter_ms(&c->backoff, most);
}

void comeback_reset(struct comeback *c)
{
    backoff_reset(&c->backoff);
    backoff_reset(&c->fatal);
}
