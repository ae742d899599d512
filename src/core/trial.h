/*
 * The trial: is the direct path in use so much slower than another standing path that
 * the session is better off there? Knows times, counts of bytes and path ids; knows no
 * path, no session and not what the other path is.
 *
 * Only a session that is *pressed* is judged: for seconds on end one side had more to
 * send than the path took. Who sends less than the path bears never starts a trial.
 * After TRIAL_WATCH_US of that, at a rate between TRIAL_FLOOR_BIT_S and
 * TRIAL_CEILING_BIT_S, the session uses the other path, which has to find its speed
 * there: that is looked at in spans of TRIAL_SPAN_US and TRIAL_SPAN_ROUNDS round trips
 * of that path. It is over
 *   - with success, when a span carried TRIAL_GAIN_PERCENT of what the path from before
 *     did, and the whole of the trial no less than that did (what a hole in the stream
 *     held back arrives at once, and is no speed);
 *   - without, when a span after the first TRIAL_SETTLE_US and TRIAL_SETTLE_ROUNDS
 *     carried less, and not a quarter more than the one before it: it grows no more;
 *   - without, when nothing has come, or less than half at half-time, or nothing moves
 *     for TRIAL_STAND_US and two round trips as they were at its begin.
 * At its end, TRIAL_MAX_US and TRIAL_MAX_ROUNDS, the last span counts. Then the session
 * stays, or goes back for TRIAL_PAUSE_MIN_US, doubled each time in one network: both
 * are most often held up by the same uplink.
 *
 * While the session so uses a relay, a direct path of another sort gets a trial too,
 * and stays when it carries TRIAL_EQUAL_PERCENT of what the relay does. What is under
 * way on the relay then is sent again over that path, at worst at the pace of the one
 * that was left: there is no such trial where this would take more than
 * TRIAL_RESEND_US, nor before the relay has found its own speed.
 *
 * A path that was left is forgiven when the session has carried less than half of what
 * that path bore for TRIAL_IDLE_US, when for twice TRIAL_BUSY_US it had more to send
 * and carried less than TRIAL_EQUAL_PERCENT of it (then it is not judged for a pause),
 * or after TRIAL_HOLD_MIN_US, doubled each time: it is used again, and judged again
 * after a shorter watch. A change of network forgets all.
 */
#ifndef POSTERN_CORE_TRIAL_H
#define POSTERN_CORE_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#define TRIAL_NO_PATH 0
#define TRIAL_WATCH_US 2000000ull
#define TRIAL_WATCH_AGAIN_US 1000000ull
#define TRIAL_FLOOR_BIT_S 400000ull
#define TRIAL_CEILING_BIT_S 50000000ull
#define TRIAL_MOVE_US 2000000ull /* the other path must answer by then */
#define TRIAL_SPAN_US 400000ull
#define TRIAL_SPAN_ROUNDS 2
#define TRIAL_SETTLE_US 300000ull
#define TRIAL_SETTLE_ROUNDS 4
#define TRIAL_MAX_US 3000000ull
#define TRIAL_MAX_ROUNDS 12
#define TRIAL_LONGEST_US 8000000ull
#define TRIAL_STAND_US 1200000ull
#define TRIAL_STAND_ROUND_US 1000000ull /* of a round trip that is waited for */
#define TRIAL_GROWTH_PERCENT 125
#define TRIAL_GAIN_PERCENT 160
#define TRIAL_EQUAL_PERCENT 80
#define TRIAL_RESEND_US 300000ull
#define TRIAL_PAUSE_MIN_US 120000000ull
#define TRIAL_PAUSE_MAX_US 1920000000ull
#define TRIAL_HOLD_MIN_US 600000000ull
#define TRIAL_HOLD_MAX_US 4800000000ull
#define TRIAL_IDLE_US 60000000ull
#define TRIAL_BUSY_US                                                                  \
    5000000ull /* the rate of a held session is taken over so long                     \
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
    uint64_t bytes;   /* all that both ways have carried: received, acknowledged */
    bool pressed;     /* lately */
    bool direct;      /* the path in use is */
    uint32_t path;    /* in use; TRIAL_NO_PATH: none, or one not to be judged */
    uint32_t path_us; /* its round trip; 0: not known */
    uint32_t rival;   /* the one to try; TRIAL_NO_PATH: none stands */
};

struct trial {
    bool running, reverse; /* reverse: from the relay to a direct path */
    uint32_t path;         /* watched, or where the session was before the trial */
    uint32_t rival;        /* running: the one tried */
    uint64_t since_us, since_bytes; /* of what is being measured */
    bool moved;
    uint64_t moved_us, moved_bytes;                /* when the rival began to carry */
    uint64_t round_us, seen_us, seen_bytes;        /* its, then; when anything moved */
    uint64_t own_bit_s, rival_bit_s, before_bit_s; /* before: of the span before */
    /* after a trial */
    uint64_t not_before_us, pause_us;
    bool held, paid; /* a path is left now; was before in this network */
    uint64_t held_bit_s, hold_us, until_us;
    uint64_t busy_us, busy_since_us, busy_bytes;
    unsigned worse_spans;
};

void trial_init(struct trial *t);
/* To be called now and then (some times a second). */
enum trial_action trial_next(struct trial *t, const struct trial_report *r);
/* Somebody else has chosen a path: a running trial is over without a verdict. */
void trial_abort(struct trial *t, uint64_t now_us);

#endif
