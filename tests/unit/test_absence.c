/* How long silent clients are waited for, and when they are probed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/absence.h"

#define S(n) ((n)*1000000ull)

static void test_patience(void **state)
{
    (void)state;
    struct absence a = {.streams = true};
    assert_int_equal(absence_patience_us(&a), S(300));
    a.sleeps = true;
    assert_int_equal(absence_patience_us(&a), S(86400));
    a.streams = false; /* nothing is lost with it, asleep or not */
    assert_int_equal(absence_patience_us(&a), S(240));
    a = (struct absence){.told_us = S(60), .sleeps = true};
    assert_int_equal(absence_patience_us(&a), S(60));
    a = (struct absence){.told_us = S(7200), .streams = true};
    assert_int_equal(absence_patience_us(&a), S(7200));
    a.streams = false;
    assert_int_equal(absence_patience_us(&a), S(240));
}

static void test_verdicts(void **state)
{
    (void)state;
    struct absence a = {.streams = true};
    assert_int_equal(absence_judge(&a, 0), ABSENCE_FINE);
    assert_int_equal(absence_judge(&a, S(250)), ABSENCE_FINE);
    assert_int_equal(absence_judge(&a, S(256)), ABSENCE_PROBE);
    assert_int_equal(absence_judge(&a, S(300)), ABSENCE_PROBE);
    assert_int_equal(absence_judge(&a, S(301)), ABSENCE_OVER);
    a.told_us = S(10);
    assert_int_equal(absence_judge(&a, S(5)), ABSENCE_FINE);
    assert_int_equal(absence_judge(&a, S(6)), ABSENCE_PROBE);
    assert_int_equal(absence_judge(&a, S(11)), ABSENCE_OVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patience),
        cmocka_unit_test(test_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
