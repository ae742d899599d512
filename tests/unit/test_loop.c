/* io/loop: timers, watches and wakes; each may end any other from its callback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "io/clock.h"
#include "io/loop.h"

static struct loop *loop;
static char said[64];

static int set_up(void **state)
{
    (void)state;
    said[0] = '\0';
    return loop_open(&loop);
}

static int tear_down(void **state)
{
    (void)state;
    loop_close(loop);
    return 0;
}

static void say(void *ctx)
{
    size_t n = strlen(said);
    (void)strncpy(said + n, ctx, sizeof(said) - n - 1);
}

static void test_timers_come_in_order(void **state)
{
    (void)state;
    struct timer a, b, c, never;
    timer_init(&a, loop, say, "a");
    timer_init(&b, loop, say, "b");
    timer_init(&c, loop, say, "c");
    timer_init(&never, loop, say, "!");
    timer_start(&a, 30);
    timer_start(&b, 10);
    timer_start(&c, 10);
    timer_start(&never, 5);
    timer_start(&a, 1);  /* moved forward */
    timer_start(&b, 20); /* and back */
    timer_stop(&never);
    assert_false(timer_is_active(&never));
    assert_true(timer_is_active(&a));
    loop_run(loop); /* ends when nothing is left */
    assert_string_equal(said, "acb");
}

static struct timer again, other;
static unsigned turns;

static void start_again(void *ctx)
{
    (void)ctx;
    if (++turns < 3)
        timer_start(&again, 0);
    else
        timer_stop(&other); /* due in the same turn: never called */
    if (turns == 2)
        timer_start(&other, 0);
}

static void test_one_that_starts_itself_lets_others_in(void **state)
{
    (void)state;
    turns = 0;
    timer_init(&again, loop, start_again, NULL);
    timer_init(&other, loop, say, "o");
    timer_start(&again, 0);
    loop_poll(loop);
    assert_int_equal(turns, 1);
    loop_run(loop);
    assert_int_equal(turns, 3);
    assert_string_equal(said, "");
}

static void test_for_ever(void **state)
{
    (void)state;
    struct timer t, soon;
    timer_init(&t, loop, say, "t");
    timer_init(&soon, loop, say, "s");
    timer_start(&t, UINT64_MAX);
    timer_start(&soon, 0);
    while (said[0] == '\0')
        loop_turn(loop);
    assert_true(timer_is_active(&t));
    timer_stop(&t);
    assert_string_equal(said, "s");
}

static struct timer every, fine;

static void count_to_three(void *ctx)
{
    (void)ctx;
    if (++turns == 3)
        timer_stop(&every);
}

static void test_again_and_again(void **state)
{
    (void)state;
    turns = 0;
    timer_init(&every, loop, count_to_three, NULL);
    timer_every(&every, 0, 2);
    loop_run(loop);
    assert_int_equal(turns, 3);
}

static void test_finer_than_milliseconds(void **state)
{
    (void)state;
    struct timer limit;
    timer_init(&limit, loop, say, "l");
    timer_init(&fine, loop, say, "f");
    timer_start(&limit, 2000);
    uint64_t begin = clock_ns();
    timer_at_ns(&fine, begin + 900000000);
    timer_at_ns(&fine, begin + 300000); /* moved forward */
    while (said[0] == '\0')
        loop_turn(loop);
    assert_string_equal(said, "f");
    assert_true(clock_ns() - begin >= 300000);
    timer_at_ns(&fine, 0); /* long due */
    while (said[1] == '\0')
        loop_turn(loop);
    assert_string_equal(said, "ff");
    timer_at_ns(&fine, begin);
    timer_stop(&fine);
    timer_stop(&limit);
    loop_poll(loop);
    assert_string_equal(said, "ff");
}

struct end {
    struct watch watch;
    struct end *peer;
    int fd, seen;
};

static void close_both(void *ctx, int events)
{
    struct end *e = ctx;
    e->seen |= events;
    watch_close(&e->watch);
    watch_close(&e->peer->watch); /* ready as well */
}

static void test_watches(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    struct end a = {.fd = fd[0]}, b = {.fd = fd[1], .peer = &a};
    a.peer = &b;
    assert_int_equal(watch_start(&a.watch, loop, a.fd, WATCH_WRITE, close_both, &a), 0);
    assert_int_equal(watch_start(&b.watch, loop, b.fd, WATCH_WRITE, close_both, &b), 0);
    loop_run(loop);
    assert_int_equal(a.seen + b.seen, WATCH_WRITE); /* one was enough */
    assert_int_equal(watch_open(&a.watch, loop, a.fd, close_both, &a), 0);
    loop_poll(loop);
    assert_int_equal(a.seen & WATCH_READ, 0);
    watch_for(&a.watch, WATCH_READ | WATCH_HANGUP);
    (void)close(fd[1]);
    loop_run(loop);
    assert_int_equal(a.seen & (WATCH_READ | WATCH_HANGUP), WATCH_READ | WATCH_HANGUP);
    assert_false(watch_is_open(&a.watch));
    (void)close(fd[0]);
}

static void end_said(void *ctx, int events)
{
    struct end *e = ctx;
    e->seen |= events;
    watch_close(&e->watch);
}

/* Who does not read hears of the end all the same, and of bytes nothing. */
static void test_end_without_reading(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    struct end a = {.fd = fd[0]};
    assert_int_equal(watch_start(&a.watch, loop, fd[0], WATCH_END, end_said, &a), 0);
    assert_int_equal(write(fd[1], "x", 1), 1);
    loop_poll(loop);
    assert_int_equal(a.seen, 0);
    (void)close(fd[1]);
    loop_run(loop);
    assert_int_equal(a.seen, WATCH_END);
    (void)close(fd[0]);
}

static struct wake wake;

static void on_wake(void *ctx)
{
    say(ctx);
    wake_close(&wake);
}

static void *wake_it(void *arg)
{
    wake_up(arg);
    return NULL;
}

static void test_wake_from_another_thread(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(wake_open(&wake, loop, on_wake, "w"), 0);
    assert_int_equal(pthread_create(&thread, NULL, wake_it, &wake), 0);
    loop_run(loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(said, "w");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_timers_come_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_starts_itself_lets_others_in,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_again_and_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_finer_than_milliseconds, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_watches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_without_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wake_from_another_thread, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
