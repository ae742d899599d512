/* What a broker lets a device open: asked once, counted down, and what its silence is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/grant.h"

enum { RTT_MS = 40 };

static const uint64_t begin_us = 7000000000, ms_us = 1000, s_us = 1000000;

static void test_it_is_asked_for_what_is_missing(void **state)
{
    struct grant g = {0};
    (void)state;
    assert_int_equal(grant_left(&g, begin_us), 0);
    assert_int_equal(grant_wants(&g, 500, begin_us), 500);
    grant_asked(&g, 500, RTT_MS, begin_us);
    assert_true(grant_waits(&g, begin_us + 100 * ms_us));
    assert_int_equal(grant_wants(&g, 500, begin_us + 100 * ms_us), 0);
    grant_on_answer(&g, 500, 0, begin_us + 100 * ms_us);
    assert_false(grant_waits(&g, begin_us + 100 * ms_us));
    grant_count(&g, 320);
    assert_int_equal(grant_left(&g, begin_us + s_us), 180);
    assert_int_equal(grant_wants(&g, 424, begin_us + s_us), 244);
    grant_return(&g, 20);
    assert_int_equal(grant_left(&g, begin_us + 2 * s_us), 200);
    assert_int_equal(grant_give_up(&g, begin_us + 2 * s_us), 200);
    assert_int_equal(grant_left(&g, begin_us + 2 * s_us), 0);
}

static void test_it_ends(void **state)
{
    struct grant g = {0};
    (void)state;
    grant_asked(&g, 500, RTT_MS, begin_us);
    grant_on_answer(&g, 500, 0, begin_us);
    assert_int_equal(grant_left(&g, begin_us + (GRANT_LIFE_S + 1) * s_us), 0);
    grant_on_answer(&g, 500, 0, begin_us + 30 * s_us);
    assert_int_equal(grant_give_up(&g, begin_us + 60 * s_us), 0);
}

/* As by a command that lives for a moment. */
static void test_an_ask_that_is_out_is_given_back(void **state)
{
    struct grant g = {0};
    (void)state;
    grant_asked(&g, 500, RTT_MS, begin_us);
    assert_int_equal(grant_give_up(&g, begin_us), 500);
    grant_asked(&g, 300, RTT_MS, begin_us); /* another approach's */
    grant_on_answer(&g, 500, 0, begin_us);
    assert_int_equal(grant_left(&g, begin_us), 0);
    grant_on_answer(&g, 200, 0, begin_us);
    assert_int_equal(grant_left(&g, begin_us), 200);
}

static void test_a_refusal_is_kept_to(void **state)
{
    struct grant g = {0};
    (void)state;
    grant_asked(&g, 500, RTT_MS, begin_us);
    grant_on_answer(&g, 0, 30000, begin_us);
    assert_int_equal(grant_left(&g, begin_us), 0);
    assert_int_equal(grant_wants(&g, 500, begin_us + 29 * s_us), 0);
    assert_in_range(grant_wait_ms(&g, begin_us + 10 * s_us), 20000, 20001);
    assert_int_equal(grant_wants(&g, 500, begin_us + 30 * s_us), 500);
    assert_int_equal(grant_wait_ms(&g, begin_us + 30 * s_us), 0);
    grant_asked(&g, 500, RTT_MS, begin_us + 30 * s_us);
    grant_on_answer(&g, 0, UINT32_MAX, begin_us + 30 * s_us); /* a broker that lies */
    assert_int_equal(grant_wants(&g, 500, begin_us + 121 * s_us), 500);
}

/* A few a minute, and an answer that comes late counts for what is more than these. */
static void test_silence_is_not_waited_for(void **state)
{
    struct grant g = {0};
    uint64_t late_us = begin_us + (GRANT_PATIENCE_MS + 2 * RTT_MS) * ms_us;
    (void)state;
    grant_asked(&g, 500, RTT_MS, begin_us);
    assert_int_equal(grant_left(&g, late_us - 1), 0);
    assert_int_equal(grant_left(&g, late_us), GRANT_UNASKED);
    grant_count(&g, GRANT_UNASKED);
    assert_int_equal(grant_wants(&g, 500, late_us + s_us), 0);
    uint64_t again_us = late_us + GRANT_LIFE_S * s_us;
    assert_int_equal(grant_wants(&g, 500, again_us), 500);
    grant_asked(&g, 500, RTT_MS, again_us);
    assert_int_equal(grant_left(&g, again_us + 2 * s_us), 0);
    assert_true(grant_wait_ms(&g, again_us + 2 * s_us) > 30000);
    grant_on_answer(&g, 400, 0, again_us + 3 * s_us);
    assert_int_equal(grant_left(&g, again_us + 3 * s_us), 400 - GRANT_UNASKED);
    assert_int_equal(grant_left(&g, late_us + 61 * s_us), 0);
    grant_asked(&g, 500, RTT_MS, late_us + 61 * s_us);
    assert_int_equal(grant_left(&g, late_us + 63 * s_us), GRANT_UNASKED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_asked_for_what_is_missing),
        cmocka_unit_test(test_it_ends),
        cmocka_unit_test(test_an_ask_that_is_out_is_given_back),
        cmocka_unit_test(test_a_refusal_is_kept_to),
        cmocka_unit_test(test_silence_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
