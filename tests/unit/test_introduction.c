/* When an introduction is said, and each step that its table allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/introduction.h"
#include "state_watch.h"

static struct introduction fresh(void)
{
    struct introduction i;
    introduction_init(&i, 7);
    assert_int_equal(introduction_due_ms(&i), 0);
    assert_false(introduction_was_said(&i) || introduction_is_answered(&i));
    return i;
}

static void test_it_is_repeated_in_growing_pauses(void **state)
{
    struct introduction i = fresh();
    uint64_t now = 1000, longest = 0;
    (void)state;
    for (int n = 0; n < 12; n++) {
        introduction_on_sent(&i, true, now);
        uint64_t pause = introduction_due_ms(&i) - now;
        assert_in_range(pause, 350, 11200);
        longest = pause > longest ? pause : longest;
        now += pause;
    }
    assert_true(longest > 5600);
    introduction_reset_pauses(&i); /* the broker is back */
    introduction_on_sent(&i, true, now);
    assert_in_range(introduction_due_ms(&i) - now, 350, 700);
}

static void test_what_could_not_be_sent_was_not_said(void **state)
{
    struct introduction i = fresh();
    (void)state;
    introduction_on_sent(&i, false, 1000);
    assert_false(introduction_was_said(&i));
    assert_in_range(introduction_due_ms(&i), 1350, 1700);
    introduction_on_offer(&i); /* to nothing that was said */
    introduction_on_offline(&i, 1000);
    assert_false(introduction_was_said(&i) || introduction_is_answered(&i));
    introduction_again(&i, 0);
    assert_int_equal(introduction_due_ms(&i), 0);
    assert_false(introduction_was_said(&i));
}

static void test_each_is_answered_once(void **state)
{
    struct introduction i = fresh();
    (void)state;
    introduction_on_sent(&i, true, 1000);
    introduction_on_offer(&i);
    introduction_on_offer(&i);
    assert_true(introduction_is_answered(&i));
    assert_true(introduction_due_ms(&i) == UINT64_MAX);
    introduction_again(&i, 0);
    assert_false(introduction_is_answered(&i));
    assert_int_equal(introduction_due_ms(&i), 0);
}

static void test_a_host_that_is_back_is_asked_at_once(void **state)
{
    struct introduction i = fresh();
    (void)state;
    introduction_on_sent(&i, true, 1000);
    introduction_on_offline(&i, 1000);
    assert_true(introduction_due_ms(&i) > 1000);
    introduction_on_offer(&i); /* it knows nothing of what the broker refused */
    assert_false(introduction_is_answered(&i));
    assert_int_equal(introduction_due_ms(&i), 0);
    introduction_on_sent(&i, true, 1000);
    introduction_on_offer(&i);
    assert_true(introduction_is_answered(&i));
    introduction_on_offline(&i, 2000); /* gone, as a later Offer found */
    assert_true(introduction_due_ms(&i) < UINT64_MAX);
}

static void test_a_pair_is_an_answer(void **state)
{
    struct introduction i = fresh();
    (void)state;
    introduction_on_ticket(&i); /* to nothing that was said */
    assert_false(introduction_is_answered(&i));
    introduction_on_sent(&i, true, 1000);
    introduction_on_ticket(&i);
    assert_true(introduction_is_answered(&i));
    introduction_on_offline(&i, 2000);
    introduction_on_ticket(&i); /* an older one */
    assert_true(introduction_due_ms(&i) > 2000);
}

static void test_each_step_was_made(void **state)
{
    (void)state;
    assert_int_equal(state_watch_unmade("introduction_next"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_repeated_in_growing_pauses),
        cmocka_unit_test(test_what_could_not_be_sent_was_not_said),
        cmocka_unit_test(test_each_is_answered_once),
        cmocka_unit_test(test_a_host_that_is_back_is_asked_at_once),
        cmocka_unit_test(test_a_pair_is_an_answer),
        cmocka_unit_test(test_each_step_was_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
