/* The ladder's policy, told as short stories of reports and the actions they cause. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/ladder.h"
#include "core/rng.h"

#define S 1000000ull
#define MS 1000ull

static void expect_action(struct ladder *l, uint64_t now, enum ladder_action_type type,
                          enum path_kind kind, uint32_t id)
{
    struct ladder_action a;
    assert_true(ladder_deadline_us(l) <= now);
    assert_true(ladder_next(l, now, &a));
    assert_int_equal(a.type, type);
    assert_int_equal(a.kind, kind);
    assert_int_equal(a.path_id, id);
}

static void expect_quiet(struct ladder *l, uint64_t now)
{
    struct ladder_action a;
    assert_false(ladder_next(l, now, &a));
    assert_true(ladder_deadline_us(l) > now);
}

static void begin(struct ladder *l, uint64_t now)
{
    ladder_init(l, 1u << PATH_UDP_PUNCH | 1u << PATH_RELAY, 3, now);
    expect_action(l, now, LADDER_START, PATH_UDP_PUNCH, 0);
    expect_action(l, now, LADDER_START, PATH_RELAY, 0);
    expect_quiet(l, now);
    ladder_on_started(l, PATH_UDP_PUNCH, now);
    ladder_on_started(l, PATH_RELAY, now);
}

static const char *reason(const struct ladder *l, enum path_kind k, uint64_t now)
{
    static char buf[LADDER_REASON_LEN];
    return ladder_reason(l, k, now, buf);
}

/* What it has found may lead nowhere: a round more, and the path stays chosen. */
static void test_again_beside_its_path(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_again(&l, PATH_UDP_PUNCH); /* it runs */
    ladder_on_proven(&l, PATH_UDP_PUNCH, 1, 20000, 2 * S);
    expect_action(&l, 2 * S, LADDER_SELECT, PATH_UDP_PUNCH, 1);
    expect_quiet(&l, 2 * S);
    ladder_again(&l, PATH_UDP_PUNCH);
    expect_action(&l, 3 * S, LADDER_START, PATH_UDP_PUNCH, 0);
    ladder_on_started(&l, PATH_UDP_PUNCH, 3 * S);
    ladder_on_failed(&l, PATH_UDP_PUNCH, "nothing", 4 * S);
    assert_int_equal(ladder_selected_path(&l), 1);
    ladder_on_lost(&l, 1, "nothing", 5 * S);
    expect_action(&l, 5 * S, LADDER_SELECT, PATH_KIND_NONE, 0);
    assert_int_equal(ladder_rung_state(&l, PATH_UDP_PUNCH), RUNG_WAITING);
}

static void test_relay_then_direct(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    assert_string_equal(reason(&l, PATH_RELAY, S + 400 * MS),
                        "being tried since 0.4 s");
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, S + 500 * MS);
    expect_action(&l, S + 500 * MS, LADDER_SELECT, PATH_RELAY, 1);
    assert_string_equal(reason(&l, PATH_RELAY, 2 * S), "in use");
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 90000, 2 * S);
    expect_action(&l, 2 * S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    expect_quiet(&l, 2 * S);
    assert_string_equal(reason(&l, PATH_RELAY, 2 * S), "standby: udp-punch is in use");
    assert_int_equal(ladder_selected_kind(&l), PATH_UDP_PUNCH);
    assert_int_equal(ladder_selected_path(&l), 2);
    expect_quiet(&l, 100 * S);
}

static void test_lost_falls_back(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 20000, S);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    expect_quiet(&l, S);
    /* it carried for long: relay at once, and a new try at once */
    ladder_on_lost(&l, 2, "no answer on it since 1.2 s", 60 * S);
    expect_action(&l, 60 * S, LADDER_SELECT, PATH_RELAY, 1);
    expect_action(&l, 60 * S, LADDER_START, PATH_UDP_PUNCH, 0);
    expect_quiet(&l, 60 * S);
    /* that one lives shortly: the next waits */
    ladder_on_proven(&l, PATH_UDP_PUNCH, 3, 20000, 61 * S);
    expect_action(&l, 61 * S, LADDER_SELECT, PATH_UDP_PUNCH, 3);
    ladder_on_lost(&l, 3, "gone", 62 * S);
    expect_action(&l, 62 * S, LADDER_SELECT, PATH_RELAY, 1);
    expect_quiet(&l, 62 * S);
    assert_in_range(ladder_deadline_us(&l), 64 * S, 64 * S + 500 * MS);
    assert_string_equal(reason(&l, PATH_UDP_PUNCH, 62 * S), "gone");
    /* and nothing is left at last */
    ladder_on_lost(&l, 1, "closed", 63 * S);
    expect_action(&l, 63 * S, LADDER_SELECT, PATH_KIND_NONE, LADDER_NO_PATH);
    expect_action(&l, 63 * S, LADDER_START, PATH_RELAY, 0);
    expect_quiet(&l, 63 * S);
}

static void test_growing_pauses(void **state)
{
    (void)state;
    struct ladder l;
    uint64_t now = S, last = 0;
    begin(&l, now);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, now);
    expect_action(&l, now, LADDER_SELECT, PATH_RELAY, 1);
    for (int i = 0; i < 12; i++) {
        ladder_on_failed(&l, PATH_UDP_PUNCH, "symmetric", now);
        ladder_on_failed(&l, PATH_UDP_PUNCH, "told twice", now);
        expect_quiet(&l, now);
        uint64_t pause = ladder_deadline_us(&l) - now;
        assert_in_range(pause, LADDER_RETRY_MIN_US, LADDER_RETRY_MAX_US * 5 / 4);
        assert_true(pause >= last * 3 / 2 || pause >= LADDER_RETRY_MAX_US);
        last = pause;
        now += pause;
        expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
        ladder_on_started(&l, PATH_UDP_PUNCH, now);
    }
    ladder_on_failed(&l, PATH_UDP_PUNCH, "symmetric", now);
    assert_string_equal(reason(&l, PATH_UDP_PUNCH, now), "symmetric");
    assert_true(ladder_kind_failed(&l, PATH_UDP_PUNCH));
    assert_false(ladder_kind_failed(&l, PATH_RELAY));
    ladder_on_network_change(&l, now);
    expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
    expect_quiet(&l, now);
    ladder_on_failed(&l, PATH_UDP_PUNCH, "symmetric", now);
    assert_true(ladder_deadline_us(&l) <= now + LADDER_RETRY_MIN_US * 5 / 4);
}

/* It is told when there will be room, as often as it is refused. */
static void test_what_is_busy_waits_as_long_as_was_told(void **state)
{
    (void)state;
    struct ladder l;
    uint64_t now = S;
    begin(&l, now);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, now);
    expect_action(&l, now, LADDER_SELECT, PATH_RELAY, 1);
    for (int i = 0; i < 12; i++) {
        ladder_on_busy(&l, PATH_UDP_PUNCH, "in 40 s", 40 * S, now);
        expect_quiet(&l, now);
        uint64_t pause = ladder_deadline_us(&l) - now;
        assert_in_range(pause, 40 * S, 50 * S);
        now += pause;
        expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
        ladder_on_started(&l, PATH_UDP_PUNCH, now);
    }
    assert_true(ladder_kind_failed(&l, PATH_UDP_PUNCH));
    ladder_on_failed(&l, PATH_UDP_PUNCH, "symmetric", now);
    assert_true(ladder_deadline_us(&l) <= now + 2 * LADDER_RETRY_MIN_US * 5 / 4);
}

static unsigned starts_within(struct ladder *l, enum path_kind kind, uint64_t *now,
                              uint64_t span)
{
    unsigned n = 0;
    for (uint64_t end = *now + span; ladder_deadline_us(l) <= end; n++) {
        *now = ladder_deadline_us(l);
        expect_action(l, *now, LADDER_START, kind, 0);
        ladder_on_failed(l, kind, "no answer", *now);
        expect_quiet(l, *now);
    }
    return n;
}

/* Without a relay nothing goes on before the next try: it comes within seconds. */
static void test_pauses_are_short_while_nothing_stands(void **state)
{
    (void)state;
    struct ladder l;
    uint64_t now = S;
    ladder_init(&l, 1u << PATH_UDP_PUNCH, 7, now);
    for (int i = 0; i < 40; i++) {
        expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
        ladder_on_failed(&l, PATH_UDP_PUNCH, "no answer", now);
        uint64_t pause = ladder_deadline_us(&l) - now;
        assert_in_range(pause, LADDER_RETRY_MIN_US, LADDER_BARE_RETRY_MAX_US * 5 / 4);
        now += pause;
    }
    /* nor faster than that: what it sends is bounded by the number of tries too */
    expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
    ladder_on_failed(&l, PATH_UDP_PUNCH, "no answer", now);
    assert_in_range(starts_within(&l, PATH_UDP_PUNCH, &now, 300 * S), 48, 60);
}

/* The pause had grown while the relay stood; when that dies too it is over. */
static void test_long_pause_ends_with_the_last_path(void **state)
{
    (void)state;
    struct ladder l;
    uint64_t now = S;
    begin(&l, now);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, now);
    expect_action(&l, now, LADDER_SELECT, PATH_RELAY, 1);
    ladder_on_failed(&l, PATH_UDP_PUNCH, "no answer", now);
    (void)starts_within(&l, PATH_UDP_PUNCH, &now, 600 * S);
    assert_true(ladder_deadline_us(&l) > now + 60 * S);
    now += 10 * S;
    ladder_refuse(&l, PATH_RELAY, "no relay any more");
    expect_action(&l, now, LADDER_SELECT, PATH_KIND_NONE, LADDER_NO_PATH);
    expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
    expect_action(&l, now, LADDER_STOP, PATH_RELAY, 0);
    expect_quiet(&l, now);
}

/* The host slept, and wakes long before the next try would have come. */
static void test_pauses_end_when_the_peer_is_heard(void **state)
{
    (void)state;
    struct ladder l;
    uint64_t now = S;
    begin(&l, now);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, now);
    expect_action(&l, now, LADDER_SELECT, PATH_RELAY, 1);
    for (int i = 0; i < 5; i++) {
        ladder_on_failed(&l, PATH_UDP_PUNCH, "no answer", now);
        now = ladder_deadline_us(&l);
        expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
        ladder_on_started(&l, PATH_UDP_PUNCH, now);
    }
    ladder_on_failed(&l, PATH_UDP_PUNCH, "no answer", now);
    assert_true(ladder_deadline_us(&l) > now + 20 * S);
    ladder_on_heard(&l, now);
    expect_action(&l, now, LADDER_START, PATH_UDP_PUNCH, 0);
    ladder_on_heard(&l, now); /* what is under way goes on */
    expect_quiet(&l, now);
}

static void test_relay_pauses(void **state)
{
    (void)state;
    struct ladder l;
    uint64_t now = S;
    ladder_init(&l, 1u << PATH_RELAY, 9, now);
    for (int i = 0; i < 20; i++) {
        expect_action(&l, now, LADDER_START, PATH_RELAY, 0);
        ladder_on_failed(&l, PATH_RELAY, "the broker is unreachable", now);
        uint64_t pause = ladder_deadline_us(&l) - now;
        assert_in_range(pause, LADDER_RELAY_RETRY_MIN_US,
                        LADDER_RELAY_RETRY_MAX_US * 5 / 4);
        if (i == 0)
            assert_true(pause <= LADDER_RELAY_RETRY_MIN_US * 5 / 4);
        now += pause;
    }
    assert_string_equal(reason(&l, PATH_UDP_PUNCH, now), "not allowed: --paths");
}

static void test_hysteresis(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 20000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 3, 17000, S);
    expect_quiet(&l, S);
    ladder_on_rtt(&l, 3, 15000);
    ladder_on_rtt(&l, 3, 15000);
    ladder_on_rtt(&l, 2, 20000);
    expect_quiet(&l, S); /* 2 was measured twice only */
    ladder_on_rtt(&l, 2, 21000);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 3);
    ladder_on_rtt(&l, 3, 3000);
    ladder_on_rtt(&l, 2, 1500); /* twice as fast, and yet only 1.5 ms */
    expect_quiet(&l, S);
    ladder_on_lost(&l, 3, "gone", S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    assert_int_equal(ladder_rung_state(&l, PATH_UDP_PUNCH), RUNG_UP);
}

/* A queue that stands for a moment, on either path, moves nothing; a slower way does.
 */
static void test_one_sample_is_none(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 5000, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 3, 9000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    for (int i = 0; i < 40; i++) {
        ladder_on_rtt(&l, 2, i % 4 == 0 ? 5000 : 90000);
        ladder_on_rtt(&l, 3, 9000);
        expect_quiet(&l, S);
    }
    for (int i = 0; i < LADDER_SAMPLES; i++)
        ladder_on_rtt(&l, 2, 90000);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 3);
    ladder_on_rtt(&l, 2, 0); /* not known: as if nothing was said */
    expect_quiet(&l, S);
}

/* In a queue that stands for seconds every answer takes another time. */
static void test_full_line_moves_nothing(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 50000, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 3, 55000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    ladder_set_late(&l, 2500000);
    for (int i = 0; i < LADDER_SAMPLES; i++) {
        ladder_on_rtt(&l, 2, 2400000);
        ladder_on_rtt(&l, 3, 900000);
    }
    expect_quiet(&l, S);
    ladder_set_late(&l, 0);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 3);
}

/* 64 KiB in 50 ms are 10 Mbit/s: that is no path to prefer to a relay. */
static void test_narrow_path_is_left(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_RELAY, 1);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 50000, S);
    ladder_on_window(&l, 2, 65535);
    expect_quiet(&l, S);
    assert_string_equal(reason(&l, PATH_UDP_PUNCH, S),
                        "standby: carries at most 10 Mbit/s, since its TCP window does "
                        "not scale; relay is in use");
    ladder_on_lost(&l, 1, "closed", S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    ladder_on_proven(&l, PATH_RELAY, 3, 60000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_RELAY, 3);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 4, 55000, S); /* another without a bound */
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 4);
}

/* Near by the window is enough; at the limit the session does not go to and fro. */
static void test_narrow_near_by(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_RELAY, 1);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 4900, S);
    ladder_on_window(&l, 2, 65535);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    for (int i = 0; i < LADDER_SAMPLES; i++)
        ladder_on_rtt(&l, 2, 5500);
    expect_action(&l, S, LADDER_SELECT, PATH_RELAY, 1);
    ladder_on_rtt(&l, 2, 4900);
    expect_quiet(&l, S);
    ladder_on_rtt(&l, 2, 3000);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
}

/* What a trial has shown decides, until it is forgotten. */
static void test_outdone(void **state)
{
    (void)state;
    struct ladder l;
    char buf[LADDER_REASON_LEN];
    ladder_init(&l, 1u << PATH_UDP_PUNCH | 1u << PATH_TCP_PUNCH | 1u << PATH_RELAY, 3,
                S);
    for (struct ladder_action a; ladder_next(&l, S, &a);)
        ladder_on_started(&l, a.kind, S);
    ladder_on_proven(&l, PATH_RELAY, 1, 60000, S);
    ladder_on_window(&l, 1, 65535); /* the middlebox is near us */
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 50000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    assert_int_equal(ladder_rival(&l, 0), 1);
    assert_int_equal(ladder_rival(&l, 1u << PATH_RELAY), LADDER_NO_PATH);
    ladder_on_outdone(&l, PATH_UDP_PUNCH, 3400000, PATH_RELAY, 41000000);
    expect_action(&l, S, LADDER_SELECT, PATH_RELAY, 1);
    assert_string_equal(reason(&l, PATH_UDP_PUNCH, S),
                        "standby: carries 3.4 Mbit/s, relay 41; relay is in use");
    assert_string_equal(ladder_preference(&l, buf),
                        "udp-punch carries 3.4 Mbit/s, relay 41");
    assert_int_equal(ladder_rival(&l, 0), LADDER_NO_PATH);
    for (struct ladder_action a; ladder_next(&l, 2 * S, &a);)
        assert_int_equal(a.type, LADDER_START); /* others are looked for again */
    ladder_on_proven(&l, PATH_TCP_PUNCH, 3, 50000, 2 * S);
    expect_quiet(&l, 2 * S); /* first it must show what it carries */
    assert_int_equal(ladder_rival(&l, 0), 3);
    ladder_on_cleared(&l, PATH_TCP_PUNCH);
    expect_action(&l, 2 * S, LADDER_SELECT, PATH_TCP_PUNCH, 3);
    ladder_on_lost(&l, 3, "closed", 2 * S);
    expect_action(&l, 2 * S, LADDER_SELECT, PATH_RELAY, 1);
    ladder_forgive(&l);
    expect_action(&l, 2 * S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    assert_string_equal(ladder_preference(&l, buf), "");
}

static void test_refuse_permit(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 20000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    ladder_refuse(&l, PATH_UDP_PUNCH, "the peer does not speak it");
    expect_action(&l, S, LADDER_SELECT, PATH_KIND_NONE, 0);
    expect_action(&l, S, LADDER_STOP, PATH_UDP_PUNCH, 0);
    expect_quiet(&l, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 4, 20000, S);
    expect_quiet(&l, S);
    ladder_on_network_change(&l, S);
    expect_action(&l, S, LADDER_START, PATH_RELAY, 0);
    expect_quiet(&l, S);
    assert_string_equal(reason(&l, PATH_UDP_PUNCH, S), "the peer does not speak it");
    ladder_permit(&l, PATH_UDP_PUNCH, 2 * S);
    expect_action(&l, 2 * S, LADDER_START, PATH_UDP_PUNCH, 0);
}

/* A proven path outlives a network change until it is reported lost. */
static void test_network_change_while_up(void **state)
{
    (void)state;
    struct ladder l;
    begin(&l, S);
    ladder_on_proven(&l, PATH_UDP_PUNCH, 2, 20000, S);
    ladder_on_proven(&l, PATH_RELAY, 1, 20000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_UDP_PUNCH, 2);
    ladder_on_network_change(&l, 5 * S);
    expect_action(&l, 5 * S, LADDER_START, PATH_UDP_PUNCH, 0);
    expect_quiet(&l, 5 * S);
    ladder_on_failed(&l, PATH_UDP_PUNCH, "no answer", 10 * S);
    expect_quiet(&l, 10 * S);
    assert_int_equal(ladder_selected_path(&l), 2);
}

/* The peer moved: meetings begin anew at once, also beside their path; not too often.
 */
static void test_peer_change(void **state)
{
    (void)state;
    struct ladder l;
    ladder_init(&l, 1u << PATH_UDP_PUNCH | 1u << PATH_TCP_PUNCH, 1, S);
    ladder_on_proven(&l, PATH_TCP_PUNCH, 2, 20000, S);
    expect_action(&l, S, LADDER_SELECT, PATH_TCP_PUNCH, 2);
    expect_quiet(&l, 5 * S);
    ladder_on_peer_change(&l, 5 * S);
    expect_action(&l, 5 * S, LADDER_START, PATH_TCP_PUNCH, 0);
    ladder_on_peer_change(&l, 5 * S + LADDER_PEER_CHANGE_US - 1);
    expect_quiet(&l, 5 * S + LADDER_PEER_CHANGE_US - 1);
    for (unsigned i = 0; i < 4; i++) { /* pauses have grown */
        ladder_on_lost(&l, 2, "nothing came through", 6 * S);
        ladder_on_failed(&l, PATH_TCP_PUNCH, "no answer", 6 * S);
    }
    ladder_on_peer_change(&l, 7 * S);
    expect_action(&l, 7 * S, LADDER_SELECT, PATH_KIND_NONE, 0);
    expect_action(&l, 7 * S, LADDER_START, PATH_UDP_PUNCH, 0);
    expect_quiet(&l, 7 * S);
    expect_action(&l, 7 * S + path_kind_delay_us(PATH_TCP_PUNCH), LADDER_START,
                  PATH_TCP_PUNCH, 0);
}

/* Random reports: states stay lawful (asserted inside), words are never empty. */
static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct ladder l;
        struct ladder_action a;
        uint64_t rng = seed, now = S;
        ladder_init(&l, (uint32_t)rng_below(&rng, PATH_KINDS_ALL + 1), seed, now);
        for (int i = 0; i < 200; i++) {
            enum path_kind k = (enum path_kind)rng_below(&rng, PATH_KIND_COUNT);
            uint32_t id = 1 + (uint32_t)rng_below(&rng, 40);
            switch (rng_below(&rng, 8)) {
            case 0:
                ladder_on_started(&l, k, now);
                break;
            case 1:
                ladder_on_failed(&l, k, "x", now);
                break;
            case 2:
                ladder_on_lost(&l, id, NULL, now);
                break;
            case 3:
                ladder_on_rtt(&l, id, (uint32_t)rng_below(&rng, 100000));
                break;
            case 4:
                ladder_on_network_change(&l, now);
                break;
            case 5:
                ladder_refuse(&l, k, "refused");
                break;
            case 6:
                ladder_permit(&l, k, now);
                break;
            default:
                ladder_on_proven(&l, k, id, (uint32_t)rng_below(&rng, 100000), now);
            }
            int pulls = 0;
            while (ladder_next(&l, now, &a))
                assert_true(++pulls < 16 + 2 * PATH_KIND_COUNT);
            assert_true(ladder_deadline_us(&l) > now);
            for (unsigned j = 0; j < PATH_KIND_COUNT; j++)
                assert_true(reason(&l, (enum path_kind)j, now)[0] != '\0');
            now += rng_below(&rng, 5 * S);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_again_beside_its_path),
        cmocka_unit_test(test_relay_then_direct),
        cmocka_unit_test(test_lost_falls_back),
        cmocka_unit_test(test_growing_pauses),
        cmocka_unit_test(test_what_is_busy_waits_as_long_as_was_told),
        cmocka_unit_test(test_pauses_end_when_the_peer_is_heard),
        cmocka_unit_test(test_pauses_are_short_while_nothing_stands),
        cmocka_unit_test(test_long_pause_ends_with_the_last_path),
        cmocka_unit_test(test_relay_pauses),
        cmocka_unit_test(test_hysteresis),
        cmocka_unit_test(test_one_sample_is_none),
        cmocka_unit_test(test_full_line_moves_nothing),
        cmocka_unit_test(test_narrow_path_is_left),
        cmocka_unit_test(test_narrow_near_by),
        cmocka_unit_test(test_outdone),
        cmocka_unit_test(test_refuse_permit),
        cmocka_unit_test(test_network_change_while_up),
        cmocka_unit_test(test_peer_change),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
