/* Token buckets under virtual time, and the table of addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/limits.h"

static const struct bucket_rate rate = {.per_s = 20, .burst = 60};

static void test_burst_then_rate(void **state)
{
    (void)state;
    struct bucket b = {0};
    uint64_t now = 5000;
    for (int i = 0; i < 60; i++)
        assert_true(bucket_take(&b, rate, now, 1));
    assert_false(bucket_take(&b, rate, now, 1));
    assert_false(bucket_take(&b, rate, now + 49, 1));
    assert_true(bucket_take(&b, rate, now + 50, 1));
    assert_false(bucket_take(&b, rate, now + 50, 1));
}

/* Asked every millisecond, fractions of tokens must not get lost nor appear. */
static void test_fractions(void **state)
{
    (void)state;
    struct bucket b = {0};
    uint64_t now = 1;
    assert_true(bucket_take(&b, rate, now, 60));
    int got = 0;
    for (int ms = 0; ms < 10000; ms++)
        got += bucket_take(&b, rate, ++now, 1);
    assert_int_equal(got, 200);
}

static void test_saves_no_more_than_burst(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_true(bucket_take(&b, rate, 1, 60));
    assert_true(bucket_take(&b, rate, UINT64_C(1000000000), 60));
    assert_false(bucket_take(&b, rate, UINT64_C(1000000000), 1));
    assert_false(bucket_take(&b, rate, UINT64_C(2000000000), 61));
}

static void test_refused_takes_nothing(void **state)
{
    (void)state;
    struct bucket b = {0};
    assert_true(bucket_take(&b, rate, 1, 50));
    assert_false(bucket_take(&b, rate, 1, 11));
    assert_true(bucket_take(&b, rate, 1, 10));
}

static void test_addresses(void **state)
{
    (void)state;
    struct addr_limits *l = calloc(1, sizeof(*l));
    struct addr a, b;
    assert_non_null(l);
    l->secret[0] = 1;
    static const struct {
        const char *a, *b;
        bool equal[ADDR_LEVELS];
        int levels;
    } cases[] = {
        {"[2001:db8:1:2::1]:5", "[2001:db8:1:2:ffff::9]:7", {true, true, true}, 3},
        {"[2001:db8:1:2::1]:5", "[2001:db8:1:3::1]:5", {false, true, true}, 3},
        {"[2001:db8:1:2::1]:5", "[2001:db8:1:102::1]:5", {false, false, true}, 3},
        {"[2001:db8:1:2::1]:5", "[2001:db8:2:2::1]:5", {false, false, false}, 3},
        {"192.0.2.1:5", "192.0.2.1:7", {true, true}, 2},
        {"192.0.2.1:5", "192.0.2.2:5", {false, true}, 2},
        {"192.0.2.1:5", "192.0.3.1:5", {false, false}, 2},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(addr_parse(&a, cases[i].a), 0);
        assert_int_equal(addr_parse(&b, cases[i].b), 0);
        struct addr_place p = addr_limits_place(l, &a), q = addr_limits_place(l, &b);
        assert_int_equal(p.levels, cases[i].levels);
        for (int k = 0; k < cases[i].levels; k++)
            assert_int_equal(p.slot[k] == q.slot[k], cases[i].equal[k]);
    }
    struct addr_place p = addr_limits_place(l, &a);
    for (int i = 0; i < 8; i++)
        addr_limits_enter(l, &p);
    assert_true(addr_limits_is_full(l, &p, 8));
    assert_false(addr_limits_is_full(l, &p, 9));
    assert_int_equal(addr_limits_weight(l, &p), 8);
    for (int i = 0; i < 8; i++)
        addr_limits_leave(l, &p);
    assert_int_equal(addr_limits_weight(l, &p), 0);
    l->secret[0] = 2;
    assert_int_not_equal(addr_limits_place(l, &a).slot[0], p.slot[0]);
    free(l);
}

/* What is asked in an address's name takes nothing from who proves that it is his. */
/* Whoever shows badges takes no place of those that have none, and theirs are bounded.
 */
static void test_known_connections_count_apart(void **state)
{
    struct addr_limits *l = calloc(1, sizeof(*l));
    struct addr a;
    (void)state;
    assert_non_null(l);
    assert_int_equal(addr_parse_ip(&a, "192.0.2.7"), 0);
    struct addr_place stranger = addr_limits_place(l, &a), known = stranger;
    assert_false(stranger.known);
    known.known = true;
    for (unsigned i = 0; i < 20; i++)
        addr_limits_enter(l, &known);
    addr_limits_enter(l, &stranger);
    assert_false(addr_limits_is_full(l, &stranger, 2));
    assert_true(addr_limits_is_full(l, &stranger, 1));
    assert_true(addr_limits_is_full(l, &known, 20));
    assert_false(addr_limits_is_full(l, &known, 21));
    assert_int_equal(addr_limits_weight(l, &stranger), 21);
    addr_limits_leave(l, &stranger);
    assert_false(addr_limits_is_full(l, &stranger, 1));
    assert_true(addr_limits_is_full(l, &known, 20));
    free(l);
}

static void test_proven_stun_counts_apart(void **state)
{
    (void)state;
    struct addr_limits *l = calloc(1, sizeof(*l));
    struct addr owner, near;
    assert_non_null(l);
    assert_int_equal(addr_parse(&owner, "192.0.2.1:5"), 0);
    near = owner;
    struct addr_place p = addr_limits_place(l, &owner);
    for (int i = 0; i < 2000; i++) { /* its own, and all over its /24 */
        struct addr_place q = addr_limits_place(l, &near);
        (void)addr_limits_stun(l, &p, 1000);
        (void)addr_limits_stun(l, &q, 1000);
        near.ip[3]++;
    }
    assert_false(addr_limits_stun(l, &p, 1000));
    for (uint32_t i = 0; i < LIMIT_RATE_STUN.burst; i++)
        assert_true(addr_limits_stun_proven(l, &p, 7, 1000));
    assert_false(addr_limits_stun_proven(l, &p, 7, 1000)); /* bounded all the same */
    assert_true(addr_limits_stun(l, &p, 2000));
    free(l);
}

/* Whether who asks each `each_ms` is answered while `floods` others of the block flood
 * for a minute, and that these get no more than `most`. */
static void flood_block(const char *first, unsigned at, uint32_t floods,
                        uint64_t each_ms, uint32_t most)
{
    struct addr_limits *l = calloc(1, sizeof(*l));
    uint32_t got = 0, one = 0;
    struct addr a;
    assert_non_null(l);
    assert_int_equal(addr_parse(&a, first), 0);
    struct addr_place honest = addr_limits_place(l, &a); /* ends in 0: none of those */
    for (uint64_t now = 1000; now < 61000; now += 10) {
        for (uint32_t i = 0; i < floods + 10; i++) {
            a.ip[at] = (uint8_t)(1 + i % floods);
            struct addr_place p = addr_limits_place(l, &a);
            got += addr_limits_stun_proven(l, &p, 0, now);
        }
        if (now % each_ms == 0)
            one += addr_limits_stun_proven(l, &honest, 0, now);
    }
    assert_int_equal(one, 60000 / each_ms);
    assert_in_range(got, most / 2, most);
    free(l);
}

static void test_who_proves_most_leaves_some_to_the_others(void **state)
{
    (void)state;
    /* 80 a second and 320 at once of a /24 or /56, however many they are */
    flood_block("192.0.2.0:5", 3, 5, 1000, 60 * 80 + 320);
    flood_block("192.0.2.0:5", 3, 30, 1000, 60 * 80 + 320);
    flood_block("192.0.2.0:5", 3, 250, 5000, 60 * 80 + 320);
    flood_block("[2001:db8:1::1]:5", 7, 5, 1000, 60 * 80 + 320);
    /* of a /48, whose share five /64 do not fill */
    flood_block("[2001:db8:1::1]:5", 6, 5, 1000, 5 * (60 * 20 + 80));
}

/* So it is among devices behind one NAT. */
static void test_devices_of_one_address_share(void **state)
{
    (void)state;
    struct addr_limits *l = calloc(1, sizeof(*l));
    uint32_t got = 0, one = 0;
    struct addr a;
    assert_non_null(l);
    assert_int_equal(addr_parse(&a, "192.0.2.1:5"), 0);
    struct addr_place p = addr_limits_place(l, &a);
    for (uint64_t now = 1000; now < 61000; now += 10) {
        for (uint32_t device = 0; device < 20; device++)
            got += addr_limits_stun_proven(l, &p, device, now);
        if (now % 2000 == 0)
            one += addr_limits_stun_proven(l, &p, 20, now);
    }
    assert_int_equal(one, 30);
    assert_in_range(got + one, 60 * 20, 60 * 20 + 80);
    free(l);
}

/* Whoever asks in vain gains nothing by it, whatever the rate. */
static void test_exact_however_often_asked(void **state)
{
    static const uint32_t rates[] = {7, 20, 600, 1000, 1024, 8192, 131072};
    (void)state;
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        struct bucket_rate r = {.per_s = rates[i], .burst = 2 * rates[i]};
        struct bucket b = {0};
        uint64_t got = 0;
        uint32_t each = rates[i] / 7;
        for (uint64_t now = 1; now <= 10001; now++)
            for (int often = 0; often < 12; often++)
                got += bucket_take(&b, r, now, each) ? each : 0;
        assert_in_range(got, 12ull * rates[i] - each, 12ull * rates[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_burst_then_rate),
        cmocka_unit_test(test_fractions),
        cmocka_unit_test(test_exact_however_often_asked),
        cmocka_unit_test(test_saves_no_more_than_burst),
        cmocka_unit_test(test_refused_takes_nothing),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_known_connections_count_apart),
        cmocka_unit_test(test_proven_stun_counts_apart),
        cmocka_unit_test(test_who_proves_most_leaves_some_to_the_others),
        cmocka_unit_test(test_devices_of_one_address_share),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
