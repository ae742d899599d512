/* How many sessions prediction opens, and in which waves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "core/sessions.h"
#include "core/shares.h"
#include "core/waves.h"
#include "state_watch.h"

static const uint64_t s_us = 1000000, begin_us = UINT64_C(987654321);

enum { BROKER = 1, ANOTHER = 2 };

static unsigned take_all(struct sessions *s, uint64_t now_us)
{
    unsigned n = sessions_left(s, BROKER, now_us);
    sessions_count(s, n, now_us);
    return n;
}

static bool are_enough(const struct sessions *s, unsigned wanted, uint64_t now_us)
{
    return sessions_are_enough(s, wanted, sessions_left(s, BROKER, now_us), BROKER,
                               now_us);
}

static void test_in_a_minute(void **state)
{
    struct sessions s = {0};
    (void)state;
    assert_true(are_enough(&s, 5000, begin_us));
    assert_int_equal(take_all(&s, begin_us), SESSIONS_AT_ONCE);
    assert_false(are_enough(&s, 1, begin_us));
    assert_int_equal(take_all(&s, begin_us + 55 * s_us), 0);
    assert_int_equal(take_all(&s, begin_us + 66 * s_us), SESSIONS_AT_ONCE);
    assert_true(sessions_are_of_now(&s, begin_us + 66 * s_us));
    assert_false(sessions_are_of_now(&s, begin_us + 50 * s_us));
}

/* What is opened for other reasons is never refused; prediction has the rest, and
 * leaves room for as many again. */
static void test_others_count_twice(void **state)
{
    struct sessions s = {0};
    (void)state;
    sessions_count_others(&s, 100, begin_us);
    assert_int_equal(sessions_open(&s, begin_us), 100);
    assert_int_equal(take_all(&s, begin_us + 10 * s_us), SESSIONS_AT_ONCE - 200);
    assert_int_equal(sessions_left(&s, BROKER, begin_us + 66 * s_us), 200);
    assert_int_equal(sessions_wait_ms(&s, BROKER, begin_us + 50 * s_us) / 1000, 22);
    sessions_count_others(&s, 70000, begin_us + 20 * s_us); /* a slot holds less */
    assert_int_equal(sessions_left(&s, BROKER, begin_us + 66 * s_us), 0);
    assert_int_equal(sessions_left(&s, BROKER, begin_us + 86 * s_us), SESSIONS_AT_ONCE);
}

/* Of four networks; a fifth takes the place of the one that was left first. */
static void test_networks(void **state)
{
    struct sessions all[SESSIONS_NETWORKS] = {{0}};
    (void)state;
    for (unsigned n = 1; n <= SESSIONS_NETWORKS + 1; n++) {
        struct sessions *s = sessions_of(all, n);
        assert_int_equal(sessions_open(s, begin_us + n * 5 * s_us), 0);
        sessions_count(s, n, begin_us + n * 5 * s_us);
    }
    uint64_t now_us = begin_us + 30 * s_us;
    for (unsigned n = 2; n <= SESSIONS_NETWORKS + 1; n++)
        assert_int_equal(sessions_open(sessions_of(all, n), now_us), n);
    sessions_enter(&all[0], all[0].network);
    assert_int_equal(sessions_open(&all[0], now_us), SESSIONS_NETWORKS + 1);
    assert_int_equal(sessions_open(sessions_of(all, 1), now_us), 0);
}

/* Whoever asks when: never more in any minute. */
static void test_in_any_minute(void **state)
{
    enum { SECONDS = 3600 };
    static unsigned opened[SECONDS];
    struct sessions s = {0};
    uint64_t rng = 5;
    (void)state;
    for (unsigned t = 0; t < SECONDS; t++) {
        unsigned minute = 0;
        opened[t] = 0;
        for (uint64_t k = rng_below(&rng, 200);
             k > 0 && sessions_left(&s, BROKER, begin_us + t * s_us) > 0; k--) {
            sessions_count(&s, 1, begin_us + t * s_us);
            opened[t]++;
        }
        for (unsigned back = 0; back < SESSIONS_LIFE_S && back <= t; back++)
            minute += opened[t - back];
        assert_in_range(minute, 0, SESSIONS_AT_ONCE);
    }
}

/* However often a canary is answered. */
static void test_what_was_borne_allows_no_more(void **state)
{
    struct sessions s = {0};
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        (void)take_all(&s, begin_us);
        sessions_saw(&s, sessions_open(&s, begin_us));
    }
    assert_int_equal(sessions_open(&s, begin_us), SESSIONS_AT_ONCE);
}

/* What was sent since the canary was answered may have been dropped, all of it. */
static void test_no_verdict_is_above_what_the_canary_saw(void **state)
{
    struct sessions s = {0};
    (void)state;
    sessions_count(&s, 120, begin_us);
    sessions_saw(&s, 120);
    sessions_count(&s, 728, begin_us);
    sessions_full(&s, BROKER, begin_us);
    assert_int_equal(sessions_borne(&s, BROKER, begin_us), 120);
    assert_int_equal(take_all(&s, begin_us + 66 * s_us), 30);
    sessions_full(&s, BROKER, begin_us + 67 * s_us); /* less is open than was then */
    assert_int_equal(sessions_borne(&s, BROKER, begin_us + 67 * s_us), 30);
    uint64_t later_us = begin_us + (SESSIONS_BORNE_S + 140) * s_us;
    assert_int_equal(take_all(&s, later_us), SESSIONS_AT_ONCE);
}

static void test_when_the_oldest_end(void **state)
{
    struct sessions s = {0};
    (void)state;
    assert_int_equal(sessions_wait_ms(&s, BROKER, begin_us), 0);
    sessions_count(&s, 700, begin_us);
    (void)take_all(&s, begin_us + 20 * s_us);
    uint64_t wait_ms = sessions_wait_ms(&s, BROKER, begin_us + 30 * s_us);
    assert_in_range(wait_ms, 30000, 35001);
    assert_int_equal(sessions_left(&s, BROKER, begin_us + 30 * s_us), 0);
    assert_int_equal(sessions_left(&s, BROKER, begin_us + 30 * s_us + wait_ms * 1000),
                     700);
}

static void test_what_a_network_bears(void **state)
{
    struct sessions s = {0};
    char words[112];
    (void)state;
    sessions_count(&s, 200, begin_us);
    sessions_saw(&s, 200);
    sessions_full(&s, BROKER, begin_us);
    sessions_words(&s, BROKER, begin_us, words, sizeof(words));
    assert_non_null(strstr(words, "about 200 new connections at once"));
    assert_non_null(strstr(words, "again in "));
    assert_int_equal(sessions_left(&s, BROKER, begin_us), 0);
    assert_int_equal(take_all(&s, begin_us + 70 * s_us), 50);
    assert_int_equal(take_all(&s, begin_us + 140 * s_us), 50);
    assert_true(are_enough(&s, 768, begin_us + (SESSIONS_BORNE_S + 1) * s_us));
    memset(&s, 0, sizeof(s));
    sessions_full(&s, BROKER, begin_us); /* not one: none is to be tried any more */
    assert_false(are_enough(&s, 3, begin_us + 300 * s_us));
}

/* A wave's are counted beforehand, and what it did not open is given back. */
static void test_what_was_not_opened_is_given_back(void **state)
{
    struct sessions s = {0};
    (void)state;
    sessions_count(&s, 100, begin_us);
    sessions_count(&s, 200, begin_us + 7 * s_us);
    sessions_return(&s, 250, begin_us + 14 * s_us);
    assert_int_equal(sessions_open(&s, begin_us + 14 * s_us), 50);
    sessions_return(&s, 51, begin_us + 14 * s_us);
    assert_int_equal(sessions_open(&s, begin_us + 14 * s_us), 0);
}

/* One broker can tell lies about the network: others' peers suffer for two minutes. */
static void test_what_one_broker_says_counts_less_for_others(void **state)
{
    struct sessions s = {0};
    uint64_t later_us = begin_us + SESSIONS_HEARSAY_S * s_us;
    (void)state;
    sessions_count(&s, 64, begin_us);
    sessions_saw(&s, 64);
    sessions_full(&s, BROKER, begin_us);
    assert_int_equal(sessions_borne(&s, ANOTHER, later_us - 1), 64);
    assert_int_equal(sessions_borne(&s, ANOTHER, later_us), 0);
    assert_int_equal(sessions_left(&s, ANOTHER, later_us), SESSIONS_AT_ONCE);
    assert_int_equal(sessions_borne(&s, BROKER, later_us), 64);
    sessions_count(&s, 128, later_us);
    sessions_saw(&s, 128);
    sessions_full(&s, ANOTHER, later_us); /* it has seen the same */
    assert_int_equal(sessions_borne(&s, 3, later_us + 1700 * s_us), 128);
    assert_int_equal(sessions_borne(&s, 3, later_us + 1800 * s_us), 0);
}

static void test_the_newer_verdict_is_learned(void **state)
{
    struct sessions own = {0}, other = {0};
    (void)state;
    sessions_learn(&own, &other);
    assert_int_equal(own.borne, 0);
    sessions_count(&other, 64, begin_us);
    sessions_saw(&other, 64);
    sessions_full(&other, BROKER, begin_us);
    sessions_learn(&own, &other);
    assert_int_equal(sessions_borne(&own, BROKER, begin_us), 64);
    sessions_count(&own, 400, begin_us + s_us);
    sessions_saw(&own, 400);
    sessions_full(&own, ANOTHER, begin_us + s_us);
    sessions_learn(&own, &other);
    assert_int_equal(sessions_borne(&own, BROKER, begin_us + s_us), 400);
}

/* The first time for two minutes, since it may have been an outage; then for long. */
static void test_a_network_that_cut_us_off(void **state)
{
    struct sessions s = {0}, other = {0};
    char words[112];
    uint64_t again_us = begin_us + 130 * s_us;
    (void)state;
    sessions_count(&s, 56, begin_us);
    sessions_cut(&s, 56, BROKER, begin_us);
    sessions_cut(&s, 24, BROKER, begin_us + 9 * s_us); /* another program's round */
    assert_int_equal(sessions_left(&s, BROKER, begin_us + 119 * s_us), 0);
    assert_false(are_enough(&s, 3, begin_us + 119 * s_us));
    assert_int_equal(sessions_wait_ms(&s, BROKER, begin_us + 20 * s_us), 100001);
    sessions_words(&s, BROKER, begin_us + 20 * s_us, words, sizeof(words));
    assert_string_equal(words, "this network cut us off after 56 new connections in a "
                               "second: no ports are tried, again in 101 s");
    assert_int_equal(sessions_left(&s, BROKER, begin_us + 120 * s_us),
                     SESSIONS_AT_ONCE);
    sessions_cut(&s, 120, BROKER, again_us);
    assert_int_equal(sessions_left(&s, ANOTHER, again_us + 119 * s_us), 0);
    assert_int_equal(sessions_left(&s, ANOTHER, again_us + 120 * s_us),
                     SESSIONS_AT_ONCE); /* hearsay */
    sessions_learn(&other, &s);
    assert_int_equal(sessions_left(&other, BROKER, again_us + 1799 * s_us), 0);
    assert_int_equal(sessions_left(&other, BROKER, again_us + 1800 * s_us),
                     SESSIONS_AT_ONCE);
    assert_false(sessions_are_of_now(&other, begin_us));
    sessions_words(&s, BROKER, again_us, words, sizeof(words));
    assert_non_null(strstr(words, "again in 1801 s"));
    sessions_cut(&s, 56, BROKER, again_us + 3601 * s_us); /* it is as at first */
    assert_int_equal(sessions_left(&s, BROKER, again_us + 3721 * s_us),
                     SESSIONS_AT_ONCE);
}

/* Takes what it may, again and again. */
static unsigned take_share(struct shares *shares, uint64_t who, unsigned *left,
                           uint64_t now_us)
{
    unsigned all = 0;
    for (int i = 0; i < 10; i++) {
        unsigned n = shares_allow(shares, who, *left, SESSIONS_AT_ONCE, now_us);
        shares_count(shares, who, n, now_us);
        *left -= n;
        all += n;
    }
    return all;
}

static void test_who_has_had_much_leaves_some_to_others(void **state)
{
    struct shares shares = {0};
    unsigned left = SESSIONS_AT_ONCE;
    (void)state;
    assert_int_equal(take_share(&shares, 7, &left, begin_us), 566);
    assert_int_equal(left, 282);
    assert_in_range(take_share(&shares, 8, &left, begin_us), 188, 190);
    assert_true(left >= SESSIONS_BEGIN); /* another device's may begin */
    assert_int_equal(shares_allow(&shares, 7, left, SESSIONS_AT_ONCE, begin_us), 0);
    shares_return(&shares, 7, 566);
    assert_true(shares_allow(&shares, 7, left, SESSIONS_AT_ONCE, begin_us) > 0);
    left = 30;
    assert_in_range(take_share(&shares, 9, &left, begin_us), 20, 22);
    assert_int_equal(shares_allow(&shares, 9, 5, SESSIONS_AT_ONCE, begin_us), 0);
    assert_int_equal(
        shares_allow(&shares, 9, 30, SESSIONS_AT_ONCE, begin_us + 66 * s_us), 20);
}

/* Of a small sum one alone has two thirds, too. */
static void test_shares_of_a_small_sum(void **state)
{
    struct shares shares = {0};
    unsigned had = 0;
    (void)state;
    for (int i = 0; i < 64; i++) { /* one by one */
        unsigned n = shares_allow(&shares, 7, 64 - had, 64, begin_us) > 0;
        shares_count(&shares, 7, n, begin_us);
        had += n;
    }
    assert_in_range(had, 42, 44);
    assert_in_range(shares_allow(&shares, 8, 64 - had, 64, begin_us), 14, 15);
}

/* Who has had his fill waits behind who asked in vain and has had less, for as long as
 * that one may come again. */
static void test_first_turns_go_before_repeats(void **state)
{
    enum { LEFT = 400 };
    struct shares shares = {0};
    (void)state;
    shares_count(&shares, 7, 424, begin_us);
    shares_count(&shares, 8, 24, begin_us);
    assert_true(shares_allow(&shares, 7, LEFT, SESSIONS_AT_ONCE, begin_us) > 100);
    shares_wait(&shares, 8, begin_us);
    assert_int_equal(shares_allow(&shares, 7, LEFT, SESSIONS_AT_ONCE, begin_us), 0);
    assert_true(shares_allow(&shares, 8, LEFT, SESSIONS_AT_ONCE, begin_us) > 100);
    shares_wait(&shares, 7, begin_us); /* which has had more than 8 */
    assert_true(shares_allow(&shares, 8, LEFT, SESSIONS_AT_ONCE, begin_us) > 100);
    shares_count(&shares, 8, 100, begin_us);
    assert_true(shares_allow(&shares, 7, LEFT, SESSIONS_AT_ONCE, begin_us) > 100);
    shares_wait(&shares, 9, begin_us); /* that has had none, and never comes again */
    assert_int_equal(shares_allow(&shares, 7, LEFT, SESSIONS_AT_ONCE, begin_us), 0);
    assert_true(shares_allow(&shares, 7, LEFT, SESSIONS_AT_ONCE, begin_us + 66 * s_us) >
                100);
}

/* Many devices: those that have had most are remembered. */
static void test_more_devices_than_are_remembered(void **state)
{
    struct shares shares = {0};
    (void)state;
    shares_count(&shares, 1000, 500, begin_us);
    for (uint64_t who = 1; who <= 2 * SHARES_MAX; who++)
        shares_count(&shares, who, 1, begin_us);
    assert_int_equal(shares_allow(&shares, 1000, 100, SESSIONS_AT_ONCE, begin_us), 0);
}

static unsigned open_wave(struct waves *w)
{
    unsigned n = 0;
    while (waves_may_open(w)) {
        waves_opened(w, 1000);
        n++;
    }
    return n;
}

static void test_waves_grow(void **state)
{
    static const unsigned sizes[] = {8, 16, 32, 64, 128, 256, 320, 320};
    struct waves w;
    (void)state;
    waves_init(&w, 20);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(open_wave(&w), sizes[i]);
        assert_true(waves_asks(&w, 1000));
        assert_false(waves_asks(&w, 1000));
        waves_on_answer(&w, true);
        assert_false(waves_may_open(&w));
        waves_on_answer(&w, false);
    }
    waves_end(&w, 1000); /* none is open since */
    assert_true(waves_may_open(&w));
    waves_opened(&w, 1000);
    waves_end(&w, 1000);
    assert_true(waves_asks(&w, 1000));
}

static void test_after_others_it_is_asked_first(void **state)
{
    struct waves w;
    (void)state;
    waves_init(&w, 20);
    waves_ask_first(&w, 1000);
    assert_false(waves_may_open(&w));
    assert_true(waves_asks(&w, 1000));
    waves_on_answer(&w, false);
    assert_int_equal(open_wave(&w), WAVES_FIRST);
    waves_init(&w, 20);
    waves_ask_first(&w, 1000);
    for (uint64_t now_ms = 1000; w.stage == WAVES_ASKING; now_ms += 10) {
        (void)waves_asks(&w, now_ms);
        waves_on_answer(&w, true);
    }
    assert_int_equal(w.stage, WAVES_FULL);
    assert_int_equal(open_wave(&w), 0);
}

static void test_a_small_one_asks_nobody(void **state)
{
    struct waves w;
    (void)state;
    waves_init(&w, 20);
    for (int i = 0; i < 3; i++)
        waves_opened(&w, 1000);
    waves_end(&w, 1000);
    assert_false(waves_asks(&w, 5000));
}

static void ask_in_vain(struct waves *w, bool known)
{
    uint64_t now_ms = 1000;
    waves_init(w, 20);
    (void)open_wave(w);
    for (int i = 0; i < WAVES_TRIES; i++) {
        assert_true(waves_asks(w, now_ms));
        if (known && i == 1)
            waves_on_answer(w, true);
        assert_false(waves_asks(w, now_ms + 189));
        now_ms += 190;
    }
    assert_int_equal(w->stage, WAVES_ASKING);
    assert_false(waves_asks(w, now_ms));
    assert_false(waves_may_open(w));
    waves_on_answer(w, false); /* too late */
    assert_false(waves_may_open(w));
}

static void test_full_only_where_the_other_request_is_answered(void **state)
{
    struct waves w;
    (void)state;
    ask_in_vain(&w, true);
    assert_int_equal(w.stage, WAVES_FULL);
    ask_in_vain(&w, false);
    assert_int_equal(w.stage, WAVES_UNKNOWN);
}

/* Waves until `last` are open and answered, each at its time; the last one is in vain.
 */
static unsigned cut_after(struct waves *w, unsigned last, unsigned each_ms)
{
    uint64_t now_ms = 1000;
    waves_init(w, 20);
    for (unsigned i = 0; i <= last; i++) {
        while (waves_may_open(w))
            waves_opened(w, now_ms);
        assert_true(waves_asks(w, now_ms));
        waves_spare(w); /* of the first try: too early to tell */
        assert_int_equal(waves_cut(w, now_ms), 0);
        if (i < last)
            waves_on_answer(w, false);
        now_ms += each_ms;
    }
    while (w->stage == WAVES_ASKING)
        (void)waves_asks(w, now_ms += 10);
    assert_int_equal(w->stage, WAVES_UNKNOWN);
    assert_int_equal(waves_cut(w, now_ms + WAVES_QUIET_MS - 1), 0);
    return waves_cut(w, now_ms + WAVES_QUIET_MS);
}

static void test_cut_off_after_many_in_a_second(void **state)
{
    struct waves w;
    (void)state;
    assert_int_equal(cut_after(&w, 0, 20), 0); /* 8: few */
    assert_int_equal(cut_after(&w, 1, 20), 24);
    assert_int_equal(cut_after(&w, 2, 20), 56);
    assert_int_equal(waves_cut(&w, 100000), 0);  /* once */
    assert_int_equal(cut_after(&w, 2, 600), 32); /* the last wave is all of a second */
    assert_int_equal(cut_after(&w, 1, 600), 0);
}

static void test_late_answers_spare(void **state)
{
    struct waves w;
    (void)state;
    ask_in_vain(&w, false);
    w.recent = 56;
    waves_spare(&w);
    assert_int_equal(waves_cut(&w, 100000), 0);
    ask_in_vain(&w, true); /* a full table is another matter */
    w.recent = 56;
    assert_int_equal(waves_cut(&w, 100000), 0);
}

static void test_each_step_was_made(void **state)
{
    (void)state;
    assert_int_equal(state_watch_unmade("stage_next"), 0);
}

/*
 * One peer drops all UDP: none of its sessions is ever answered, and it asks for more
 * in each round. Nine others want one each in the minute after, 5 s apart, which are
 * answered in their second wave (24 sessions).
 */
static void test_a_peer_that_drops_all_delays_nobody(void **state)
{
    enum { OTHERS = 9, WANTED = 424, NEEDED = 24 };
    struct sessions s = {0};
    struct shares shares = {0};
    unsigned late = 0;
    uint64_t now = begin_us;
    (void)state;
    for (int round = 0; round < 12; round++, now += s_us / 2) {
        unsigned left = sessions_left(&s, BROKER, now);
        unsigned n = shares_allow(&shares, 7, left, SESSIONS_AT_ONCE, now);
        n = n < WANTED ? n : WANTED;
        sessions_count(&s, n, now);
        shares_count(&shares, 7, n, now);
        assert_in_range(sessions_open(&s, now), 0, SESSIONS_AT_ONCE);
    }
    for (uint64_t who = 8; who < 8 + OTHERS; who++, now += 5 * s_us) {
        unsigned left = sessions_left(&s, BROKER, now);
        unsigned n = shares_allow(&shares, who, left, SESSIONS_AT_ONCE, now);
        if (!sessions_are_enough(&s, WANTED, n, BROKER, now) || n < NEEDED) {
            late++;
            continue;
        }
        sessions_count(&s, NEEDED, now);
        shares_count(&shares, who, NEEDED, now);
    }
    assert_int_equal(late, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_a_minute),
        cmocka_unit_test(test_others_count_twice),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_in_any_minute),
        cmocka_unit_test(test_what_was_borne_allows_no_more),
        cmocka_unit_test(test_no_verdict_is_above_what_the_canary_saw),
        cmocka_unit_test(test_when_the_oldest_end),
        cmocka_unit_test(test_what_a_network_bears),
        cmocka_unit_test(test_what_was_not_opened_is_given_back),
        cmocka_unit_test(test_what_one_broker_says_counts_less_for_others),
        cmocka_unit_test(test_the_newer_verdict_is_learned),
        cmocka_unit_test(test_a_network_that_cut_us_off),
        cmocka_unit_test(test_who_has_had_much_leaves_some_to_others),
        cmocka_unit_test(test_more_devices_than_are_remembered),
        cmocka_unit_test(test_waves_grow),
        cmocka_unit_test(test_after_others_it_is_asked_first),
        cmocka_unit_test(test_a_small_one_asks_nobody),
        cmocka_unit_test(test_full_only_where_the_other_request_is_answered),
        cmocka_unit_test(test_cut_off_after_many_in_a_second),
        cmocka_unit_test(test_late_answers_spare),
        cmocka_unit_test(test_each_step_was_made),
        cmocka_unit_test(test_a_peer_that_drops_all_delays_nobody),
        cmocka_unit_test(test_shares_of_a_small_sum),
        cmocka_unit_test(test_first_turns_go_before_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
