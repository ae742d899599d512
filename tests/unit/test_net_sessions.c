/* The sum of all programs of a state directory, and what becomes of it when its file
 * cannot be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/lack.h"
#include "io/loop.h"
#include "io/udp.h"
#include "path/net.h"
#include "path/net_sessions.h"

enum { BROKER = 1, PEER = 7 };

struct fixture {
    char dir[64], file[80];
    struct net_budget *one, *two; /* as of two programs */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/postern-sum-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->file, sizeof(f->file), "%s/sessions", f->dir);
    f->one = net_budget_new();
    f->two = net_budget_new();
    assert_true(f->one != NULL && f->two != NULL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    net_budget_free(f->one);
    net_budget_free(f->two);
    (void)unlink(f->file);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static void share_both(struct fixture *f)
{
    net_budget_share(f->one, f->dir);
    net_budget_share(f->two, f->dir);
    assert_true(f->one->file >= 0 && f->two->file >= 0);
}

static void test_programs_know_of_each_other(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0}, two = {f->two, BROKER, 0};
    share_both(f);
    assert_int_equal(net_sessions_take(&one, 64), 64);
    assert_int_equal(net_sessions_take(&one, 320), 320);
    assert_int_equal(net_sessions_of_others(&two), 384);
    net_sessions_return(&one, 120);
    assert_int_equal(net_sessions_of_others(&two), 264);
    assert_int_equal(net_sessions_of_others(&one), 0);
    net_sessions_saw(&one, 200);
    net_sessions_full(&one);
    assert_int_equal(net_sessions_take(&two, 64), 0); /* 50 in a minute are open */
    net_sessions_enter(f->two);                       /* a change of nothing */
    assert_int_equal(net_sessions_take(&two, 64), 0);
}

/* As if it were another network than the one that this machine is in. */
static void move(struct net_budget *b, uint64_t network)
{
    sessions_enter(&b->opened, network);
}

/* A device that comes back would fill its table again, and lock itself out. */
static void returns(struct net_budget *b)
{
    struct opener o = {b, BROKER, 0};
    uint64_t here = b->opened.network;
    assert_int_equal(net_sessions_take(&o, 500), 500);
    net_sessions_saw(&o, 480);
    net_sessions_full(&o);
    *sessions_of(b->left, here) = b->opened; /* as net_sessions_enter leaves it */
    move(b, here + 1);
    assert_int_equal(net_sessions_take(&o, 500), 500);
    net_sessions_enter(b);
    assert_int_equal(b->opened.network, here);
    assert_int_equal(net_sessions_take(&o, 500), 0);
    assert_int_equal(sessions_most(&b->opened, BROKER, clock_us()), 120);
}

/* The second ban comes of no other program, and of no return. */
static void test_programs_know_of_a_cut(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0}, two = {f->two, BROKER, 0};
    uint64_t here = f->one->opened.network;
    char words[112];
    share_both(f);
    assert_int_equal(net_sessions_take(&one, 56), 56);
    net_sessions_cut(&one, 56);
    assert_int_equal(net_sessions_take(&one, 1), 0);
    assert_int_equal(net_sessions_take(&two, 1), 0);
    assert_false(net_sessions_are_enough(&two, 8));
    assert_in_range(net_sessions_words(&two, words, sizeof(words)), 110000, 120001);
    assert_non_null(strstr(words, "cut us off after 56 new connections"));
    move(f->one, here + 1);
    assert_int_equal(net_sessions_take(&one, 56), 56);
    move(f->one, here);
    assert_int_equal(net_sessions_take(&one, 56), 0);
}

static void test_a_network_is_known_again(void **state)
{
    struct fixture *f = *state;
    share_both(f);
    returns(f->one);
    struct opener two = {f->two, BROKER, 0};
    assert_int_equal(net_sessions_take(&two, 500), 0); /* another program knows it */
}

static void test_a_network_is_known_again_without_a_file(void **state)
{
    struct fixture *f = *state;
    returns(f->one);
}

/* What a broker grants bounds what may be opened, beneath the sum; what is left of it
 * is given back. */
static void test_a_broker_grants_them(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0}, other = {f->one, BROKER + 1, 0};
    char words[112];
    assert_int_equal(net_sessions_wants(&one, 500), 0); /* this one grants none */
    net_sessions_granting(f->one, BROKER, true);
    assert_int_equal(net_sessions_take(&one, 64), 0);
    assert_false(net_sessions_are_enough(&one, 500));
    assert_int_equal(net_sessions_wants(&one, 2000), SESSIONS_AT_ONCE);
    net_sessions_asked(&one, 500, 10);
    assert_true(net_sessions_wait(&one));
    assert_int_equal(net_sessions_wants(&one, 2000), 0);
    net_sessions_granted(&one, 300, 0);
    assert_false(net_sessions_wait(&one));
    assert_true(net_sessions_are_enough(&one, 500));
    assert_int_equal(net_sessions_take(&one, 320), 300);
    assert_int_equal(net_sessions_take(&one, 320), 0);
    net_sessions_return(&one, 100);
    assert_int_equal(net_sessions_give_up(&one), 100);
    assert_int_equal(net_sessions_take(&one, 320), 0);
    assert_int_equal(net_sessions_take(&other, 320), 320); /* of the same sum */
    assert_int_equal(net_sessions_wants(&one, 2000), 848 - 200 - 320);
    net_sessions_asked(&one, 500, 10);
    net_sessions_granted(&one, 0, 90000);
    assert_false(net_sessions_are_enough(&one, 500));
    assert_in_range(net_sessions_words(&one, words, sizeof(words)), 89000, 90001);
    assert_non_null(strstr(words, "this network's address"));
    net_sessions_granting(f->one, BROKER, false);
    assert_int_equal(net_sessions_take(&one, 10), 10);
}

/* Another NAT's table is empty, for all programs; and this one's is not, on return. */
static void test_each_network_has_its_sum(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0}, two = {f->two, BROKER, 0};
    uint64_t here = f->one->opened.network;
    share_both(f);
    assert_int_equal(net_sessions_take(&one, SESSIONS_AT_ONCE), SESSIONS_AT_ONCE);
    assert_false(net_sessions_are_enough(&two, 424));
    move(f->one, here + 1);
    move(f->two, here + 1);
    assert_int_equal(net_sessions_open(&two), 0);
    assert_int_equal(net_sessions_take(&one, 700), 700);
    assert_int_equal(net_sessions_of_others(&two), 700);
    move(f->two, here);
    assert_int_equal(net_sessions_take(&two, 64), 0);
    net_sessions_enter(f->one); /* it is here, in truth */
    assert_int_equal(net_sessions_take(&one, 64), 0);
}

/* What is opened for other reasons is never refused, and prediction has the rest. */
static void test_other_sessions_count(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0}, two = {f->two, BROKER, 0};
    struct loop *loop;
    struct net net;
    struct udp *u;
    struct keypair own = {0};
    static const struct udp_events none = {0};
    struct addr any = {.family = ADDR_V4}, to = {ADDR_V4, 9, {127, 0, 0, 1}, 0};
    share_both(f);
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(net_init(&net, loop, &own, f->one), 0);
    assert_int_equal(udp_open(&u, loop, &any, net.scratch, &none, NULL), 0);
    assert_int_equal(udp_send(u, &to, (const uint8_t *)"x", 1, 1), 0);
    assert_int_equal(net_sessions_open(&one), 0); /* within this machine */
    loop_begin_session(loop, &(struct addr){ADDR_V4, 9, {192, 0, 2, 1}, 0});
    for (int i = 0; i < 899; i++)
        net_sessions_on_other(f->one);
    assert_int_equal(net_sessions_of_others(&two), 900);
    assert_int_equal(net_sessions_take(&two, 64), 0);
    udp_close(u);
    net_fini(&net);
    loop_run(loop);
    loop_close(loop);
}

enum { CROWD = 16, EACH = 16 };

/* Programs that all count at once lose nothing. */
static void test_a_crowd_counts_in_one_sum(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0};
    int status;
    share_both(f);
    for (int k = 0; k < CROWD; k++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid != 0)
            continue;
        struct net_budget *b = net_budget_new();
        struct opener o = {b, BROKER, 0};
        net_budget_share(b, f->dir);
        for (int i = 0; i < EACH; i++) {
            net_sessions_on_other(b);
            if (net_sessions_take(&o, 1) != 1)
                _exit(1);
            net_sessions_return(&o, i % 2);
        }
        net_budget_free(b);
        _exit(0);
    }
    for (int k = 0; k < CROWD; k++) {
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(net_sessions_of_others(&one), CROWD * EACH * 3 / 2);
}

/* Programs that live for a moment, one after the other, and each sees its canary. */
static void test_all_programs_have_one_bound(void **state)
{
    struct fixture *f = *state;
    unsigned open = 0;
    share_both(f);
    for (int i = 0; i < 40; i++) {
        struct net_budget *b = net_budget_new();
        struct opener o = {b, BROKER, 0};
        net_budget_share(b, f->dir);
        open += net_sessions_take(&o, 320);
        net_sessions_saw(&o, net_sessions_open(&o));
        net_budget_free(b);
    }
    struct opener one = {f->one, BROKER, 0};
    assert_int_equal(open, SESSIONS_AT_ONCE);
    assert_false(net_sessions_are_enough(&one, 424));
}

static void test_a_peer_leaves_some_to_others(void **state)
{
    struct fixture *f = *state;
    struct opener peer = {f->one, BROKER, PEER}, other = {f->one, BROKER, PEER + 1};
    struct opener third = {f->one, BROKER, PEER + 2};
    unsigned had = 0;
    for (int i = 0; i < 20; i++)
        had += net_sessions_take(&peer, 320);
    assert_in_range(had, 551, 566);
    assert_false(net_sessions_are_enough(&peer, 320));
    net_sessions_return(&peer, 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(net_sessions_take(&other, 24), 24);
    assert_in_range(net_sessions_take(&third, 320), 64, 200);
    assert_in_range(net_sessions_open(&peer), 0, SESSIONS_AT_ONCE);
}

/* What is free again is first for who had less than it asked for, and then for who has
 * had its fill. */
static void test_who_was_refused_comes_first(void **state)
{
    struct fixture *f = *state;
    struct opener peer = {f->one, BROKER, PEER}, other = {f->one, BROKER, PEER + 1};
    while (net_sessions_take(&peer, 320) > 0) {
    }
    assert_in_range(net_sessions_take(&other, 424), 64, 200);
    sessions_return(&f->one->opened, 500, clock_us()); /* as if time had passed */
    assert_false(net_sessions_are_enough(&peer, 320));
    assert_int_equal(net_sessions_take(&peer, 320), 0);
    assert_true(net_sessions_are_enough(&other, 200));
    assert_int_equal(net_sessions_take(&other, 200), 200); /* it waits no longer */
    sessions_return(&f->one->opened, 200, clock_us());
    assert_true(net_sessions_take(&peer, 320) > 200);
}

/* Who holds the lock is stopped, and then killed. */
static void test_a_lock_that_is_held(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0}, two = {f->two, BROKER, 0};
    int ready[2], status;
    char c;
    share_both(f);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = open(f->file, O_RDWR);
        bool ok = fd >= 0 && flock(fd, LOCK_EX) == 0 && write(ready[1], "x", 1) == 1;
        while (ok)
            (void)pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(net_sessions_take(&one, 64), 64); /* for itself */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(net_sessions_of_others(&two), 0);
    assert_int_equal(net_sessions_take(&one, 64), 64);
    assert_int_equal(net_sessions_of_others(&two), 128); /* told now */
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void counts_for_itself(struct net_budget *b)
{
    struct opener o = {b, BROKER, 0};
    assert_int_equal(net_sessions_take(&o, 700), 700);
    assert_int_equal(net_sessions_take(&o, 700), 148);
    net_sessions_return(&o, 8);
    net_sessions_enter(b);
    assert_int_equal(net_sessions_take(&o, 700), 8);
    net_sessions_full(&o);
    net_sessions_return(&o, 8);
    assert_int_equal(net_sessions_take(&o, 1), 0);
    assert_int_equal(net_sessions_of_others(&o), 0);
}

static void test_a_directory_that_is_not_to_be_written(void **state)
{
    struct fixture *f = *state;
    net_budget_share(f->one, "/proc/self"); /* not even by root */
    assert_int_equal(f->one->file, -1);
    counts_for_itself(f->one);
}

static void test_a_full_disk(void **state)
{
    struct fixture *f = *state;
    f->one->file = open("/dev/full", O_RDWR);
    assert_true(f->one->file >= 0);
    counts_for_itself(f->one);
}

static void test_no_descriptor_left(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)descriptors_taken();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    net_budget_share(f->one, f->dir);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(f->one->file, -1);
    counts_for_itself(f->one);
}

/* What is no sum counts as none. */
static void test_a_file_of_something_else(void **state)
{
    struct fixture *f = *state;
    struct opener one = {f->one, BROKER, 0}, two = {f->two, BROKER, 0};
    share_both(f);
    assert_int_equal(pwrite(f->one->file, "\xff\xff\xff", 3, 0), 3);
    assert_int_equal(net_sessions_of_others(&two), 0);
    assert_int_equal(net_sessions_take(&one, 64), 64);
    assert_int_equal(net_sessions_of_others(&two), 64);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_programs_know_of_each_other),
        TEST(test_each_network_has_its_sum),
        TEST(test_programs_know_of_a_cut),
        TEST(test_a_network_is_known_again),
        TEST(test_a_network_is_known_again_without_a_file),
        TEST(test_a_broker_grants_them),
        TEST(test_other_sessions_count),
        TEST(test_a_crowd_counts_in_one_sum),
        TEST(test_all_programs_have_one_bound),
        TEST(test_a_peer_leaves_some_to_others),
        TEST(test_who_was_refused_comes_first),
        TEST(test_a_lock_that_is_held),
        TEST(test_a_directory_that_is_not_to_be_written),
        TEST(test_a_full_disk),
        TEST(test_no_descriptor_left),
        TEST(test_a_file_of_something_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
