/* What the broker carries for spoken codes, and for whom. */
#include "rig.h"

#include <string.h>

#include <sodium.h>

#include "broker/numbers.h"

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

static Control spoken(const struct device *peer, unsigned number, const char *packet)
{
    Control m = Control_init_zero;
    m.which_body = Control_spoken_tag;
    if (peer != NULL)
        memcpy(m.peer, peer->key.pub, KEY_LEN);
    randombytes_buf(m.conv, CONV_LEN);
    m.body.spoken.number = number;
    m.body.spoken.packet.size = (pb_size_t)strlen(packet);
    memcpy(m.body.spoken.packet.bytes, packet, strlen(packet));
    return m;
}

static unsigned number_for(struct device *giver, unsigned wanted)
{
    Control m = spoken(NULL, wanted, "");
    device_send(giver, &m);
    return device_expect(giver, Control_spoken_tag).body.spoken.number;
}

static void assert_refused(struct device *d, const Control *m, unsigned code)
{
    device_send(d, m);
    Control no = device_expect(d, Control_refuse_tag);
    assert_int_equal(no.body.refuse.code, code);
    assert_memory_equal(no.conv, m->conv, CONV_LEN);
}

/* Givers and takers of either thread. */
static void test_spoken(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        struct device *host = rig_join(&rig, true), *giver = rig_connect(&rig, host);
        struct device *taker = rig_join(&rig, false);
        device_hello(giver, false, false);
        assert_true(device_expect(giver, Control_welcome_tag).body.welcome.spoken);
        unsigned number = number_for(giver, 0);
        assert_in_range(number, 1, 99);
        assert_int_equal(number_for(giver, number), number);
        Control ask = spoken(NULL, number, "hello");
        device_send(taker, &ask);
        Control got = device_expect(giver, Control_spoken_tag);
        assert_memory_equal(got.peer, taker->key.pub, KEY_LEN);
        assert_memory_equal(got.conv, ask.conv, CONV_LEN);
        assert_memory_equal(got.body.spoken.packet.bytes, "hello", 5);
        Control answer = spoken(taker, number, "answer");
        memcpy(answer.conv, ask.conv, CONV_LEN);
        device_send(giver, &answer);
        got = device_expect(taker, Control_spoken_tag);
        assert_memory_equal(got.body.spoken.packet.bytes, "answer", 6);
        Control end = spoken(NULL, number, "");
        end.body.spoken.ends = true;
        device_send(giver, &end);
        assert_int_equal(number_for(giver, 1001 + i), 1001 + i); /* it has been done */
        assert_refused(taker, &ask, REFUSE_OFFLINE);
        device_close(giver);
        device_close(host);
    }
}

/* No number for who is no host; no word to who did not ask, nor in another's name. */
static void test_spoken_is_not_for_all(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *giver = rig_connect(&rig, host);
    struct device *taker = rig_join(&rig, false), *third = rig_join(&rig, false);
    device_hello(giver, false, false);
    (void)device_expect(giver, Control_welcome_tag);
    unsigned number = number_for(giver, 0);
    Control want = spoken(NULL, 0, "");
    assert_refused(taker, &want, REFUSE_DENIED);
    want = spoken(NULL, number, "");
    want.body.spoken.ends = true;
    assert_refused(taker, &want, REFUSE_DENIED);
    Control ask = spoken(NULL, number, "hello");
    device_send(taker, &ask);
    (void)device_expect(giver, Control_spoken_tag);
    Control word = spoken(taker, number, "mine");
    memcpy(word.conv, ask.conv, CONV_LEN);
    device_send(third, &word); /* the number is not his */
    word = spoken(third, number, "unasked");
    device_send(giver, &word);
    word = spoken(taker, number, "another approach");
    device_send(giver, &word);
    word = spoken(taker, number, "true");
    memcpy(word.conv, ask.conv, CONV_LEN);
    device_send(giver, &word);
    Control got = device_expect(taker, Control_spoken_tag);
    assert_memory_equal(got.body.spoken.packet.bytes, "true", 4);
    assert_false(device_has(third, Control_spoken_tag));
    /* A host of another kind of connection may not. */
    ask = spoken(NULL, number, "hello");
    device_send(host, &ask);
    assert_int_equal(device_expect(host, Control_bye_tag).body.bye.code, BYE_PROTOCOL);
}

/* Who begins with all numbers from one address, with a key for each, ends no code. */
static void test_one_address_uses_no_code_up(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *giver = rig_connect(&rig, host);
    device_hello(giver, false, false);
    (void)device_expect(giver, Control_welcome_tag);
    unsigned number = number_for(giver, 0);
    for (unsigned i = 0; i < 12; i++) {
        struct device *taker = rig_join(&rig, false);
        Control ask = spoken(NULL, number, "hello");
        if (i >= NUMBERS_TRIES_EACH) {
            assert_refused(taker, &ask, REFUSE_LIMIT);
            continue;
        }
        device_send(taker, &ask);
        (void)device_expect(giver, Control_spoken_tag);
        ask.body.spoken.packet.size = 4; /* its next step is no other try */
        device_send(taker, &ask);
        (void)device_expect(giver, Control_spoken_tag);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_spoken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spoken_is_not_for_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_address_uses_no_code_up, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
