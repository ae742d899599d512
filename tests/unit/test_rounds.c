/* core/rounds: how many rounds peers make this device begin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/rounds.h"

enum { A_MINUTE_MS = 60000, KINDS = 9 };

static const uint64_t begin_ms = 1000000;

/* Of one try each `every_ms`, for `ms`. */
static unsigned taken(struct rounds *r, uint64_t peer, uint64_t from_ms, unsigned ms,
                      unsigned every_ms)
{
    unsigned n = 0;
    for (unsigned at = 0; at < ms; at += every_ms)
        n += rounds_take(r, peer, from_ms + at);
    return n;
}

static void test_one_peer_has_so_many(void **state)
{
    struct rounds r = {0};
    (void)state;
    assert_in_range(taken(&r, 1, begin_ms, 18000, 10), ROUNDS_AT_ONCE,
                    ROUNDS_AT_ONCE + 18000 / ROUNDS_EVERY_MS);
    assert_true(rounds_take(&r, 2, begin_ms + 18000)); /* another one's are its own */
}

/* Twenty at once by all kinds, twice; one that moves each 6 s; one ssh each second. */
static void test_honest_use_has_all(void **state)
{
    struct rounds r = {0};
    (void)state;
    for (uint64_t peer = 1; peer <= 20; peer++)
        for (unsigned i = 0; i < KINDS; i++)
            assert_true(rounds_take(&r, peer, begin_ms + 10 * peer));
    r = (struct rounds){0};
    for (unsigned move = 0; move < 30; move++)
        for (unsigned i = 0; i < KINDS; i++)
            assert_true(rounds_take(&r, 21, begin_ms + 6000 * move));
    r = (struct rounds){0};
    for (unsigned s = 0; s < 300; s++)
        assert_true(rounds_take(&r, 22, begin_ms + 1000 * s) &&
                    rounds_take(&r, 22, begin_ms + 1000 * s + 1));
}

/* Many hostile ones take the sum, and nobody's first rounds. */
static void test_all_together_have_so_many(void **state)
{
    struct rounds r = {0};
    unsigned n = 0;
    (void)state;
    for (unsigned at = 0; at < A_MINUTE_MS; at += 20)
        for (uint64_t peer = 1; peer <= 20; peer++)
            n += rounds_take(&r, peer, begin_ms + at);
    assert_true(n <= ROUNDS_ALL_AT_ONCE + A_MINUTE_MS / ROUNDS_ALL_EVERY_MS +
                         20 * (ROUNDS_FIRST + A_MINUTE_MS / ROUNDS_FIRST_EVERY_MS));
    for (unsigned i = 0; i < ROUNDS_FIRST; i++)
        assert_true(rounds_take(&r, 30, begin_ms + A_MINUTE_MS));
}

/* Who is forgotten is one that has its rounds again, while there is one. */
static void test_peers_are_bounded(void **state)
{
    struct rounds r = {0};
    (void)state;
    (void)taken(&r, 1, begin_ms, 1000, 10);
    for (uint64_t peer = 2; peer <= 200; peer++)
        assert_true(rounds_take(&r, peer, begin_ms + 1000 + peer));
    assert_true(taken(&r, 1, begin_ms + 1300, 10, 10) <= 1);
    assert_in_range(taken(&r, 1, begin_ms + 1310, 1000, 10), 0, 4);
}

/* Introductions that are never proven, 20 a second of each of many devices. */
static void test_unproven_ones_have_little(void **state)
{
    (void)state;
    for (uint64_t devices = 1; devices <= 20; devices += 19) {
        struct rounds r = {0};
        struct rounds_unproven had = {0};
        unsigned n = 0;
        for (unsigned at = 0; at < A_MINUTE_MS; at += 50)
            for (uint64_t peer = 1; peer <= devices; peer++)
                n += rounds_take_unproven(&r, peer, &had, begin_ms + at);
        assert_true(n <= devices * (ROUNDS_UNPROVEN_AT_ONCE +
                                    A_MINUTE_MS / ROUNDS_UNPROVEN_EVERY_MS));
        assert_true(n <= ROUNDS_UNPROVEN_ALL_AT_ONCE +
                             A_MINUTE_MS / ROUNDS_UNPROVEN_ALL_EVERY_MS +
                             devices * (ROUNDS_UNPROVEN_FIRST +
                                        A_MINUTE_MS / ROUNDS_UNPROVEN_FIRST_EVERY_MS));
        for (unsigned i = 0; i < ROUNDS_UNPROVEN_FIRST; i++) /* who comes now has his */
            assert_true(rounds_take_unproven(&r, 30, &had, begin_ms + A_MINUTE_MS));
    }
}

/* ssh in a loop of 5 a second, each handshake 500 ms long; thirty at once. */
static void test_proven_ones_are_not_counted(void **state)
{
    enum { EVERY_MS = 200, LONG = 3 };
    struct rounds r = {0};
    struct rounds_unproven had[LONG] = {{0}};
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        uint64_t now_ms = begin_ms + (uint64_t)i * EVERY_MS;
        rounds_prove(&r, 1, &had[i % LONG]);
        for (unsigned n = 0; n < 2; n++)
            assert_true(rounds_take_unproven(&r, 1, &had[i % LONG], now_ms));
    }
    for (uint64_t peer = 2; peer < 32; peer++)
        for (unsigned n = 0; n < 2; n++)
            assert_true(
                rounds_take_unproven(&r, peer, &had[0], begin_ms + A_MINUTE_MS));
    struct rounds_unproven other = {0}; /* gives back what it had, and no more */
    unsigned n = 0;
    while (rounds_take_unproven(&r, 40, &other, begin_ms + A_MINUTE_MS))
        n++;
    assert_int_equal(n, ROUNDS_UNPROVEN_AT_ONCE);
    rounds_prove(&r, 40, &other);
    assert_int_equal(other.of_all + other.of_first, 0);
    for (n = 0; rounds_take_unproven(&r, 40, &other, begin_ms + A_MINUTE_MS); n++)
        ;
    assert_int_equal(n, ROUNDS_UNPROVEN_AT_ONCE);
}

/* Sessions that are over at once, 20 a second of each of many devices. */
static void test_brief_sessions_go_for_little(void **state)
{
    (void)state;
    for (uint64_t devices = 1; devices <= 20; devices += 19) {
        struct rounds r = {0};
        unsigned n = 0;
        for (unsigned at = 0; at < A_MINUTE_MS; at += 50)
            for (uint64_t peer = 1; peer <= devices; peer++)
                n += rounds_take_eager(&r, peer, begin_ms + at);
        assert_true(n <= devices * (ROUNDS_EAGER_AT_ONCE +
                                    A_MINUTE_MS / ROUNDS_EAGER_EVERY_MS));
        assert_true(n <= ROUNDS_EAGER_ALL_AT_ONCE +
                             A_MINUTE_MS / ROUNDS_EAGER_ALL_EVERY_MS +
                             devices * (ROUNDS_EAGER_FIRST +
                                        A_MINUTE_MS / ROUNDS_EAGER_FIRST_EVERY_MS));
        for (unsigned i = 0; i < ROUNDS_EAGER_FIRST; i++) /* who comes now has his */
            assert_true(rounds_take_eager(&r, 30, begin_ms + A_MINUTE_MS));
    }
}

/* 200 ssh side by side have theirs at once; then each waits for its turn, which comes.
 */
static void test_pairs_come_in_turn(void **state)
{
    struct rounds r = {0};
    (void)state;
    for (unsigned i = 0; i < 200; i++)
        assert_true(rounds_take_pair(&r, 1, begin_ms));
    for (unsigned i = 1; i <= 10; i++) {
        assert_false(rounds_take_pair(&r, 1, begin_ms));
        assert_int_equal(rounds_pair_ms(&r, 1, begin_ms),
                         begin_ms + ROUNDS_PAIRS_EVERY_MS);
        r.of[0].pairs.full_ms -= ROUNDS_PAIRS_EVERY_MS; /* that passes */
        assert_true(rounds_take_pair(&r, 1, begin_ms));
    }
    assert_true(rounds_take_pair(&r, 2, begin_ms)); /* another's are its own */
    assert_int_equal(rounds_pair_ms(&r, 3, begin_ms), begin_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_peer_has_so_many),
        cmocka_unit_test(test_honest_use_has_all),
        cmocka_unit_test(test_all_together_have_so_many),
        cmocka_unit_test(test_peers_are_bounded),
        cmocka_unit_test(test_unproven_ones_have_little),
        cmocka_unit_test(test_proven_ones_are_not_counted),
        cmocka_unit_test(test_brief_sessions_go_for_little),
        cmocka_unit_test(test_pairs_come_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
