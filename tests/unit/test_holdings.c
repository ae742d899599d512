/* core/holdings: who holds most gives, and never to make room for itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "core/holdings.h"

enum { MAX = 40, KEYS = 5 };

struct piece {
    struct holding entry;
    uint64_t worth;
    unsigned key;
};

static uint64_t worth(const struct holding *e)
{
    return ((const struct piece *)e)->worth;
}

static int take(struct holdings *s, struct piece *p, unsigned key,
                struct piece **leaves)
{
    uint8_t k[KEY_LEN] = {(uint8_t)key};
    struct holding *e;
    p->key = key;
    int rc = holdings_take(s, &p->entry, k, &e);
    *leaves = (struct piece *)e;
    return rc;
}

static void test_who_holds_most_gives(void **state)
{
    (void)state;
    struct piece p[MAX + 2] = {0}, *leaves;
    struct holdings s;
    holdings_init(&s, MAX, worth);
    for (int i = 0; i < MAX; i++) {
        p[i].worth = i == 7 || i == 9 ? 1 : 50;
        assert_int_equal(take(&s, &p[i], 1, &leaves), 0);
        assert_null(leaves);
    }
    assert_int_equal(take(&s, &p[MAX], 1, &leaves), POSTERN_ERR_LIMIT);
    assert_null(leaves); /* not even its own idle one: the newcomer may be as idle */
    assert_int_equal(take(&s, &p[MAX + 1], 2, &leaves), 0);
    assert_ptr_equal(leaves, &p[7]); /* worth least, and the older of two */
    assert_null(leaves->entry.holder);
    assert_int_equal(s.count, MAX);
    for (int i = 0; i < MAX + 2; i++)
        holdings_give_back(&s, &p[i].entry);
}

/* Any order of coming and going: no holder is pushed below an equal share. */
static void test_nobody_is_pushed_below_his_share(void **state)
{
    (void)state;
    uint64_t rng = 3;
    struct piece p[200] = {0}, *leaves;
    size_t held[KEYS] = {0};
    struct holdings s;
    holdings_init(&s, MAX, worth);
    for (int round = 0; round < 20000; round++) {
        struct piece *x = &p[rng_below(&rng, 200)];
        if (x->entry.holder != NULL) {
            holdings_give_back(&s, &x->entry);
            held[x->key]--;
            continue;
        }
        /* key 0 asks ten times as often as the others */
        uint64_t r = rng_below(&rng, 10 + KEYS - 1);
        unsigned key = r < 10 ? 0 : (unsigned)(r - 9);
        x->worth = rng_below(&rng, 4);
        int rc = take(&s, x, key, &leaves);
        if (leaves != NULL) {
            assert_true(held[leaves->key] > MAX / KEYS);
            assert_true(leaves->key != key);
            held[leaves->key]--;
        }
        if (rc == 0)
            held[key]++;
        else
            assert_true(held[key] >= MAX / KEYS);
        assert_true(s.count <= MAX);
    }
    for (int i = 0; i < 200; i++)
        holdings_give_back(&s, &p[i].entry);
    assert_int_equal(s.count, 0);
    assert_null(s.first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_holds_most_gives),
        cmocka_unit_test(test_nobody_is_pushed_below_his_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
