/* io/'s own files over the world: a TLS channel across a NAT, dialled by its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/rng.h"
#include "io/channel.h"
#include "io/dial.h"
#include "io/tcp.h"
#include "town.h"

enum { MESSAGES = 200, MESSAGE_BYTES = 3000, SECOND = 1000000 };

struct end {
    struct loop *loop;
    struct keypair key;
    const uint8_t *far_key;
    struct watch door;
    int door_fd;
    struct channel *channel;
    unsigned opened, got, closed;
    int close_err;
    struct addr far;
    uint64_t rng;
};

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct end *e = ctx;
    assert_memory_equal(peer, e->far_key, KEY_LEN);
    e->opened++;
    channel_remote(e->channel, &e->far);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct end *e = ctx;
    assert_int_equal(len, MESSAGE_BYTES);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(msg[i], (uint8_t)rng_next(&e->rng));
    if (++e->got == MESSAGES) {
        channel_free(e->channel);
        e->channel = NULL;
        watch_close(&e->door);
        close(e->door_fd);
    }
}

static void on_close(void *ctx, int err, const char *why)
{
    struct end *e = ctx;
    (void)why;
    e->closed++;
    e->close_err = err;
    channel_free(e->channel);
    e->channel = NULL;
}

static const struct channel_events events = {on_open, on_message, on_close};

static void on_connection(void *ctx, int events_ready)
{
    struct end *e = ctx;
    struct channel_config c = {
        .loop = e->loop, .own = &e->key, .events = &events, .ctx = e};
    int fd = accept4(e->door_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    (void)events_ready;
    assert_true(fd >= FILE_BASE);
    assert_int_equal(channel_new_server(&e->channel, &c, fd), 0);
}

static void *serve(void *arg)
{
    struct end *e = arg;
    struct addr at = {.family = ADDR_V4, .port = 443};
    assert_int_equal(loop_open(&e->loop), 0);
    e->door_fd = tcp_bind(&at);
    assert_true(e->door_fd >= FILE_BASE);
    assert_int_equal(tcp_listen(e->door_fd), 0);
    assert_int_equal(
        watch_start(&e->door, e->loop, e->door_fd, WATCH_READ, on_connection, e), 0);
    loop_run(e->loop);
    loop_close(e->loop);
    return NULL;
}

static void on_dialled(void *ctx, int err, int fd)
{
    struct end *e = ctx;
    struct channel_config c = {.loop = e->loop,
                               .own = &e->key,
                               .events = &events,
                               .ctx = e,
                               .queue_max_bytes = 1 << 20};
    uint8_t msg[MESSAGE_BYTES];
    assert_int_equal(err, 0);
    assert_int_equal(channel_new_client(&e->channel, &c, fd, e->far_key), 0);
    for (int m = 0; m < MESSAGES; m++) {
        for (size_t i = 0; i < sizeof(msg); i++)
            msg[i] = (uint8_t)rng_next(&e->rng);
        assert_int_equal(channel_send(e->channel, msg, sizeof(msg)), 0);
    }
}

static void *call(void *arg)
{
    struct end *e = arg;
    struct dial *d;
    assert_int_equal(loop_open(&e->loop), 0);
    assert_int_equal(
        dial_start_name(&d, e->loop, "meet.example", 443, 20000, on_dialled, e), 0);
    loop_run(e->loop);
    loop_close(e->loop);
    return NULL;
}

static bool both_over(void *ctx)
{
    struct task **t = ctx;
    return task_is_over(t[0]) && task_is_over(t[1]);
}

static const struct nat_config nat = {.translates = true,
                                      .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                      .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                      .ports = NAT_PORTS_RANDOM};

struct outcome {
    uint64_t took_us, trace;
};

static struct outcome run(uint64_t seed, const struct vnet_wire *wire)
{
    struct town_config c = {
        .seed = seed, .host_nat = &nat, .client_nat = &nat, .wire = wire};
    struct town *t = town_new(&c);
    struct end server = {.rng = 9}, client = {.rng = 9};
    struct outcome o = {.took_us = house_now_us(t->house)};
    char left[400];
    uint8_t seeds[2][KEY_LEN] = {{1}, {2}};
    keypair_from_seed(&server.key, seeds[0]);
    keypair_from_seed(&client.key, seeds[1]);
    server.far_key = client.key.pub;
    client.far_key = server.key.pub;
    struct task *tasks[] = {task_start(t->broker, serve, &server),
                            task_start(t->client.machine, call, &client)};
    assert_true(house_run(t->house, 120 * (uint64_t)SECOND, both_over, tasks));
    o.took_us = house_now_us(t->house) - o.took_us;
    o.trace = house_trace(t->house);
    assert_int_equal(server.opened + client.opened, 2);
    assert_int_equal(server.got, MESSAGES);
    assert_int_equal(server.far.ip[0], 203); /* the NAT's */
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.close_err, POSTERN_ERR_CLOSED);
    (void)task_join(tasks[0]);
    (void)task_join(tasks[1]);
    (void)house_run(t->house, 120 * (uint64_t)SECOND, NULL, NULL);
    assert_string_equal(house_left(t->house, left, sizeof(left)), "");
    town_free(t);
    return o;
}

static void test_across_a_nat(void **state)
{
    (void)state;
    struct outcome o = run(1, NULL);
    assert_in_range(o.took_us, 60000, SECOND);
}

static void test_loss(void **state)
{
    static const struct vnet_wire bad = {.delay_us = 15000,
                                         .jitter_us = 4000,
                                         .loss_permille = 30,
                                         .double_permille = 10,
                                         .reorder_permille = 20};
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct outcome a = run(seed, &bad), b = run(seed, &bad);
        assert_int_equal(a.took_us, b.took_us);
        assert_int_equal(a.trace, b.trace);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_across_a_nat),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
