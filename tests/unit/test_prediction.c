/* However many approaches predict at once, the process holds so many sockets for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>

#include "core/budget.h"
#include "core/predict.h"
#include "io/clock.h"
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
    struct net net;
    assert_true(sodium_init() >= 0);
    keypair_from_seed(&key, (const uint8_t[KEY_LEN]){1});
    struct predict_terms terms = {.target_count = 1, .delay_ms = 60000};
    assert_int_equal(addr_parse(&terms.targets[0], "192.0.2.1:4000"), 0);
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(net_init(&net, loop, &key, NULL), 0);
    terms.opener = (struct opener){net.budget, 1, 0};
    long before = descriptors_taken();
    for (int i = 0; i < APPROACHES; i++)
        assert_int_equal(predict_start(&all[i], &net, &plan, &terms, &events, NULL), 0);
    long most = descriptors_taken() - before;
    assert_in_range(most, BUDGET_MAPPINGS - FEW, BUDGET_MAPPINGS + FEW);
    assert_false(budget_has_mappings(&net.budget->packets, 1));
    assert_int_equal(net.predictions, APPROACHES);
    predict_stop(all[0]);
    assert_true(budget_has_mappings(&net.budget->packets, PREDICT_BIRTHDAY_SOCKETS));
    for (int i = 1; i < APPROACHES; i++)
        predict_stop(all[i]);
    assert_int_equal(net.budget->packets.mappings, 0);
    assert_int_equal(net.predictions, 0);
    loop_run(loop);
    assert_true(descriptors_taken() < before + FEW);
    net_fini(&net);
    loop_close(loop);
}

struct counted {
    struct predict *predict;
    struct timer look;
    unsigned sent;
};

static size_t make(void *ctx, uint8_t *buf)
{
    (void)ctx;
    buf[0] = 1;
    return 1;
}

static bool may(void *ctx, const struct addr *to)
{
    struct counted *c = ctx;
    (void)to;
    c->sent++;
    return true;
}

static bool may_ask(void *ctx, const struct addr *server)
{
    (void)ctx, (void)server;
    return true;
}

static bool is_clear(void *ctx)
{
    (void)ctx;
    return true;
}

static void send_known(void *ctx, const struct addr *to, const uint8_t *buf, size_t len)
{
    (void)ctx, (void)to, (void)buf, (void)len;
}

static void on_look(void *ctx)
{
    struct counted *c = ctx;
    if (predict_is_over(c->predict)) {
        predict_stop(c->predict);
        timer_stop(&c->look);
    }
}

static unsigned packets(struct net *net, const struct predict_plan *plan)
{
    static const struct predict_events counting = {.make = make,
                                                   .may = may,
                                                   .may_ask = may_ask,
                                                   .is_clear = is_clear,
                                                   .send = send_known};
    struct predict_terms terms = {.target_count = 1, .opener = {net->budget, 1, 0}};
    struct counted c = {0};
    assert_int_equal(addr_parse(&terms.targets[0], "127.0.0.1:9"), 0);
    assert_int_equal(addr_parse(&terms.stun, "127.0.0.1:9"), 0);
    assert_int_equal(predict_start(&c.predict, net, plan, &terms, &counting, &c), 0);
    timer_init(&c.look, net->loop, on_look, &c);
    timer_every(&c.look, 1, 10);
    loop_run(net->loop);
    return c.sent;
}

/* Of one that may open few, or none at all, what is open is refreshed and no more. */
static void test_sessions_run_out(void **state)
{
    const struct predict_plan plan = {
        .hold = true, .sweep = true, .sockets = 8, .probes = 64};
    struct keypair key;
    struct loop *loop;
    struct net net;
    (void)state;
    keypair_from_seed(&key, (const uint8_t[KEY_LEN]){1});
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(net_init(&net, loop, &key, NULL), 0);
    net.budget->opened.borne = 4 * 5;
    net.budget->opened.borne_us = clock_us();
    assert_int_equal(packets(&net, &plan), 5 * 4);
    assert_int_equal(net.predictions, 0); /* it had nothing more to open */
    assert_int_equal(packets(&net, &plan), 0);
    net_fini(&net);
    loop_close(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockets_of_all_approaches),
        cmocka_unit_test(test_sessions_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
