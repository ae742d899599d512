/* Watch, try, keep or go back; arithmetic over times and counts of bytes. */
#include "core/trial.h"

#include "core/least.h"

static uint64_t bit_s(uint64_t bytes, uint64_t us)
{
    return us != 0 ? bytes * 8 * 1000000 / us : 0;
}

static bool at_least(uint64_t rate, uint64_t than, unsigned percent)
{
    return rate * 100 >= than * percent;
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

/* --------------------------------------------------------------------- on the path */

/* Over a relay that lies far away much is under way, and lost on a short path. */
static bool may_leave_relay(const struct trial *t, const struct trial_report *r,
                            uint64_t rate)
{
    uint64_t before = t->before_bit_s;
    bool settled = before != 0 && rate * 100 < before * TRIAL_GROWTH_PERCENT;
    uint64_t resend_us = rate * r->path_us / t->held_bit_s;
    return settled && rate >= t->held_bit_s && resend_us <= TRIAL_RESEND_US;
}

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
        t->before_bit_s = 0;
        measure_from(t, r);
        return TRIAL_NOTHING;
    }
    if (r->now_us - t->since_us < (t->paid ? TRIAL_WATCH_AGAIN_US : TRIAL_WATCH_US))
        return TRIAL_NOTHING;
    uint64_t rate = measured(t, r);
    measure_from(t, r);
    bool judged = r->direct ? rate >= TRIAL_FLOOR_BIT_S && rate <= TRIAL_CEILING_BIT_S
                            : may_leave_relay(t, r, rate);
    t->before_bit_s = rate;
    if (!judged)
        return TRIAL_NOTHING;
    t->running = true;
    t->reverse = !r->direct;
    t->moved = false;
    t->own_bit_s = rate;
    t->rival_bit_s = 0;
    t->rival = r->rival;
    return TRIAL_BEGIN;
}

/* ----------------------------------------------------------------------- the trial */

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
    t->worse_spans = 0;
    return TRIAL_KEEP;
}

static void wait_longer(struct trial *t, uint64_t now_us)
{
    t->not_before_us = now_us + t->pause_us;
    t->pause_us = min64(2 * t->pause_us, TRIAL_PAUSE_MAX_US);
}

static enum trial_action go_back(struct trial *t, const struct trial_report *r)
{
    t->running = false;
    if (!t->reverse)
        wait_longer(t, r->now_us);
    return TRIAL_BACK;
}

/* A span is over: is that enough, and may it become more? */
static enum trial_action judge(struct trial *t, const struct trial_report *r)
{
    uint64_t age = r->now_us - t->moved_us, round = r->path_us;
    uint64_t settle = TRIAL_SETTLE_US + TRIAL_SETTLE_ROUNDS * round;
    uint64_t longest = min64(TRIAL_MAX_US + TRIAL_MAX_ROUNDS * round, TRIAL_LONGEST_US);
    unsigned percent = t->reverse ? TRIAL_EQUAL_PERCENT : TRIAL_GAIN_PERCENT;
    bool settled = t->since_us >= t->moved_us + settle;
    uint64_t rate = measured(t, r), all = r->bytes - t->moved_bytes;
    t->before_bit_s = t->rival_bit_s;
    t->rival_bit_s = rate;
    measure_from(t, r);
    bool good = at_least(rate, t->own_bit_s, percent);
    bool paid = bit_s(all, age) * TRIAL_GAIN_PERCENT >= t->own_bit_s * percent;
    bool grows =
        rate > t->before_bit_s && at_least(rate, t->before_bit_s, TRIAL_GROWTH_PERCENT);
    if (age >= longest || (good && paid && settled))
        return good ? keep(t, r) : go_back(t, r);
    bool hopeless = (settled && !good && !grows) ||
                    (all == 0 && age >= TRIAL_SPAN_US + 2 * round) ||
                    (2 * age >= longest && !at_least(rate, t->own_bit_s, 50));
    return hopeless ? go_back(t, r) : TRIAL_NOTHING;
}

/* Nothing moves at all: no span of round trips, which grow as it stands, is waited for.
 */
static bool stands(struct trial *t, const struct trial_report *r)
{
    if (r->bytes != t->seen_bytes) {
        t->seen_bytes = r->bytes;
        t->seen_us = r->now_us;
    }
    return r->now_us - t->seen_us >= TRIAL_STAND_US + 2 * t->round_us;
}

static enum trial_action run(struct trial *t, const struct trial_report *r)
{
    uint64_t age = r->now_us - t->since_us;
    if (!t->moved) {
        if (r->path == t->rival) {
            t->moved = true;
            t->moved_us = r->now_us;
            t->moved_bytes = t->seen_bytes = r->bytes;
            t->seen_us = r->now_us;
            t->round_us = min64(r->path_us, TRIAL_STAND_ROUND_US);
            measure_from(t, r);
            return TRIAL_NOTHING;
        }
        return age < TRIAL_MOVE_US ? TRIAL_NOTHING : go_back(t, r);
    }
    if (r->path != t->rival) /* it did not bear the session */
        return go_back(t, r);
    if (stands(t, r))
        return go_back(t, r);
    uint64_t rounds = TRIAL_SPAN_ROUNDS * (uint64_t)r->path_us;
    return age < max64(TRIAL_SPAN_US, rounds) ? TRIAL_NOTHING : judge(t, r);
}

/* ------------------------------------------------------------------------ after it */

static enum trial_action hold(struct trial *t, const struct trial_report *r)
{
    uint64_t span = r->now_us - t->busy_since_us;
    if (span >= TRIAL_BUSY_US) {
        uint64_t rate = bit_s(r->bytes - t->busy_bytes, span);
        bool worse = r->pressed && !at_least(rate, t->held_bit_s, TRIAL_EQUAL_PERCENT);
        t->worse_spans = worse ? t->worse_spans + 1 : 0;
        if (2 * rate >= t->held_bit_s)
            t->busy_us = r->now_us;
        t->busy_since_us = r->now_us;
        t->busy_bytes = r->bytes;
    }
    bool expired = r->now_us >= t->until_us, worse = t->worse_spans >= 2;
    if (!expired && !worse && r->now_us - t->busy_us < TRIAL_IDLE_US)
        return TRIAL_NOTHING;
    t->held = false;
    t->worse_spans = 0;
    if (worse) {
        wait_longer(t, r->now_us);
    } else if (expired) {
        t->hold_us = min64(2 * t->hold_us, TRIAL_HOLD_MAX_US);
        t->pause_us = TRIAL_PAUSE_MIN_US;
    }
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
