/* By badges a broker knows devices again: its own, and a host's. */
#include "rig.h"

#include <string.h>
#include <time.h>

#include "broker/limits.h"
#include "core/badge.h"

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 2});
    return 0;
}

/* All is counted at one place. */
static int setup_one(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 1});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

/* A device that keeps badges; `as_host`: it publishes. */
static Control welcome_keeper(struct device *d, bool as_host)
{
    Control m = Control_init_zero;
    m.which_body = Control_hello_tag;
    m.body.hello.version = PROTO_VERSION;
    m.body.hello.host = as_host;
    m.body.hello.keeps_badge = true;
    m.body.hello.token.size = LINK_SECRET_LEN;
    memcpy(m.body.hello.token.bytes, rig.link.token, LINK_SECRET_LEN);
    device_send(d, &m);
    return device_expect(d, Control_welcome_tag);
}

/* Only the broker can make one: what it gives opens with its own key, and with none
 * that others know. */
static void test_badge_is_the_brokers(void **state)
{
    (void)state;
    struct device *host = rig_connect(&rig, NULL);
    uint8_t secret[BADGE_SECRET_LEN], whose[KEY_LEN];
    uint64_t now_s = (uint64_t)time(NULL);
    (void)welcome_keeper(host, true);
    Control m = device_expect(host, Control_badge_tag);
    assert_int_equal(m.body.badge.badge.size, BADGE_LEN);
    badge_secret(secret, &(struct keypair){0});
    assert_true(badge_open(whose, m.body.badge.badge.bytes, BADGE_LEN, secret, now_s) <
                0);
    badge_secret(secret, broker_key(rig.broker));
    assert_int_equal(
        badge_open(whose, m.body.badge.badge.bytes, BADGE_LEN, secret, now_s), 0);
    assert_memory_equal(whose, host->key.pub, KEY_LEN);
}

/* Devices of this address ask for the host until no more is let through. */
static void flood_introductions(struct device *host)
{
    struct device *strangers[] = {rig_join(&rig, false), rig_join(&rig, false)};
    for (unsigned i = 0; i < 2; i++)
        for (unsigned n = 0; n < LIMIT_RATE_INTRODUCE.burst; n++) {
            Control ask = introduce_to(host);
            device_send(strangers[i], &ask);
        }
    for (unsigned i = 0; i < 2; i++) {
        Control m = device_expect(strangers[i], Control_refuse_tag);
        assert_int_equal(m.body.refuse.code, REFUSE_LIMIT);
    }
    host->inbox_count = 0;
}

struct hearing {
    struct device *host;
    const struct device *client;
    unsigned heard;
};

/* Empties the inbox each time: strangers that waited come meanwhile, too. */
static bool has_heard(void *ctx)
{
    struct hearing *h = ctx;
    bool ponged = device_has(h->host, Control_pong_tag);
    for (size_t i = 0; i < h->host->inbox_count; i++) {
        const Control *m = &h->host->inbox[i];
        if (m->which_body != Control_introduce_tag ||
            memcmp(m->peer, h->client->key.pub, KEY_LEN) != 0)
            continue;
        assert_int_equal(m->body.introduce.badge.size, 0);
        h->heard++;
    }
    h->host->inbox_count = 0;
    return ponged;
}

/* Asks for the host with that badge; whether the host hears of it, all four times. */
static bool is_heard(struct device *host, struct device *client, const Control *badge)
{
    unsigned tries = LIMIT_RATE_SHOW.burst;
    Control ask = introduce_to(host);
    if (badge != NULL) {
        ask.body.introduce.badge.size = badge->body.badge.badge.size;
        memcpy(ask.body.introduce.badge.bytes, badge->body.badge.badge.bytes,
               badge->body.badge.badge.size);
    }
    struct hearing h = {.host = host, .client = client};
    for (unsigned i = 0; i < tries; i++)
        device_send(client, &ask);
    ping_pong(client);
    device_send(host, &(Control){.which_body = Control_ping_tag});
    rig_wait(&rig, has_heard, &h);
    client->inbox_count = 0;
    return h.heard == tries;
}

/* What the client is given when the host lets it in, `listed` or invited. */
static bool get_badge(struct device *host, struct device *client, bool listed,
                      Control *badge)
{
    Control ask = introduce_to(host);
    device_send(client, &ask);
    Control in = device_expect(host, Control_introduce_tag);
    device_accept(host, &in, listed);
    (void)device_expect(host, Control_ticket_tag);
    device_await(client, Control_ticket_tag);
    for (size_t i = 0; i < client->inbox_count; i++)
        if (client->inbox[i].which_body == Control_badge_tag &&
            memcmp(client->inbox[i].peer, host->key.pub, KEY_LEN) == 0) {
            *badge = client->inbox[i];
            return true;
        }
    return false;
}

static struct device *come_again(const struct device *as, bool host)
{
    struct device *d = rig_connect(&rig, as);
    (void)welcome_keeper(d, host);
    return d;
}

/*
 * Whom a host lists, the broker knows again after its restart, though the host names
 * only its newest devices: under a flood from the client's own address.
 */
static void test_badge_for_a_host(void **state)
{
    (void)state;
    struct device *host = come_again(NULL, true), *client = come_again(NULL, false);
    Control badge, none;
    assert_false(get_badge(host, client, false, &none)); /* it was invited only */
    assert_true(get_badge(host, client, true, &badge));
    rig_stop_broker(&rig);
    rig_start_broker(&rig);
    host = come_again(host, true);
    client = come_again(client, false);
    struct device *thief = come_again(NULL, false);
    flood_introductions(host);
    assert_false(is_heard(host, thief, &badge)); /* it is that client's */
    assert_false(is_heard(host, thief, NULL));
    assert_true(is_heard(host, client, &badge));
}

/* A host's word that it does not know a device counts for more than an old badge. */
static void test_badge_of_a_revoked_device(void **state)
{
    (void)state;
    struct device *host = come_again(NULL, true), *client = come_again(NULL, false);
    Control badge;
    assert_true(get_badge(host, client, true, &badge));
    Control no = {.which_body = Control_refuse_tag};
    memcpy(no.peer, client->key.pub, KEY_LEN);
    no.body.refuse.code = REFUSE_REVOKED;
    device_send(host, &no);
    (void)device_expect(client, Control_refuse_tag);
    for (unsigned n = 0; n < LIMIT_RATE_STRANGERS.burst + 4; n++) {
        Control ask = introduce_to(host);
        device_send(client, &ask);
    }
    ping_pong(client);
    assert_false(is_heard(host, client, &badge)); /* it waits as strangers do */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_badge_is_the_brokers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_badge_for_a_host, setup_one, teardown),
        cmocka_unit_test_setup_teardown(test_badge_of_a_revoked_device, setup_one,
                                        teardown),
    };
    return cmocka_run_group_tests_name("broker badges", tests, NULL, NULL);
}
