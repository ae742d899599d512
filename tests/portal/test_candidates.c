/* The order of hosts that anybody can be: what was proven, then turns by neighbourhood.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "portal/candidates.h"

static struct candidate at(uint32_t host, uint8_t proof, const char *text)
{
    struct candidate c = {.host = host, .proof = proof};
    assert_int_equal(addr_parse_ip(&c.from, text), 0);
    return c;
}

static void order(struct candidate *cs, size_t n, const char *expected)
{
    char text[256] = "";
    candidates_order(cs, n);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(text);
        (void)snprintf(text + len, sizeof(text) - len, "%s%u", i > 0 ? " " : "",
                       cs[i].host);
    }
    assert_string_equal(text, expected);
}

static void test_none_and_the_eldest(void **state)
{
    (void)state;
    struct candidate cs[] = {at(7, 0, "192.0.2.1"), at(3, 0, "192.0.2.1"),
                             at(5, 0, "192.0.2.1")};
    candidates_order(NULL, 0);
    order(cs, 3, "3 5 7");
}

static void test_what_was_proven_goes_first(void **state)
{
    (void)state;
    struct candidate cs[] = {at(1, 2, "192.0.2.1"), at(2, 1, "192.0.2.1"),
                             at(3, 0, "198.51.100.1"), at(4, 0, "192.0.2.1"),
                             at(5, 1, "192.0.2.1")};
    order(cs, 5, "3 4 2 5 1");
}

/* Whole crowds that came first stand behind one another, not before others. */
static void test_neighbourhoods_take_turns(void **state)
{
    (void)state;
    struct candidate cs[] = {
        at(1, 0, "192.0.2.1"),    at(2, 0, "192.0.2.1"),   at(3, 0, "192.0.2.2"),
        at(4, 0, "192.0.3.1"),    at(5, 0, "192.0.3.1"),   at(6, 0, "198.51.100.1"),
        at(7, 0, "198.51.100.1"), at(8, 0, "203.0.113.9"),
    };
    /* In 192.0/16: 1 (of .2.1), 4 (of .3.1), then 3 (of .2.2), 5, 2. */
    order(cs, 8, "1 6 8 4 7 3 5 2");
}

static void test_ipv6_counts_by_its_blocks(void **state)
{
    (void)state;
    struct candidate cs[] = {
        at(1, 0, "2001:db8:1:1::1"), at(2, 0, "2001:db8:1:1::2"),
        at(3, 0, "2001:db8:1:2::1"), at(4, 0, "2001:db8:2:1::1"),
        at(5, 0, "2001:db9::1"),     at(6, 0, "192.0.2.1"),
    };
    order(cs, 6, "1 5 6 4 3 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none_and_the_eldest),
        cmocka_unit_test(test_what_was_proven_goes_first),
        cmocka_unit_test(test_neighbourhoods_take_turns),
        cmocka_unit_test(test_ipv6_counts_by_its_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
