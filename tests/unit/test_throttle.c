/* Growing delays for failed logins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/throttle.h"

static const uint8_t secret[THROTTLE_SECRET_LEN] = {5};

static int begin(void **state)
{
    struct throttle *t = malloc(sizeof(*t));
    if (t == NULL)
        return -1;
    throttle_init(t, secret, 60000);
    *state = t;
    return 0;
}

static int finish(void **state)
{
    free(*state);
    return 0;
}

static void test_three_are_free_then_it_doubles(void **state)
{
    static const uint64_t want[] = {0,    0,     0,     1000,  2000,  4000,
                                    8000, 16000, 32000, 60000, 60000, 60000};
    struct throttle *t = *state;
    uint64_t now = 1000;
    assert_int_equal(throttle_wait_ms(t, "amy", 3, now), 0);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        throttle_failed(t, "amy", 3, now);
        assert_int_equal(throttle_wait_ms(t, "amy", 3, now), want[i]);
        assert_int_equal(throttle_wait_ms(t, "amz", 3, now), 0);
        if (want[i] > 0)
            assert_int_equal(throttle_wait_ms(t, "amy", 3, now + want[i] - 1), 1);
        now += want[i];
        assert_int_equal(throttle_wait_ms(t, "amy", 3, now), 0);
    }
    for (int i = 0; i < 200; i++) /* no shift runs over */
        throttle_failed(t, "amy", 3, now);
    assert_int_equal(throttle_wait_ms(t, "amy", 3, now), 60000);
    assert_int_equal(throttle_wait_ms(t, "amy", 3, now - 500), 60000); /* went back */
}

static void test_success_forgets(void **state)
{
    struct throttle *t = *state;
    for (int i = 0; i < 5; i++)
        throttle_failed(t, "amy", 3, 0);
    assert_int_equal(throttle_wait_ms(t, "amy", 3, 0), 2000);
    throttle_succeeded(t, "bob", 3);
    assert_int_equal(throttle_wait_ms(t, "amy", 3, 0), 2000);
    throttle_succeeded(t, "amy", 3);
    assert_int_equal(throttle_wait_ms(t, "amy", 3, 0), 0);
    throttle_failed(t, "amy", 3, 0);
    assert_int_equal(throttle_wait_ms(t, "amy", 3, 0), 0); /* counted anew */
}

static void test_a_quarter_of_an_hour_forgets(void **state)
{
    struct throttle *t = *state;
    for (int i = 0; i < 4; i++)
        throttle_failed(t, "amy", 3, 0);
    throttle_failed(t, "amy", 3, THROTTLE_FORGET_MS - 1); /* remembered: the fifth */
    assert_int_equal(throttle_wait_ms(t, "amy", 3, THROTTLE_FORGET_MS - 1), 2000);
    throttle_failed(t, "amy", 3, 2 * (uint64_t)THROTTLE_FORGET_MS); /* forgotten */
    assert_int_equal(throttle_wait_ms(t, "amy", 3, 2 * (uint64_t)THROTTLE_FORGET_MS),
                     0);
}

static void test_a_full_table_drops_the_stalest(void **state)
{
    struct throttle *t = *state;
    for (uint32_t k = 0; k < THROTTLE_SLOTS; k++)
        for (int i = 0; i < 4; i++)
            throttle_failed(t, &k, sizeof(k), k + 1);
    uint32_t first = 0, second = 1, third = 2, late = 100000;
    throttle_failed(t, &first, sizeof(first), 5000); /* no longer the stalest */
    throttle_failed(t, &late, sizeof(late), 5000);
    assert_int_not_equal(throttle_wait_ms(t, &first, sizeof(first), 5000), 0);
    assert_int_equal(throttle_wait_ms(t, &second, sizeof(second), 3), 0); /* dropped */
    assert_int_not_equal(throttle_wait_ms(t, &third, sizeof(third), 3), 0);
    for (int i = 0; i < 3; i++)
        throttle_failed(t, &late, sizeof(late), 5000);
    assert_int_equal(throttle_wait_ms(t, &late, sizeof(late), 5000), 1000);
}

static void test_the_maximum_is_bounded(void **state)
{
    struct throttle *t = *state;
    throttle_init(t, secret, UINT64_MAX);
    for (int i = 0; i < 100; i++)
        throttle_failed(t, "", 0, 0);
    assert_int_equal(throttle_wait_ms(t, "", 0, 0), THROTTLE_FORGET_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_three_are_free_then_it_doubles, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(test_success_forgets, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_quarter_of_an_hour_forgets, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(test_a_full_table_drops_the_stalest, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(test_the_maximum_is_bounded, begin, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
