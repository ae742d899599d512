/* When a silent way out is asked whether it answers, and when it is taken again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/detour.h"

static void test_two_answers_in_a_row(void **state)
{
    struct detour_plan d = {0};
    (void)state;
    detour_begin(&d, 5000);
    assert_int_equal(detour_ask_ms(&d), 5000 + DETOUR_FIRST_MS);
    assert_false(detour_on_asked(&d, true, 15000));
    assert_int_equal(detour_ask_ms(&d), 15000 + DETOUR_AGAIN_MS);
    assert_false(detour_on_asked(&d, false, 17000)); /* not in a row */
    assert_false(detour_on_asked(&d, true, 40000));
    assert_true(detour_on_asked(&d, true, 42000));
}

static void test_pauses_grow_and_end(void **state)
{
    struct detour_plan d = {0};
    uint64_t now = 1000, before = 0;
    (void)state;
    detour_begin(&d, now);
    for (int i = 0; i < 10; i++) {
        uint64_t pause = detour_ask_ms(&d) - now;
        assert_true(pause >= before && pause <= DETOUR_LONGEST_MS);
        before = pause;
        now = detour_ask_ms(&d);
        assert_false(detour_on_asked(&d, false, now));
    }
    assert_int_equal(before, DETOUR_LONGEST_MS);
}

static uint64_t go_back(struct detour_plan *d)
{
    uint64_t now = detour_ask_ms(d);
    assert_false(detour_on_asked(d, true, now));
    now = detour_ask_ms(d);
    assert_true(detour_on_asked(d, true, now));
    return now;
}

static void test_one_that_relapses_is_asked_later(void **state)
{
    struct detour_plan d = {0};
    (void)state;
    detour_begin(&d, 1000);
    uint64_t now = go_back(&d) + 3000;
    detour_begin(&d, now);
    assert_int_equal(detour_ask_ms(&d) - now, 2 * DETOUR_FIRST_MS);
    now = go_back(&d) + DETOUR_HEALTHY_MS;
    detour_begin(&d, now);
    assert_int_equal(detour_ask_ms(&d) - now, DETOUR_FIRST_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_answers_in_a_row),
        cmocka_unit_test(test_pauses_grow_and_end),
        cmocka_unit_test(test_one_that_relapses_is_asked_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
