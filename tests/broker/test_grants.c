/* NatSessions at a real broker: one sum for an address, whichever thread a device is
 * on. */
#include "rig.h"

#include <string.h>

#include "core/sessions.h"

enum { DEVICES = 8 };

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 2});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static NatSessions ask(struct device *d, unsigned wanted, unsigned returned)
{
    Control m = {.which_body = Control_nat_sessions_tag};
    memset(m.conv, 7, CONV_LEN);
    m.body.nat_sessions = (NatSessions){.wanted = wanted, .returned = returned};
    device_send(d, &m);
    if (wanted == 0)
        return (NatSessions){0};
    m = device_expect(d, Control_nat_sessions_tag);
    assert_int_equal(m.conv[0], 7);
    return m.body.nat_sessions;
}

static void test_devices_of_an_address_share_a_sum(void **state)
{
    unsigned open = 0, served = 0;
    (void)state;
    for (int i = 0; i < DEVICES; i++) {
        struct device *host = rig_join(&rig, true);
        NatSessions n = ask(host, i == 0 ? 500 : 768, 0);
        assert_true(n.granted > 0 || n.wait_ms > 0);
        open += n.granted;
        served += n.granted > 0;
    }
    assert_in_range(open, 500, SESSIONS_AT_ONCE);
    assert_in_range(served, 2, DEVICES - 1);
}

static void test_what_is_given_back_is_anothers(void **state)
{
    (void)state;
    struct device *one = rig_join(&rig, true), *two = rig_join(&rig, true);
    assert_int_equal(ask(one, 848, 0).granted, 848);
    assert_int_equal(ask(two, 512, 0).granted, 0);
    (void)ask(one, 0, 848);
    ping_pong(one);
    NatSessions n = ask(two, 512, 0); /* by the same two threads */
    assert_in_range(n.granted, 400, 512);
}

/* A short command ends before the answer comes: what it asked for is free again, though
 * its kernel resets the connection right behind its last word. */
static void test_who_ends_before_the_answer_has_given_back(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct device *one = rig_join(&rig, true);
        Control m = {.which_body = Control_nat_sessions_tag};
        m.body.nat_sessions.wanted = 848;
        device_send(one, &m);
        m.body.nat_sessions = (NatSessions){.returned = 848};
        device_send(one, &m);
        device_kill(one);
        struct device *two = rig_join(&rig, true);
        unsigned granted = ask(two, 512, 0).granted;
        for (int tries = 0; granted < 400 && tries < 1000;
             tries++) /* until it is read */
            granted = ask(two, 512, granted).granted;
        assert_in_range(granted, 400, 512);
        (void)ask(two, 0, granted);
        ping_pong(two);
    }
}

/* Who has not shown that any host knows it has nothing to predict for. */
static void test_a_stranger_is_granted_none(void **state)
{
    (void)state;
    struct device *client = rig_join(&rig, false), *host = rig_join(&rig, true);
    NatSessions n = ask(client, 848, 0);
    assert_int_equal(n.granted, 0);
    assert_true(n.wait_ms > 0);
    assert_int_equal(ask(host, UINT32_MAX, UINT32_MAX).granted, SESSIONS_AT_ONCE);
}

static void test_without_limits_each_has_its_wish(void **state)
{
    (void)state;
    rig_close(&rig);
    rig_open(&rig, &(struct broker_config){.threads = 2, .no_address_limits = true});
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(rig_join(&rig, true), 768, 0).granted, 768);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_devices_of_an_address_share_a_sum, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_is_given_back_is_anothers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_ends_before_the_answer_has_given_back,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stranger_is_granted_none, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_without_limits_each_has_its_wish, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
