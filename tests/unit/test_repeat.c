/* Equal lines: the first few, then one now and then with a count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/repeat.h"

static void test_a_flood_of_equal_lines(void **state)
{
    (void)state;
    struct repeat r = {0};
    unsigned told = 0, counted = 0, left_out;
    for (uint64_t ms = 0; ms < 60000; ms += 10) {
        if (repeat_tell(&r, "no descriptors", 1000 + ms, &left_out)) {
            told++;
            counted += left_out;
        }
    }
    assert_int_equal(told, REPEAT_FREE + 5);
    assert_int_equal(told + counted + r.left_out, 6000);
}

static void test_others_and_pauses_begin_anew(void **state)
{
    (void)state;
    struct repeat r = {0};
    unsigned left_out;
    for (int i = 0; i < 100; i++)
        (void)repeat_tell(&r, "one", 1, &left_out);
    assert_true(repeat_tell(&r, "two", 2, &left_out));
    assert_int_equal(left_out, 0);
    assert_true(repeat_tell(&r, "one", 3, &left_out));
    for (int i = 0; i < 50; i++) { /* a slow one is told each time */
        assert_true(
            repeat_tell(&r, "one", 3 + (uint64_t)(i + 1) * REPEAT_MS, &left_out));
        assert_int_equal(left_out, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flood_of_equal_lines),
        cmocka_unit_test(test_others_and_pauses_begin_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
