/*
 * Whose turn it is, and what strangers together may guess of an account: by virtual
 * time, with attackers of many shapes and an owner who comes with a new browser from a
 * new address while they are at it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/strangers.h"
#include "core/turns.h"

enum { DAY_S = 24 * 3600, CONNECTIONS_MAX = 1000 };

/* Where the n-th try comes from. */
typedef struct addr (*source)(unsigned n);

static struct addr v4(unsigned a, unsigned b, unsigned c, unsigned d)
{
    return (struct addr){.family = ADDR_V4,
                         .ip = {(uint8_t)a, (uint8_t)b, (uint8_t)c, (uint8_t)d}};
}

static struct addr v6(unsigned net, unsigned block40, unsigned block48,
                      unsigned block64)
{
    return (struct addr){.family = ADDR_V6,
                         .ip = {0x20, 0x01, (uint8_t)(net >> 8), (uint8_t)net,
                                (uint8_t)block40, (uint8_t)block48,
                                (uint8_t)(block64 >> 8), (uint8_t)block64, 1}};
}

static struct addr one(unsigned n)
{
    return v4(45, 4, 100, n - n + 9);
}

static struct addr one_24(unsigned n)
{
    return v4(45, 4, 100, n % 250);
}

static struct addr sixty_24(unsigned n)
{
    return v4(45, 4, 100 + n % 60, n / 60 % 250);
}

static struct addr thousand_near(unsigned n)
{
    return v4(45, 4, n % 250, 1 + n / 250 % 4); /* but for the owner's /24: no .251 */
}

static struct addr thousand_far(unsigned n)
{
    return v4(60 + n % 4, n / 4 % 250, 7, 7);
}

static struct addr thousand_everywhere(unsigned n)
{
    return n % 4 == 0 ? thousand_near(n / 4 % 250) : thousand_far(n % 1000);
}

static struct addr sixty_48(unsigned n)
{
    return v6(0xdb8, n % 60 * 4, n % 7, n / 60);
}

static struct addr a_42(unsigned n) /* one customer's */
{
    return v6(0xdb8, 0x40, n % 64, n / 64);
}

static struct addr a_48(unsigned n)
{
    return v6(0xdb8, 0x40, 3, n);
}

/* ------------------------------------------------------------------- the login page */

/* One who tries: the connections of an attacker, and the owner. */
struct person {
    uint64_t again_ms; /* UINT64_MAX: stands in line */
    bool newcomer;     /* as his turn was judged */
    bool wants;
};

struct page {
    struct turns turns;
    struct strangers strangers;
    uint64_t now_ms, busy_until_ms;
    struct person *busy_with;
    unsigned hash_ms, step_ms, guesses;
    bool may[2]; /* that there are chances: of others, of newcomers */
    struct person people[CONNECTIONS_MAX + 1]; /* the owner is the last */
};

static const char account[] = "anna";

static bool may(void *ctx, void *who, bool new)
{
    struct page *p = ctx;
    ((struct person *)who)->newcomer = new;
    return p->may[new];
}

static struct page *page_new(unsigned hash_ms)
{
    static const uint8_t secret[TURNS_SECRET_LEN] = {7};
    struct page *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    turns_init(&p->turns, secret);
    strangers_init(&p->strangers, secret);
    p->now_ms = 1000000;
    p->hash_ms = hash_ms;
    p->step_ms = 100;
    return p;
}

static void answer(struct page *p, struct person *who, unsigned pause_ms)
{
    if (who != NULL)
        who->again_ms = p->now_ms + pause_ms;
}

static void come(struct page *p, struct person *who, struct addr from,
                 unsigned pause_ms)
{
    who->again_ms = UINT64_MAX;
    answer(p, turns_enter(&p->turns, who, &from, false, p->now_ms), pause_ms);
}

/* True: the owner had his turn, and is in. */
static bool step(struct page *p, unsigned pause_ms)
{
    struct person *owner = &p->people[CONNECTIONS_MAX], *who;
    p->now_ms += p->step_ms;
    while ((who = turns_overdue(&p->turns, TURNS_PATIENCE_MS, p->now_ms)) != NULL)
        answer(p, who, pause_ms);
    if (p->now_ms < p->busy_until_ms)
        return false;
    who = p->busy_with;
    answer(p, who, pause_ms);
    if (who == owner)
        return true;
    for (int new = 0; new < 2; new ++)
        p->may[new] =
            strangers_wait_ms(&p->strangers, account, 4, new == 1, p->now_ms) == 0;
    p->busy_with = !p->may[1] ? NULL : turns_next(&p->turns, may, p, p->now_ms);
    if (p->busy_with == NULL)
        return false;
    p->guesses++;
    p->busy_until_ms = p->now_ms + p->hash_ms;
    strangers_failed(&p->strangers, account, 4, p->busy_with->newcomer, p->now_ms);
    return false;
}

/* ---------------------------------------------------------------------- the attacks */

struct attack {
    const char *what;
    source from;
    unsigned connections; /* each tries again when it was answered, */
    unsigned pause_ms;    /* so much later */
    unsigned most_s;
};

static void attack_step(struct page *p, const struct attack *a, unsigned *sent)
{
    for (unsigned i = 0; i < a->connections; i++)
        if (p->people[i].again_ms <= p->now_ms)
            come(p, &p->people[i], a->from((*sent)++), a->pause_ms);
}

/* How long the owner takes, who tries again where he is sent away. */
static unsigned owner_takes_ms(const struct attack *a, const struct addr *from,
                               unsigned begun_s, unsigned hash_ms)
{
    struct page *p = page_new(hash_ms);
    struct person *owner = &p->people[CONNECTIONS_MAX];
    uint64_t comes_ms = p->now_ms + begun_s * 1000ull;
    unsigned sent = 0;
    bool in = false;
    owner->again_ms = comes_ms;
    while (!in && p->now_ms < comes_ms + 600000) {
        attack_step(p, a, &sent);
        if (owner->again_ms <= p->now_ms)
            come(p, owner, *from, 5000);
        in = step(p, a->pause_ms);
    }
    unsigned took = (unsigned)(p->now_ms - comes_ms);
    free(p);
    return took;
}

/* The owner is in within so long, when it began a minute before he came. */
static const struct attack attacks[] = {
    {"one address", one, 10, 0, 10},
    {"one /24", one_24, 60, 0, 10},
    {"60 /24 of the owner's /16", sixty_24, 60, 500, 10},
    {"the same, as fast as can be", sixty_24, 300, 1000, 10},
    {"1,000 addresses in 250 /24 of it", thousand_near, 1000, 5000, 30},
    {"1,000 /24 in as many /16", thousand_far, 1000, 5000, 30},
    {"the same, a few at a time", thousand_far, 60, 500, 30},
    {"1,000 everywhere, his /16 too", thousand_everywhere, 1000, 5000, 30},
    {"60 /48 of the owner's /32", sixty_48, 60, 500, 10},
    {"a /42 of it", a_42, 300, 1000, 10},
    {"a /48 of it", a_48, 300, 1000, 10},
};
enum { ATTACKS = sizeof(attacks) / sizeof(attacks[0]) };

static void test_the_owner_is_in_soon(void **state)
{
    static const unsigned begun_s[] = {60, 300};
    (void)state;
    for (size_t i = 0; i < ATTACKS; i++) {
        const struct attack *a = &attacks[i];
        struct addr owner =
            a->from(0).family == ADDR_V4 ? v4(45, 4, 251, 6) : v6(0xdb8, 0x81, 9, 9);
        for (size_t k = 0; k < sizeof(begun_s) / sizeof(begun_s[0]); k++)
            for (unsigned hash_ms = k == 0 ? 100 : 300; hash_ms <= 300;
                 hash_ms += 200) {
                unsigned took_ms = owner_takes_ms(a, &owner, begun_s[k], hash_ms);
                if (took_ms > a->most_s * 1000)
                    fail_msg("%s, begun %u s before: %u ms", a->what, begun_s[k],
                             took_ms);
            }
    }
}

static struct addr ever_new(unsigned n)
{
    return v4(1 + n / 65536 % 200, n / 256 % 256, n % 256, 1);
}

static void guess_for_two_days(source from, unsigned days[static 2])
{
    struct attack a = {.from = from, .connections = 60, .pause_ms = 500};
    struct page *p = page_new(100);
    unsigned sent = 0;
    p->step_ms = 1000;
    for (unsigned second = 0; second < 2 * DAY_S; second++) {
        attack_step(p, &a, &sent);
        (void)step(p, a.pause_ms);
        days[second / DAY_S] = p->guesses;
    }
    days[1] -= days[0];
    free(p);
}

/* What SECURITY.md states. */
static void test_guesses_of_a_day(void **state)
{
    static const source from[] = {one, sixty_24, thousand_everywhere, sixty_48, a_42};
    unsigned days[2];
    (void)state;
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
        guess_for_two_days(from[i], days);
        assert_true(days[0] < 6500 && days[1] < 6500);
    }
    guess_for_two_days(ever_new, days); /* 3 million /24 would do */
    assert_in_range(days[0], 13000, 14000);
    assert_in_range(days[1], 12000, 13000);
}

/* --------------------------------------------------------------------- step by step */

static bool anybody(void *ctx, void *who, bool new)
{
    *(bool *)ctx = new;
    return who != NULL;
}

static void test_a_turn_that_was_no_guess_counts_not(void **state)
{
    struct page *p = page_new(100);
    struct addr at = v4(45, 4, 9, 9);
    bool new = false;
    (void)state;
    for (unsigned i = 0; i < 2 * TURNS_NEW + 1; i++) {
        bool again = i % 2 == 1; /* the second half of the one before */
        assert_null(turns_enter(&p->turns, &at, &at, again, p->now_ms));
        assert_ptr_equal(turns_next(&p->turns, anybody, &new, p->now_ms), &at);
        assert_int_equal(new, i < 2 * TURNS_NEW);
    }
    for (unsigned i = 0; i < 2; i++)
        turns_return(&p->turns, &at, p->now_ms);
    assert_null(turns_enter(&p->turns, &at, &at, false, p->now_ms));
    assert_ptr_equal(turns_next(&p->turns, anybody, &new, p->now_ms), &at);
    assert_true(new);
    p->now_ms += TURNS_FORGET_MS;
    for (unsigned i = 0; i < TURNS_NEW; i++) {
        assert_null(turns_enter(&p->turns, &at, &at, false, p->now_ms));
        assert_ptr_equal(turns_next(&p->turns, anybody, &new, p->now_ms), &at);
        assert_true(new); /* that was yesterday */
    }
    free(p);
}

static void test_who_is_not_new_makes_way(void **state)
{
    struct page *p = page_new(100);
    struct addr known = v4(45, 4, 9, 9);
    bool new = false;
    (void)state;
    for (unsigned i = 0; i < TURNS_NEW; i++) {
        assert_null(turns_enter(&p->turns, &known, &known, false, p->now_ms));
        assert_ptr_equal(turns_next(&p->turns, anybody, &new, p->now_ms), &known);
    }
    assert_null(turns_enter(&p->turns, &known, &known, false, p->now_ms));
    for (unsigned i = 0; i < TURNS_MAX; i++) { /* of one neighbourhood, and new */
        struct addr from = v4(60, 1, i, 1);
        void *gone = turns_enter(&p->turns, p, &from, false, p->now_ms);
        assert_ptr_equal(gone, i == TURNS_MAX - 1 ? &known : NULL);
    }
    void *gone = turns_enter(&p->turns, &new, &(struct addr){.family = ADDR_V6}, false,
                             p->now_ms);
    assert_ptr_equal(gone, p); /* then who comes in a crowd */
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_owner_is_in_soon),
        cmocka_unit_test(test_guesses_of_a_day),
        cmocka_unit_test(test_a_turn_that_was_no_guess_counts_not),
        cmocka_unit_test(test_who_is_not_new_makes_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
