/* Who gives his place at `postern receive` when all are taken, and who keeps it. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/receive_crowd.h"

enum { NOW_US = 1000000000, SECOND_US = 1000000 };

static struct crowd crowd;
static pid_t children[CROWD_PROCESSES];
static size_t child_count;

static int setup(void **state)
{
    (void)state;
    child_count = 0;
    return crowd_open(&crowd);
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < child_count; i++) {
        (void)kill(children[i], SIGKILL);
        (void)waitpid(children[i], NULL, 0);
    }
    crowd_close(&crowd);
    return 0;
}

/* A device's connection, with a process that says nothing. */
static struct crowd_sender *enter(unsigned device, uint64_t now_us, bool *served)
{
    char who[16];
    (void)snprintf(who, sizeof(who), "device-%u", device);
    struct crowd_sender *s = crowd_enter(&crowd, who, now_us, served);
    assert_non_null(s);
    pid_t pid = fork();
    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    assert_true(pid > 0);
    children[child_count++] = pid;
    crowd_started(&crowd, s, pid);
    return s;
}

/* All places are taken by as many devices; the first came first. */
static void fill(struct crowd_sender *all[static CROWD_SENDERS])
{
    for (unsigned i = 0; i < CROWD_SENDERS; i++) {
        bool served;
        all[i] = enter(i, NOW_US + i, &served);
        assert_true(served);
    }
}

static void speaks(struct crowd_sender *s, uint64_t now_us)
{
    atomic_fetch_add(&s->place->moved, 100);
    atomic_store(&s->place->heard_us, now_us);
}

static void test_who_says_nothing_gives(void **state)
{
    struct crowd_sender *all[CROWD_SENDERS];
    bool served;
    (void)state;
    fill(all);
    uint64_t now_us = NOW_US + 2 * SECOND_US;
    speaks(all[0], now_us); /* the oldest, and it is at work */
    (void)enter(100, now_us, &served);
    assert_true(served);
    assert_false(atomic_load(&all[0]->place->leave));
    assert_true(atomic_load(&all[1]->place->leave)); /* silent for longest */
    assert_false(atomic_load(&all[2]->place->leave));
    (void)enter(101, now_us, &served);
    assert_true(served);
    assert_true(atomic_load(&all[2]->place->leave));
}

static void test_who_transfers_keeps(void **state)
{
    struct crowd_sender *all[CROWD_SENDERS];
    bool served;
    (void)state;
    fill(all);
    for (unsigned i = 0; i < CROWD_SENDERS; i++)
        atomic_store(&all[i]->place->listed, true);
    (void)enter(100, NOW_US + 30ull * SECOND_US, &served); /* they may think */
    assert_false(served);
    for (unsigned i = 0; i < CROWD_SENDERS; i++)
        assert_false(atomic_load(&all[i]->place->leave));
    (void)enter(101, NOW_US + 61ull * SECOND_US, &served);
    assert_true(served);
    assert_true(atomic_load(&all[0]->place->leave));
}

/* Nobody has a second to speak in but the newcomers themselves. */
static void test_newcomers_are_not_silent_yet(void **state)
{
    struct crowd_sender *all[CROWD_SENDERS];
    bool served;
    (void)state;
    fill(all);
    (void)enter(100, NOW_US + SECOND_US / 2, &served);
    assert_false(served);
    for (unsigned i = 0; i < CROWD_SENDERS; i++)
        assert_false(atomic_load(&all[i]->place->leave));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_says_nothing_gives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_transfers_keeps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newcomers_are_not_silent_yet, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
