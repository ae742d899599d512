/* How often an open invite may be tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/invitees.h"

static unsigned take_all(struct invitees *v, uint8_t n, unsigned uses, uint64_t now)
{
    uint8_t id[INVITE_ID_LEN] = {n};
    unsigned got = 0;
    while (got < 10000 && invitees_take(v, id, uses, now))
        got++;
    return got;
}

static void test_uses_bound_tries(void **state)
{
    (void)state;
    struct invitees v = {0};
    assert_int_equal(take_all(&v, 1, 1, 5), 4);
    assert_int_equal(take_all(&v, 1, 1, 5), 0);
    assert_int_equal(take_all(&v, 2, 30, 5), 62);
    assert_int_equal(take_all(&v, 3, 1000000, 5), 514);
    assert_int_equal(take_all(&v, 1, 1, 9000), 0);
    assert_int_equal(take_all(&v, 1, 1, 21000), 2); /* refilled */
    assert_int_equal(take_all(&v, 1, 1, 900000), 4);
}

static void test_the_least_tried_is_forgotten(void **state)
{
    (void)state;
    struct invitees v = {0};
    uint8_t id[INVITE_ID_LEN] = {0};
    assert_int_equal(take_all(&v, 200, 5, 5), 12);
    for (uint8_t i = 0; i < 150; i++) {
        id[0] = i;
        assert_true(invitees_take(&v, id, 1, 5));
    }
    assert_int_equal(take_all(&v, 200, 5, 5), 0);
}

static void test_at_once(void **state)
{
    (void)state;
    assert_int_equal(invitees_at_once(1), 3);
    assert_int_equal(invitees_at_once(5), 7);
    assert_int_equal(invitees_at_once(1000), 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uses_bound_tries),
        cmocka_unit_test(test_the_least_tried_is_forgotten),
        cmocka_unit_test(test_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
