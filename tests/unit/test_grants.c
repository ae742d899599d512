/* What the devices of one address may open together: one sum, turns, and bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/grants.h"

static struct grants table;
static const uint64_t begin_us = 7000000000, s_us = 1000000;

static int fresh(void **state)
{
    (void)state;
    memset(&table, 0, sizeof(table));
    return 0;
}

static struct addr house(unsigned n)
{
    return (struct addr){ADDR_V4, 1000, {198, 51, (uint8_t)(n >> 8), (uint8_t)n}, 0};
}

static unsigned take(unsigned at, uint64_t device, unsigned wanted, uint64_t now_us)
{
    struct addr from = house(at);
    uint32_t wait_ms;
    unsigned n = grants_take(&table, &from, device, wanted, now_us, &wait_ms);
    assert_true(n <= wanted);
    assert_true((n == 0) == (wait_ms > 0));
    return n;
}

static void test_one_alone_may_have_all(void **state)
{
    (void)state;
    assert_int_equal(take(1, 1, 768, begin_us), 768);
    assert_int_equal(take(1, 1, 768, begin_us + s_us), 80);
    assert_int_equal(take(1, 1, 768, begin_us + 2 * s_us), 0);
    assert_int_equal(take(2, 2, 1272, begin_us + 2 * s_us), SESSIONS_AT_ONCE);
    assert_int_equal(take(1, 1, 768, begin_us + 70 * s_us), 768);
}

/* However many they are, and whatever they ask for. */
static void test_devices_of_one_address_have_one_sum(void **state)
{
    uint64_t now_us = begin_us;
    unsigned open[600] = {0};
    (void)state;
    for (unsigned t = 0; t < 600; t++, now_us += s_us) {
        for (unsigned d = 1; d <= 10; d++)
            open[t] += take(1, d, 512 + d, now_us);
        unsigned minute = 0;
        for (unsigned i = t >= 59 ? t - 59 : 0; i <= t; i++)
            minute += open[i];
        assert_true(minute <= SESSIONS_AT_ONCE);
    }
}

/* What each of them opens otherwise comes on top of it. */
static void test_devices_that_come_together_leave_room(void **state)
{
    unsigned open = take(1, 1, 512, begin_us);
    (void)state;
    for (unsigned d = 2; d <= 10; d++)
        open += take(1, d, 512, begin_us + d * s_us / 10);
    assert_in_range(open, 512, SESSIONS_AT_ONCE - GRANTS_TO_COME * GRANTS_EACH);
}

/* Who had none goes before who had some, and none waits for ever. */
static void test_each_has_its_turn(void **state)
{
    uint64_t now_us = begin_us;
    unsigned turns[5] = {0};
    (void)state;
    for (unsigned t = 0; t < 400; t++, now_us += s_us)
        for (unsigned d = 1; d <= 4; d++)
            turns[d] += take(1, d, 512, now_us) > 0;
    for (unsigned d = 1; d <= 4; d++)
        assert_in_range(turns[d], 2, 12);
    assert_true(take(1, 1, 512, now_us + 70 * s_us) > 0);
    assert_true(take(1, 2, 512, now_us + 70 * s_us) > 0); /* what was kept for it */
}

static void test_what_is_given_back_is_free(void **state)
{
    struct addr from = house(1), other = house(2);
    (void)state;
    assert_int_equal(take(1, 1, 800, begin_us), 800);
    assert_int_equal(take(1, 2, 512, begin_us), 0);
    grants_return(&table, &from, 2, 700, begin_us); /* it had none */
    grants_return(&table, &other, 1, 700, begin_us);
    assert_int_equal(take(1, 2, 512, begin_us), 0);
    grants_return(&table, &from, 1, 700, begin_us);
    assert_true(take(1, 2, 512, begin_us) >= 350);
    grants_return(&table, &from, 1, 700, begin_us); /* 100, in truth */
    assert_true(take(1, 3, 848, begin_us) <= 400);
}

static void test_addresses_are_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < GRANTS_ADDRESSES; i++)
        assert_int_equal(take(i, 1, 848, begin_us + i), 848);
    assert_int_equal(take(1, 1, 848, begin_us + s_us), 0);
    assert_int_equal(take(GRANTS_ADDRESSES, 1, 848, begin_us + s_us), 848);
    assert_int_equal(take(1, 1, 848, begin_us + s_us), 0); /* 0 asked longest ago */
}

/* Addresses of one /56 are one household's. */
static void test_blocks_of_ipv6(void **state)
{
    struct addr a = {ADDR_V6, 1, {0x20, 1, 0xd, 0xb8, 0, 0, 1, 2, 3}, 0}, b = a, c = a;
    uint32_t wait_ms;
    (void)state;
    b.ip[7] = 9;
    c.ip[6] = 9;
    assert_int_equal(grants_take(&table, &a, 1, 848, begin_us, &wait_ms), 848);
    assert_int_equal(grants_take(&table, &b, 2, 848, begin_us, &wait_ms), 0);
    assert_int_equal(grants_take(&table, &c, 2, 848, begin_us, &wait_ms), 848);
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_alone_may_have_all),
        TEST(test_devices_of_one_address_have_one_sum),
        TEST(test_devices_that_come_together_leave_room),
        TEST(test_each_has_its_turn),
        TEST(test_what_is_given_back_is_free),
        TEST(test_addresses_are_bounded),
        TEST(test_blocks_of_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
