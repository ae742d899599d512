/* Some at once, then one each so many milliseconds, and all again after a rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/pace.h"

static const struct pace_policy policy = {.at_once = 3, .every_ms = 100};

static void test_some_at_once(void **state)
{
    struct pace p = {0};
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_true(pace_take(&p, &policy, 5000));
    assert_false(pace_take(&p, &policy, 5000));
    assert_int_equal(pace_free_ms(&p, &policy, 5000), 5100);
    assert_false(pace_take(&p, &policy, 5099));
    assert_true(pace_take(&p, &policy, 5100));
    assert_false(pace_take(&p, &policy, 5100));
}

static void test_all_again_after_a_rest(void **state)
{
    struct pace p = {0};
    (void)state;
    for (int i = 0; i < 3; i++)
        pace_spend(&p, &policy, 5000);
    for (int i = 0; i < 3; i++)
        assert_true(pace_take(&p, &policy, 5300));
    assert_false(pace_take(&p, &policy, 5300));
}

/* What had to be done all the same is paid for later. */
static void test_beyond(void **state)
{
    struct pace p = {0};
    (void)state;
    for (int i = 0; i < 5; i++)
        pace_spend(&p, &policy, 5000);
    assert_int_equal(pace_free_ms(&p, &policy, 5000), 5300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_some_at_once),
        cmocka_unit_test(test_all_again_after_a_rest),
        cmocka_unit_test(test_beyond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
