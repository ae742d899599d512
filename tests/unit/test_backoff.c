/* Pauses grow, are spread, and begin anew only after a time of health. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/backoff.h"

static const struct backoff_policy policy = {
    .first_ms = 200, .max_ms = 15000, .health_ms = 30000};

static void within(uint32_t pause, uint32_t full)
{
    assert_true(pause >= full / 2 && pause <= full);
}

static void test_grows(void **state)
{
    (void)state;
    struct backoff b;
    static const uint32_t full[] = {200,  400,   800,   1600,  3200,
                                    6400, 12800, 15000, 15000, 15000};
    backoff_init(&b, &policy, 1);
    for (unsigned i = 0; i < 10; i++)
        within(backoff_on_down(&b, 5), full[i]);
    for (unsigned i = 0; i < 1000; i++)
        within(backoff_on_down(&b, 5), 15000);
    backoff_reset(&b);
    within(backoff_on_down(&b, 5), 200);
}

/* A thousand that failed together come back evenly over half the pause. */
static void test_spreads(void **state)
{
    (void)state;
    unsigned tenth[10] = {0};
    for (uint64_t seed = 0; seed < 1000; seed++) {
        struct backoff b;
        backoff_init(&b, &policy, seed * 0x9e3779b97f4a7c15u);
        for (unsigned i = 0; i < 9; i++)
            (void)backoff_on_down(&b, 0);
        uint32_t ms = backoff_on_down(&b, 0);
        within(ms, 15000);
        tenth[ms == 15000 ? 9 : (ms - 7500) / 750]++;
    }
    for (unsigned i = 0; i < 10; i++)
        assert_in_range(tenth[i], 60, 140);
}

/* One success is no health: short lives count as failures do. */
static void test_health(void **state)
{
    (void)state;
    struct backoff b;
    uint64_t now = 1000;
    uint32_t last = 0;
    backoff_init(&b, &policy, 7);
    for (unsigned i = 0; i < 9; i++) {
        backoff_on_up(&b, now);
        now += policy.health_ms - 1;
        backoff_on_up(&b, now); /* still the same life */
        last = backoff_on_down(&b, now);
    }
    within(last, 15000);
    backoff_on_up(&b, now);
    within(backoff_on_down(&b, now + policy.health_ms), 200);
    for (unsigned i = 0; i < 9; i++)
        (void)backoff_on_down(&b, now);
    backoff_on_up(&b, now);
    last = backoff_on_down(&b, now + 1); /* half of ten failures */
    within(last, 200 << 5);
}

/* Two that throw each other out at once when they come: it must calm down. */
static void test_two_with_one_key(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 50; seed++) {
        struct backoff b[2];
        uint64_t due[2] = {0, 1}, now = 0;
        unsigned thrown_out = 0, late = 0;
        bool up[2] = {false, false};
        backoff_init(&b[0], &policy, seed);
        backoff_init(&b[1], &policy, seed + 1000);
        while (now < 600000) {
            unsigned i = due[0] <= due[1] ? 0 : 1, other = 1 - i;
            now = due[i];
            due[i] = UINT64_MAX;
            up[i] = true;
            backoff_on_up(&b[i], now);
            if (!up[other])
                continue;
            up[other] = false;
            thrown_out++;
            late += now > 60000;
            due[other] = now + backoff_on_down(&b[other], now);
        }
        assert_true(thrown_out < 80 && late < 60); /* a pause of 15 s each */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_spreads),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_two_with_one_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
