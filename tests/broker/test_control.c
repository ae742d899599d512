/* Devices and the broker's control channel: enrolment, presence, routing, bad input. */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/limits.h"
#include "io/linger.h"
#include "io/loop.h"

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 2});
    return 0;
}

static int setup_many(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 2, .no_address_limits = true});
    return 0;
}

static int setup_open(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 2, .open = true});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static void test_welcome(void **state)
{
    (void)state;
    struct device *d = rig_connect(&rig, NULL);
    device_hello(d, true, true);
    Control m = device_expect(d, Control_welcome_tag);
    struct addr seen, stun;
    assert_int_equal(addr_from_bytes(&seen, m.body.welcome.seen_ip.bytes,
                                     m.body.welcome.seen_ip.size,
                                     m.body.welcome.seen_port),
                     0);
    assert_int_equal(seen.ip[0], 127);
    assert_true(m.body.welcome.time_s > 1700000000);
    assert_int_equal(m.body.welcome.stun_count, 1);
    assert_int_equal(addr_from_bytes(&stun, m.body.welcome.stun[0].ip.bytes,
                                     m.body.welcome.stun[0].ip.size,
                                     m.body.welcome.stun[0].port),
                     0);
    assert_int_equal(stun.port, rig.link.port);
}

static void test_token(void **state)
{
    (void)state;
    struct device *d = rig_connect(&rig, NULL);
    device_hello(d, true, false);
    assert_int_equal(device_expect(d, Control_bye_tag).body.bye.code, BYE_TOKEN);
    device_wait_closed(d);
    struct device *again = rig_connect(&rig, d);
    device_hello(again, true, true);
    (void)device_expect(again, Control_welcome_tag);
    /* Enrolled now: the token is not asked for again, not even after a restart. */
    rig_stop_broker(&rig);
    device_wait_closed(again);
    rig_start_broker(&rig);
    struct device *later = rig_connect(&rig, d);
    device_hello(later, true, false);
    (void)device_expect(later, Control_welcome_tag);
}

static void test_open_broker(void **state)
{
    (void)state;
    struct device *d = rig_connect(&rig, NULL);
    assert_false(rig.link.has_token);
    device_hello(d, true, false);
    (void)device_expect(d, Control_welcome_tag);
}

/* Many clients, so that both threads and the way between them are used. */
static void test_introduce(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true);
    for (int i = 0; i < 12; i++) {
        struct device *client = rig_join(&rig, false);
        Control ask = introduce_to(host);
        device_send(client, &ask);
        Control got = device_expect(host, Control_introduce_tag);
        assert_memory_equal(got.peer, client->key.pub, KEY_LEN);
        assert_memory_equal(got.conv, ask.conv, CONV_LEN);
        assert_memory_equal(got.body.introduce.sealed.bytes,
                            ask.body.introduce.sealed.bytes, 1024);
        assert_int_equal(got.body.introduce.early.size, 1200);
        assert_false(device_has(client, Control_ticket_tag)); /* not before: */
        device_accept(host, &got, false);
        Control theirs = device_expect(host, Control_ticket_tag);
        assert_memory_equal(theirs.peer, client->key.pub, KEY_LEN);
        Control ticket = device_expect(client, Control_ticket_tag);
        assert_memory_equal(ticket.peer, host->key.pub, KEY_LEN);
        assert_memory_equal(ticket.conv, ask.conv, CONV_LEN);
        assert_int_equal(ticket.body.ticket.ticket.size, TICKET_LEN);
        assert_memory_not_equal(ticket.body.ticket.ticket.bytes,
                                theirs.body.ticket.ticket.bytes, TICKET_LEN);
    }
}

static void test_offline(void **state)
{
    (void)state;
    struct device *absent = rig_connect(&rig, NULL);
    struct device *not_host = rig_join(&rig, false);
    for (int i = 0; i < 4; i++) {
        struct device *client = rig_join(&rig, false);
        Control ask = introduce_to(i < 2 ? absent : not_host);
        device_send(client, &ask);
        Control m = device_expect(client, Control_refuse_tag);
        assert_int_equal(m.body.refuse.code, REFUSE_OFFLINE);
        assert_memory_equal(m.conv, ask.conv, CONV_LEN);
        assert_memory_equal(m.peer, ask.peer, KEY_LEN);
    }
}

struct absence {
    struct device *asker;
    Control ask;
    uint64_t next_ms;
};

/* Asks now and then, well below what a device may send. */
static bool is_absent(void *ctx)
{
    struct absence *a = ctx;
    uint64_t now_ms = loop_now_ms(rig.loop);
    if (now_ms >= a->next_ms) {
        device_send(a->asker, &a->ask);
        a->next_ms = now_ms + 20;
    }
    return device_has(a->asker, Control_refuse_tag);
}

static Control signal_to(const struct device *to)
{
    Control m = Control_init_zero;
    m.which_body = Control_signal_tag;
    memcpy(m.peer, to->key.pub, KEY_LEN);
    m.body.signal.sealed.size = 3;
    memcpy(m.body.signal.sealed.bytes, "abc", 3);
    return m;
}

static void test_signal_and_carry(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true);
    struct device *client = rig_join(&rig, false);
    Control m = signal_to(host);
    device_send(client, &m);
    Control got = device_expect(host, Control_signal_tag);
    assert_memory_equal(got.peer, client->key.pub, KEY_LEN);
    assert_memory_equal(got.body.signal.sealed.bytes, "abc", 3);
    m = signal_to(client);
    device_send(host, &m);
    got = device_expect(client, Control_signal_tag);
    assert_memory_equal(got.peer, host->key.pub, KEY_LEN);

    Control carry = Control_init_zero;
    carry.which_body = Control_carry_tag;
    memcpy(carry.peer, client->key.pub, KEY_LEN);
    carry.body.carry.packet.size = 1500;
    device_send(host, &carry);
    got = device_expect(client, Control_carry_tag);
    assert_int_equal(got.body.carry.packet.size, 1500);

    Control refuse = Control_init_zero;
    refuse.which_body = Control_refuse_tag;
    memcpy(refuse.peer, client->key.pub, KEY_LEN);
    refuse.body.refuse.code = REFUSE_DENIED;
    device_send(host, &refuse);
    got = device_expect(client, Control_refuse_tag);
    assert_int_equal(got.body.refuse.code, REFUSE_DENIED);
    assert_memory_equal(got.peer, host->key.pub, KEY_LEN);

    device_close(host);
    struct absence a = {.asker = client, .ask = signal_to(host)};
    rig_wait(&rig, is_absent, &a); /* told so as soon as the broker has noticed */
    assert_int_equal(device_expect(client, Control_refuse_tag).body.refuse.code,
                     REFUSE_ENDED);
}

enum { CARRIED = 45 }; /* the inbox has room for them */

/* Of that session: others' may come late. */
static size_t count_carried(const struct device *host, const uint8_t *conv)
{
    size_t n = 0;
    for (size_t i = 0; i < host->inbox_count; i++)
        n += host->inbox[i].which_body == Control_carry_tag &&
             memcmp(host->inbox[i].conv, conv, CONV_LEN) == 0;
    return n;
}

struct carried {
    const struct device *host;
    const uint8_t *conv;
};

/* Another thread's word may come after this one's pong. */
static bool all_carried(void *ctx)
{
    const struct carried *c = ctx;
    return count_carried(c->host, c->conv) == CARRIED;
}

/* Sends packets of a session, and waits until the broker has passed them on, or not. */
static size_t carry_to(struct device *host, struct device *from, const Control *session,
                       unsigned count)
{
    Control carry = Control_init_zero;
    carry.which_body = Control_carry_tag;
    memcpy(carry.peer, host->key.pub, KEY_LEN);
    memcpy(carry.conv, session->conv, CONV_LEN);
    carry.body.carry.packet.size = 1500;
    host->inbox_count = 0;
    for (unsigned i = 0; i < count; i++)
        device_send(from, &carry);
    ping_pong(from);
    device_send(host, &(Control){.which_body = Control_ping_tag});
    device_await(host, Control_pong_tag);
    return count_carried(host, session->conv);
}

/* Who has not been let in says little to a host, all strangers together. */
static void test_strangers_say_little(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    struct device *strangers[] = {rig_join(&rig, false), rig_join(&rig, false)};
    Control session = introduce_to(host);
    device_send(client, &session);
    Control in = device_expect(host, Control_introduce_tag);
    device_accept(host, &in, false);
    (void)device_expect(host, Control_ticket_tag);
    size_t said = 0;
    for (int i = 0; i < 2; i++) {
        randombytes_buf(session.conv, CONV_LEN);
        said += carry_to(host, strangers[i], &session, CARRIED);
    }
    uint32_t bytes = LIMIT_RATE_STRANGERS_SAY.burst + LIMIT_RATE_STRANGERS_SAY.per_s;
    assert_in_range(said, 0, bytes / 1200);
    memcpy(session.conv, in.conv, CONV_LEN);
    (void)carry_to(host, client, &session, CARRIED);
    rig_wait(&rig, all_carried, &(struct carried){host, in.conv});
}

/* A host says little to a client that has not asked for it, all such hosts together. */
static void test_hosts_tell_little(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    struct device *strangers[] = {rig_join(&rig, true), rig_join(&rig, true)};
    Control session = introduce_to(host);
    device_send(client, &session);
    (void)device_expect(host, Control_introduce_tag);
    size_t told = 0;
    for (int i = 0; i < 3; i++) {
        Control other = introduce_to(host);
        if (i == 2)
            memset(other.conv, 0, CONV_LEN);
        told += carry_to(client, strangers[i % 2], &other, CARRIED);
    }
    uint32_t bytes = LIMIT_RATE_TELL.burst + LIMIT_RATE_TELL.per_s;
    assert_in_range(told, 0, bytes / 1200);
    (void)carry_to(client, host, &session, CARRIED);
    rig_wait(&rig, all_carried, &(struct carried){client, session.conv});
}

/* A pair is made by a host's word on an introduction that the broker has passed. */
static void test_accept_needs_its_mark(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    Control in = device_expect(host, Control_introduce_tag), bad;
    for (int i = 0; i < 5; i++) {
        bad = in;
        if (i == 0)
            bad.body.introduce.mark.size = 0;
        else if (i == 1)
            bad.body.introduce.mark.size--;
        else if (i == 2)
            bad.conv[3] ^= 1;
        else if (i == 3)
            bad.peer[3] ^= 1;
        else
            bad.body.introduce.mark.bytes[20] ^= 1;
        device_accept(host, &bad, false);
    }
    device_send(host, &(Control){.which_body = Control_ping_tag});
    (void)device_expect(host, Control_pong_tag);
    assert_false(device_has(client, Control_ticket_tag));
    device_accept(host, &in, false);
    (void)device_expect(host, Control_ticket_tag);
    (void)device_expect(client, Control_ticket_tag);
}

/* A budget belongs to the key: whoever connects again has what he had left. */
static void test_coming_back_refills_nothing(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    for (unsigned i = 0; i < LIMIT_RATE_INTRODUCE.burst + 10; i++)
        device_send(client, &ask);
    Control m = device_expect(client, Control_refuse_tag);
    assert_int_equal(m.body.refuse.code, REFUSE_LIMIT);
    struct device *again = rig_connect(&rig, client);
    device_close(client);
    device_hello(again, false, false);
    (void)device_expect(again, Control_welcome_tag);
    for (unsigned i = 0; i < LIMIT_RATE_INTRODUCE.burst / 2; i++)
        device_send(again, &ask);
    m = device_expect(again, Control_refuse_tag);
    assert_int_equal(m.body.refuse.code, REFUSE_LIMIT);
}

/* The host's No, after a Yes, ends the pair: its ticket is worth nothing. */
static void test_refusal_ends_the_pair(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host), no = Control_init_zero;
    device_send(client, &ask);
    Control got = device_expect(host, Control_introduce_tag);
    device_accept(host, &got, false);
    Control ticket = device_expect(client, Control_ticket_tag);
    no.which_body = Control_refuse_tag;
    memcpy(no.peer, client->key.pub, KEY_LEN);
    memcpy(no.conv, ask.conv, CONV_LEN);
    no.body.refuse.code = REFUSE_DENIED;
    device_send(host, &no);
    (void)device_expect(client, Control_refuse_tag);
    uint8_t byte;
    int fd = rig_dial_relay(&rig, ticket.body.ticket.ticket.bytes);
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
}

/* A host that dies is told at once to whom it had a pair with, for each session. */
static void test_host_gone(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *other = rig_join(&rig, true);
    struct device *clients[4];
    uint8_t convs[4][CONV_LEN];
    for (int i = 0; i < 4; i++) {
        clients[i] = rig_join(&rig, false);
        struct device *to = i < 3 ? host : other;
        Control ask = introduce_to(to);
        device_send(clients[i], &ask);
        memcpy(convs[i], ask.conv, CONV_LEN);
        Control got = device_expect(to, Control_introduce_tag);
        device_accept(to, &got, false);
        (void)device_expect(clients[i], Control_ticket_tag);
    }
    struct device *again = rig_connect(&rig, other); /* replaced: nobody is gone */
    device_hello(again, true, true);
    (void)device_expect(again, Control_welcome_tag);
    device_close(host);
    for (int i = 0; i < 3; i++) {
        Control m = device_expect(clients[i], Control_refuse_tag);
        assert_int_equal(m.body.refuse.code, REFUSE_GONE);
        assert_memory_equal(m.peer, host->key.pub, KEY_LEN);
        assert_memory_equal(m.conv, convs[i], CONV_LEN);
        assert_true(m.body.refuse.reason[0] != '\0');
    }
    device_send(clients[3], &(Control){.which_body = Control_ping_tag});
    (void)device_expect(clients[3], Control_pong_tag);
    assert_int_equal(clients[3]->inbox_count, 0);
}

static void refused_with(struct device *d, unsigned code, const Control *ask)
{
    Control m = device_expect(d, Control_refuse_tag);
    assert_int_equal(m.body.refuse.code, code);
    assert_memory_equal(m.peer, ask->peer, KEY_LEN);
    assert_memory_equal(m.conv, ask->conv, CONV_LEN);
}

static bool is_later(void *ctx)
{
    const uint64_t *at_ms = ctx;
    return loop_now_ms(rig.loop) > *at_ms;
}

/*
 * A machine resets the connection of a host that was killed, and also one that its
 * router forgot, when the broker answers the next one from the same port: whose relay
 * pair stands is not taken for ended.
 */
static void test_reset_host_with_a_pair(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    Control got = device_expect(host, Control_introduce_tag);
    device_accept(host, &got, false);
    Control mine = device_expect(client, Control_ticket_tag);
    Control its = device_expect(host, Control_ticket_tag);
    int fds[] = {rig_dial_relay(&rig, mine.body.ticket.ticket.bytes),
                 rig_dial_relay(&rig, its.body.ticket.ticket.bytes)};
    uint8_t byte = 1;
    assert_int_equal(send(fds[1], &byte, 1, 0), 1);
    assert_int_equal(recv(fds[0], &byte, 1, 0), 1);
    uint64_t quiet_ms =
        loop_now_ms(rig.loop) + 400; /* no acknowledgement is under way */
    rig_wait(&rig, is_later, &quiet_ms);
    device_kill(host);
    Control m = device_expect(client, Control_refuse_tag);
    assert_int_equal(m.body.refuse.code, REFUSE_RESET);
    device_send(client, &ask);
    refused_with(client, REFUSE_OFFLINE, &ask);
    linger_break(fds[1]);
    while (recv(fds[0], &byte, 1, 0) > 0) /* that it is joined was told as well */
        ;
    close(fds[0]);
    device_send(client, &ask);
    refused_with(client, REFUSE_ENDED, &ask);
}

/*
 * So is a client whose session goes without the relay, also when the host has connected
 * anew since; not one that the host has refused since.
 */
static void test_host_gone_without_relay(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *clients[2];
    uint8_t convs[2][CONV_LEN];
    for (int i = 0; i < 2; i++) {
        clients[i] = rig_join(&rig, false);
        Control ask = introduce_to(host);
        device_send(clients[i], &ask);
        memcpy(convs[i], ask.conv, CONV_LEN);
        Control got = device_expect(host, Control_introduce_tag);
        Control accept = {.which_body = Control_accept_tag,
                          .body.accept.no_pair = true};
        memcpy(accept.peer, clients[i]->key.pub, KEY_LEN);
        memcpy(accept.conv, convs[i], CONV_LEN);
        accept.body.accept.mark.size = got.body.introduce.mark.size;
        memcpy(accept.body.accept.mark.bytes, got.body.introduce.mark.bytes,
               got.body.introduce.mark.size);
        device_send(host, &accept);
    }
    Control no = {.which_body = Control_refuse_tag, .body.refuse.code = REFUSE_REVOKED};
    memcpy(no.peer, clients[1]->key.pub, KEY_LEN);
    memcpy(no.conv, convs[1], CONV_LEN);
    device_send(host, &no);
    Control m = device_expect(clients[1], Control_refuse_tag);
    assert_int_equal(m.body.refuse.code, REFUSE_REVOKED);
    struct device *again = rig_connect(&rig, host);
    device_hello(again, true, true);
    (void)device_expect(again, Control_welcome_tag);
    device_close(again);
    m = device_expect(clients[0], Control_refuse_tag);
    assert_int_equal(m.body.refuse.code, REFUSE_GONE);
    assert_memory_equal(m.peer, host->key.pub, KEY_LEN);
    assert_memory_equal(m.conv, convs[0], CONV_LEN);
    for (int i = 0; i < 2; i++) { /* neither a ticket nor another word */
        device_send(clients[i], &(Control){.which_body = Control_ping_tag});
        (void)device_expect(clients[i], Control_pong_tag);
        assert_int_equal(clients[i]->inbox_count, 0);
    }
}

static void test_replaced(void **state)
{
    (void)state;
    struct device *first = rig_join(&rig, true);
    struct device *second = rig_connect(&rig, first);
    device_hello(second, true, true);
    (void)device_expect(second, Control_welcome_tag);
    assert_int_equal(device_expect(first, Control_bye_tag).body.bye.code, BYE_REPLACED);
    device_wait_closed(first);
    struct device *client = rig_join(&rig, false);
    Control ask = introduce_to(first);
    device_send(client, &ask);
    (void)device_expect(second, Control_introduce_tag);
}

static void yield_as(struct device *d, bool host)
{
    Control m = {.which_body = Control_hello_tag};
    m.body.hello.version = PROTO_VERSION;
    m.body.hello.host = host;
    m.body.hello.yields = true;
    device_send(d, &m);
}

static unsigned bye_code(struct device *d)
{
    return device_expect(d, Control_bye_tag).body.bye.code;
}

/* As the process that calls itself `n`. */
static struct device *host_process(struct device *like, uint8_t n)
{
    struct device *d = rig_connect(&rig, like);
    Control m = {.which_body = Control_hello_tag};
    Hello *h = &m.body.hello;
    h->version = PROTO_VERSION;
    h->host = true;
    h->token.size = LINK_SECRET_LEN;
    memcpy(h->token.bytes, rig.link.token, LINK_SECRET_LEN);
    h->process.size = 8;
    h->process.bytes[0] = n;
    device_send(d, &m);
    (void)device_expect(d, Control_welcome_tag);
    return d;
}

/* A host comes while its connection stands: the same process has its sessions still,
 * another has none, and their clients hear that once. */
static void test_reborn(void **state)
{
    (void)state;
    struct device *host = host_process(NULL, 1), *client = rig_join(&rig, false);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    Control in = device_expect(host, Control_introduce_tag);
    device_accept(host, &in, false);
    (void)device_expect(client, Control_ticket_tag);
    struct device *same = host_process(host, 1);
    device_send(client, &(Control){.which_body = Control_ping_tag});
    (void)device_expect(client, Control_pong_tag);
    assert_int_equal(client->inbox_count, 0);
    (void)host_process(same, 2);
    Control m = device_expect(client, Control_refuse_tag);
    assert_int_equal(m.body.refuse.code, REFUSE_GONE);
    assert_memory_equal(m.peer, host->key.pub, KEY_LEN);
    assert_memory_equal(m.conv, ask.conv, CONV_LEN);
}

/* Who yields enters where the place is free, and leaves another of its key in peace. */
static void test_yields(void **state)
{
    (void)state;
    struct device *first = rig_join(&rig, true);
    struct device *second = rig_connect(&rig, first);
    yield_as(second, true);
    assert_int_equal(bye_code(second), BYE_REPLACED);
    device_wait_closed(second);
    device_send(first, &(Control){.which_body = Control_ping_tag});
    (void)device_expect(first, Control_pong_tag);
    struct device *client = rig_connect(&rig, first); /* as a client there is room */
    yield_as(client, false);
    (void)device_expect(client, Control_welcome_tag);
    device_close(first);
    for (;;) { /* as soon as the broker has noticed */
        struct device *third = rig_connect(&rig, first);
        yield_as(third, true);
        while (!device_has(third, Control_welcome_tag) &&
               !device_has(third, Control_bye_tag))
            loop_turn(rig.loop);
        if (device_has(third, Control_welcome_tag))
            return;
        device_wait_closed(third);
    }
}

/*
 * A device that moved speaks on over a new connection, while the old one stands to the
 * broker: what belongs to that approach comes to the new one from its first word on.
 */
static void test_answers_follow_a_client(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *old = rig_join(&rig, false);
    Control ask = introduce_to(host), carry = {.which_body = Control_carry_tag};
    device_send(old, &ask);
    (void)device_expect(host, Control_introduce_tag);
    memcpy(carry.conv, ask.conv, CONV_LEN);
    carry.body.carry.packet.size = 100;
    struct device *moved[2] = {rig_connect(&rig, old), rig_connect(&rig, old)};
    for (int i = 0; i < 2; i++) {
        device_hello(moved[i], false, false);
        (void)device_expect(moved[i], Control_welcome_tag);
    }
    for (int i = 0; i < 4; i++) { /* there and back, too */
        memcpy(carry.peer, host->key.pub, KEY_LEN);
        device_send(moved[i % 2], &carry);
        (void)device_expect(host, Control_carry_tag);
        memcpy(carry.peer, old->key.pub, KEY_LEN);
        device_send(host, &carry);
        (void)device_expect(moved[i % 2], Control_carry_tag);
        ping_pong(moved[(i + 1) % 2]);
        ping_pong(old);
        assert_int_equal(moved[(i + 1) % 2]->inbox_count + old->inbox_count, 0);
    }
}

/* As many clients of one key as there may be: one that yields is turned away, another
 * takes the place of the one that was silent longest. */
static void test_too_many_clients_of_one_device(void **state)
{
    (void)state;
    static struct device *all[LIMIT_CLIENTS_PER_DEVICE];
    for (int i = 0; i < LIMIT_CLIENTS_PER_DEVICE; i++) {
        all[i] = rig_connect(&rig, i > 0 ? all[0] : NULL);
        device_hello(all[i], false, false);
        (void)device_expect(all[i], Control_welcome_tag);
    }
    for (int i = 0; i < 3; i++) /* the first three are not silent any more */
        ping_pong(all[i]);
    struct device *polite = rig_connect(&rig, all[0]);
    yield_as(polite, false);
    assert_int_equal(bye_code(polite), BYE_REPLACED);
    struct device *more = rig_connect(&rig, all[0]);
    device_hello(more, false, false);
    (void)device_expect(more, Control_welcome_tag);
    int gone = 0, which = -1;
    for (int i = 0; i < LIMIT_CLIENTS_PER_DEVICE; i++) {
        if (!all[i]->closed)
            device_send(all[i], &(Control){.which_body = Control_ping_tag});
        while (!device_has(all[i], Control_pong_tag) && !all[i]->closed)
            loop_turn(rig.loop);
        if (all[i]->closed) {
            gone++;
            which = i;
        }
    }
    assert_int_equal(gone, 1);
    assert_in_range(which, 3, 40); /* milliseconds do not tell neighbours apart */
    assert_int_equal(bye_code(all[which]), BYE_REPLACED);
    ping_pong(more);
}

static struct device *back_as(const struct device *before, bool host)
{
    struct device *d = rig_connect(&rig, before);
    device_hello(d, host, host);
    (void)device_expect(d, Control_welcome_tag);
    return d;
}

/* Until the broker has noticed that a host is gone. Another device asks for it again
 * and again, as a refusal may come later than a pong: it is the host's shard that
 * refuses. */
static void wait_for_absence(const struct device *host)
{
    struct absence a = {.asker = rig_join(&rig, false), .ask = introduce_to(host)};
    rig_wait(&rig, is_absent, &a);
}

/* A host that comes is told to who asked for it in vain: once for each time he asked,
 * wherever he is by then, for each host that comes again, and after a new broker. */
static void test_back(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true), *client = rig_join(&rig, false);
    device_close(host);
    wait_for_absence(host);
    Control ask = introduce_to(host);
    device_send(client, &ask);
    refused_with(client, REFUSE_ENDED, &ask);
    /* he moved to another network, asks from there, and is told there alone */
    struct device *moved = back_as(client, false);
    device_send(moved, &ask);
    refused_with(moved, REFUSE_ENDED, &ask);
    host = back_as(host, true);
    refused_with(moved, REFUSE_BACK, &ask);
    ping_pong(client);
    assert_false(device_has(client, Control_refuse_tag));
    client = moved;
    host = back_as(host, true); /* at once again: nobody asked meanwhile */
    ping_pong(client);
    assert_false(device_has(client, Control_refuse_tag));
    rig_stop_broker(&rig); /* what it knew is gone with it */
    rig_start_broker(&rig);
    client = back_as(client, false);
    device_send(client, &ask);
    refused_with(client, REFUSE_OFFLINE, &ask);
    host = back_as(host, true);
    refused_with(client, REFUSE_BACK, &ask);
    device_send(client, &ask);
    (void)device_expect(host, Control_introduce_tag);
}

/* One machine may run a host and several commands under one key. */
static void test_roles_side_by_side(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true);
    struct device *other = rig_join(&rig, true);
    struct device *client = rig_connect(&rig, host);
    device_hello(client, false, false);
    (void)device_expect(client, Control_welcome_tag);
    Control ask = introduce_to(other);
    device_send(client, &ask);
    Control got = device_expect(other, Control_introduce_tag);
    device_accept(other, &got, false);
    (void)device_expect(client, Control_ticket_tag);
    Control answer = signal_to(host);
    device_send(other, &answer);
    (void)device_expect(client, Control_signal_tag);
    assert_false(host->closed);
    assert_int_equal(host->inbox_count, 0);
}

static void test_bad_messages(void **state)
{
    (void)state;
    struct device *d = rig_connect(&rig, NULL);
    Control m = Control_init_zero;
    m.which_body = Control_hello_tag;
    m.body.hello.version = PROTO_VERSION + 1;
    device_send(d, &m);
    assert_int_equal(device_expect(d, Control_bye_tag).body.bye.code, BYE_VERSION);

    d = rig_connect(&rig, NULL); /* not greeted yet */
    device_send(d, &(Control){.which_body = Control_ping_tag});
    assert_int_equal(device_expect(d, Control_bye_tag).body.bye.code, BYE_PROTOCOL);

    d = rig_join(&rig, false); /* greeted twice */
    device_hello(d, false, false);
    assert_int_equal(device_expect(d, Control_bye_tag).body.bye.code, BYE_PROTOCOL);

    d = rig_join(&rig, false); /* what only the broker may say */
    device_send(d, &(Control){.which_body = Control_welcome_tag});
    assert_int_equal(device_expect(d, Control_bye_tag).body.bye.code, BYE_PROTOCOL);

    d = rig_join(&rig, false);
    assert_int_equal(channel_send(d->channel, "\xff\xff\xff", 3), 0);
    assert_int_equal(device_expect(d, Control_bye_tag).body.bye.code, BYE_PROTOCOL);
    device_wait_closed(d);
}

static void test_flood(void **state)
{
    (void)state;
    struct device *quiet = rig_join(&rig, false);
    struct device *loud = rig_join(&rig, false);
    uint8_t ping[PROTO_FRAME_MAX];
    int n = proto_encode_control(ping, sizeof(ping),
                                 &(Control){.which_body = Control_ping_tag});
    assert_true(n > 0);
    while (!loud->closed) { /* Bye{BUSY} may be lost in the reset that follows */
        for (uint32_t i = 0; i < LIMIT_RATE_MESSAGES.burst; i++)
            if (channel_send(loud->channel, ping, (size_t)n) != 0)
                break;
        loop_turn(rig.loop);
        if (device_has(loud, Control_bye_tag))
            assert_int_equal(device_expect(loud, Control_bye_tag).body.bye.code,
                             BYE_BUSY);
        loud->inbox_count = 0; /* pongs */
    }
    device_send(quiet, &(Control){.which_body = Control_ping_tag});
    (void)device_expect(quiet, Control_pong_tag);
}

static void test_strangers(void **state)
{
    (void)state;
    static const char *const first[] = {"GET / HTTP/1.0\r\n\r\n", "SSH-2.0-x\r\n",
                                        "PSTN\x09", "POST / HTTP/1.0\r\n\r\n", "\x00"};
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        char c;
        size_t len = strlen(first[i]) + (first[i][0] == '\0');
        int fd = rig_dial(&rig);
        assert_int_equal(send(fd, first[i], len, 0), len);
        if (first[i][0] == 'P') /* a whole preface is waited for: say all of it */
            assert_int_equal(send(fd, "xxxxxxxxxxxxxxxxxxxxxxxxxxxx", 28, 0), 28);
        ssize_t n = recv(fd, &c, 1, 0);
        assert_true(n == 0 || (n < 0 && errno != EAGAIN)); /* the receive timeout */
        close(fd);
    }
}

/* Neither silence, nor half a handshake, nor half a preface holds a place for long. */
static void test_stalled(void **state)
{
    (void)state;
    static const char *const first[] = {"", "\x16\x03\x01", "PSTN\x01"};
    int fds[sizeof(first) / sizeof(first[0])];
    size_t count = sizeof(first) / sizeof(first[0]);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(first[i]);
        fds[i] = rig_dial(&rig);
        assert_int_equal(send(fds[i], first[i], len, 0), len);
    }
    struct device *greeted = rig_join(&rig, false);
    struct device *mute = rig_connect(&rig, NULL); /* a handshake, but no Hello */
    device_wait_closed(mute);
    for (size_t i = 0; i < count; i++) {
        char c;
        assert_true(recv(fds[i], &c, 1, 0) <= 0);
        assert_int_not_equal(errno, EAGAIN); /* the receive timeout */
        close(fds[i]);
    }
    assert_false(greeted->closed);
}

static int setup_one_thread(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 1, .open = true});
    return 0;
}

/* One address opens connections without end; others still get in. */
static void test_connection_flood(void **state)
{
    (void)state;
    enum { FLOOD = 700 };
    int fds[FLOOD];
    struct device *other;
    for (int i = 0; i < FLOOD; i++)
        fds[i] = rig_dial_from(&rig, "127.0.0.77");
    other = rig_join(&rig, false); /* what came before it has been accepted by now */
    assert_false(other->closed);
    for (int i = 0; i < FLOOD; i++)
        close(fds[i]);
}

static void test_restart(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true);
    struct link before = rig.link;
    rig_stop_broker(&rig);
    Control bye = device_expect(host, Control_bye_tag);
    assert_int_equal(bye.body.bye.code, BYE_SHUTDOWN);
    assert_true(bye.body.bye.retry_ms > 0);
    device_wait_closed(host);
    rig_start_broker(&rig); /* the same port, key and token */
    assert_memory_equal(&before, &rig.link, sizeof(before));
    struct device *again = rig_connect(&rig, host);
    device_hello(again, true, false);
    (void)device_expect(again, Control_welcome_tag);
}

static void test_faults(void **state)
{
    (void)state;
    struct broker_config c = rig.config;
    struct broker *b = NULL;
    struct fault f = {0};
    char dir[] = "/tmp/postern-test-XXXXXX", lock[64];
    assert_non_null(mkdtemp(dir));
    (void)snprintf(lock, sizeof(lock), "%s/broker.lock", dir);
    assert_int_equal(broker_open(&b, &c, &f), POSTERN_ERR_INUSE); /* port */
    c.state_dir = dir;
    assert_int_equal(broker_open(&b, &c, &f), POSTERN_ERR_INUSE);
    const char *listen = "localhost:1";
    c.listen = &listen;
    assert_int_equal(broker_open(&b, &c, &f), POSTERN_ERR_USAGE);
    listen = "198.51.100.77:0";
    assert_int_equal(broker_open(&b, &c, &f), POSTERN_ERR_INVALID);
    listen = "127.0.0.1:0";
    c.state_dir = rig.dir;
    assert_int_equal(broker_open(&b, &c, &f), POSTERN_ERR_INUSE); /* state */
    assert_int_equal(unlink(lock), 0); /* looked at, and no more was made */
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_welcome, setup, teardown),
        cmocka_unit_test_setup_teardown(test_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_broker, setup_open, teardown),
        cmocka_unit_test_setup_teardown(test_introduce, setup, teardown),
        cmocka_unit_test_setup_teardown(test_offline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signal_and_carry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strangers_say_little, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hosts_tell_little, setup, teardown),
        cmocka_unit_test_setup_teardown(test_accept_needs_its_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(test_coming_back_refills_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_refusal_ends_the_pair, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_follow_a_client, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_gone_without_relay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_host_with_a_pair, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_yields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_clients_of_one_device, setup_many,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reborn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_roles_side_by_side, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stalled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connection_flood, setup_one_thread,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
    };
    return cmocka_run_group_tests_name("broker control", tests, NULL, NULL);
}
