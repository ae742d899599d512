/* How a channel ends: in order, by a reset that only a write was told of, and by one
 * that comes when nothing was under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/channel.h"
#include "io/linger.h"
#include "io/loop.h"

struct end {
    struct keypair key;
    struct channel *channel;
    bool breaks;      /* what it does when it has said its word: reset, else close */
    unsigned dies_ms; /* or its kernel resets it without a word, so long after that */
    struct timer death;
    int fd;
    bool quiet; /* it answers nothing, and with its end the test is over */
    struct loop *loop;
    unsigned got;
    int close_err;
    bool killed; /* as channel_was_killed said at its end */
};

struct fixture {
    struct loop *loop;
    struct end client, server;
};

static void client_on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct end *e = ctx;
    (void)peer;
    assert_int_equal(channel_send(e->channel, "hello", 5), 0);
    if (e->dies_ms > 0) {
        timer_start(&e->death, e->dies_ms);
        return;
    }
    (e->breaks ? channel_break : channel_free)(e->channel);
    e->channel = NULL;
}

static void on_death(void *ctx)
{
    struct end *e = ctx;
    int none = open("/dev/null", O_RDWR | O_CLOEXEC);
    linger_reset(e->fd);
    assert_true(none >= 0 && dup2(none, e->fd) == e->fd);
    close(none);
}

static void server_on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    (void)ctx;
    (void)peer;
}

/* The answer is what is told of the reset that waits behind the message. */
static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct end *e = ctx;
    assert_int_equal(len, 5);
    assert_memory_equal(msg, "hello", 5);
    e->got++;
    if (!e->quiet)
        assert_int_equal(channel_send(e->channel, "welcome", 7), 0);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct end *e = ctx;
    (void)why;
    e->close_err = err;
    e->killed = channel_was_killed(e->channel, err);
    channel_free(e->channel);
    e->channel = NULL;
    if (e->quiet)
        loop_stop(e->loop);
}

static const struct channel_events client_events = {client_on_open, on_message,
                                                    on_close};
static const struct channel_events server_events = {server_on_open, on_message,
                                                    on_close};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    if (x == NULL || loop_open(&x->loop) != 0)
        return -1;
    keypair_from_seed(&x->client.key, (uint8_t[KEY_LEN]){1});
    keypair_from_seed(&x->server.key, (uint8_t[KEY_LEN]){2});
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    channel_free(x->client.channel);
    channel_free(x->server.channel);
    loop_close(x->loop);
    free(x);
    return 0;
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int l = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&a, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&a, len), 0);
    fds[1] = accept4(l, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fds[1] >= 0);
    close(l);
}

/* Until both are over. */
static void meet(struct fixture *x)
{
    int fds[2];
    tcp_pair(fds);
    x->client.fd = fds[0];
    struct channel_config client = {.loop = x->loop,
                                    .own = &x->client.key,
                                    .events = &client_events,
                                    .ctx = &x->client};
    struct channel_config server = {.loop = x->loop,
                                    .own = &x->server.key,
                                    .events = &server_events,
                                    .ctx = &x->server};
    assert_int_equal(
        channel_new_client(&x->client.channel, &client, fds[0], x->server.key.pub), 0);
    assert_int_equal(channel_new_server(&x->server.channel, &server, fds[1]), 0);
    loop_run(x->loop);
    assert_null(x->server.channel);
    assert_int_equal(x->server.got, 1);
}

static void test_orderly(void **state)
{
    struct fixture *x = *state;
    meet(x);
    assert_int_equal(x->server.close_err, POSTERN_ERR_CLOSED);
}

static void test_reset_behind_a_message(void **state)
{
    struct fixture *x = *state;
    x->client.breaks = true;
    meet(x);
    assert_int_equal(x->server.close_err, POSTERN_ERR_RESET);
    assert_false(x->server.killed); /* the client said that it breaks it */
}

static void die_after(struct fixture *x, unsigned ms)
{
    x->client.dies_ms = ms;
    x->server.quiet = true;
    x->server.loop = x->loop;
    timer_init(&x->client.death, x->loop, on_death, &x->client);
    meet(x);
    timer_stop(&x->client.death);
    assert_int_equal(x->server.close_err, POSTERN_ERR_RESET);
}

static void test_killed_with_nothing_under_way(void **state)
{
    struct fixture *x = *state;
    die_after(x, 500);
    assert_true(x->server.killed);
}

/* Its kernel may have asked ours just then, and a router have reset our answer. */
static void test_reset_when_its_kernel_asks(void **state)
{
    struct fixture *x = *state;
    die_after(x, CHANNEL_ASKS_S * 1000 + 100);
    assert_false(x->server.killed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_orderly, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_behind_a_message, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_with_nothing_under_way, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_reset_when_its_kernel_asks, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
