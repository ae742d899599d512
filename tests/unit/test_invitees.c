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

static struct addr at(uint8_t a, uint8_t b, uint8_t c)
{
    return (struct addr){.family = ADDR_V4, .ip = {a, b, c, 1}};
}

static void test_neighbourhoods_take_turns(void **state)
{
    (void)state;
    struct invitees v = {0};
    struct addr one = at(10, 1, 1), beside = at(10, 1, 200), other = at(10, 2, 1);
    assert_true(invitees_has_turn(&v, &one, 5));
    invitees_note_turn(&v, &one, 5);
    assert_false(invitees_has_turn(&v, &one, 10004));
    assert_false(invitees_has_turn(&v, &beside, 10004));
    assert_true(invitees_has_turn(&v, &other, 6));
    assert_true(invitees_has_turn(&v, NULL, 6));
    assert_true(invitees_has_turn(&v, &beside, 10005));
    for (unsigned i = 0; i < INVITEES_TURNS; i++) { /* the longest ago is forgotten */
        struct addr a = at(20, (uint8_t)i, 0);
        invitees_note_turn(&v, &a, 100 + i);
    }
    assert_true(invitees_has_turn(&v, &one, 300));
    assert_false(
        invitees_has_turn(&v, &(struct addr){.family = ADDR_V4, .ip = {20}}, 300));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uses_bound_tries),
        cmocka_unit_test(test_the_least_tried_is_forgotten),
        cmocka_unit_test(test_at_once),
        cmocka_unit_test(test_neighbourhoods_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
