/* Who may try next, when more strangers stand in line than can be tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/turns.h"

static const uint8_t secret[TURNS_SECRET_LEN];
static int people[100000];

static struct addr address(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text), 0);
    return a;
}

static bool everybody(void *ctx, void *who, bool new)
{
    (void)ctx, (void)who, (void)new;
    return true;
}

static bool not_him(void *ctx, void *who, bool new)
{
    (void)new;
    return ctx != who;
}

/* Returns a new one's number. */
static void *come(struct turns *t, int *who, const char *text, uint64_t now_ms)
{
    struct addr a = address(text);
    return turns_enter(t, who, &a, false, now_ms);
}

static void test_first_come_first_served(void **state)
{
    static struct turns t;
    (void)state;
    turns_init(&t, secret);
    for (int i = 0; i < 3; i++)
        assert_null(come(&t, &people[i], "192.0.2.1", 5));
    assert_ptr_equal(turns_next(&t, not_him, &people[0], 6), &people[1]);
    assert_ptr_equal(turns_next(&t, everybody, NULL, 6), &people[0]);
    assert_null(turns_overdue(&t, 10, 14));
    assert_ptr_equal(turns_overdue(&t, 10, 15), &people[2]);
    assert_null(turns_next(&t, everybody, NULL, 16));
}

/* One turn in ten seconds, six strangers a second from ever new addresses of `flood`;
 * the owner at `own` comes once. How many turns does he wait? -1: he was dropped. */
static int turns_until(const char *flood, const char *own)
{
    static struct turns t;
    char text[64];
    int n = 1, waited = -2;
    turns_init(&t, secret);
    for (uint64_t ms = 0; ms < 600000 && waited == -2; ms += 1000) {
        for (int i = 0; i < 6; i++, n++) {
            (void)snprintf(text, sizeof(text), flood, n / 250 % 250, n % 250);
            (void)come(&t, &people[n], text, ms);
        }
        if (ms == 300000)
            assert_ptr_not_equal(come(&t, &people[0], own, ms), &people[0]);
        if (ms % 10000 == 0) {
            int *next = turns_next(&t, everybody, NULL, ms);
            if (next == &people[0])
                waited = (int)(ms - 300000) / 10000;
        }
        for (int *late; (late = turns_overdue(&t, TURNS_PATIENCE_MS, ms)) != NULL;)
            if (late == &people[0])
                waited = -1;
    }
    return waited;
}

static void test_who_comes_from_elsewhere_goes_first(void **state)
{
    (void)state;
    assert_in_range(turns_until("198.51.%d.%d", "203.0.113.9"), 0, 1);
    assert_in_range(turns_until("10.%d.%d.1", "203.0.113.9"), 0, 1);
    assert_in_range(turns_until("2001:db8:%x:%x::1", "2001:db9::1"), 0, 1);
    /* In the same /16 or /32, but not in a /24 or /48 from which they come: */
    assert_in_range(turns_until("198.51.%d.%d", "198.51.200.9"), 0, 1);
    assert_in_range(turns_until("2001:db8:%x:%x::1", "2001:db8:ff00::1"), 0, 1);
}

/* A flood that has just begun, from 60 /24 of one /16 that never had a turn, and the
 * owner in that /16: the second turn is his, although a turn comes in ten seconds. */
static void test_a_flood_is_known_before_its_turns(void **state)
{
    static struct turns t;
    char text[64];
    int n = 1, waited = -1;
    (void)state;
    turns_init(&t, secret);
    for (uint64_t ms = 1000; ms < 40000 && waited < 0; ms += 100) {
        for (int i = 0; i < 24; i++, n++) {
            (void)snprintf(text, sizeof(text), "198.51.%d.%d", 64 + n % 60,
                           1 + n / 60 % 4);
            (void)come(&t, &people[n], text, ms);
        }
        if (ms == 6000)
            assert_ptr_not_equal(come(&t, &people[0], "198.51.9.10", ms), &people[0]);
        if (ms % 10000 == 0 && turns_next(&t, everybody, NULL, ms) == &people[0])
            waited = (int)(ms - 6000);
    }
    assert_in_range(waited, 0, 10000);
}

static void test_the_crowd_makes_room(void **state)
{
    static struct turns t;
    char text[64];
    (void)state;
    turns_init(&t, secret);
    for (int i = 0; i < TURNS_MAX; i++) {
        (void)snprintf(text, sizeof(text), "198.51.100.%d", i);
        assert_null(come(&t, &people[i], text, 1));
    }
    assert_ptr_equal(come(&t, &people[90], "198.51.100.90", 1), &people[90]);
    assert_ptr_equal(come(&t, &people[91], "192.0.2.1", 1), &people[TURNS_MAX - 1]);
    assert_ptr_equal(come(&t, &people[92], "192.0.2.2", 1), &people[TURNS_MAX - 2]);
    assert_int_equal(t.count, TURNS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_who_comes_from_elsewhere_goes_first),
        cmocka_unit_test(test_a_flood_is_known_before_its_turns),
        cmocka_unit_test(test_the_crowd_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
