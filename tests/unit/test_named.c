/* How many sessions of our own NAT peers make us open by naming addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/named.h"

static const uint64_t second = 1000000;

static int begin(void **state)
{
    *state = calloc(1, sizeof(struct named));
    return *state == NULL ? -1 : 0;
}

static int finish(void **state)
{
    free(*state);
    return 0;
}

static struct named_session session(uint64_t peer, unsigned port, bool vouched)
{
    return (struct named_session){.peer = peer,
                                  .from = 5000,
                                  .vouched = vouched,
                                  .to = {.family = ADDR_V4,
                                         .port = (uint16_t)port,
                                         .ip = {45, 4, 7, (uint8_t)peer}}};
}

static bool open_one(struct named *n, const struct named_session *s, uint64_t now)
{
    bool may = named_may(n, s, false, now);
    if (may)
        named_use(n, s, now);
    return may;
}

static unsigned open_many(struct named *n, uint64_t peer, unsigned many, bool vouched,
                          uint64_t now)
{
    unsigned opened = 0;
    for (unsigned i = 0; i < many; i++) {
        struct named_session s = session(peer, 1000 + i, vouched);
        opened += open_one(n, &s, now);
    }
    return opened;
}

static void test_a_peer_has_its_share(void **state)
{
    assert_int_equal(open_many(*state, 1, 500, true, second), NAMED_EACH);
    assert_int_equal(open_many(*state, 2, 10, true, second), 10);
    struct named_session known = session(1, 1000, true), fresh = session(1, 999, true);
    assert_true(open_one(*state, &known, 50 * second));
    assert_false(named_may(*state, &fresh, false, 60 * second));
    /* The one that was used again lives on, the others are over. */
    struct named_session again = session(1, 1, true);
    unsigned n = 0;
    for (; open_one(*state, &again, 70 * second); n++)
        again.to.port++;
    assert_int_equal(n, NAMED_EACH - 1);
}

static void test_vouched_addresses_keep_half(void **state)
{
    assert_int_equal(open_many(*state, 1, 500, false, second), NAMED_STRANGE);
    struct named_session s = session(1, 9, true);
    s.to.ip[0] = 46;
    unsigned n = 0;
    for (; open_one(*state, &s, second); n++)
        s.to.port++;
    assert_int_equal(n, NAMED_EACH - NAMED_STRANGE);
}

/* Each from a fresh socket, or by TCP, is one more. */
static void test_a_session_is_both_ends(void **state)
{
    struct named_session s = session(1, 7, true);
    unsigned n = 0;
    for (; open_one(*state, &s, second) && n < 100; n++)
        s.from++;
    assert_int_equal(n, NAMED_EACH);
    struct named_session any = session(2, 7, true);
    any.from = 0;
    for (n = 0; open_one(*state, &any, second) && n < 100;)
        n++;
    assert_int_equal(n, NAMED_EACH);
}

static void test_hostile_peers_leave_room(void **state)
{
    unsigned all = 0;
    for (uint64_t peer = 1; peer <= 10; peer++)
        all += open_many(*state, peer, 500, true, second);
    assert_in_range(all, 10 * NAMED_FIRST, NAMED_UNPROVEN - 2 * NAMED_FIRST);
    assert_true(open_many(*state, 11, 10, true, second) >= NAMED_FIRST);
    for (uint64_t peer = 20; peer <= 200; peer++)
        all += open_many(*state, peer, 500, true, second);
    assert_in_range(all, NAMED_UNPROVEN / 2, NAMED_UNPROVEN);
    assert_int_equal(open_many(*state, 250, 1, true, second), 0);
    named_forget(*state);
    assert_int_equal(open_many(*state, 250, 10, true, second), 10);
}

/* Twenty honest clients at once with ten addresses each, and then as many again after
 * the first were answered. */
static void test_a_crowd_is_not_hindered(void **state)
{
    for (unsigned i = 0; i < 10; i++)
        for (uint64_t peer = 1; peer <= 20; peer++) {
            struct named_session s = session(peer, 1000 + i, true);
            assert_true(open_one(*state, &s, second));
        }
    for (uint64_t peer = 1; peer <= 20; peer++)
        for (unsigned i = 0; i < 10; i++) {
            struct named_session s = session(peer, 1000 + i, true);
            named_answered(*state, peer, &s.to);
        }
    for (uint64_t peer = 21; peer <= 40; peer++)
        assert_int_equal(open_many(*state, peer, 10, true, second), 10);
}

/* Who answers at all its ports has no more than its share. */
static void test_answers_buy_no_more(void **state)
{
    struct named_session s = session(1, 1, true);
    unsigned n = 0;
    for (; open_one(*state, &s, second) && n < 100; n++, s.to.port++)
        named_answered(*state, 1, &s.to);
    assert_int_equal(n, NAMED_EACH);
}

static void test_crowded_leaves_the_first_few(void **state)
{
    struct named_session s = session(1, 1, true);
    unsigned n = 0;
    for (; named_may(*state, &s, true, second) && n < 100; n++, s.to.port++)
        named_use(*state, &s, second);
    assert_int_equal(n, NAMED_FIRST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_peer_has_its_share, begin, finish),
        cmocka_unit_test_setup_teardown(test_vouched_addresses_keep_half, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(test_a_session_is_both_ends, begin, finish),
        cmocka_unit_test_setup_teardown(test_hostile_peers_leave_room, begin, finish),
        cmocka_unit_test_setup_teardown(test_a_crowd_is_not_hindered, begin, finish),
        cmocka_unit_test_setup_teardown(test_answers_buy_no_more, begin, finish),
        cmocka_unit_test_setup_teardown(test_crowded_leaves_the_first_few, begin,
                                        finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
