/* How much hosts may say to a client through the broker: what fills a thin line. */
#include "rig.h"

#include <string.h>

#include <sodium.h>

#include "broker/limits.h"

static struct rig rig;

enum { ROUNDS = 15, EACH = 20, LATE_S = 20 }; /* what such a test may take */

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

static Control to(const struct device *client, const Control *approach)
{
    Control m = Control_init_zero;
    memcpy(m.peer, client->key.pub, KEY_LEN);
    memcpy(m.conv, approach->conv, CONV_LEN);
    return m;
}

static Control carry(const struct device *client, const Control *approach)
{
    Control m = to(client, approach);
    m.which_body = Control_carry_tag;
    m.body.carry.packet.size = 1000;
    return m;
}

struct taking {
    struct device *client;
    pb_size_t tag;
    size_t count;
};

/* Empties the inbox, whatever its room, until a pong. */
static bool is_emptied(void *ctx)
{
    struct taking *t = ctx;
    bool pong = device_has(t->client, Control_pong_tag);
    for (size_t i = 0; i < t->client->inbox_count; i++)
        t->count += t->client->inbox[i].which_body == t->tag;
    t->client->inbox_count = 0;
    return pong;
}

/* Takes what has come: how many of them. Another thread's may come after the pong. */
static size_t take(struct device *client, pb_size_t tag)
{
    struct taking t = {client, tag, 0};
    for (int twice = 0; twice < 2; twice++) {
        device_send(client, &(Control){.which_body = Control_ping_tag});
        rig_wait(&rig, is_emptied, &t);
    }
    return t.count;
}

/* Another thread's may need longer than two pings, beside other programs. */
static size_t take_all(struct device *client, pb_size_t tag)
{
    size_t count = 0, more = 0;
    do {
        more = take(client, tag);
        count += more;
    } while (more > 0);
    return count;
}

/* How many of them come to that device, said as often as anybody would. */
static size_t told(struct device *client, struct device *host, const Control *m)
{
    size_t count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < EACH; i++)
            device_send(host, m);
        (void)take(host, 0);
        count += take_all(client, m->which_body == Control_accept_tag ? Control_ticket_tag
                                                                      : m->which_body);
    }
    return count;
}

static size_t most(struct bucket_rate rate, uint32_t more, uint32_t each)
{
    return (rate.burst + LATE_S * rate.per_s + more) / each;
}

/* Of one host, in all approaches of a connection, and then in sum. */
static size_t most_asked(uint32_t each)
{
    return most(LIMIT_RATE_TELL_ASKED,
                LIMIT_RATE_CONVS.burst + LATE_S * LIMIT_RATE_CONVS.per_s, each);
}

enum { CARRY_BYTES = 1000 + LIMIT_WIRE_BYTES };

/* The client's approach to the one is none of another's. */
static void test_an_approach_is_one_hosts(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *other = rig_join(&rig, true);
    struct device *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    (void)device_expect(host, Control_introduce_tag);
    Control m = carry(client, &ask);
    assert_in_range(told(client, other, &m), 0, most(LIMIT_RATE_TELL, 0, CARRY_BYTES));
    size_t own = told(client, host, &m);
    assert_in_range(own, LIMIT_RATE_CONVS.burst / 4 * 3 / CARRY_BYTES,
                    most_asked(CARRY_BYTES));
}

/* As large as they may be: they take four packets, and are passed on all the same. */
static void test_large_signals(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    (void)device_expect(host, Control_introduce_tag);
    Control m = to(client, &ask);
    m.which_body = Control_signal_tag;
    m.body.signal.sealed.size = 4090;
    size_t all = LIMIT_RATE_CONVS.burst + LIMIT_RATE_TELL_CONTROL.burst;
    assert_in_range(told(client, host, &m), all / 5100, most_asked(4090));
}

enum { FEW = 5 };

/* Signals, or small packets. */
static bool few_came(void *ctx)
{
    struct taking *t = ctx;
    for (size_t i = 0; i < t->client->inbox_count; i++) {
        const Control *m = &t->client->inbox[i];
        t->count += m->which_body == t->tag && (m->which_body != Control_carry_tag ||
                                                m->body.carry.packet.size == 28);
    }
    t->client->inbox_count = 0;
    return t->count >= FEW;
}

/* What a path is made by comes through beside the bulk of a session that has none, and
 * so do its own questions. */
static void test_bulk_starves_nothing(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    (void)device_expect(host, Control_introduce_tag);
    Control bulk = carry(client, &ask), small = bulk, m = to(client, &ask);
    (void)told(client, host, &bulk);
    (void)told(client, host, &bulk);
    small.body.carry.packet.size = 28;
    m.which_body = Control_signal_tag;
    m.body.signal.sealed.size = 700;
    for (int i = 0; i < FEW; i++) {
        device_send(host, &bulk);
        device_send(host, &small);
    }
    rig_wait(&rig, few_came, &(struct taking){client, Control_carry_tag, 0});
    for (int i = 0; i < FEW; i++)
        device_send(host, &m);
    rig_wait(&rig, few_came, &(struct taking){client, Control_signal_tag, 0});
}

/* The next approach to it gives it nothing anew: it can make a client begin many. */
static void test_a_host_has_one_sum(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    size_t count = 0;
    for (int i = 0; i < 3; i++) {
        Control ask = introduce_to(host);
        device_send(client, &ask);
        (void)device_expect(host, Control_introduce_tag);
        Control m = carry(client, &ask);
        count += told(client, host, &m);
    }
    size_t all =
        LIMIT_RATE_CONVS.burst / 4 * 3 + LIMIT_RATE_TELL_ASKED.burst - LIMIT_TOLD_KEEP;
    assert_in_range(count, all / CARRY_BYTES - 3, most_asked(CARRY_BYTES));
}

static void test_an_approach_that_is_over(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    (void)device_expect(host, Control_introduce_tag);
    Control done = to(host, &ask);
    done.which_body = Control_done_tag;
    device_send(client, &done);
    ping_pong(client);
    Control m = carry(client, &ask);
    assert_in_range(told(client, host, &m), 0, most(LIMIT_RATE_TELL, 0, CARRY_BYTES));
}

/* A host says Accept as often as it likes, of an introduction of the last minute. */
static void test_what_the_broker_says_of_a_host_counts(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    Control in = device_expect(host, Control_introduce_tag);
    Control m = to(client, &ask);
    m.which_body = Control_accept_tag;
    m.body.accept.mark.size = in.body.introduce.mark.size;
    memcpy(m.body.accept.mark.bytes, in.body.introduce.mark.bytes,
           in.body.introduce.mark.size);
    size_t tickets = 0;
    for (int i = 0; i < 4; i++)
        tickets += told(client, host, &m);
    assert_in_range(tickets, 1, most_asked(LIMIT_WIRE_BYTES + TICKET_LEN));
}

/* Each copy is on the line, and an empty message is not nothing there. */
static void test_unasked_words_count_in_sum(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *clients[6];
    size_t count = 0;
    for (int i = 0; i < 6; i++) {
        clients[i] = rig_connect(&rig, i > 0 ? clients[0] : NULL);
        device_hello(clients[i], false, false);
        (void)device_expect(clients[i], Control_welcome_tag);
    }
    Control nobody = Control_init_zero, m = to(clients[0], &nobody);
    m.which_body = Control_refuse_tag;
    m.body.refuse.code = REFUSE_BACK;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < EACH; i++) {
            randombytes_buf(m.conv, CONV_LEN);
            device_send(host, &m);
        }
        (void)take(host, 0);
        for (int i = 0; i < 6; i++)
            count += take(clients[i], Control_refuse_tag);
    }
    assert_in_range(count, 1, most(LIMIT_RATE_TELL, 0, LIMIT_WIRE_BYTES));
}

/* Who uses many hosts hears each of them, also while another says what it can. */
static void test_many_approaches_of_one_program(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *other = rig_join(&rig, true);
    struct device *client = rig_join(&rig, false);
    Control first = introduce_to(host), junk = introduce_to(other);
    device_send(client, &first);
    Control in = device_expect(host, Control_introduce_tag);
    device_accept(host, &in, false);
    (void)device_expect(client, Control_ticket_tag);
    for (unsigned i = 0; i < LIMIT_CONVS - 1; i++) {
        Control next = to(host, &first);
        next.which_body = Control_signal_tag;
        next.body.signal.sealed.size = 3;
        randombytes_buf(next.conv, CONV_LEN);
        device_send(client, &next);
    }
    ping_pong(client);
    Control unasked = carry(client, &junk), m = carry(client, &first);
    (void)told(client, other, &unasked);
    for (int i = 0; i < 20; i++)
        device_send(host, &m);
    for (int i = 0; i < 20;) { /* what the other said may come late */
        Control got = device_expect(client, Control_carry_tag);
        i += memcmp(got.peer, host->key.pub, KEY_LEN) == 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_approach_is_one_hosts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_signals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk_starves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_host_has_one_sum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_approach_that_is_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_broker_says_of_a_host_counts,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_unasked_words_count_in_sum, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_many_approaches_of_one_program, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
