/* One number, and when it ends. */
#include "core/grant.h"

#include "core/least.h"

static const uint64_t second_us = 1000000;

bool grant_waits(const struct grant *g, uint64_t now_us)
{
    return g->asked_us != 0 && now_us < g->late_us;
}

static bool is_fresh(const struct grant *g, uint64_t now_us)
{
    return now_us - g->since_us < GRANT_LIFE_S * second_us;
}

/* Nothing answered: a few, now and then. */
static void lapse(struct grant *g, uint64_t now_us)
{
    if (!is_fresh(g, now_us))
        g->left = 0;
    if (g->asked_us == 0 || now_us < g->late_us)
        return;
    g->asked_us = 0;
    g->refused = false;
    if (g->unasked_us != 0 && now_us - g->unasked_us < GRANT_UNASKED_S * second_us) {
        g->again_us = g->unasked_us + GRANT_UNASKED_S * second_us;
        g->refused = true;
        return;
    }
    g->unasked_us = g->since_us = now_us;
    g->again_us = now_us + GRANT_LIFE_S * second_us;
    g->left = g->left > GRANT_UNASKED ? g->left : GRANT_UNASKED;
}

unsigned grant_left(struct grant *g, uint64_t now_us)
{
    lapse(g, now_us);
    return g->left;
}

unsigned grant_wants(const struct grant *g, unsigned wanted, uint64_t now_us)
{
    unsigned left = is_fresh(g, now_us) ? g->left : 0;
    bool may = g->asked_us == 0 && now_us >= g->again_us;
    return may && left < wanted ? wanted - left : 0;
}

void grant_renew(struct grant *g)
{
    g->asked = g->passed = 0;
}

void grant_asked(struct grant *g, unsigned n, unsigned rtt_ms, uint64_t now_us)
{
    g->asked = n;
    g->asked_us = now_us;
    g->late_us = now_us + (2ull * rtt_ms + GRANT_PATIENCE_MS) * 1000;
}

void grant_on_answer(struct grant *g, unsigned granted, unsigned wait_ms,
                     uint64_t now_us)
{
    bool late = g->asked_us == 0 || now_us >= g->late_us;
    unsigned left = is_fresh(g, now_us) ? g->left : 0;
    wait_ms = (unsigned)min64(wait_ms, GRANT_WAIT_MAX_MS);
    if (g->passed > 0) {
        g->passed--;
        return;
    }
    g->asked_us = 0;
    g->asked = 0;
    g->refused = granted == 0;
    g->again_us = granted == 0 ? now_us + wait_ms * 1000ull : 0;
    if (late && g->unasked_us != 0) /* which were opened in place of these */
        granted -= granted < GRANT_UNASKED ? granted : GRANT_UNASKED;
    if (granted == 0)
        return;
    g->left = left + granted;
    g->since_us = now_us;
}

void grant_count(struct grant *g, unsigned n)
{
    g->left -= n < g->left ? n : g->left;
}

void grant_return(struct grant *g, unsigned n)
{
    g->left += n;
}

unsigned grant_give_up(struct grant *g, uint64_t now_us)
{
    unsigned left = is_fresh(g, now_us) ? g->left : 0;
    g->left = 0;
    left += g->asked;
    g->passed += g->asked > 0;
    g->asked_us = g->asked = 0;
    return left;
}

uint64_t grant_wait_ms(const struct grant *g, uint64_t now_us)
{
    return g->refused && now_us < g->again_us ? (g->again_us - now_us) / 1000 + 1 : 0;
}
