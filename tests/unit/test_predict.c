/* Who opens mappings and who sweeps, and that a sweep meets what it must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/predict.h"
#include "core/rng.h"

static const struct predict_side plain = {NAT_MAPPING_ENDPOINT_INDEPENDENT, false};
static const struct predict_side sym = {NAT_MAPPING_ADDRESS_PORT_DEPENDENT, false};
static const struct predict_side sym_low = {NAT_MAPPING_ADDRESS_PORT_DEPENDENT, true};
static const struct predict_side unknown = {NAT_MAPPING_UNKNOWN, false};

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
    assert_in_range(met, 960, 995); /* 1 - (1 - 256/64512)^1024 = 0.983 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_low_sweep_tries_each_port_once),
        cmocka_unit_test(test_birthday_meets_as_often_as_stated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
