/* Who counts with whom when the portal shares out its places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "portal/crowd.h"

static struct addr address(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

static void test_distance(void **state)
{
    static const struct {
        const char *a, *b;
        unsigned want;
    } cases[] = {
        {"192.0.2.1:1", "192.0.2.1:2", 0},
        {"192.0.2.1:1", "192.0.2.9:1", 1},
        {"192.0.2.1:1", "192.0.3.1:1", CROWD_LEVELS},
        {"[2001:db8:1:2::1]:1", "[2001:db8:1:2:3::]:1", 0},
        {"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", 1},
        {"[2001:db8:1:2::1]:1", "[2001:db8:1:502::1]:1", 2},
        {"[2001:db8:1:2::1]:1", "[2001:db8:2:2::1]:1", CROWD_LEVELS},
        {"192.0.2.1:1", "[c000:201::]:1", CROWD_LEVELS},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct addr a = address(cases[i].a), b = address(cases[i].b);
        assert_int_equal(crowd_distance(&a, &b), cases[i].want);
        assert_int_equal(crowd_distance(&b, &a), cases[i].want);
    }
    struct addr one = address("[fe80::1]:1"), two = address("[fe80::2]:1");
    one.scope = two.scope = 3;
    assert_int_equal(crowd_distance(&one, &two), CROWD_LEVELS);
    assert_int_equal(crowd_distance(&one, &one), 0);
}

static void test_a_block_has_four_times_as_much(void **state)
{
    struct addr client = address("192.0.2.1:1"), near = address("192.0.2.0:1");
    struct addr far = address("198.51.100.1:1");
    struct crowd c = {.around = client};
    (void)state;
    for (int i = 0; i < 100; i++)
        crowd_add(&c, &far);
    assert_int_equal(crowd_full(&c, 4), CROWD_LEVELS);
    for (uint8_t i = 0; i < 15; i++) {
        near.ip[3] = (uint8_t)(10 + i);
        crowd_add(&c, &near);
        assert_int_equal(crowd_full(&c, 4), CROWD_LEVELS);
    }
    crowd_add(&c, &client);
    assert_int_equal(crowd_full(&c, 4), 1);
    for (int i = 0; i < 3; i++)
        crowd_add(&c, &client);
    assert_int_equal(crowd_full(&c, 4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_a_block_has_four_times_as_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
