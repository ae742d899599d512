/* Pauses of who has lost its broker, by what a try costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/comeback.h"

enum { SEEDS = 200 };

static void within(uint64_t pause, uint64_t full)
{
    assert_true(pause >= full / 2 && pause <= full);
}

/* Away for so long, refusing or dark; from one pause to the next; when it is found
 * to be back. */
static uint64_t away(struct comeback *c, enum comeback_why why, uint64_t from,
                     uint64_t until)
{
    while (from < until)
        from += comeback_on_down(c, why, from);
    return from;
}

/* A broker that dies after any health short of 20 s, ten times, and is away for less
 * than 10 s: who was there is back within 1.5 s of its return, in every life. */
static void test_killed_again_and_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < SEEDS; seed++) {
        struct comeback c;
        uint64_t now = 1000;
        comeback_init(&c, seed, now);
        for (unsigned life = 0; life < 10; life++) {
            uint64_t away_ms = seed * 7919 * (life + 1) % 10000;
            comeback_on_up(&c, life > 0, now);
            now += 1 + seed * 104729 * (life + 1) % 19000;
            uint64_t back = now + away_ms;
            uint64_t next = now + comeback_on_down(&c, COMEBACK_ENDED, now);
            next = away(&c, COMEBACK_REFUSED, next, back);
            assert_true(next - back <= 1500);
            now = next;
        }
    }
}

/* An agent does not say when it began: that it refused says as much. */
static void test_refusal_is_a_new_broker(void **state)
{
    (void)state;
    struct comeback c;
    uint64_t now = 1000;
    comeback_init(&c, 3, now);
    for (unsigned life = 0; life < 10; life++) {
        comeback_on_up(&c, false, now);
        now += 5000;
        now += comeback_on_down(&c, COMEBACK_ENDED, now);
        now += comeback_on_down(&c, COMEBACK_REFUSED, now);
    }
    comeback_on_up(&c, false, now);
    within(comeback_on_down(&c, COMEBACK_ENDED, now + 5000), 1500);
}

/* A broker that takes everybody and ends them is not run down, and no thousand comes in
 * one instant, be it restarted or not. */
static void test_taken_and_ended(void **state)
{
    (void)state;
    for (unsigned begun = 0; begun < 2; begun++) {
        uint64_t least = UINT64_MAX, most = 0;
        for (uint64_t seed = 1; seed < SEEDS; seed++) {
            struct comeback c;
            uint64_t now = 1000, pause = 0;
            comeback_init(&c, seed, now);
            for (unsigned life = 0; life < 8; life++) {
                comeback_on_up(&c, begun, now);
                pause = comeback_on_down(&c, COMEBACK_ENDED, now + 10);
                now += 10 + pause;
            }
            within(pause, begun ? 1500 : 4000);
            least = pause < least ? pause : least;
            most = pause > most ? pause : most;
        }
        assert_true(most - least > (begun ? 650 : 1800));
    }
}

/* Asked each second for half a minute, and then less and less. */
static void test_away_for_long(void **state)
{
    (void)state;
    struct comeback c;
    comeback_init(&c, 5, 1000);
    comeback_on_up(&c, false, 2000);
    (void)comeback_on_down(&c, COMEBACK_ENDED, 30000);
    for (unsigned i = 0; i < 40; i++)
        (void)comeback_on_down(&c, COMEBACK_REFUSED, 31000);
    within(comeback_on_down(&c, COMEBACK_REFUSED, 59000), 1000);
    within(comeback_on_down(&c, COMEBACK_DARK, 59000), 2000);
    within(comeback_on_down(&c, COMEBACK_TURNED, 59000), 2000);
    within(comeback_on_down(&c, COMEBACK_REFUSED, 30000 + 180000), 6000);
    within(comeback_on_down(&c, COMEBACK_DARK, 30000 + 180000), 12000);
    within(comeback_on_down(&c, COMEBACK_REFUSED, 30000 + 3600000), 15000);
}

/* Whoever logs in at a network's page is on at once, but not for ever. */
static void test_stranger(void **state)
{
    (void)state;
    struct comeback c;
    comeback_init(&c, 5, 1000);
    for (unsigned i = 0; i < 40; i++)
        (void)comeback_on_down(&c, COMEBACK_STRANGER, 2000);
    within(comeback_on_down(&c, COMEBACK_STRANGER, 601000), 3000);
    within(comeback_on_down(&c, COMEBACK_STRANGER, 603000), 15000);
    comeback_on_up(&c, false, 604000);
    (void)comeback_on_down(&c, COMEBACK_OTHER, 605000);
    within(comeback_on_down(&c, COMEBACK_STRANGER, 606000), 3000);
    comeback_init(&c, 6, 1000);
    for (unsigned i = 0; i < 40; i++)
        (void)comeback_on_down(&c, COMEBACK_FATAL, 2000);
    within(comeback_on_down(&c, COMEBACK_FATAL, 2000), 10000);
    comeback_reset(&c);
    within(comeback_on_down(&c, COMEBACK_OTHER, 607000), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_again_and_again),
        cmocka_unit_test(test_refusal_is_a_new_broker),
        cmocka_unit_test(test_taken_and_ended),
        cmocka_unit_test(test_away_for_long),
        cmocka_unit_test(test_stranger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
