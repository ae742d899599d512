/* io/helper.c with a helper that dies or stops when it is told to (stub_helper.c). */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/clock.h"
#include "io/helper.h"
#include "io/loop.h"
#include "stub_helper.h"

enum { PATIENCE_MS = 30000, ANSWER_MS = 2000 };

static struct loop *loop;
static unsigned lost;

static uint64_t now_ms(void)
{
    return clock_us() / 1000;
}

/* The helper's answer and, where `pid` is given, which it is. */
static int tell(enum stub what, struct privilege_reply *r, uint64_t *pid)
{
    struct privilege_request q = {.op = PRIVILEGE_ARRANGE_ANSWER, .sequence = what};
    int rc = helper_ask(&q, r, NULL);
    if (pid != NULL)
        *pid = r->dropped;
    return rc;
}

static void on_tick(void *ctx)
{
    (void)ctx;
}

/* Turns the loop until the helper can again; how long that took. */
static uint64_t await_helper(void)
{
    struct timer tick; /* what is in the background alone does not turn it */
    uint64_t began = now_ms();
    timer_init(&tick, loop, on_tick, NULL);
    timer_every(&tick, 10, 10);
    while (!helper_can(PRIVILEGE_CAN_FILTER) && now_ms() - began < PATIENCE_MS)
        loop_turn(loop);
    timer_stop(&tick);
    assert_true(helper_can(PRIVILEGE_CAN_FILTER));
    return now_ms() - began;
}

static void on_knock(void *ctx, const struct addr *from)
{
    (void)ctx;
    assert_null(from);
    lost++;
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(loop_open(&loop), 0);
    helper_open(loop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    helper_close();
    loop_close(loop);
    return 0;
}

static void test_it_starts_and_answers(void **state)
{
    struct privilege_reply r;
    (void)state;
    assert_true(helper_can(PRIVILEGE_CAN_FILTER | PRIVILEGE_CAN_RAW));
    assert_int_equal(tell(STUB_ANSWER, &r, NULL), 0);
}

static void on_back(void *ctx)
{
    ++*(unsigned *)ctx;
}

static void test_one_that_dies_is_replaced(void **state)
{
    unsigned back = 0;
    struct helper_watch watch = {0};
    struct privilege_request q = {.tcp = true};
    struct privilege_reply r;
    uint64_t first, second;
    (void)state;
    assert_int_equal(tell(STUB_ANSWER, &r, &first), 0);
    assert_int_equal(helper_knock_add(&q, &r, on_knock, NULL), 0);
    lost = 0;
    assert_int_equal(tell(STUB_DIE, &r, NULL), POSTERN_ERR_PERM);
    assert_non_null(strstr(r.reason, "ended; it is started again by itself"));
    assert_string_equal(helper_missing(), r.reason);
    assert_false(helper_can(PRIVILEGE_CAN_BIND));
    assert_int_equal(lost, 0); /* never from inside a call */
    helper_unwatch(&watch);    /* of no effect */
    helper_watch(&watch, on_back, &back);
    assert_true(await_helper() >= 400);
    assert_int_equal(back, 1);
    helper_unwatch(&watch);
    assert_int_equal(lost, 1);
    assert_int_equal(helper_knock_remove(q.serial), 0); /* nothing there any more */
    assert_int_equal(tell(STUB_ANSWER, &r, &second), 0);
    assert_true(first != second);
    assert_true(kill((pid_t)first, 0) != 0 && errno == ESRCH);
}

static void test_one_that_stops_is_given_up_and_killed(void **state)
{
    struct privilege_reply r;
    uint64_t first, second, began = now_ms();
    (void)state;
    assert_int_equal(tell(STUB_ANSWER, &r, &first), 0);
    assert_int_equal(tell(STUB_STOP, &r, NULL), POSTERN_ERR_PERM);
    assert_true(now_ms() - began >= ANSWER_MS && now_ms() - began < 2 * ANSWER_MS);
    assert_non_null(strstr(r.reason, "did not answer"));
    began = now_ms();
    assert_int_equal(tell(STUB_ANSWER, &r, NULL), POSTERN_ERR_PERM); /* at once */
    assert_true(now_ms() - began < ANSWER_MS / 2);
    (void)await_helper();
    assert_int_equal(tell(STUB_ANSWER, &r, &second), 0);
    assert_true(kill((pid_t)first, 0) != 0 && errno == ESRCH);
}

/* The users went while it was dead; the next one, on another loop, has one again. */
static void test_another_loop_has_it_again(void **state)
{
    struct privilege_reply r;
    (void)state;
    assert_int_equal(tell(STUB_DIE, &r, NULL), POSTERN_ERR_PERM);
    helper_close();
    loop_close(loop);
    assert_int_equal(loop_open(&loop), 0);
    helper_open(loop);
    assert_false(helper_can(PRIVILEGE_CAN_FILTER));
    (void)await_helper();
    assert_int_equal(tell(STUB_ANSWER, &r, NULL), 0);
}

static void test_each_death_is_waited_for_longer(void **state)
{
    struct privilege_reply r;
    (void)state;
    assert_int_equal(tell(STUB_DIE, &r, NULL), POSTERN_ERR_PERM);
    assert_true(await_helper() >= 1900); /* the fourth: 8 s, half at least */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_starts_and_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_dies_is_replaced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_stops_is_given_up_and_killed,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_loop_has_it_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_each_death_is_waited_for_longer, set_up,
                                        tear_down),
    };
    if (geteuid() != 0)
        return 77; /* skipped: only root's program starts a helper without setcap */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
