/* The numbers of spoken codes: small, one's own, bounded, and who may speak by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/numbers.h"
#include "core/spoken.h"

static struct numbers table;

static int fresh(void **state)
{
    (void)state;
    memset(&table, 0, sizeof(table));
    return 0;
}

static const uint8_t *key(unsigned n)
{
    static uint8_t keys[2][KEY_LEN];
    static unsigned next;
    uint8_t *k = keys[next++ % 2];
    memset(k, 0, KEY_LEN);
    memcpy(k, &n, sizeof(n));
    k[KEY_LEN - 1] = 1;
    return k;
}

static struct number_asker asker(unsigned taker, unsigned conv)
{
    struct number_asker a = {0};
    memcpy(a.taker, key(taker), KEY_LEN);
    memcpy(a.conv, &conv, sizeof(conv));
    return a;
}

static unsigned take_from(const struct addr_place *from, unsigned giver,
                          unsigned wanted, uint64_t now_ms)
{
    static uint64_t seed;
    return numbers_take(&table, key(giver), from, wanted, ++seed, now_ms);
}

static unsigned take(unsigned giver, unsigned wanted, uint64_t now_ms)
{
    return take_from(&(struct addr_place){0}, giver, wanted, now_ms);
}

static const uint8_t *ask(unsigned number, const struct number_asker *who,
                          uint64_t now_ms)
{
    bool over;
    return numbers_ask(&table, number, who, &(struct addr_place){0}, now_ms, &over);
}

static bool is_of(unsigned number, unsigned giver, uint64_t now_ms)
{
    struct number_asker who = asker(999, 1);
    const uint8_t *k = ask(number, &who, now_ms);
    return k != NULL && memcmp(k, key(giver), KEY_LEN) == 0;
}

static void test_a_number_is_small_and_kept(void **state)
{
    (void)state;
    unsigned n = take(1, 0, 1000);
    assert_in_range(n, 1, 99);
    assert_true(is_of(n, 1, 1000));
    assert_int_equal(take(1, n, 2000), n);
    assert_int_not_equal(take(2, n, 2000), n); /* another's is not given away */
    assert_true(is_of(n, 1, 2000));
    assert_int_equal(take(3, 77 == n ? 78 : 77, 2000), 77 == n ? 78 : 77); /* free */
    assert_in_range(take(4, SPOKEN_NUMBER_MAX + 1, 2000), 1, 99);
}

static void test_it_ends(void **state)
{
    (void)state;
    unsigned n = take(1, 0, 1000);
    numbers_end(&table, key(2), n);
    assert_true(is_of(n, 1, 1000));
    numbers_end(&table, key(1), n);
    assert_false(is_of(n, 1, 1000));
    n = take(1, 0, 1000);
    assert_true(is_of(n, 1, 1000 + NUMBERS_FOR_MS - 1));
    assert_false(is_of(n, 1, 1000 + NUMBERS_FOR_MS));
    assert_false(is_of(0, 1, 1000));
}

static void test_one_giver_has_few(void **state)
{
    unsigned had[NUMBERS_EACH + 1];
    (void)state;
    unsigned other = take(2, 0, 1000);
    for (unsigned i = 0; i <= NUMBERS_EACH; i++)
        had[i] = take(1, 0, 1001 + i);
    assert_false(is_of(had[0], 1, 1100)); /* its own oldest */
    for (unsigned i = 1; i <= NUMBERS_EACH; i++)
        assert_true(is_of(had[i], 1, 1100));
    assert_true(is_of(other, 2, 1100));
}

static void test_a_full_table_forgets_the_oldest(void **state)
{
    static unsigned had[NUMBERS_MAX + 1];
    (void)state;
    for (unsigned i = 0; i <= NUMBERS_MAX; i++) {
        had[i] = take(100 + i, 0, 1000 + i);
        assert_in_range(had[i], 1, SPOKEN_NUMBER_MAX);
    }
    assert_false(is_of(had[0], 100, 2000));
    for (unsigned i = 1; i <= NUMBERS_MAX; i++)
        assert_true(is_of(had[i], 100 + i, 2000));
}

static void test_only_who_asked_is_answered(void **state)
{
    struct number_asker who = asker(7, 1), same = asker(7, 2), other = asker(8, 1);
    (void)state;
    unsigned n = take(1, 0, 1000);
    assert_false(numbers_may_answer(&table, key(1), n, &who, 1000));
    assert_non_null(ask(n, &who, 1000));
    assert_non_null(ask(n, &who, 1000)); /* takes no second place */
    assert_true(numbers_may_answer(&table, key(1), n, &who, 1000));
    assert_false(numbers_may_answer(&table, key(2), n, &who, 1000));
    assert_false(numbers_may_answer(&table, key(1), n + 1, &who, 1000));
    assert_false(numbers_may_answer(&table, key(1), n, &same, 1000));
    assert_false(numbers_may_answer(&table, key(1), n, &other, 1000));
    for (unsigned i = 0; i < NUMBERS_ASKERS - 1; i++) {
        struct number_asker next = asker(20 + i, 1);
        (void)ask(n, &next, 1000);
    }
    assert_true(numbers_may_answer(&table, key(1), n, &who, 1000));
    (void)ask(n, &other, 1000); /* one more: the first is forgotten */
    assert_false(numbers_may_answer(&table, key(1), n, &who, 1000));
    assert_false(numbers_may_answer(&table, key(1), n, &other, 1000 + NUMBERS_FOR_MS));
}

/* A place in IPv4: an address and the block around it. */
static struct addr_place at(uint16_t block, uint16_t address)
{
    return (struct addr_place){.slot = {address, block}, .levels = 2};
}

/* Who takes more than anybody makes room by his own. */
static void test_a_full_table_forgets_of_the_address_with_most(void **state)
{
    (void)state;
    struct addr_place crowd = at(1, 1), alone = at(2, 2);
    unsigned first = take_from(&alone, 1, 0, 1000);
    for (unsigned i = 0; i < 3 * NUMBERS_MAX; i++)
        (void)take_from(&crowd, 100 + i, 0, 1001 + i);
    assert_true(is_of(first, 1, 3000));
    struct addr_place late = at(3, 3);
    unsigned second = take_from(&late, 2, 0, 3000);
    for (unsigned i = 0; i < NUMBERS_MAX; i++) {
        crowd.slot[0] = (uint16_t)(100 + i); /* one each, and all of one block */
        (void)take_from(&crowd, 3000 + i, 0, 3001 + i);
    }
    assert_true(is_of(first, 1, 4000));
    assert_true(is_of(second, 2, 4000));
}

static void test_an_address_tries_a_number_seldom(void **state)
{
    (void)state;
    unsigned n = take(1, 0, 1000), m = take(2, 0, 1000), tries = 0;
    bool over = false;
    for (unsigned i = 0; i < 50; i++) {
        struct number_asker who = asker(100 + i, 1);
        struct addr_place from = at(1, 1);
        tries += numbers_ask(&table, n, &who, &from, 1000, &over) != NULL;
    }
    assert_int_equal(tries, NUMBERS_TRIES_EACH);
    assert_true(over);
    for (unsigned i = 0; i < 50; i++) { /* the block around it */
        struct number_asker who = asker(200 + i, 1);
        struct addr_place from = at(1, (uint16_t)(2 + i));
        tries += numbers_ask(&table, n, &who, &from, 1000, &over) != NULL;
    }
    assert_int_equal(tries, 2 * NUMBERS_TRIES_EACH);
    struct number_asker who = asker(300, 1), first = asker(100, 1);
    struct addr_place other = at(2, 99), from = at(1, 1);
    assert_non_null(numbers_ask(&table, n, &who, &other, 1000, &over));
    assert_non_null(numbers_ask(&table, m, &first, &from, 1000, &over));
    assert_int_equal(take(1, n, 2000), n); /* coming back refills nothing */
    who = asker(301, 1);
    assert_null(numbers_ask(&table, n, &who, &from, 2000, &over));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_number_is_small_and_kept, fresh),
        cmocka_unit_test_setup(test_it_ends, fresh),
        cmocka_unit_test_setup(test_one_giver_has_few, fresh),
        cmocka_unit_test_setup(test_a_full_table_forgets_the_oldest, fresh),
        cmocka_unit_test_setup(test_only_who_asked_is_answered, fresh),
        cmocka_unit_test_setup(test_a_full_table_forgets_of_the_address_with_most,
                               fresh),
        cmocka_unit_test_setup(test_an_address_tries_a_number_seldom, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
