/* Watch, try, keep or go back; arithmetic over times and counts of bytes. */
#include "core/trial.h"

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t bit_s(uint64_t bytes, uint64_t us)
{
    return us != 0 ? bytes * 8 * 1000000 / us : 0;
}

static void measure_from(struct trial *t, const struct trial_report *r)
{
    t->since_us = r->now_us;
    t->since_bytes = r->bytes;
}

static uint64_t measured(const struct trial *t, const struct trial_report *r)
{
    return bit_s(r->bytes - t->since_bytes, r->now_us - t->since_us);
}

void trial_init(struct trial *t)
{
    *t = (struct trial){.pause_us = TRIAL_PAUSE_MIN_US, .hold_us = TRIAL_HOLD_MIN_US};
}

/* ------------------------------------------------------------------- on the path */

/* Only what a path could not carry says something of it; a relay is never blamed. */
static bool is_watched(const struct trial *t, const struct trial_report *r)
{
    if (r->path == TRIAL_NO_PATH || r->path != t->path || r->rival == TRIAL_NO_PATH)
        return false;
    return r->direct ? r->pressed && r->now_us >= t->not_before_us : t->held;
}

static enum trial_action watch(struct trial *t, const struct trial_report *r)
{
    if (!is_watched(t, r)) {
        t->path = r->path;
        measure_from(t, r);
        return TRIAL_NOTHING;
    }
    if (r->now_us - t->since_us < (t->paid ? TRIAL_WATCH_AGAIN_US : TRIAL_WATCH_US))
        return TRIAL_NOTHING;
    uint64_t rate = measured(t, r);
    measure_from(t, r);
    bool judged = r->direct ? rate >= TRIAL_FLOOR_BIT_S && rate <= TRIAL_CEILING_BIT_S
                            : rate >= t->held_bit_s;
    if (!judged)
        return TRIAL_NOTHING;
    t->running = true;
    t->reverse = !r->direct;
    t->moved = t->measuring = false;
    t->own_bit_s = rate;
    t->rival = r->rival;
    t->rival_us = r->rival_us;
    return TRIAL_BEGIN;
}

/* --------------------------------------------------------------------- the trial */

static enum trial_action keep(struct trial *t, const struct trial_report *r)
{
    t->running = false;
    if (t->reverse)
        return TRIAL_CLEAR;
    t->held = t->paid = true;
    t->held_bit_s = t->own_bit_s;
    t->until_us = r->now_us + t->hold_us;
    t->busy_us = t->busy_since_us = r->now_us;
    t->busy_bytes = r->bytes;
    t->not_before_us = 0;
    t->pause_us = TRIAL_PAUSE_MIN_US;
    return TRIAL_KEEP;
}

static enum trial_action go_back(struct trial *t, const struct trial_report *r)
{
    t->running = false;
    if (t->reverse)
        return TRIAL_BACK;
    t->not_before_us = r->now_us + t->pause_us;
    t->pause_us = min64(2 * t->pause_us, TRIAL_PAUSE_MAX_US);
    return TRIAL_BACK;
}

static enum trial_action run(struct trial *t, const struct trial_report *r)
{
    uint64_t age = r->now_us - t->since_us;
    if (!t->moved) {
        if (r->path == t->rival) {
            t->moved = true;
            measure_from(t, r);
            return TRIAL_NOTHING;
        }
        return age < TRIAL_MOVE_US ? TRIAL_NOTHING : go_back(t, r);
    }
    if (r->path != t->rival) /* it did not bear the session */
        return go_back(t, r);
    if (!t->measuring) {
        uint64_t settle = TRIAL_SETTLE_US + TRIAL_SETTLE_ROUNDS * (uint64_t)t->rival_us;
        if (age >= min64(settle, TRIAL_SETTLE_MAX_US)) {
            t->measuring = true;
            measure_from(t, r);
        }
        return TRIAL_NOTHING;
    }
    if (age < TRIAL_MEASURE_US)
        return TRIAL_NOTHING;
    t->rival_bit_s = measured(t, r);
    unsigned percent = t->reverse ? TRIAL_EQUAL_PERCENT : TRIAL_GAIN_PERCENT;
    return t->rival_bit_s * 100 >= t->own_bit_s * percent ? keep(t, r) : go_back(t, r);
}

/* --------------------------------------------------------------------- after it */

static enum trial_action hold(struct trial *t, const struct trial_report *r)
{
    uint64_t span = r->now_us - t->busy_since_us;
    if (span >= TRIAL_BUSY_US) {
        if (2 * bit_s(r->bytes - t->busy_bytes, span) >= t->held_bit_s)
            t->busy_us = r->now_us;
        t->busy_since_us = r->now_us;
        t->busy_bytes = r->bytes;
    }
    bool expired = r->now_us >= t->until_us;
    if (!expired && r->now_us - t->busy_us < TRIAL_IDLE_US)
        return TRIAL_NOTHING;
    t->held = false;
    if (expired)
        t->hold_us = min64(2 * t->hold_us, TRIAL_HOLD_MAX_US);
    return TRIAL_FORGIVE;
}

enum trial_action trial_next(struct trial *t, const struct trial_report *r)
{
    if (t->running)
        return run(t, r);
    enum trial_action a = t->held ? hold(t, r) : TRIAL_NOTHING;
    return a != TRIAL_NOTHING ? a : watch(t, r);
}

void trial_abort(struct trial *t, uint64_t now_us)
{
    if (!t->running)
        return;
    t->running = false;
    t->not_before_us = now_us + TRIAL_BUSY_US;
    t->path = TRIAL_NO_PATH;
}
