/* Budgets that connecting again does not refill, fair shares of a host's ear, marks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "broker/admission.h"
#include "broker/mark.h"
#include "broker/relay_shares.h"

static const uint8_t secret[KEYMAP_SECRET_LEN] = {1};
static const uint8_t host[KEY_LEN] = {2};

static struct addr ip(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text), 0);
    return a;
}

static void fresh_key(uint8_t key[static KEY_LEN])
{
    randombytes_buf(key, KEY_LEN);
}

static void test_ledger_forgets_the_longest_unused(void **state)
{
    struct ledger l;
    uint8_t keys[4][KEY_LEN];
    (void)state;
    assert_int_equal(ledger_init(&l, 3, sizeof(int), secret), 0);
    for (int i = 0; i < 3; i++) {
        fresh_key(keys[i]);
        *(int *)ledger_get(&l, keys[i]) = i + 1;
    }
    assert_non_null(ledger_find(&l, keys[0]));
    fresh_key(keys[3]);
    assert_int_equal(*(int *)ledger_get(&l, keys[3]), 0);
    assert_null(ledger_find(&l, keys[1]));
    assert_int_equal(*(int *)ledger_find(&l, keys[0]), 1);
    assert_int_equal(l.count, 3);
    ledger_fini(&l);
}

static void test_a_key_has_one_budget(void **state)
{
    struct admission a;
    uint8_t key[KEY_LEN], other[KEY_LEN];
    unsigned got = 0;
    (void)state;
    fresh_key(key);
    fresh_key(other);
    assert_int_equal(admission_init(&a, secret), 0);
    while (admission_introduce(&a, key, 1000))
        got++;
    assert_int_equal(got, LIMIT_RATE_INTRODUCE.burst);
    assert_true(admission_introduce(&a, other, 1000));
    assert_false(admission_introduce(&a, key, 1001));
    assert_true(admission_introduce(&a, key, 1000 + 1000 / LIMIT_RATE_INTRODUCE.per_s));
    for (got = 0; admission_message(&a, key, ADMISSION_CLIENT, 1000);)
        got++;
    assert_int_equal(got, LIMIT_RATE_MESSAGES.burst);
    assert_true(admission_message(&a, key, ADMISSION_HOST, 1000)); /* another role */
    admission_fini(&a);
}

/* Fresh keys at `addresses` addresses, each as often as it can in a second. */
static unsigned flood(struct admission *a, const char *format, unsigned addresses,
                      uint64_t now_ms)
{
    char text[64];
    uint8_t key[KEY_LEN];
    unsigned passed = 0;
    for (unsigned i = 0; i < addresses; i++) {
        (void)snprintf(text, sizeof(text), format, i / 250, 1 + i % 250);
        struct addr from = ip(text);
        for (int n = 0; n < 20; n++) {
            fresh_key(key);
            passed += admission_pass(a, host, key, &from, false, now_ms);
        }
    }
    return passed;
}

static void test_strangers_share_a_host(void **state)
{
    static const struct {
        const char *format;
        unsigned addresses;
    } crowds[] = {{"198.19.%u.%u", 1},
                  {"198.19.%u.%u", 200},
                  {"10.%u.%u.1", 2000},
                  {"2001:db8:7:%x%x::1", 2000}};
    (void)state;
    for (size_t c = 0; c < sizeof(crowds) / sizeof(crowds[0]); c++) {
        struct admission a;
        uint8_t known[KEY_LEN], fresh[KEY_LEN];
        struct addr home = ip("192.0.2.7");
        unsigned passed = 0;
        uint64_t now = 1000;
        fresh_key(known);
        assert_int_equal(admission_init(&a, secret), 0);
        admission_accepted(&a, host, known, &home);
        for (int second = 0; second < 20; second++, now += 1000) {
            passed += flood(&a, crowds[c].format, crowds[c].addresses, now);
            /* The one that the host knows, even from the flood's own address. */
            struct addr same = ip("198.19.0.1");
            assert_true(admission_pass(&a, host, known, &same, false, now));
        }
        fresh_key(fresh); /* a joiner whom nobody knows, at an address of his own */
        assert_true(admission_pass(&a, host, fresh, &home, false, now));
        assert_false(admission_pass(&a, host, fresh, &home, true, now + 60000));
        assert_true(passed <=
                    LIMIT_RATE_STRANGERS.burst + 20 * LIMIT_RATE_STRANGERS.per_s);
        admission_fini(&a);
    }
}

/* A household joins: each comes through whom the host takes, also in a flood. */
static void test_joiners_of_one_address(void **state)
{
    struct admission a;
    uint8_t fresh[KEY_LEN];
    struct addr home = ip("192.0.2.7");
    uint64_t now = 1000;
    (void)state;
    assert_int_equal(admission_init(&a, secret), 0);
    for (; now < 21000; now += 500)
        (void)flood(&a, "10.%u.%u.1", 400, now);
    fresh_key(fresh); /* whom the host does not take waits, like everybody */
    assert_true(admission_pass(&a, host, fresh, &home, false, now));
    fresh_key(fresh);
    assert_false(admission_pass(&a, host, fresh, &home, false, now + 200));
    for (int i = 0; i < 10; i++, now += 200) {
        struct addr other = ip("192.0.9.7");
        (void)flood(&a, "10.%u.%u.1", 400, now);
        fresh_key(fresh);
        assert_true(admission_pass(&a, host, fresh, &other, false, now + 50));
        admission_accepted(&a, host, fresh, &other);
    }
    admission_fini(&a);
}

static void test_marks(void **state)
{
    uint8_t key[MARK_SECRET_LEN] = {9}, client[KEY_LEN], conv[CONV_LEN] = {3};
    uint8_t mark[MARK_MAX];
    static const char *const from[] = {"192.0.2.9", "2001:db8::9"};
    (void)state;
    fresh_key(client);
    for (size_t i = 0; i < 2; i++) {
        struct mark_names n = {.client = client, .host = host, .conv = conv};
        struct addr a = ip(from[i]), b;
        size_t len = mark_make(mark, key, &n, &a, 5000);
        assert_true(len <= MARK_MAX);
        assert_int_equal(mark_open(&b, mark, len, key, &n, 5060, 60), 0);
        assert_true(addr_ip_equal(&a, &b));
        assert_int_not_equal(mark_open(&b, mark, len, key, &n, 5061, 60), 0);
        assert_int_not_equal(mark_open(&b, mark, len, key, &n, 4999, 60), 0);
        for (size_t bit = 0; bit < len * 8; bit++) {
            mark[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_not_equal(mark_open(&b, mark, len, key, &n, 5060, 60), 0);
            mark[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < len; cut++)
            assert_int_not_equal(mark_open(&b, mark, cut, key, &n, 5060, 60), 0);
        n.client = host;
        assert_int_not_equal(mark_open(&b, mark, len, key, &n, 5060, 60), 0);
    }
}

enum { PAIRS = 64 };

static void test_shares_of_pairs(void **state)
{
    struct shares s;
    struct share_place places[PAIRS][SHARE_MAX];
    uint8_t client[KEY_LEN], h[KEY_LEN];
    enum share_of of;
    unsigned n = 0;
    (void)state;
    assert_int_equal(shares_init(&s, 160, secret), 0);
    struct addr from = ip("2001:db8:1:1::1"), near = ip("2001:db8:1:2::1"),
                far = ip("2001:db8:2:1::1");
    struct share_ask ask = {
        .client = client, .host = h, .from = &from, .client_max = 5};
    fresh_key(h);
    for (;; n++) { /* fresh keys at one /64: an eighth of all */
        fresh_key(client);
        if (shares_full(&s, &ask, &of) != NULL)
            break;
        assert_int_equal(shares_take(&s, &ask, NULL, places[n]), 0);
    }
    assert_int_equal(n, 20);
    assert_int_equal(of, SHARE_ADDRESS);
    assert_int_equal(shares_weight(places[0]), 20);
    ask.from = &near; /* the /56 has twice that */
    for (; shares_full(&s, &ask, &of) == NULL; n++) {
        fresh_key(client);
        assert_int_equal(shares_take(&s, &ask, NULL, places[n]), 0);
    }
    assert_int_equal(n, 40);
    ask.from = &far;
    fresh_key(client);
    for (unsigned i = 0; i < 5; i++) { /* one device */
        assert_null(shares_full(&s, &ask, &of));
        assert_int_equal(shares_take(&s, &ask, NULL, places[n++]), 0);
    }
    assert_non_null(shares_full(&s, &ask, &of));
    assert_int_equal(of, SHARE_CLIENT);
    while (n > 0)
        shares_give(&s, places[--n]);
    assert_null(shares_find(&s, h));
    assert_null(shares_find(&s, client));
    shares_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ledger_forgets_the_longest_unused),
        cmocka_unit_test(test_a_key_has_one_budget),
        cmocka_unit_test(test_strangers_share_a_host),
        cmocka_unit_test(test_joiners_of_one_address),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_shares_of_pairs),
    };
    return sodium_init() < 0 ||
           cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
