/* How late answers are, and when that is forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/lateness.h"

#define MS(n) ((n)*1000ull)
#define BEGIN MS(100000)

static void test_late_and_in_time(void **state)
{
    struct lateness l = {0};
    (void)state;
    assert_int_equal(lateness_us(&l, BEGIN), 0);
    lateness_note(&l, MS(280), MS(40), BEGIN);
    assert_int_equal(lateness_us(&l, BEGIN), 0);
    lateness_note(&l, MS(2000), 0, BEGIN); /* nobody knows what is usual there */
    lateness_note(&l, MS(30000), MS(40), BEGIN);
    assert_int_equal(lateness_us(&l, BEGIN), 0);
    lateness_note(&l, MS(2000), MS(40), BEGIN);
    lateness_note(&l, MS(1000), MS(40), BEGIN + MS(100));
    assert_int_equal(lateness_us(&l, BEGIN + MS(100)), MS(2000));
    lateness_note(&l, MS(9000), MS(40), BEGIN + MS(200));
    assert_int_equal(lateness_us(&l, BEGIN + MS(200)), LATENESS_MAX_US);
    assert_int_equal(lateness_us(&l, BEGIN + MS(30199)), LATENESS_MAX_US);
    assert_int_equal(lateness_us(&l, BEGIN + MS(30200)), 0);
    lateness_note(&l, MS(500), MS(40), BEGIN + MS(31000));
    assert_int_equal(lateness_us(&l, BEGIN + MS(31000)), MS(500));
}

/* What an outage held up comes late as well, but then others come in time. */
static void test_forgotten_when_others_are_in_time(void **state)
{
    struct lateness l = {0};
    (void)state;
    lateness_note(&l, MS(4000), MS(40), BEGIN);
    for (unsigned i = 0; i < 100; i++)
        lateness_note(&l, MS(45), MS(40), BEGIN + MS(10) * i);
    assert_int_equal(lateness_us(&l, BEGIN + MS(1000)), 0);
    /* On a way that was made when the line was slow already nothing else is usual. */
    lateness_note(&l, MS(4000), MS(40), BEGIN + MS(2000));
    for (unsigned i = 0; i < 100; i++)
        lateness_note(&l, MS(2900), MS(2500), BEGIN + MS(2000) + MS(100) * i);
    assert_int_equal(lateness_us(&l, BEGIN + MS(12000)), MS(2900));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_and_in_time),
        cmocka_unit_test(test_forgotten_when_others_are_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
