/* Addresses of RFC 6052 section 2.4, prefixes as RFC 7050 finds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/nat64.h"

static struct addr ip(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text), 0);
    return a;
}

static struct nat64_prefix prefix(const char *text, unsigned bits)
{
    struct nat64_prefix p = {.bits = (uint8_t)bits};
    struct addr a = ip(text);
    memcpy(p.ip, a.ip, sizeof(p.ip));
    return p;
}

static const struct row {
    const char *prefix;
    unsigned bits;
    const char *made; /* of 192.0.2.33 */
} table[] = {
    {"2001:db8::", 32, "2001:db8:c000:221::"},
    {"2001:db8:100::", 40, "2001:db8:1c0:2:21::"},
    {"2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"},
    {"2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"},
    {"2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"},
    {"2001:db8:122:344::", 96, "2001:db8:122:344::c000:221"},
    {"64:ff9b::", 96, "64:ff9b::c000:221"},
};
enum { ROWS = sizeof(table) / sizeof(table[0]) };

static void test_the_table_of_rfc_6052(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        struct nat64_prefix p = prefix(table[i].prefix, table[i].bits);
        struct addr v4 = ip("192.0.2.33"), made, back;
        v4.port = 443;
        nat64_prefix_put_in(&p, &v4, &made);
        assert_int_equal(made.port, 443);
        struct addr want = ip(table[i].made);
        assert_true(addr_ip_equal(&made, &want));
        assert_true(nat64_prefix_take_out(&p, &made, &back));
        assert_true(addr_equal(&back, &v4));
    }
}

static void test_what_is_under_no_prefix(void **state)
{
    (void)state;
    struct nat64_prefix p = prefix("2001:db8:122:344::", 64);
    struct addr out;
    const char *others[] = {"2001:db8:122:345:c0:2:2100::",  /* another prefix */
                            "2001:db8:122:344:1c0:2:2100::", /* byte 8 is not zero */
                            "2001:db8:122:344:c0:2:2100:1",  /* nor the end */
                            "192.0.2.33"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct addr a = ip(others[i]);
        assert_false(nat64_prefix_take_out(&p, &a, &out));
    }
}

static void test_each_length_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        struct nat64_prefix p = prefix(table[i].prefix, table[i].bits);
        struct addr known[3] = {ip("192.0.0.170"), ip("192.0.0.171")};
        struct nat64 n;
        nat64_prefix_put_in(&p, &known[0], &known[2]);
        nat64_prefix_put_in(&p, &known[1], &known[1]);
        nat64_learn(&n, known, 3);
        assert_int_equal(n.count, 1); /* both addresses tell the same */
        assert_int_equal(n.prefixes[0].bits, table[i].bits);
        assert_memory_equal(n.prefixes[0].ip, p.ip, sizeof(p.ip));
    }
}

static void test_what_tells_nothing(void **state)
{
    (void)state;
    /* an IPv4 address; none in it; at a place that no prefix has */
    struct addr found[] = {ip("192.0.0.170"), ip("2001:db8::1"),
                           ip("2001:db8::c000:aa:0:0")};
    struct addr v4 = ip("8.8.8.8"), out;
    struct nat64 n;
    nat64_learn(&n, found, 3);
    assert_int_equal(n.count, 0);
    assert_false(nat64_put_in(&n, &v4, &out));
    assert_false(nat64_try(&n, 0, &v4, &out));
    assert_false(nat64_is_doubtful(&n));
    assert_false(nat64_take_out(&n, &found[1], &out));
}

static void test_several_prefixes(void **state)
{
    (void)state;
    struct addr found[] = {ip("64:ff9b::c000:aa"), ip("2001:db8:64::c000:ab")};
    struct addr v4 = ip("8.8.8.8"), home = ip("192.168.1.1"), out;
    struct addr second = ip("2001:db8:64::808:808"), first = ip("64:ff9b::808:808");
    struct nat64 n;
    nat64_learn(&n, found, 2);
    assert_int_equal(n.count, 2);
    assert_true(nat64_put_in(&n, &v4, &out));
    assert_true(addr_ip_equal(&out, &first));
    assert_false(nat64_put_in(&n, &home, &out)); /* means something here only */
    assert_false(nat64_put_in(&n, &second, &out));
    assert_true(nat64_take_out(&n, &second, &out)); /* either may come */
    assert_true(addr_ip_equal(&out, &v4));
}

/* DNS names somebody's network: only the broker's own address is put in under it. */
static void test_a_prefix_is_believed_once_proven(void **state)
{
    (void)state;
    struct addr found[] = {ip("2001:db8:5::c000:aa"), ip("2001:db8:64::c000:aa")};
    struct addr v4 = ip("8.8.8.8"), v6 = ip("2001:db8:9::1"), out, want;
    struct nat64 n, again;
    nat64_learn(&n, found, 2);
    assert_int_equal(n.count, 2);
    assert_false(nat64_put_in(&n, &v4, &out));
    assert_true(nat64_is_doubtful(&n));
    assert_true(nat64_try(&n, 2, &v4, &out)); /* in turn */
    want = ip("2001:db8:5::808:808");
    assert_true(addr_ip_equal(&out, &want));
    assert_true(nat64_try(&n, 1, &v4, &out));
    want = ip("2001:db8:64::808:808");
    assert_true(addr_ip_equal(&out, &want));
    nat64_prove(&n, &out, &v6); /* it saw IPv6: nothing translates */
    nat64_prove(&n, &v6, &v4);  /* from under neither */
    assert_false(nat64_put_in(&n, &v4, &out));
    nat64_prove(&n, &want, &v4);
    assert_true(nat64_put_in(&n, &v4, &out));
    assert_true(addr_ip_equal(&out, &want));
    assert_true(nat64_try(&n, 0, &v4, &out));
    assert_true(addr_ip_equal(&out, &want));
    nat64_learn(&again, found, 1); /* another answer of DNS */
    nat64_keep(&again, &n);
    assert_false(nat64_put_in(&again, &v4, &out));
    nat64_learn(&again, found, 2);
    nat64_keep(&again, &n);
    assert_true(nat64_put_in(&again, &v4, &out));
    assert_true(addr_ip_equal(&out, &want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_of_rfc_6052),
        cmocka_unit_test(test_what_is_under_no_prefix),
        cmocka_unit_test(test_each_length_is_found),
        cmocka_unit_test(test_what_tells_nothing),
        cmocka_unit_test(test_several_prefixes),
        cmocka_unit_test(test_a_prefix_is_believed_once_proven),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
