/* core/agenda: in order of time, against a table that is searched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/agenda.h"
#include "core/rng.h"

enum { ENTRIES = 300 };

static void test_order(void **state)
{
    (void)state;
    struct agenda a = {0};
    struct agenda_entry e[4] = {0};
    agenda_enter(&a, &e[0], 20);
    agenda_enter(&a, &e[1], 10);
    agenda_enter(&a, &e[2], 20);
    agenda_enter(&a, &e[3], 10);
    assert_null(agenda_take(&a, 9, a.entered));
    assert_ptr_equal(agenda_take(&a, 10, a.entered), &e[1]);
    assert_ptr_equal(agenda_take(&a, 99, a.entered), &e[3]);
    assert_ptr_equal(agenda_take(&a, 99, a.entered), &e[0]);
    assert_ptr_equal(agenda_take(&a, 99, a.entered), &e[2]);
    assert_null(agenda_take(&a, 99, a.entered));
    agenda_leave(&a, &e[0]); /* harmless */
}

static void test_who_enters_again_waits_for_the_next_round(void **state)
{
    (void)state;
    struct agenda a = {0};
    struct agenda_entry e = {0};
    agenda_enter(&a, &e, 5);
    uint64_t before = a.entered;
    assert_ptr_equal(agenda_take(&a, 5, before), &e);
    agenda_enter(&a, &e, 5);
    assert_null(agenda_take(&a, 5, before));
    assert_ptr_equal(agenda_take(&a, 5, a.entered), &e);
}

/* The first of those that stand, found the slow way; -1: none. */
static int first_of(const struct agenda_entry *e, uint64_t now)
{
    int best = -1;
    for (int i = 0; i < ENTRIES; i++)
        if (e[i].entered && e[i].due <= now &&
            (best < 0 || e[i].due < e[best].due ||
             (e[i].due == e[best].due && e[i].order < e[best].order)))
            best = i;
    return best;
}

static void test_any_order(void **state)
{
    (void)state;
    struct agenda a = {0};
    static struct agenda_entry e[ENTRIES];
    uint64_t rng = 7, now = 0;
    for (int round = 0; round < 200000; round++) {
        struct agenda_entry *x = &e[rng_below(&rng, ENTRIES)];
        if (rng_below(&rng, 3) > 0) {
            agenda_leave(&a, x);
            agenda_enter(&a, x, now + rng_below(&rng, 50));
        } else if (rng_below(&rng, 2) > 0) {
            agenda_leave(&a, x);
            assert_false(x->entered);
        } else {
            now += rng_below(&rng, 4);
            int first = first_of(e, now);
            struct agenda_entry *got = agenda_take(&a, now, a.entered);
            assert_ptr_equal(got, first < 0 ? NULL : &e[first]);
        }
    }
    for (int first; (first = first_of(e, UINT64_MAX)) >= 0;)
        assert_ptr_equal(agenda_take(&a, UINT64_MAX, a.entered), &e[first]);
    assert_null(a.first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_who_enters_again_waits_for_the_next_round),
        cmocka_unit_test(test_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
