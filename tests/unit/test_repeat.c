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

/* Two reasons in turns for ten hours are a few lines, and the last word counts. */
static void test_another_reason_is_told_with_measure(void **state)
{
    (void)state;
    struct news n = {0};
    assert_true(news_tell(&n, "the broker stops", 1000));
    assert_false(news_tell(&n, "the broker stops", 100000));
    n = (struct news){0};
    assert_true(news_tell(&n, "the broker stops", 1000));
    assert_false(news_tell(&n, "nothing listens", 2000)); /* a restart, most often */
    assert_true(news_tell(&n, "nothing listens", 1000 + NEWS_FIRST_MS));
    assert_false(news_tell(&n, "nothing listens", 1000 + 9 * NEWS_FIRST_MS));
    assert_true(news_tell(&n, "another key", 1001 + 9 * NEWS_FIRST_MS));
    unsigned told = 0;
    for (uint64_t ms = 0; ms < 36000000; ms += 1000)
        told += news_tell(&n, ms / 1000 % 2 ? "nothing listens" : "another key",
                          100000 + ms);
    assert_in_range(told, 60, 70);
}

static void test_a_minute_has_so_many_lines(void **state)
{
    (void)state;
    struct minute m = {0};
    unsigned told = 0;
    for (uint64_t ms = 0; ms < 10ull * MINUTE_MS; ms += 10)
        told += minute_tell(&m, 5 + ms);
    assert_int_equal(told, 10 * MINUTE_LINES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flood_of_equal_lines),
        cmocka_unit_test(test_others_and_pauses_begin_anew),
        cmocka_unit_test(test_another_reason_is_told_with_measure),
        cmocka_unit_test(test_a_minute_has_so_many_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
