/* Who opens mappings and who sweeps, and that a sweep meets what it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/predict.h"
#include "core/rng.h"

static const struct predict_side plain = {NAT_MAPPING_ENDPOINT_INDEPENDENT, false, {0}};
static const struct predict_side sym = {NAT_MAPPING_ADDRESS_PORT_DEPENDENT, false, {0}};
static const struct predict_side sym_low = {
    NAT_MAPPING_ADDRESS_PORT_DEPENDENT, true, {0}};
static const struct predict_side unknown = {NAT_MAPPING_UNKNOWN, false, {0}};

static void test_roles(void **state)
{
    struct predict_plan p;
    const char *why;
    (void)state;
    assert_false(predict_plan(&p, &plain, &plain, &why));
    assert_null(why);
    assert_false(predict_plan(&p, &unknown, &sym_low, &why));
    assert_null(why);

    assert_true(predict_plan(&p, &sym_low, &plain, &why));
    assert_true(p.hold && p.low_bind && !p.sweep);
    assert_int_equal(p.sockets, PREDICT_LOW_SOCKETS);
    assert_true(predict_plan(&p, &plain, &sym_low, &why));
    assert_true(!p.hold && p.sweep && p.low_sweep && !p.all_sockets);
    assert_int_equal(p.probes, PREDICT_LOW_COUNT);

    assert_true(predict_plan(&p, &sym, &plain, &why));
    assert_int_equal(p.sockets, PREDICT_BIRTHDAY_SOCKETS);
    assert_false(p.low_bind);
    assert_true(predict_plan(&p, &plain, &sym, &why));
    assert_int_equal(p.probes, PREDICT_BIRTHDAY_PROBES);

    assert_true(predict_plan(&p, &sym_low, &sym_low, &why));
    assert_true(p.hold && p.sweep && p.all_sockets && p.low_sweep);
    assert_false(predict_plan(&p, &sym_low, &sym, &why));
    assert_non_null(why);
    assert_false(predict_plan(&p, &sym, &sym_low, &why));
    assert_non_null(why);
}

static void test_what_is_doubtful_is_taken_for_symmetric(void **state)
{
    struct predict_side doubtful = plain, own = plain, peer = plain;
    struct predict_plan p;
    const char *why;
    (void)state;
    doubtful.doubtful = true;
    assert_false(predict_presume(&own, &peer));
    own = doubtful;
    peer = sym; /* known to be hard: nothing is to be presumed */
    assert_false(predict_presume(&own, &peer));
    assert_int_equal(own.mapping, NAT_MAPPING_ENDPOINT_INDEPENDENT);

    peer = plain;
    assert_true(predict_presume(&own, &peer));
    assert_true(predict_plan(&p, &own, &peer, &why));
    assert_true(p.hold && !p.sweep);
    assert_true(predict_plan(&p, &peer, &own, &why));
    assert_true(!p.hold && p.sweep && !p.all_sockets);

    own = peer = doubtful;
    assert_true(predict_presume(&own, &peer));
    assert_true(predict_plan(&p, &own, &peer, &why));
    assert_true(p.hold && p.sweep && !p.all_sockets);
    assert_int_equal(p.sockets, PREDICT_DOUBTFUL_SOCKETS);
}

static void test_low_sweep_tries_each_port_once(void **state)
{
    struct predict_plan p;
    const char *why;
    (void)state;
    assert_true(predict_plan(&p, &plain, &sym_low, &why));
    for (uint64_t seed = 0; seed < 50; seed++) {
        uint8_t seen[1024] = {0};
        for (unsigned i = 0; i < p.probes; i++) {
            uint16_t port = predict_port(&p, i, seed);
            assert_in_range(port, 600, 1023);
            assert_int_equal(seen[port]++, 0);
        }
    }
}

static void test_birthday_meets_as_often_as_stated(void **state)
{
    struct predict_plan p;
    const char *why;
    uint64_t rng = 11;
    unsigned met = 0;
    (void)state;
    assert_true(predict_plan(&p, &plain, &sym, &why));
    for (uint64_t round = 0; round < 1000; round++) {
        static uint8_t open[65536];
        bool hit = false;
        memset(open, 0, sizeof(open));
        for (int i = 0; i < PREDICT_BIRTHDAY_SOCKETS; i++)
            open[PREDICT_PORT_MIN + rng_below(&rng, 65536 - PREDICT_PORT_MIN)] = 1;
        for (unsigned i = 0; i < p.probes; i++) {
            uint16_t port = predict_port(&p, i, round);
            assert_in_range(port, PREDICT_PORT_MIN, 65535);
            hit = hit || open[port] != 0;
        }
        met += hit;
    }
    assert_in_range(met, 990, 1000); /* 1 - (1 - 512/64512)^768 = 0.998 */
}

/* Ports that lie together are taken for a range, and the whole of it is tried. */
static void test_neighbourhood(void **state)
{
    static const uint16_t apart[] = {2000, 41000}, counting[] = {30000, 30002, 30001};
    static const uint16_t high[] = {65530, 65535}, low[] = {700, 705};
    struct predict_plan p;
    const char *why;
    (void)state;
    assert_int_equal(predict_observe(apart, 2).count, 0);
    assert_int_equal(predict_observe(counting, 1).count, 0);
    assert_int_equal(predict_observe(low, 2).count, 0);
    assert_int_equal(predict_observe(high, 2).first, 65530 - 128);
    assert_int_equal(predict_observe(high, 2).count, 134);
    static const uint16_t by_chance[] = {30000, 30100, 50000};
    assert_true(predict_observe(by_chance, 2).count > 0);
    assert_int_equal(predict_observe(by_chance, 3).count, 0); /* the third one tells */
    struct predict_side range = {NAT_MAPPING_ADDRESS_PORT_DEPENDENT, false,
                                 predict_observe(counting, 3)};
    assert_true(predict_plan(&p, &plain, &range, &why));
    assert_true(p.sweep && !p.low_sweep);
    bool seen[65536] = {0};
    for (unsigned i = 0; i < p.probes; i++)
        seen[predict_port(&p, i, 9)] = true;
    for (unsigned port = 29900; port <= 30100; port++)
        assert_true(seen[port]);
    assert_true(predict_plan(&p, &range, &plain, &why));
    assert_true(p.hold && !p.low_bind);
    assert_true(predict_plan(&p, &range, &sym_low, &why)); /* both are foreseen */
    assert_true(p.hold && p.sweep && p.all_sockets && p.low_sweep);
}

/* A range of 256 ports, as two or three destinations show it, is met. */
static void test_ranges_are_met(void **state)
{
    unsigned met = 0, total = 400;
    (void)state;
    for (uint64_t seed = 1; seed <= total; seed++) {
        uint64_t rng = seed;
        uint16_t base = (uint16_t)(2000 + rng_below(&rng, 60000)), samples[3];
        for (int i = 0; i < 3; i++)
            samples[i] = (uint16_t)(base + rng_below(&rng, 256));
        struct predict_side range = {NAT_MAPPING_ADDRESS_PORT_DEPENDENT, false,
                                     predict_observe(samples, 3)};
        struct predict_plan p;
        const char *why;
        assert_true(predict_plan(&p, &plain, &range, &why));
        bool hit = false;
        for (int k = 0; k < PREDICT_NEAR_SOCKETS && !hit; k++) {
            uint16_t mapped = (uint16_t)(base + rng_below(&rng, 256));
            for (unsigned i = 0; i < p.probes; i++)
                hit = hit || predict_port(&p, i, seed) == mapped;
        }
        met += hit;
    }
    assert_int_equal(met, total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_what_is_doubtful_is_taken_for_symmetric),
        cmocka_unit_test(test_low_sweep_tries_each_port_once),
        cmocka_unit_test(test_birthday_meets_as_often_as_stated),
        cmocka_unit_test(test_neighbourhood),
        cmocka_unit_test(test_ranges_are_met),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
