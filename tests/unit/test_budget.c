/* What a process may send to addresses that others named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/budget.h"

static const uint8_t secret[BUDGET_SECRET_LEN] = {7};
static const uint64_t second = 1000000;

static int begin(void **state)
{
    struct budget *b = malloc(sizeof(*b));
    if (b == NULL)
        return -1;
    budget_init(b, secret);
    *state = b;
    return 0;
}

static int finish(void **state)
{
    free(*state);
    return 0;
}

static struct addr v4(uint32_t n)
{
    struct addr a = {.family = ADDR_V4, .port = 1};
    for (int i = 0; i < 4; i++)
        a.ip[i] = (uint8_t)(n >> (24 - 8 * i));
    return a;
}

static struct addr v6(uint8_t prefix, uint8_t last)
{
    return (struct addr){
        .family = ADDR_V6,
        .port = 1,
        .ip = {0x20, 1, 0xd, 0xb8, 0, 0, 0, prefix, 0, 0, 0, 0, 0, 0, 0, last}};
}

static unsigned take_all(struct budget *b, const struct addr *to, enum budget_lane lane,
                         uint64_t now)
{
    unsigned n = 0;
    while (n < 100000 && budget_take(b, to, lane, 1, now))
        n++;
    return n;
}

static void test_twenty_then_slowly_again(void **state)
{
    struct addr victim = v4(0xc6120902);
    uint64_t now = second;
    assert_int_equal(take_all(*state, &victim, BUDGET_UNPROVEN, now), 20);
    victim.port = 99; /* the port is no other destination */
    assert_int_equal(take_all(*state, &victim, BUDGET_UNPROVEN, now + second), 0);
    assert_int_equal(take_all(*state, &victim, BUDGET_UNPROVEN, now + 60 * second), 4);
    /* Hours of trying: the refill, and no starving. */
    unsigned n = 0;
    for (uint64_t t = 61; t < 3661; t++)
        n += budget_take(*state, &victim, BUDGET_UNPROVEN, 1, now + t * second);
    assert_in_range(n, 239, 241);
    assert_int_equal(take_all(*state, &victim, BUDGET_UNPROVEN, now + 5000 * second),
                     20);
}

static void test_vouched_and_answered_have_more(void **state)
{
    struct addr peer = v4(0xc6336402);
    uint64_t now = second;
    assert_int_equal(take_all(*state, &peer, BUDGET_UNPROVEN, now), 20);
    assert_int_equal(take_all(*state, &peer, BUDGET_VOUCHED, now), 3000);
    budget_answered(*state, &peer, now);
    assert_int_equal(take_all(*state, &peer, BUDGET_UNPROVEN, now), 10000);
    assert_true(budget_take(*state, &peer, BUDGET_UNPROVEN, 1, now + second));
    now += (BUDGET_ANSWERED_S + 1) * second; /* whose address is it now? */
    assert_int_equal(take_all(*state, &peer, BUDGET_UNPROVEN, now), 20);
}

static void test_sweeps_are_apart(void **state)
{
    struct addr peer = v4(0xc6336402), other = v4(0xc6336403), third = v4(0xc6336404);
    budget_answered(*state, &peer, second);
    assert_int_equal(take_all(*state, &peer, BUDGET_SWEEP, second), 5200);
    assert_int_equal(take_all(*state, &other, BUDGET_SWEEP, second), 5200);
    assert_int_equal(take_all(*state, &third, BUDGET_SWEEP, second), 0);
    assert_int_equal(take_all(*state, &third, BUDGET_SWEEP, 2 * second), 160);
    assert_true(budget_take(*state, &peer, BUDGET_VOUCHED, 1, second));
}

static void test_pace(void **state)
{
    unsigned n = 0;
    for (uint64_t us = second; us < 2 * second; us += 100)
        n += budget_pace(*state, us);
    assert_in_range(n, 4000, 4041);
}

static void test_ipv6_counts_by_its_network_too(void **state)
{
    unsigned n = 0;
    for (unsigned i = 1; i < 200; i++) {
        struct addr a = v6(1, (uint8_t)i);
        unsigned got = take_all(*state, &a, BUDGET_UNPROVEN, second);
        assert_true(got <= 20);
        n += got;
    }
    assert_int_equal(n, 60);
    struct addr other = v6(2, 1);
    assert_int_equal(take_all(*state, &other, BUDGET_UNPROVEN, second), 20);
    budget_answered(*state, &other, second);
    other.ip[15] = 77; /* another address of the peer's own network */
    assert_int_equal(take_all(*state, &other, BUDGET_UNPROVEN, second), 10000);
}

/* However many addresses are named, and in what order. */
static void test_all_together(void **state)
{
    unsigned n = 0, at_victim = 0;
    struct addr victim = v4(0xc6120902);
    for (uint32_t i = 0; i < 100000; i++) {
        struct addr a = v4(0x0b000000 + i);
        n += budget_take(*state, &a, BUDGET_UNPROVEN, 1, second);
    }
    assert_int_equal(n, 1000);
    /* An hour of naming others in between does not renew the victim's allowance. */
    for (uint64_t t = 0; t < 3600; t++) {
        uint64_t now = (2 + t) * second;
        at_victim += take_all(*state, &victim, BUDGET_UNPROVEN, now);
        for (uint32_t i = 0; i < 40; i++) {
            struct addr a = v4(0x0c000000 + (uint32_t)t * 40 + i);
            n += budget_take(*state, &a, BUDGET_UNPROVEN, 1, now);
        }
    }
    assert_in_range(at_victim, 200, 20 + 3600 / 15 + 1);
    assert_in_range(n + at_victim, 3600 * 19, 1000 + 3601 * 20);
}

static void test_an_answer_outlives_the_crowd(void **state)
{
    struct addr peer = v4(0xc6336402);
    budget_answered(*state, &peer, second);
    for (uint32_t i = 0; i < 5000; i++) {
        struct addr a = v4(0x0d000000 + i);
        (void)budget_take(*state, &a, BUDGET_UNPROVEN, 1, second + i * 50000);
    }
    assert_int_equal(take_all(*state, &peer, BUDGET_UNPROVEN, 300 * second), 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_twenty_then_slowly_again, begin, finish),
        cmocka_unit_test_setup_teardown(test_vouched_and_answered_have_more, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(test_sweeps_are_apart, begin, finish),
        cmocka_unit_test_setup_teardown(test_pace, begin, finish),
        cmocka_unit_test_setup_teardown(test_ipv6_counts_by_its_network_too, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(test_all_together, begin, finish),
        cmocka_unit_test_setup_teardown(test_an_answer_outlives_the_crowd, begin,
                                        finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
