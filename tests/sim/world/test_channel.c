/* Parts of programs alone in the world: a TLS channel across a NAT, dialled by its
 * name; a relay pair of which one side has ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/limits.h"
#include "broker/relay.h"
#include "core/rng.h"
#include "io/channel.h"
#include "io/dial.h"
#include "io/sockaddr.h"
#include "io/tcp.h"
#include "town.h"

enum { SPEAKS_S = 50, MESSAGES = 200, MESSAGE_BYTES = 3000, SECOND = 1000000 };

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

/* ------------------------------------------------------------------ half of a pair */

struct halves {
    struct loop *loop;
    struct relay *relay;
    struct timer sweep, steps;
    int client, host; /* the devices' ends */
    unsigned second;
};

static void on_sweep(void *ctx)
{
    struct halves *h = ctx;
    relay_sweep(h->relay);
}

/* The client says its last in the first second; the host goes on, and falls silent. */
static void on_step(void *ctx)
{
    struct halves *h = ctx;
    struct relay_stats is;
    char c = 0;
    h->second++;
    if (h->second == 1)
        assert_int_equal(shutdown(h->client, SHUT_WR), 0);
    else if (h->second == 2)
        assert_int_equal(recv(h->host, &c, 1, MSG_DONTWAIT), 0); /* it hears that */
    else if (h->second <= SPEAKS_S)
        assert_int_equal(write(h->host, "x", 1), 1);
    while (h->second > 4 && recv(h->client, &c, 1, MSG_DONTWAIT) == 1)
        assert_int_equal(c, 'x');
    relay_read_stats(h->relay, &is);
    bool over = h->second > SPEAKS_S + LIMIT_RELAY_HALF_MS / 1000 + 2;
    if (over || h->second < SPEAKS_S + LIMIT_RELAY_HALF_MS / 1000 - 2)
        assert_int_equal(is.pairs_open, !over);
    if (over)
        loop_stop(h->loop);
}

static void *keep_pair(void *arg)
{
    struct halves *h = arg;
    static const uint8_t names[3][KEY_LEN] = {{1}, {2}, {3}};
    struct relay_ask ask = {
        .client = names[0], .host = names[1], .conv = names[2], .client_max = 4};
    struct relay_tickets tickets;
    const char *whose;
    int client[2], host[2];
    assert_int_equal(loop_open(&h->loop), 0);
    assert_int_equal(relay_open(&h->relay, h->loop, 0, 8), 0);
    assert_int_equal(relay_issue(h->relay, &ask, &tickets, &whose), 0);
    int type = SOCK_STREAM | SOCK_NONBLOCK;
    assert_int_equal(socketpair(AF_UNIX, type, 0, client), 0);
    assert_int_equal(socketpair(AF_UNIX, type, 0, host), 0);
    h->client = client[0];
    h->host = host[0];
    relay_join(h->relay, client[1], tickets.client);
    relay_join(h->relay, host[1], tickets.host);
    char said[2];
    assert_int_equal(recv(h->client, said, 2, 0), 2); /* wait; joined */
    assert_int_equal(recv(h->host, said, 2, 0), 1);
    timer_init(&h->sweep, h->loop, on_sweep, h);
    timer_init(&h->steps, h->loop, on_step, h);
    timer_every(&h->sweep, 1000, 1000);
    timer_every(&h->steps, 1000, 1000);
    loop_run(h->loop);
    timer_stop(&h->sweep);
    timer_stop(&h->steps);
    relay_close(h->relay);
    loop_close(h->loop);
    close(h->client);
    close(h->host);
    return NULL;
}

/* It is carried on as long as the other side says something, and a minute more. */
static void test_half_pair(void **state)
{
    (void)state;
    struct town_config c = {.seed = 1, .host_nat = &nat, .client_nat = &nat};
    struct town *t = town_new(&c);
    struct halves h = {0};
    char left[400];
    struct task *task = task_start(t->broker, keep_pair, &h);
    struct task *tasks[] = {task, task};
    assert_true(house_run(t->house, 300 * (uint64_t)SECOND, both_over, tasks));
    (void)task_join(task);
    assert_string_equal(house_left(t->house, left, sizeof(left)), "");
    town_free(t);
}

/* ------------------------------------------------------------- a pair without its ends
 */

struct ends {
    struct loop *loop;
    struct relay *relay;
    struct watch door;
    struct timer sweep;
    struct relay_tickets tickets;
    int door_fd;
    unsigned joined;
    bool stop;
    struct relay_stats is;
};

/* One of two devices: it says something all the time, until that breaks. */
static void *speak(void *arg)
{
    static const struct addr relay = {
        .family = ADDR_V4, .port = 443, .ip = {203, 0, 113, 10}};
    struct sockaddr_storage at;
    socklen_t len = sockaddr_from_addr(&at, &relay);
    char bytes[1000] = "";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)arg;
    assert_int_equal(connect(fd, (struct sockaddr *)&at, len), 0);
    for (ssize_t n = 1; n > 0; usleep(100000)) {
        while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
        n = write(fd, bytes, sizeof(bytes));
    }
    close(fd);
    return NULL;
}

static void on_device(void *ctx, int events_ready)
{
    struct ends *e = ctx;
    (void)events_ready;
    int fd = accept4(e->door_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= FILE_BASE);
    relay_join(e->relay, fd, e->joined++ == 0 ? e->tickets.client : e->tickets.host);
}

static void on_second(void *ctx)
{
    struct ends *e = ctx;
    relay_sweep(e->relay);
    relay_read_stats(e->relay, &e->is);
    if (e->stop)
        loop_stop(e->loop);
}

static void *relay_ends(void *arg)
{
    struct ends *e = arg;
    static const uint8_t names[3][KEY_LEN] = {{1}, {2}, {3}};
    struct relay_ask ask = {
        .client = names[0], .host = names[1], .conv = names[2], .client_max = 4};
    struct addr at = {.family = ADDR_V4, .port = 443};
    const char *whose;
    assert_int_equal(loop_open(&e->loop), 0);
    assert_int_equal(relay_open(&e->relay, e->loop, 0, 8), 0);
    assert_int_equal(relay_issue(e->relay, &ask, &e->tickets, &whose), 0);
    e->door_fd = tcp_bind(&at);
    assert_int_equal(tcp_listen(e->door_fd), 0);
    assert_int_equal(
        watch_start(&e->door, e->loop, e->door_fd, WATCH_READ, on_device, e), 0);
    timer_init(&e->sweep, e->loop, on_second, e);
    timer_every(&e->sweep, 1000, 1000);
    loop_run(e->loop);
    timer_stop(&e->sweep);
    watch_close(&e->door);
    close(e->door_fd);
    relay_close(e->relay);
    loop_close(e->loop);
    return NULL;
}

/* Both fell silent with bytes under way to them: those are not repeated for ever. */
static void test_lost_ends(void **state)
{
    (void)state;
    struct town_config c = {.seed = 1, .host_nat = &nat, .client_nat = &nat};
    struct town *t = town_new(&c);
    struct ends e = {0};
    struct task *tasks[] = {task_start(t->broker, relay_ends, &e),
                            task_start(t->client.machine, speak, NULL),
                            task_start(t->host.machine, speak, NULL)};
    (void)house_run(t->house, 10 * (uint64_t)SECOND, NULL, NULL);
    assert_int_equal(e.is.pairs_joined, 1);
    vnet_set_down(t->client.device, true);
    vnet_set_down(t->host.device, true);
    (void)house_run(t->house, 100 * (uint64_t)SECOND, NULL, NULL);
    assert_int_equal(e.is.pairs_open, 1); /* they may come back */
    (void)house_run(t->house, 50 * (uint64_t)SECOND, NULL, NULL);
    assert_int_equal(e.is.pairs_open, 0);
    e.stop = true;
    (void)house_run(t->house, 2000 * (uint64_t)SECOND, NULL, NULL);
    for (int i = 0; i < 3; i++)
        (void)task_join(tasks[i]);
    town_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_pair),
        cmocka_unit_test(test_lost_ends),
        cmocka_unit_test(test_across_a_nat),
        cmocka_unit_test(test_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
