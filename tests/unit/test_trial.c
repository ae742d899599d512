/* Trials as stories: a flow at some rate on one path, and what another would carry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/trial.h"

#define S 1000000ull
#define MBIT 1000000ull
#define TICK_US 100000ull

enum { DIRECT = 1, RELAY = 2 };

/* A session that moves at once, over paths that carry so much. */
struct story {
    struct trial t;
    uint64_t now_us, bytes;
    uint64_t direct, relay; /* bit/s */
    uint64_t round_us;      /* of the relay */
    double speed, growth;   /* on it: at first, and by how much in each round trip */
    uint64_t hole_us;       /* of a trial, in which nothing arrives: it does after */
    uint64_t held, moved_us, below_us; /* below_us: on the relay, slower than before */
    bool pressed, forgiven;
    bool jams; /* the relay takes seconds for an answer, once it is used */
    uint32_t path;
    unsigned trials, kept;
    uint64_t away_us; /* not on the direct path */
};

static void begin(struct story *s, uint64_t direct, uint64_t relay)
{
    *s = (struct story){.now_us = S, .direct = direct, .relay = relay, .path = DIRECT};
    s->pressed = true;
    s->round_us = 50000;
    s->growth = 1;
    s->speed = (double)relay;
    trial_init(&s->t);
}

/* The relay of a session that begins with ten packets, as all do. */
static void ramps(struct story *s, uint64_t round_us, double growth)
{
    s->round_us = round_us;
    s->growth = growth;
    s->speed = 12000.0 * 8 * S / (double)round_us;
}

static uint64_t rate_now(const struct story *s)
{
    double speed = s->speed;
    uint64_t left = s->now_us - s->moved_us;
    if (s->path == DIRECT)
        return s->direct;
    if (left < s->round_us)
        return 0;
    for (; left >= s->round_us && speed < (double)s->relay; left -= s->round_us)
        speed *= s->growth;
    return speed < (double)s->relay ? (uint64_t)speed : s->relay;
}

static void carry(struct story *s)
{
    uint64_t rate = rate_now(s), bytes = rate / 8 * TICK_US / S;
    bool hole = s->path == RELAY && s->now_us - s->moved_us < s->hole_us;
    s->held += bytes;
    if (!hole) {
        s->bytes += s->held;
        s->held = 0;
    }
    s->away_us += s->path == RELAY ? TICK_US : 0;
    s->below_us += s->path == RELAY && rate < s->direct ? TICK_US : 0;
}

static void step(struct story *s)
{
    bool judged = s->t.running || s->path == DIRECT;
    struct trial_report r = {.pressed = s->pressed,
                             .direct = s->path == DIRECT,
                             .path = judged ? s->path : TRIAL_NO_PATH,
                             .rival = s->path == DIRECT ? RELAY : TRIAL_NO_PATH,
                             .path_us = 10000};
    if (s->path == RELAY)
        r.path_us =
            (uint32_t)(s->jams && s->now_us > s->moved_us + 2 * TICK_US ? 5 * S
                                                                        : s->round_us);
    s->now_us += TICK_US;
    carry(s);
    r.now_us = s->now_us;
    r.bytes = s->bytes;
    switch (trial_next(&s->t, &r)) {
    case TRIAL_NOTHING:
        break;
    case TRIAL_BEGIN:
        s->trials++;
        s->path = s->t.rival;
        s->moved_us = s->now_us;
        break;
    case TRIAL_KEEP:
        s->kept++;
        break;
    case TRIAL_CLEAR:
        fail();
        break;
    case TRIAL_BACK:
        s->path = DIRECT;
        break;
    case TRIAL_FORGIVE:
        s->forgiven = true;
        s->path = DIRECT;
        break;
    }
}

static void pass(struct story *s, uint64_t us)
{
    for (uint64_t end = s->now_us + us; s->now_us < end;)
        step(s);
}

static void test_slow_is_left(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 3 * MBIT, 40 * MBIT);
    pass(&s, 5 * S);
    assert_int_equal(s.kept, 1);
    assert_int_equal(s.path, RELAY);
    assert_in_range(s.t.own_bit_s, 29 * MBIT / 10, 31 * MBIT / 10);
    assert_in_range(s.t.rival_bit_s, 39 * MBIT, 41 * MBIT);
}

/* An uplink that holds every path: one short trial, then pauses of minutes, growing. */
static void test_equal_is_left_alone(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 10 * MBIT, 10 * MBIT);
    pass(&s, 60 * S);
    assert_int_equal(s.trials, 1);
    assert_true(s.away_us < 2 * S);
    pass(&s, 3540 * S);
    assert_int_equal(s.trials, 5); /* at 0, 2, 6, 14, 30 minutes */
    assert_int_equal(s.kept, 0);
    assert_int_equal(s.path, DIRECT);
}

/* A relay far away, whose speed is found in so many round trips: it is waited for. */
static void test_far_relay(void **state)
{
    (void)state;
    static const uint64_t rounds_ms[] = {5, 20, 50, 100, 200, 320, 450, 600};
    for (unsigned i = 0; i < sizeof(rounds_ms) / sizeof(rounds_ms[0]); i++) {
        struct story s;
        begin(&s, 3 * MBIT, 40 * MBIT);
        ramps(&s, rounds_ms[i] * 1000, 2);
        pass(&s, 20 * S);
        assert_int_equal(s.trials, 1);
        assert_int_equal(s.kept, 1);
        assert_true(s.below_us <= S + 5 * rounds_ms[i] * 1000);
        assert_in_range(s.t.rival_bit_s, 48 * MBIT / 10, 41 * MBIT);
    }
}

/* One that takes for ever is not, and the time on it is bounded. */
static void test_slow_ramp(void **state)
{
    (void)state;
    for (int percent = 100; percent <= 200; percent += 5) {
        struct story s;
        begin(&s, 10 * MBIT, 400 * MBIT);
        ramps(&s, 320000, percent / 100.0);
        pass(&s, 30 * S);
        assert_int_equal(s.trials, 1);
        if (percent <= 110)
            assert_int_equal(s.kept, 0);
        if (percent >= 180)
            assert_int_equal(s.kept, 1);
        if (s.kept == 0) {
            assert_int_equal(s.path, DIRECT);
            assert_true(s.away_us <= 4 * S);
        }
        assert_true(s.below_us <= 5 * S);
    }
}

/* What a hole in the stream held back arrives at once: no path is as quick as that. */
static void test_burst_is_no_speed(void **state)
{
    (void)state;
    for (uint64_t hole_us = 0; hole_us <= S; hole_us += 50000) {
        struct story s;
        begin(&s, 10 * MBIT, 10 * MBIT);
        s.hole_us = hole_us;
        pass(&s, 60 * S);
        assert_int_equal(s.kept, 0);
        assert_true(s.away_us <= 5 * S / 2);
    }
}

/* A stream that stands takes ever longer for an answer: its round trips are not waited
 * for. */
static void test_jam_is_left(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 10 * MBIT, 10 * MBIT);
    s.hole_us = 60 * S;
    s.jams = true;
    pass(&s, 60 * S);
    assert_int_equal(s.trials, 1);
    assert_int_equal(s.path, DIRECT);
    assert_true(s.away_us <= 2 * S);
}

/* A slow uplink that all paths share: a trial for each pause, of a second or two. */
static void test_slow_equal_uplink(void **state)
{
    (void)state;
    for (uint64_t round_us = 10000; round_us <= S; round_us *= 3) {
        struct story s;
        begin(&s, MBIT / 2, MBIT / 2);
        ramps(&s, round_us, 2); /* its queue makes the round trip */
        pass(&s, 600 * S);
        assert_int_equal(s.kept, 0);
        assert_int_equal(s.trials, 3);
        assert_true(s.away_us <= 3 * (2 * S + 7 * round_us));
        assert_true(s.below_us <= 3 * (S / 2 + 3 * round_us));
    }
}

/* Paths that are good and bad in turns: few moves, and more time on the better. */
static void test_flapping(void **state)
{
    (void)state;
    for (unsigned period_s = 1; period_s <= 64; period_s *= 2) {
        struct story s;
        unsigned moves = 0;
        begin(&s, 3 * MBIT, 40 * MBIT);
        for (unsigned at = 0; at < 600; at += period_s) {
            unsigned trials = s.trials, kept = s.kept;
            s.direct = at / period_s % 2 == 0 ? 3 * MBIT : 40 * MBIT;
            pass(&s, period_s * S);
            moves += 2 * (s.trials - trials) - (s.kept - kept);
        }
        assert_true(moves <= 6);
        begin(&s, 3 * MBIT, 40 * MBIT); /* the relay now */
        for (unsigned at = 0; at < 600; at += period_s) {
            s.relay = at / period_s % 2 == 0 ? MBIT : 40 * MBIT;
            pass(&s, period_s * S);
        }
        assert_true(s.trials <= 4);
    }
}

/* The relay turns out to be slower than what was left for it. */
static void test_worse_is_left(void **state)
{
    struct story s;
    (void)state;
    begin(&s, 3 * MBIT, 40 * MBIT);
    pass(&s, 20 * S);
    assert_int_equal(s.path, RELAY);
    s.relay = MBIT;
    pass(&s, 16 * S);
    assert_int_equal(s.path, DIRECT);
    pass(&s, 100 * S); /* and not tried again at once */
    assert_int_equal(s.trials, 1);
}

static void test_no_trial(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 3 * MBIT, 40 * MBIT);
    s.pressed = false; /* the application sends no more */
    pass(&s, 60 * S);
    assert_int_equal(s.trials, 0);
    for (int i = 0; i < 60; i++) { /* now and then for a moment */
        s.pressed = i % 2 == 0;
        pass(&s, S);
    }
    assert_int_equal(s.trials, 0);
    begin(&s, 60 * MBIT, 400 * MBIT);
    pass(&s, 60 * S);
    begin(&s, 256 * MBIT / 1000, 40 * MBIT); /* a line of 128 kbit/s, full both ways */
    pass(&s, 60 * S);
    assert_int_equal(s.trials, 0);
}

/* The other path is used no longer than it answers. */
static void test_silent_rival(void **state)
{
    (void)state;
    struct trial t;
    trial_init(&t);
    struct trial_report r = {
        .pressed = true, .direct = true, .path = DIRECT, .rival = RELAY};
    enum trial_action a = TRIAL_NOTHING;
    uint64_t begun_us = 0;
    while (a != TRIAL_BACK) {
        r.now_us += TICK_US;
        r.bytes += 3 * MBIT / 8 / 10;
        a = trial_next(&t, &r);
        if (a == TRIAL_BEGIN)
            begun_us = r.now_us;
        assert_true(r.now_us < 10 * S);
    }
    assert_true(begun_us != 0 && r.now_us - begun_us <= TRIAL_MOVE_US);
    assert_false(t.running);
}

static void test_forgiven(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 3 * MBIT, 40 * MBIT);
    pass(&s, 10 * S);
    assert_int_equal(s.kept, 1);
    s.pressed = false;
    s.relay = 4 * MBIT; /* less than pressed, and more than the direct path bears */
    pass(&s, 500 * S);
    assert_false(s.forgiven);
    s.relay = MBIT;
    pass(&s, 70 * S);
    assert_true(s.forgiven);
    assert_int_equal(s.path, DIRECT);
    s.pressed = true; /* it is known already: back in a shorter time */
    s.relay = 40 * MBIT;
    pass(&s, 4 * S);
    assert_int_equal(s.kept, 2);
    s.forgiven = false;
    pass(&s, 610 * S); /* judged anew after ten minutes, found as before */
    assert_true(s.forgiven);
    assert_int_equal(s.kept, 3);
    assert_int_equal(s.path, RELAY);
}

/* After the story: the session is on the relay, and another direct path stands. */
static enum trial_action reverse(const struct story *s, uint64_t relay, uint64_t other,
                                 uint32_t round_us)
{
    struct trial t = s->t;
    struct trial_report r = {.path = RELAY,
                             .path_us = round_us,
                             .rival = 3,
                             .now_us = s->now_us,
                             .bytes = s->bytes};
    uint64_t rate = relay;
    while (r.now_us < s->now_us + 20 * S) {
        r.now_us += TICK_US;
        r.bytes += rate / 80;
        enum trial_action a = trial_next(&t, &r);
        if (a == TRIAL_BACK || a == TRIAL_CLEAR)
            return a;
        if (a != TRIAL_BEGIN)
            continue;
        assert_int_equal(r.path, RELAY);
        r.path = t.rival;
        r.path_us = 10000;
        rate = other;
    }
    return TRIAL_NOTHING;
}

/*
 * As good it stays, slow it does not; over a far relay too much is under way to try.
 */
static void test_reverse(void **state)
{
    struct story s;
    (void)state;
    begin(&s, 3 * MBIT, 40 * MBIT);
    pass(&s, 10 * S);
    assert_int_equal(s.kept, 1);
    assert_int_equal(reverse(&s, 40 * MBIT, 39 * MBIT, 20000), TRIAL_CLEAR);
    assert_int_equal(reverse(&s, 40 * MBIT, 4 * MBIT, 20000), TRIAL_BACK);
    assert_int_equal(reverse(&s, 40 * MBIT, 39 * MBIT, 320000), TRIAL_NOTHING);
    assert_int_equal(reverse(&s, MBIT, 39 * MBIT, 20000), TRIAL_NOTHING);
}

/* Not while the relay still finds its speed, to which it would be compared. */
static void test_reverse_waits(void **state)
{
    struct story s;
    (void)state;
    begin(&s, 3 * MBIT, 40 * MBIT);
    pass(&s, 10 * S);
    struct trial_report r = {.path = RELAY, .path_us = 20000, .rival = 3};
    r.now_us = s.now_us;
    r.bytes = s.bytes;
    for (uint64_t rate = 4 * MBIT, t = 0; t < 60; t++) {
        r.now_us += TICK_US;
        r.bytes += rate / 80;
        rate += rate / 25;
        assert_int_equal(trial_next(&s.t, &r), TRIAL_NOTHING);
    }
}

static void test_abort(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 3 * MBIT, 40 * MBIT);
    while (!s.t.running)
        step(&s);
    trial_abort(&s.t, s.now_us);
    s.path = DIRECT;
    assert_false(s.t.running);
    pass(&s, 4 * S);
    assert_int_equal(s.trials, 1);
    pass(&s, 8 * S);
    assert_int_equal(s.kept, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_is_left),
        cmocka_unit_test(test_equal_is_left_alone),
        cmocka_unit_test(test_far_relay),
        cmocka_unit_test(test_jam_is_left),
        cmocka_unit_test(test_slow_ramp),
        cmocka_unit_test(test_burst_is_no_speed),
        cmocka_unit_test(test_slow_equal_uplink),
        cmocka_unit_test(test_flapping),
        cmocka_unit_test(test_worse_is_left),
        cmocka_unit_test(test_no_trial),
        cmocka_unit_test(test_silent_rival),
        cmocka_unit_test(test_forgiven),
        cmocka_unit_test(test_reverse),
        cmocka_unit_test(test_reverse_waits),
        cmocka_unit_test(test_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
