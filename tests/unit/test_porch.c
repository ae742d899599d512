/* The line before the broker's door: whose turn it is, who goes, and badges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/porch.h"
#include "core/badge.h"

enum { T0 = 5000, CROWD = 200 };

static struct addr_limits *limits;
static struct porch porch;
static struct porch_guest crowd[CROWD], other;

static struct addr_place place(const char *ip)
{
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, ip), 0);
    return addr_limits_place(limits, &a);
}

static int setup(void **state)
{
    (void)state;
    limits = calloc(1, sizeof(*limits));
    assert_non_null(limits);
    porch_init(&porch, limits, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(limits);
    return 0;
}

/* All that those addresses, and the spare, have saved up. */
static void use_up(const char *ip, uint64_t now_ms)
{
    struct addr_place p = place(ip);
    while (addr_limits_connect(limits, &p, now_ms))
        ;
    porch.spare = (struct bucket){.at_ms = now_ms};
}

static unsigned enter(struct porch_guest *g, size_t n, const char *ip)
{
    unsigned gone = 0;
    for (size_t i = 0; i < n; i++) {
        list_init(&g[i].link);
        g[i].place = place(ip);
        gone += porch_enter(&porch, &g[i]) != NULL;
    }
    return gone;
}

/* An address has only so many places, and no other gives one up for it. */
static void test_bounds(void **state)
{
    (void)state;
    assert_int_equal(enter(&other, 1, "192.0.2.1"), 0);
    assert_int_equal(enter(crowd, CROWD, "198.51.100.1"),
                     CROWD - LIMIT_LINE_PER_ADDRESS);
    assert_int_equal(porch.count, LIMIT_LINE_PER_ADDRESS + 1);
    assert_false(list_empty(&other.link));
}

/* Who comes alone is next when there is something to spare, not who is one of many. */
static void test_turns(void **state)
{
    (void)state;
    use_up("198.51.100.1", T0);
    use_up("192.0.2.1", T0);
    enter(crowd, LIMIT_LINE_PER_ADDRESS, "198.51.100.1");
    assert_null(porch_next(&porch, T0));
    struct porch_guest *first = porch_next(&porch, T0 + 5); /* to spare: 200 a second */
    assert_non_null(first);
    enter(&other, 1, "192.0.2.1");
    assert_ptr_equal(porch_next(&porch, T0 + 10), &other);
    assert_null(porch_next(&porch, T0 + 10));
    assert_non_null(porch_next(&porch, T0 + 20)); /* its address has one again */
}

/* Of one address each has a chance, however many came before it. */
static void test_any_of_an_address(void **state)
{
    (void)state;
    unsigned late = 0;
    use_up("198.51.100.1", T0);
    enter(crowd, 16, "198.51.100.1");
    uint64_t now = T0;
    for (int i = 0; i < 64; i++) {
        struct porch_guest *g = porch_next(&porch, now += 20);
        assert_non_null(g);
        late += g == &crowd[15] || g == &crowd[14];
        assert_null(porch_enter(&porch, g));
    }
    assert_true(late > 0);
}

static void test_badge_for_a_host(void **state)
{
    struct keypair own = {.seed = {1}};
    uint8_t secret[BADGE_SECRET_LEN], door[BADGE_SECRET_LEN], badge[BADGE_HOST_LEN];
    uint8_t device[KEY_LEN] = {7}, host[KEY_LEN] = {8}, later[BADGE_HOST_LEN];
    uint64_t day_s = 86400, now_s = 20000 * day_s;
    (void)state;
    badge_host_secret(secret, &own);
    badge_secret(door, &own);
    badge_host_make(badge, secret, host, device, now_s);
    badge_host_make(later, secret, host, device, now_s + day_s - 1);
    assert_memory_equal(badge, later, sizeof(badge)); /* kept once a day */
    assert_true(badge_host_is(badge, sizeof(badge), secret, host, device,
                              now_s + (BADGE_DAYS - 1) * day_s));
    assert_true(badge_host_is(badge, sizeof(badge), secret, host, device,
                              now_s - day_s)); /* the broker's clock was set back */
    assert_false(badge_host_is(badge, sizeof(badge), secret, host, device,
                               now_s + (BADGE_DAYS + 1) * day_s));
    assert_false(
        badge_host_is(badge, sizeof(badge), secret, host, device, now_s - 2 * day_s));
    assert_false(badge_host_is(badge, sizeof(badge), secret, device, host, now_s));
    assert_false(badge_host_is(badge, sizeof(badge), secret, host, host, now_s));
    assert_false(badge_host_is(badge, sizeof(badge), door, host, device, now_s));
    assert_false(badge_host_is(badge, sizeof(badge) - 1, secret, host, device, now_s));
    assert_false(badge_host_is(badge, 0, secret, host, device, now_s));
    for (size_t i = 0; i < sizeof(badge); i++) {
        badge[i] ^= 1;
        assert_false(badge_host_is(badge, sizeof(badge), secret, host, device, now_s));
        badge[i] ^= 1;
    }
}

static void test_badge(void **state)
{
    (void)state;
    uint8_t secret[BADGE_SECRET_LEN], nonce[BADGE_NONCE_LEN] = {3}, badge[BADGE_LEN];
    uint8_t device[KEY_LEN] = {7}, whose[KEY_LEN];
    struct keypair own;
    const uint64_t now_s = 1800000000, day_s = 86400;
    keypair_from_seed(&own, device);
    badge_secret(secret, &own);
    badge_make(badge, secret, nonce, device, now_s);
    assert_int_equal(badge_open(whose, badge, BADGE_LEN, secret, now_s), 0);
    assert_memory_equal(whose, device, KEY_LEN);
    assert_int_equal(
        badge_open(whose, badge, BADGE_LEN, secret, now_s + (BADGE_DAYS - 1) * day_s),
        0);
    assert_true(badge_open(whose, badge, BADGE_LEN, secret,
                           now_s + (BADGE_DAYS + 1) * day_s) < 0);
    assert_true(badge_open(whose, badge, BADGE_LEN, secret, now_s - day_s) < 0);
    assert_true(badge_open(whose, badge, BADGE_LEN - 1, secret, now_s) < 0);
    for (size_t i = 0; i < BADGE_LEN; i++) {
        badge[i] ^= 1;
        assert_true(badge_open(whose, badge, BADGE_LEN, secret, now_s) < 0);
        badge[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_any_of_an_address, setup, teardown),
        cmocka_unit_test(test_badge),
        cmocka_unit_test(test_badge_for_a_host),
    };
    return cmocka_run_group_tests_name("porch", tests, NULL, NULL);
}
