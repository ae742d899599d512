/* However many approaches predict at once, the process holds so many sockets for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>

#include "core/budget.h"
#include "core/predict.h"
#include "io/lack.h"
#include "io/loop.h"
#include "path/prediction.h"

enum { APPROACHES = 6, FEW = 8 };

/* None of them sends or hears anything. */
static const struct predict_events events = {0};

static void test_sockets_of_all_approaches(void **state)
{
    (void)state;
    const struct predict_plan plan = {.hold = true,
                                      .sockets = PREDICT_BIRTHDAY_SOCKETS};
    struct predict *all[APPROACHES];
    struct keypair key;
    struct loop *loop;
    struct addr to;
    struct net net;
    assert_true(sodium_init() >= 0);
    keypair_from_seed(&key, (const uint8_t[KEY_LEN]){1});
    assert_int_equal(addr_parse(&to, "192.0.2.1:4000"), 0);
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(net_init(&net, loop, &key, NULL), 0);
    long before = descriptors_taken();
    for (int i = 0; i < APPROACHES; i++)
        assert_int_equal(
            predict_start(&all[i], &net, &plan, &to, 1, 60000, &events, NULL), 0);
    long most = descriptors_taken() - before;
    assert_in_range(most, BUDGET_MAPPINGS - FEW, BUDGET_MAPPINGS + FEW);
    assert_false(budget_has_mappings(net.budget, 1));
    predict_stop(all[0]);
    assert_true(budget_has_mappings(net.budget, PREDICT_BIRTHDAY_SOCKETS));
    for (int i = 1; i < APPROACHES; i++)
        predict_stop(all[i]);
    assert_int_equal(net.budget->mappings, 0);
    loop_run(loop);
    assert_true(descriptors_taken() < before + FEW);
    net_fini(&net);
    loop_close(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockets_of_all_approaches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
