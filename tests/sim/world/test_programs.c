/*
 * The real broker, host and client in one process: join, ping, a stream whose bytes are
 * compared; the same for the same seed, and everything where it began at the end.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

/* Nothing but TCP outwards: the relay. */
static const struct nat_config hard_nat = {
    .translates = true,
    .mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
    .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
    .ports = NAT_PORTS_RANDOM,
    .blocks_udp = true};

static void test_ping(void **state)
{
    static const struct nat_config *const nats[] = {&usual_nat, &hard_nat};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct rig_config c = {
            .town = {.seed = 1, .host_nat = nats[i], .client_nat = nats[i]}};
        struct rig r;
        struct program p;
        rig_init(&r, &c);
        program_start(&p, r.town->client.machine, r.state[2], "ping home");
        rig_run_to_end(&r, &p, SECONDS(30));
        assert_true(program_count(&p, "pong", "home") >= 3);
        assert_int_equal(program_count(&p, "path", "udp-punch") > 0, i == 0);
        assert_true(program_count(&p, "path", "relay") > 0);
        program_fini(&p);
        rig_fini(&r);
    }
}

/* Random ports, low ones too, which netfilter's NAT would leave low. */
static const struct nat_config random_nat = {
    .translates = true,
    .mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
    .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
    .ports = NAT_PORTS_RANDOM};

/* It keeps one port for all of the broker's ports: another address shows it. */
static const struct nat_config address_nat = {.translates = true,
                                              .mapping = NAT_MAPPING_ADDRESS_DEPENDENT,
                                              .filtering =
                                                  NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                              .ports = NAT_PORTS_RANDOM};

/* As far as a broker of one address can tell the same, and easy. */
static const struct nat_config cone_nat = {.translates = true,
                                           .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                           .filtering =
                                               NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                           .ports = NAT_PORTS_RANDOM};

static uint64_t until(struct rig *r, const char *event, uint64_t most_us)
{
    uint64_t begin_us = house_now_us(r->town->house);
    while (program_count(&r->connect, event, "udp-punch") == 0 &&
           house_now_us(r->town->house) < begin_us + most_us)
        (void)house_run(r->town->house, 10000, NULL, NULL);
    return house_now_us(r->town->house) - begin_us;
}

/* Milliseconds from `connect` to its direct path; or, `late`, from where a first round
 * came to nothing, since the homes could not reach each other. */
static unsigned long predict_ms(uint64_t seed, const struct nat_config *host_nat,
                                const struct nat_config *client_nat,
                                unsigned one_way_ms, bool late, bool one_address)
{
    static const struct vnet_wire wire = {0};
    struct vnet_wire w = wire;
    struct rig r;
    char value[PROGRAM_FIELD];
    w.delay_us = one_way_ms * 1000;
    struct rig_config c = {.town = {.seed = seed,
                                    .host_nat = host_nat,
                                    .client_nat = client_nat,
                                    .wire = &w},
                           .one_address = one_address};
    rig_init(&r, &c);
    program_start(&r.connect, r.town->client.machine, r.state[2],
                  "connect --paths udp-punch,relay home:echo 127.0.0.1:%d", LOCAL_PORT);
    rig_await(&r, &r.connect, "ready", NULL, value, SECONDS(60));
    r.town->internet->apart = late;
    if (late)
        (void)until(&r, "rejected", SECONDS(60));
    r.town->internet->apart = false;
    unsigned long ms = (unsigned long)until(&r, "path", SECONDS(600)) / 1000;
    rig_disconnect(&r);
    rig_fini(&r);
    return ms;
}

/*
 * Where one NAT draws a port for each destination, the other side's probes meet it in
 * the first round. WORLD_TRIES: how many seeds, and then each time is told.
 */
static void test_predicts(void **state)
{
    const char *tries = getenv("WORLD_TRIES");
    (void)state;
    uint64_t seeds = tries == NULL ? 4 : strtoull(tries, NULL, 10);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        for (int i = 0; i < 4; i++) {
            unsigned one_way_ms = i < 2 ? 0 : 10;
            const struct nat_config *host = i % 2 == 0 ? &random_nat : &usual_nat;
            const struct nat_config *client = i % 2 == 0 ? &usual_nat : &random_nat;
            unsigned long ms = predict_ms(seed, host, client, one_way_ms, false, false);
            unsigned long again_ms =
                predict_ms(seed, host, client, one_way_ms, true, false);
            if (tries != NULL)
                (void)printf("predict %d %u %lu seed %llu again %lu\n", i % 2,
                             one_way_ms, ms, (unsigned long long)seed, again_ms);
            else
                assert_in_range(ms, 0, one_way_ms == 0 ? 1200 : 2000);
            if (tries == NULL) /* so many ports are not tried again in that minute */
                assert_in_range(again_ms, 0, 599000);
        }
    }
}

/* A guard against scans bans for 30 s who opens many at once: each round of prediction
 * brought the next ban, of all of the home. */
static void test_a_ban_is_a_lesson(void **state)
{
    struct nat_config bans = random_nat;
    struct rig r;
    char value[PROGRAM_FIELD];
    bans.ban_new_per_s = 50;
    bans.ban_us = SECONDS(30);
    struct rig_config c = {
        .town = {.seed = 1, .host_nat = &usual_nat, .client_nat = &bans}};
    (void)state;
    rig_init(&r, &c);
    program_start(&r.connect, r.town->client.machine, r.state[2],
                  "connect --paths udp-punch,relay home:echo 127.0.0.1:%d", LOCAL_PORT);
    rig_await(&r, &r.connect, "ready", NULL, value, SECONDS(60));
    const struct nat *nat = r.town->client.router->nats[0];
    (void)house_run(r.town->house, SECONDS(100), NULL, NULL);
    assert_int_equal(nat->banned, 1);
    (void)house_run(r.town->house, SECONDS(1600), NULL, NULL);
    assert_in_range(nat->banned, 1, 2);
    rig_disconnect(&r);
    rig_fini(&r);
}

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

static uint64_t stream(const struct rig_config *c)
{
    struct rig r;
    rig_init(&r, c);
    rig_connect(&r);
    struct talker t = {.port = LOCAL_PORT, .seed = 5, .bytes = 3000000};
    talker_start(&t, r.town->client.machine);
    assert_true(house_run(r.town->house, SECONDS(60), is_over, t.task));
    (void)task_join(t.task);
    assert_int_equal(t.error, 0);
    assert_int_equal(t.got, t.bytes);
    rig_disconnect(&r);
    uint64_t trace = house_trace(r.town->house);
    rig_fini(&r);
    return trace;
}

static void test_stream(void **state)
{
    static const struct vnet_wire bad = {
        .delay_us = 15000, .jitter_us = 4000, .loss_permille = 5, .double_permille = 3};
    struct rig_config c = {
        .town = {
            .seed = 3, .host_nat = &usual_nat, .client_nat = &usual_nat, .wire = &bad}};
    (void)state;
    uint64_t trace = stream(&c);
    assert_int_equal(stream(&c), trace);
    c.town.seed = 4;
    assert_int_not_equal(stream(&c), trace);
}

/* A direct session carries a stream that does not end by itself. */
static void begin_endless(struct rig *r, struct talker *t)
{
    struct rig_config c = {
        .town = {.seed = 6, .host_nat = &usual_nat, .client_nat = &usual_nat}};
    rig_init(r, &c);
    rig_connect(r);
    *t = (struct talker){
        .port = LOCAL_PORT, .seed = 5, .bytes = 30000000, .pause_ms = 20};
    talker_start(t, r->town->client.machine);
    (void)house_run(r->town->house, SECONDS(5), NULL, NULL);
}

/*
 * The client's router forgets its connections, the direct path goes on, and soon after
 * the host is killed: nobody can tell the client then, but whoever asks is told.
 */
static void test_killed_unheard(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms <= 6000; ms += 500) {
        struct rig r;
        struct talker t;
        begin_endless(&r, &t);
        town_flush(&r.town->client);
        (void)house_run(r.town->house, (uint64_t)ms * 1000, NULL, NULL);
        program_kill(&r.serve, r.town->host.machine);
        assert_true(house_run(r.town->house, SECONDS(4), is_over, t.task));
        (void)task_join(t.task);
        assert_int_not_equal(t.error, 0);
        rig_revive_host(&r);
        rig_disconnect(&r);
        rig_fini(&r);
    }
}

/*
 * The host's router forgets its connections, the program is killed and back at once: no
 * end is seen by anybody, and only the new one can tell that it knows nothing.
 */
static void test_replaced_unseen(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms <= 3000; ms += 500) {
        struct rig r;
        struct talker t;
        begin_endless(&r, &t);
        town_flush(&r.town->host);
        program_kill(&r.serve, r.town->host.machine);
        (void)house_run(r.town->house, (uint64_t)ms * 1000, NULL, NULL);
        rig_revive_host(&r);
        assert_true(house_run(r.town->house, SECONDS(2), is_over, t.task));
        (void)task_join(t.task);
        assert_int_not_equal(t.error, 0);
        (void)house_run(r.town->house, SECONDS(1), NULL, NULL);
        t = (struct talker){.port = LOCAL_PORT, .seed = 6, .bytes = 20000};
        talker_start(&t, r.town->client.machine);
        assert_true(house_run(r.town->house, SECONDS(3), is_over, t.task));
        (void)task_join(t.task);
        assert_int_equal(t.error, 0);
        rig_disconnect(&r);
        rig_fini(&r);
    }
}

static bool is_broken(void *ctx)
{
    return ((const struct talker *)ctx)->error != 0;
}

/*
 * A host hangs, is told of one more client, and is killed: its connection to the broker
 * is reset, for what lay unread, as by a router that forgot it. The relay pair ends in
 * order, which no router does: its streams are over.
 */
static void test_a_host_that_hung_is_gone(void **state)
{
    struct rig_config c = {
        .town = {.seed = 9, .host_nat = &hard_nat, .client_nat = &hard_nat}};
    struct talker t = {
        .port = LOCAL_PORT, .seed = 5, .bytes = 16000, .pause_ms = 1000000};
    struct rig r;
    struct program p;
    (void)state;
    rig_init(&r, &c);
    rig_connect(&r);
    talker_start(&t, r.town->client.machine);
    (void)house_run(r.town->house, SECONDS(20), NULL, NULL);
    assert_int_equal(t.got, t.bytes / 2); /* and is idle */
    group_stop(r.town->house, task_group(r.serve.task));
    program_start(&p, r.town->client.machine, r.state[2], "ping home");
    (void)house_run(r.town->house, SECONDS(1), NULL, NULL);
    program_kill(&r.serve, r.town->host.machine);
    assert_true(house_run(r.town->house, SECONDS(5), is_broken, &t));
    assert_int_equal(t.error, ECONNRESET);
    rig_revive_host(&r);
    rig_await_end(&r, &p, SECONDS(60));
    program_fini(&p);
    assert_true(house_run(r.town->house, SECONDS(2000), is_over, t.task));
    (void)task_join(t.task);
    rig_disconnect(&r);
    rig_fini(&r);
}

/*
 * However long it hung before it is killed, with a client that is idle or waits for an
 * answer, and whatever its sessions go by: who has a relay pair hears of the end
 * within a second, though the host's kernel asked the broker's in between. (Not where
 * something is just under way to the host on both of its connections: 8 s.)
 */
static void test_a_host_that_hung_for_long_is_gone(void **state)
{
    static const unsigned hung_s[] = {0, 1, 2, 3, 5, 8, 13, 34};
    (void)state;
    const char *shift = getenv("WORLD_SHIFT");
    uint64_t shift_us = shift != NULL ? strtoull(shift, NULL, 10) : 920000;
    for (unsigned i = 0; i < 32; i++) {
        const struct nat_config *nat = (i & 8) != 0 ? &hard_nat : &usual_nat;
        struct rig_config c = {
            .town = {.seed = 20 + i, .host_nat = nat, .client_nat = nat}};
        struct talker t = {.port = LOCAL_PORT,
                           .seed = 5,
                           .bytes = 16000,
                           .pause_ms = (i & 16) != 0 ? 1000000 : 20};
        struct rig r;
        t.bytes = (i & 16) != 0 ? 16000 : 30000000;
        rig_init(&r, &c);
        rig_connect(&r);
        talker_start(&t, r.town->client.machine);
        (void)house_run(r.town->house, SECONDS(20), NULL, NULL);
        group_stop(r.town->house, task_group(r.serve.task));
        (void)house_run(r.town->house, SECONDS(hung_s[i % 8]) + shift_us, NULL, NULL);
        assert_int_equal(t.error, 0);
        uint64_t began_us = house_now_us(r.town->house);
        program_kill(&r.serve, r.town->host.machine);
        (void)house_run(r.town->house, SECONDS(20), is_broken, &t);
        if (getenv("WORLD_TIMES") != NULL)
            print_message("%u: hung %u s: %llu ms\n", i, hung_s[i % 8],
                          (unsigned long long)(house_now_us(r.town->house) - began_us) /
                              1000);
        else
            assert_in_range(house_now_us(r.town->house) - began_us, 0, 1500000);
        rig_revive_host(&r);
        (void)house_run(r.town->house, SECONDS(2000), is_over, t.task);
        (void)task_join(t.task);
        rig_disconnect(&r);
        rig_fini(&r);
    }
}

/*
 * Two sides that seem easy, one of which gives each address another port: what is
 * doubtful is predicted in the same round, after a second of checks in vain where the
 * broker has one address, and at once where it has two.
 */
static void test_predicts_what_is_doubtful(void **state)
{
    const char *tries = getenv("WORLD_TRIES");
    static const struct nat_config *const pairs[][2] = {{&address_nat, &usual_nat},
                                                        {&usual_nat, &address_nat},
                                                        {&address_nat, &cone_nat},
                                                        {&cone_nat, &address_nat},
                                                        {&cone_nat, &cone_nat}};
    const size_t count = sizeof(pairs) / sizeof(pairs[0]);
    unsigned slow = 0;
    (void)state;
    uint64_t seeds = tries == NULL ? 4 : strtoull(tries, NULL, 10);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        for (size_t i = 0; i < count; i++) {
            unsigned long ms =
                predict_ms(seed, pairs[i][0], pairs[i][1], 10, false, true);
            unsigned long two_ms =
                predict_ms(seed, pairs[i][0], pairs[i][1], 10, false, false);
            if (tries != NULL)
                (void)printf("doubtful %zu %lu seed %llu two addresses %lu\n", i, ms,
                             (unsigned long long)seed, two_ms);
            else
                assert_in_range(ms, 0, 599000); /* 2 to 11 % need another round */
            slow += ms > 3500;
            if (tries == NULL)
                assert_in_range(two_ms, 0, 2000);
            if (tries == NULL && i + 1 == count)
                assert_in_range(ms, 0, 1000);
        }
    }
    if (tries == NULL)
        assert_in_range(slow, 0, 5); /* of 20, of which one in ten is */
}

/*
 * Two devices in one LAN, without privileges and by TCP alone: the one's SYN finds
 * nobody there yet, and must not be the end of its try.
 */
static void test_neighbours_meet_by_tcp(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct rig_config c = {.town = {.seed = seed,
                                        .host_nat = &usual_nat,
                                        .client_nat = &usual_nat,
                                        .six = seed % 2 == 0}};
        struct rig r;
        rig_init(&r, &c);
        town_visit(r.town);
        (void)house_run(r.town->house, SECONDS(10), NULL, NULL);
        program_start(&r.connect, r.town->client.machine, r.state[2],
                      "connect --paths tcp-punch,relay home:echo 127.0.0.1:%d",
                      LOCAL_PORT);
        uint64_t begin_us = house_now_us(r.town->house);
        while (program_count(&r.connect, "path", "tcp-punch") == 0 &&
               house_now_us(r.town->house) < begin_us + SECONDS(20))
            (void)house_run(r.town->house, 10000, NULL, NULL);
        assert_in_range(house_now_us(r.town->house) - begin_us, 0, SECONDS(1));
        rig_disconnect(&r);
        rig_fini(&r);
    }
}

/* ------------------------------------------------------- who dies after its half */

enum { HALF_PORT = LOCAL_PORT + 1, SAID = 100000 };

struct half {
    in_addr_t address; /* 0: loopback */
    uint16_t port;
    bool serves, dies;
    int waits_s;
    size_t got;
    bool reset;
};

static int half_socket(const struct half *h)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(h->port),
                             .sin_addr.s_addr =
                                 h->address != 0 ? h->address : htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!h->serves)
        return connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 ? fd : -1;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 60000), 1);
    int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    (void)close(fd);
    return one;
}

static void say(int fd)
{
    static const uint8_t said[SAID];
    for (size_t at = 0; at < SAID;) {
        ssize_t n = send(fd, said + at, SAID - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

/* The one ends its half and is gone; the other reads to the end, and then has nothing
 * to say for ten minutes. */
static void *run_half(void *arg)
{
    struct half *h = arg;
    uint8_t buf[4096];
    int fd = half_socket(h);
    if (h->dies) {
        say(fd);
        (void)shutdown(fd, SHUT_WR);
    } else {
        for (ssize_t n; (n = recv(fd, buf, sizeof(buf), 0)) > 0;)
            h->got += (size_t)n;
        struct pollfd p = {.fd = fd};
        h->reset = poll(&p, 1, 600000) == 1 && (p.revents & (POLLERR | POLLHUP)) != 0;
    }
    (void)close(fd);
    return NULL;
}

/* The kernel answers for him for a minute. What he said arrives, and then a reset. */
static void test_missed_after_its_half(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct rig_config c = {
            .town = {.seed = seed, .host_nat = &usual_nat, .client_nat = &usual_nat}};
        struct half service = {
            .port = OTHER_PORT, .serves = true, .dies = seed % 2 == 0};
        struct half caller = {.port = HALF_PORT, .dies = !service.dies};
        const struct half *silent = service.dies ? &caller : &service;
        char unused[PROGRAM_FIELD];
        struct rig r;
        rig_init(&r, &c);
        program_start(&r.connect, r.town->client.machine, r.state[2],
                      "connect home:other 127.0.0.1:%d", HALF_PORT);
        rig_await(&r, &r.connect, "ready", NULL, unused, SECONDS(60));
        struct task *far = task_start(r.town->host.machine, run_half, &service);
        struct task *near = task_start(r.town->client.machine, run_half, &caller);
        assert_true(
            house_run(r.town->house, SECONDS(100), is_over, service.dies ? near : far));
        assert_int_equal(silent->got, SAID);
        assert_true(silent->reset);
        assert_true(
            house_run(r.town->house, SECONDS(1), is_over, service.dies ? far : near));
        (void)task_join(far);
        (void)task_join(near);
        rig_disconnect(&r);
        rig_fini(&r);
    }
}

/* Says all it has, ends its half, and waits so long for the answer. */
static void *run_patient(void *arg)
{
    struct half *h = arg;
    uint8_t buf[4096];
    int fd = half_socket(h);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    say(fd);
    (void)shutdown(fd, SHUT_WR);
    for (ssize_t n = 1; n > 0 && poll(&p, 1, h->waits_s * 1000) == 1;) {
        n = recv(fd, buf, sizeof(buf), 0);
        h->got += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    return NULL;
}

/* Reads to the end, and answers after so long. */
static void *run_late(void *arg)
{
    struct half *h = arg;
    uint8_t buf[4096];
    int fd = half_socket(h);
    while (recv(fd, buf, sizeof(buf), 0) > 0)
        ;
    struct pollfd p = {.fd = fd};
    h->reset = poll(&p, 1, h->waits_s * 1000) == 1;
    if (!h->reset)
        say(fd);
    (void)close(fd);
    return NULL;
}

enum { AWAY_SHORT_S = 300, AWAY_LONG_S = 19 * 60, AWAY_TOO_LONG_S = 25 * 60 };

/* The machine of who ended his half is another one of the home's, and has no cable for
 * so long. */
static void absence(struct rig *r, bool service, int away_s)
{
    struct town_home *home = service ? &r->town->host : &r->town->client;
    struct machine *away = house_machine(r->town->house, "away");
    struct vnet_iface *eth = vnet_attach(
        away->node, home->lan, service ? "192.168.1.30/24" : "192.168.2.30/24", NULL);
    struct half ended = {.address =
                             inet_addr(service ? "192.168.1.30" : "192.168.2.10"),
                         .port = service ? OTHER_PORT : HALF_PORT,
                         .serves = service,
                         .waits_s = away_s + 120};
    struct half late = {.port = service ? HALF_PORT : OTHER_PORT,
                        .serves = !service,
                        .waits_s = away_s + 60};
    struct machine *near = service ? r->town->client.machine : r->town->host.machine;
    struct task *first =
        task_start(service ? away : near, service ? run_patient : run_late,
                   service ? &ended : &late);
    struct task *then =
        task_start(service ? near : away, service ? run_late : run_patient,
                   service ? &late : &ended);
    (void)house_run(r->town->house, SECONDS(5), NULL, NULL);
    uint64_t begin_us = house_now_us(r->town->house);
    vnet_plug(eth, NULL);
    struct task *answers = service ? then : first, *waits = service ? first : then;
    bool over = house_run(r->town->house, SECONDS(away_s), is_over, answers);
    assert_int_equal(over, away_s == AWAY_TOO_LONG_S);
    if (over)
        assert_in_range(house_now_us(r->town->house) - begin_us, SECONDS(1200),
                        SECONDS(1230));
    vnet_plug(eth, home->lan);
    assert_true(house_run(r->town->house, SECONDS(120), is_over, answers));
    assert_int_equal(late.reset, over);
    assert_true(house_run(r->town->house, SECONDS(away_s), is_over, waits));
    assert_int_equal(ended.got, over ? 0 : SAID);
    (void)task_join(first);
    (void)task_join(then);
}

static void test_absent_after_its_half(void **state)
{
    static const int away_s[] = {AWAY_SHORT_S, AWAY_LONG_S, AWAY_TOO_LONG_S};
    (void)state;
    for (int i = 0; i < 6; i++) {
        bool service = i % 2 == 0;
        struct rig_config c = {.town = {.seed = 1 + (uint64_t)i,
                                        .host_nat = &usual_nat,
                                        .client_nat = &usual_nat},
                               .other = service ? "192.168.1.30:7001" : NULL};
        char unused[PROGRAM_FIELD];
        struct rig r;
        rig_init(&r, &c);
        program_start(&r.connect, r.town->client.machine, r.state[2],
                      "connect home:other %s:%d",
                      service ? "127.0.0.1" : "192.168.2.10", HALF_PORT);
        rig_await(&r, &r.connect, "ready", NULL, unused, SECONDS(60));
        absence(&r, service, away_s[i / 2]);
        rig_disconnect(&r);
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_predicts),
        cmocka_unit_test(test_predicts_what_is_doubtful),
        cmocka_unit_test(test_a_ban_is_a_lesson),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_neighbours_meet_by_tcp),
        cmocka_unit_test(test_killed_unheard),
        cmocka_unit_test(test_replaced_unseen),
        cmocka_unit_test(test_a_host_that_hung_is_gone),
        cmocka_unit_test(test_a_host_that_hung_for_long_is_gone),
        cmocka_unit_test(test_missed_after_its_half),
        cmocka_unit_test(test_absent_after_its_half),
    };
    cmocka_set_test_filter(getenv("WORLD_ONLY")); /* NULL: all */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
