/* Who asked for a host that was not there: told once, bounded, the oldest gives way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/awaited.h"

static struct awaited_ask ask(unsigned host, unsigned client, unsigned conv,
                              uint64_t at_ms)
{
    struct awaited_ask a = {.at_ms = at_ms};
    memcpy(a.host, &host, sizeof(host));
    memcpy(a.client, &client, sizeof(client));
    memcpy(a.conv, &conv, sizeof(conv));
    return a;
}

static unsigned taken(struct awaited *a, unsigned host, uint64_t now_ms)
{
    struct awaited_ask key = ask(host, 0, 0, 0), out;
    unsigned n = 0;
    while (awaited_take(a, key.host, now_ms, &out)) {
        assert_memory_equal(out.host, key.host, KEY_LEN);
        n++;
    }
    return n;
}

static void note(struct awaited *a, unsigned host, unsigned client, unsigned conv,
                 uint64_t at_ms)
{
    struct awaited_ask x = ask(host, client, conv, at_ms);
    awaited_note(a, &x);
}

static void test_told_once(void **state)
{
    struct awaited *a = calloc(1, sizeof(*a));
    (void)state;
    note(a, 1, 10, 100, 0);
    note(a, 1, 10, 100, 50); /* asked again: one entry */
    note(a, 1, 11, 101, 50);
    note(a, 2, 10, 102, 50);
    assert_int_equal(a->count, 3);
    assert_int_equal(taken(a, 3, 60), 0);
    assert_int_equal(taken(a, 1, 60), 2);
    assert_int_equal(taken(a, 1, 60), 0);
    assert_int_equal(a->count, 1);
    assert_int_equal(taken(a, 2, 50 + AWAITED_FOR_MS), 0); /* too old, and forgotten */
    assert_int_equal(a->count, 0);
    free(a);
}

static void test_bounds(void **state)
{
    struct awaited *a = calloc(1, sizeof(*a));
    (void)state;
    note(a, 1, 10, 1, 1);
    for (unsigned i = 0; i < 3000; i++) /* one client does not push others out */
        note(a, 2, 11, i, 2 + i);
    assert_int_equal(a->count, 1 + AWAITED_EACH);
    assert_int_equal(taken(a, 1, 3002), 1);
    for (unsigned i = 0; i < 2 * AWAITED_MAX; i++)
        note(a, 3, 1000 + i, i, 4000 + i);
    assert_int_equal(a->count, AWAITED_MAX);
    assert_int_equal(taken(a, 3, 7000), AWAITED_MAX);
    free(a);
}

/* 64 devices that ask for 16 hosts each fill it: who asks for one stays, and enters. */
static void test_who_asks_for_many_gives_way(void **state)
{
    struct awaited *a = calloc(1, sizeof(*a));
    (void)state;
    note(a, 1, 10, 1, 1);
    for (unsigned i = 0; i < 2 * AWAITED_MAX; i++)
        note(a, 2, 1000 + i / AWAITED_EACH, i, 2 + i);
    assert_int_equal(a->count, AWAITED_MAX);
    note(a, 1, 11, 2, 5000);
    for (unsigned i = 0; i < AWAITED_MAX; i++)
        note(a, 2, 3000 + i / AWAITED_EACH, i, 5001 + i);
    assert_int_equal(a->count, AWAITED_MAX);
    assert_int_equal(taken(a, 1, 9000), 2);
    /* long after: what is spent gives way before what is not */
    for (unsigned i = 0; i < AWAITED_MAX; i++)
        note(a, 4, 5000 + i / AWAITED_EACH, i, 9000 + AWAITED_FOR_MS + i);
    assert_int_equal(taken(a, 4, 11000 + AWAITED_FOR_MS), AWAITED_MAX);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_told_once),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_who_asks_for_many_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
