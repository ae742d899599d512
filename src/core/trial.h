/*
 * The trial: is the direct path in use so much slower than another standing path that
 * the session is better off there? Knows times, counts of bytes and path ids; knows no
 * path, no session and not what the other path is.
 *
 * Only a session that is *pressed* is judged: for seconds on end one side had more to
 * send than the path took. Who sends less than the path bears never starts a trial.
 * After TRIAL_WATCH_US of that, at a rate between TRIAL_FLOOR_BIT_S and
 * TRIAL_CEILING_BIT_S, the session uses the other path: for the time that it needs to
 * find its speed there, and TRIAL_MEASURE_US more, which count. It stays when it then
 * carries TRIAL_GAIN times as much, and goes back otherwise, for TRIAL_PAUSE_MIN_US,
 * doubled each time in one network: both are most often held up by the same uplink.
 *
 * While the session so uses a relay, a direct path of another sort gets a trial too,
 * and stays when it carries TRIAL_EQUAL_PERCENT of what the relay does: one that does
 * not costs a second of bulk, so callers offer few.
 *
 * A path that was left is forgiven when the session has carried less than half of what
 * that path bore for TRIAL_IDLE_US, or after TRIAL_HOLD_MIN_US, doubled each time: it
 * is used again, and judged again after a shorter watch. A change of network forgets
 * all.
 */
#ifndef POSTERN_CORE_TRIAL_H
#define POSTERN_CORE_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#define TRIAL_NO_PATH 0
#define TRIAL_WATCH_US 2000000ull
#define TRIAL_WATCH_AGAIN_US 1000000ull
#define TRIAL_FLOOR_BIT_S 200000ull
#define TRIAL_CEILING_BIT_S 50000000ull
#define TRIAL_MOVE_US 2000000ull  /* the other path must answer by then */
#define TRIAL_SETTLE_US 400000ull /* and TRIAL_SETTLE_ROUNDS round trips */
#define TRIAL_SETTLE_ROUNDS 8
#define TRIAL_SETTLE_MAX_US 2500000ull
#define TRIAL_MEASURE_US 600000ull
#define TRIAL_GAIN_PERCENT 160
#define TRIAL_EQUAL_PERCENT 80
#define TRIAL_PAUSE_MIN_US 120000000ull
#define TRIAL_PAUSE_MAX_US 1920000000ull
#define TRIAL_HOLD_MIN_US 600000000ull
#define TRIAL_HOLD_MAX_US 4800000000ull
#define TRIAL_IDLE_US 60000000ull
#define TRIAL_BUSY_US                                                                  \
    5000000ull /* over so long the rate of a held session is taken                     \
                */

enum trial_action {
    TRIAL_NOTHING,
    TRIAL_BEGIN,   /* use `rival`, and report each TRIAL_TICK_US until it is over */
    TRIAL_KEEP,    /* `rival` carries so much more that it stays, as the rates say */
    TRIAL_CLEAR,   /* it stays, being as good as the relay */
    TRIAL_BACK,    /* use the path from before */
    TRIAL_FORGIVE, /* whatever was left by KEEP may be used again */
};
#define TRIAL_TICK_US 100000ull

struct trial_report {
    uint64_t now_us;
    uint64_t bytes;    /* all that both ways have carried: received, acknowledged */
    bool pressed;      /* lately */
    bool direct;       /* the path in use is */
    uint32_t path;     /* in use; TRIAL_NO_PATH: none, or one not to be judged */
    uint32_t rival;    /* the one to try; TRIAL_NO_PATH: none stands */
    uint32_t rival_us; /* its round trip */
};

struct trial {
    bool running, reverse; /* reverse: from the relay to a direct path */
    uint32_t path;         /* watched, or where the session was before the trial */
    uint32_t rival;        /* running: the one tried */
    uint32_t rival_us;
    uint64_t since_us, since_bytes; /* of what is being measured */
    bool moved, measuring;
    uint64_t own_bit_s, rival_bit_s;
    /* after a trial */
    uint64_t not_before_us, pause_us;
    bool held, paid; /* a path is left now; was before in this network */
    uint64_t held_bit_s, hold_us, until_us;
    uint64_t busy_us, busy_since_us, busy_bytes;
};

void trial_init(struct trial *t);
/* To be called now and then (some times a second). */
enum trial_action trial_next(struct trial *t, const struct trial_report *r);
/* Somebody else has chosen a path: a running trial is over without a verdict. */
void trial_abort(struct trial *t, uint64_t now_us);

#endif
