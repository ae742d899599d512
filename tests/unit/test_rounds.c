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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_peer_has_so_many),
        cmocka_unit_test(test_honest_use_has_all),
        cmocka_unit_test(test_all_together_have_so_many),
        cmocka_unit_test(test_peers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
