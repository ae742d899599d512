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
    bool pressed, forgiven;
    uint32_t path;
    unsigned trials, kept;
    uint64_t away_us; /* not on the direct path */
};

static void begin(struct story *s, uint64_t direct, uint64_t relay)
{
    *s = (struct story){.now_us = S, .direct = direct, .relay = relay, .path = DIRECT};
    s->pressed = true;
    trial_init(&s->t);
}

static void step(struct story *s)
{
    uint64_t rate = s->path == DIRECT ? s->direct : s->relay;
    bool judged = s->t.running || s->path == DIRECT;
    struct trial_report r = {.pressed = s->pressed,
                             .direct = s->path == DIRECT,
                             .path = judged ? s->path : TRIAL_NO_PATH,
                             .rival = s->path == DIRECT ? RELAY : TRIAL_NO_PATH,
                             .rival_us = 50000};
    s->now_us += TICK_US;
    s->bytes += rate / 8 * TICK_US / S;
    s->away_us += s->path == RELAY ? TICK_US : 0;
    r.now_us = s->now_us;
    r.bytes = s->bytes;
    switch (trial_next(&s->t, &r)) {
    case TRIAL_NOTHING:
        break;
    case TRIAL_BEGIN:
        s->trials++;
        s->path = s->t.rival;
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
    begin(&s, MBIT / 10, 40 * MBIT);
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

/* On the relay, a direct path of another sort: as good it stays, slow it does not. */
static void test_reverse(void **state)
{
    (void)state;
    for (int good = 0; good < 2; good++) {
        struct story s;
        begin(&s, 3 * MBIT, 40 * MBIT);
        pass(&s, 10 * S);
        assert_int_equal(s.kept, 1);
        struct trial_report r = {
            .path = RELAY, .rival = 3, .now_us = s.now_us, .bytes = s.bytes};
        enum trial_action a = TRIAL_NOTHING;
        uint64_t rate = 40 * MBIT;
        while (a != TRIAL_BACK && a != TRIAL_CLEAR) {
            r.now_us += TICK_US;
            r.bytes += rate / 80;
            a = trial_next(&s.t, &r);
            assert_true(r.now_us < s.now_us + 10 * S);
            if (a != TRIAL_BEGIN)
                continue;
            r.path = s.t.rival;
            rate = good != 0 ? 39 * MBIT : 4 * MBIT;
        }
        assert_int_equal(a, good != 0 ? TRIAL_CLEAR : TRIAL_BACK);
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
        cmocka_unit_test(test_slow_is_left), cmocka_unit_test(test_equal_is_left_alone),
        cmocka_unit_test(test_no_trial),     cmocka_unit_test(test_silent_rival),
        cmocka_unit_test(test_forgiven),     cmocka_unit_test(test_abort),
        cmocka_unit_test(test_reverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
