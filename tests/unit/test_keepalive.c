/* Learning a NAT's timeout, and telling a dead path from a quiet one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/keepalive.h"
#include "core/rng.h"

#define S 1000000ull
#define MS 1000ull

/* Lives `rounds` probes behind a NAT that forgets after `timeout_us`; counts deaths. */
static unsigned live(struct keepalive *k, uint64_t timeout_us, unsigned rounds,
                     uint64_t *now)
{
    unsigned deaths = 0;
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t at = keepalive_deadline_us(k), silence = at - k->last_us;
        assert_true(at > *now && at != UINT64_MAX);
        assert_false(keepalive_due(k, at - 1));
        assert_true(keepalive_due(k, at));
        assert_false(keepalive_due(k, at));
        keepalive_on_sent(k, at);
        *now = at + 50 * MS;
        if (silence > timeout_us) {
            keepalive_on_dead(k);
            deaths++;
        }
        keepalive_on_received(k, *now); /* the answer, or a new path's first packet */
    }
    return deaths;
}

static void test_learns(void **state)
{
    (void)state;
    for (uint64_t timeout = 16 * S; timeout < 300 * S; timeout += 7 * S) {
        struct keepalive k;
        uint64_t now = 5 * S;
        keepalive_init(&k, true, 0, now);
        assert_int_equal(keepalive_export(&k), 0);
        unsigned deaths = live(&k, timeout, 12, &now);
        assert_true(deaths <= (timeout > 240 * S ? 0 : 2));
        uint64_t learned = keepalive_export(&k);
        assert_true(learned <= timeout && learned <= KEEPALIVE_MAX_US);
        assert_true(learned >=
                    (timeout * 45 / 100 < 160 * S ? timeout * 45 / 100 : 160 * S));
        /* next time on this network it knows, and hardly dies again */
        keepalive_init(&k, true, learned, now);
        assert_int_equal(keepalive_deadline_us(&k), now + learned);
        assert_int_equal(live(&k, timeout, KEEPALIVE_RETRY_SURVIVED - 1, &now), 0);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    struct keepalive k;
    uint64_t now = S;
    keepalive_init(&k, true, 1, now); /* nonsense from storage */
    assert_int_equal(keepalive_deadline_us(&k), now + KEEPALIVE_MIN_US);
    keepalive_init(&k, true, UINT64_MAX, now);
    assert_int_equal(keepalive_deadline_us(&k), now + KEEPALIVE_MAX_US);
    keepalive_init(&k, true, 0, now);
    assert_true(live(&k, 1 * S, 20, &now) > 0);
    assert_int_equal(keepalive_export(&k), KEEPALIVE_MIN_US);
}

static void test_traffic_needs_no_probe(void **state)
{
    (void)state;
    struct keepalive k;
    keepalive_init(&k, true, 0, S);
    for (uint64_t now = S; now < 1000 * S; now += 10 * S) {
        assert_false(keepalive_due(&k, now));
        keepalive_on_sent(&k, now);
    }
    keepalive_on_dead(&k); /* under traffic: teaches nothing */
    assert_int_equal(keepalive_export(&k), 0);
    keepalive_init(&k, false, 0, S);
    assert_false(keepalive_due(&k, 200 * S));
    assert_true(keepalive_due(&k, S + KEEPALIVE_FOLLOWER_US));
}

static void test_limit_is_tried_again(void **state)
{
    (void)state;
    struct keepalive k;
    uint64_t now = S;
    keepalive_init(&k, true, 20 * S, now);
    (void)live(&k, UINT64_MAX, KEEPALIVE_RETRY_SURVIVED, &now);
    assert_int_equal(keepalive_export(&k), 25 * S);
}

/* One death after a silence that is known to be safe teaches nothing; two do. */
static void test_loss_is_no_timeout(void **state)
{
    (void)state;
    struct keepalive k;
    uint64_t now = S;
    keepalive_init(&k, true, 0, now);
    (void)live(&k, UINT64_MAX, 10, &now);
    assert_int_equal(keepalive_export(&k), KEEPALIVE_MAX_US);
    assert_int_equal(live(&k, 0, 1, &now), 1);
    assert_int_equal(keepalive_export(&k), KEEPALIVE_MAX_US);
    (void)live(&k, UINT64_MAX, 2, &now);
    keepalive_on_new_path(&k, now);
    assert_int_equal(live(&k, 0, 1, &now), 1);
    assert_int_equal(keepalive_export(&k), KEEPALIVE_MAX_US / 10 * 7);
}

/* A host's connection to its broker: never silent for longer, whatever it learns. */
static void test_a_host_is_never_silent_for_long(void **state)
{
    (void)state;
    for (uint64_t timeout = S; timeout < 300 * S; timeout = timeout * 3 / 2) {
        struct keepalive k;
        uint64_t now = S;
        keepalive_init(&k, true, 0, now);
        keepalive_bound(&k, KEEPALIVE_HOST_US);
        for (unsigned i = 0; i < 100; i++) {
            assert_true(keepalive_deadline_us(&k) <= now + KEEPALIVE_HOST_US);
            (void)live(&k, timeout, 1, &now);
            keepalive_on_new_path(&k, now);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_traffic_needs_no_probe),
        cmocka_unit_test(test_limit_is_tried_again),
        cmocka_unit_test(test_loss_is_no_timeout),
        cmocka_unit_test(test_a_host_is_never_silent_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
