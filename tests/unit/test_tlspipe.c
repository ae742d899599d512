/* Joined pipes: every byte, each direction's end by itself, and breaks told as breaks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/identity.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/tlspipe.h"

#define ALPN "postern-test/1"

/*
 * app[0] - plain pipe - TLS over TCP - plain pipe - app[1]
 * The client's application end is TCP, the server's a socket pair, as an agent has it.
 */
struct fixture {
    struct loop *loop;
    gnutls_certificate_credentials_t cred;
    struct keypair key;
    struct tlspipe *pipe[2]; /* client, server */
    int app[2];
    int ended[2]; /* 1 in order, 2 broken */
    bool timeout;
};

struct end {
    struct fixture *x;
    int side;
};

static struct end ends[2];

static void on_end(void *ctx, bool broken)
{
    struct end *e = ctx;
    e->x->ended[e->side] = broken ? 2 : 1;
    e->x->pipe[e->side] = NULL;
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
    fds[1] = accept(l, NULL, NULL);
    assert_true(fds[1] >= 0);
    close(l);
    for (int i = 0; i < 2; i++) {
        struct timeval none = {.tv_usec = 1};
        (void)setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
    }
}

static void nonblocking(int fd)
{
    assert_int_equal(ioctl(fd, FIONBIO, &(int){1}), 0);
}

static void begin(struct fixture *x, const uint8_t *expect, const char *first)
{
    int wire[2], target[2], pair[2];
    tcp_pair(wire);
    tcp_pair(target);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (int i = 0; i < 2; i++) {
        nonblocking(wire[i]);
        nonblocking(target[i]);
        nonblocking(pair[i]);
        ends[i] = (struct end){x, i};
    }
    struct tlspipe_join client = {
        .config = {.loop = x->loop, .protocol = ALPN, .expect = expect},
        .fd = wire[0],
        .plain = target[0],
        .on_end = on_end,
        .ctx = &ends[0]};
    struct tlspipe_join server = {
        .config = {.loop = x->loop, .protocol = ALPN, .credentials = x->cred},
        .fd = wire[1],
        .plain = pair[0],
        .on_end = on_end,
        .ctx = &ends[1]};
    x->app[0] = target[1];
    x->app[1] = pair[1];
    assert_int_equal(tlspipe_join(&x->pipe[0], &client), 0);
    assert_int_equal(tlspipe_join(&x->pipe[1], &server), 0);
    assert_int_equal(send(x->app[0], first, strlen(first), 0), (ssize_t)strlen(first));
}

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    uint8_t seed[KEY_LEN] = {7};
    *state = x;
    if (x == NULL || loop_open(&x->loop) != 0)
        return -1;
    x->app[0] = x->app[1] = -1;
    keypair_from_seed(&x->key, seed);
    return identity_credentials(&x->cred, &x->key);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    for (int i = 0; i < 2; i++) {
        tlspipe_break(x->pipe[i]);
        if (x->app[i] >= 0)
            close(x->app[i]);
    }
    loop_run(x->loop);
    gnutls_certificate_free_credentials(x->cred);
    loop_close(x->loop);
    free(x);
    return 0;
}

static void on_timeout(void *ctx)
{
    struct fixture *x = ctx;
    x->timeout = true;
}

/* Turns the loop until `done`; false after five seconds. */
static bool turn_until(struct fixture *x, bool (*done)(struct fixture *x, void *arg),
                       void *arg)
{
    struct timer t;
    timer_init(&t, x->loop, on_timeout, x);
    x->timeout = false;
    timer_start(&t, 5000);
    while (!x->timeout && !done(x, arg))
        loop_poll(x->loop);
    timer_stop(&t);
    return !x->timeout;
}

struct expected {
    int side;
    const char *text; /* NULL: the end; "!": a reset */
    char got[64];
    size_t len;
};

/* EPIPE: a reset behind the end of the other direction. */
static int socket_error(int fd)
{
    int err = 0;
    socklen_t len = sizeof(err);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : errno;
}

static bool arrived(struct fixture *x, void *arg)
{
    struct expected *e = arg;
    ssize_t n = recv(x->app[e->side], e->got + e->len, sizeof(e->got) - 1 - e->len,
                     MSG_DONTWAIT);
    if (e->text == NULL)
        return n == 0;
    if (strcmp(e->text, "!") == 0)
        return (n < 0 && errno == ECONNRESET) || socket_error(x->app[e->side]) == EPIPE;
    if (n > 0)
        e->len += (size_t)n;
    e->got[e->len] = '\0';
    return strcmp(e->got, e->text) == 0;
}

static void expect(struct fixture *x, int side, const char *text)
{
    struct expected e = {.side = side, .text = text};
    if (!turn_until(x, arrived, &e))
        fail_msg("side %d: '%s' instead of '%s'", side, e.got, text ? text : "the end");
}

static bool both_ended(struct fixture *x, void *arg)
{
    (void)arg;
    return x->ended[0] != 0 && x->ended[1] != 0;
}

static void say(struct fixture *x, int side, const char *text)
{
    assert_int_equal(send(x->app[side], text, strlen(text), 0), (ssize_t)strlen(text));
}

/* While nothing happens the loop sleeps: it wakes for its timer, and little else. */
static void expect_quiet(struct fixture *x)
{
    struct timer t;
    unsigned turns = 0;
    for (int i = 0; i < 100; i++)
        loop_poll(x->loop);
    timer_init(&t, x->loop, on_timeout, x);
    x->timeout = false;
    timer_start(&t, 50);
    while (!x->timeout) {
        loop_turn(x->loop);
        turns++;
    }
    timer_stop(&t);
    assert_true(turns < 20);
}

static void test_each_direction_ends_by_itself(void **state)
{
    for (int first = 0; first < 2; first++) {
        struct fixture *x = *state;
        int second = !first;
        begin(x, x->key.pub, "0123456789abcdef");
        expect(x, 1, "0123456789abcdef");
        say(x, first, "hello");
        expect(x, second, "hello");
        assert_int_equal(shutdown(x->app[first], SHUT_WR), 0);
        expect(x, second, NULL);
        expect_quiet(x);
        say(x, second, "still here");
        expect(x, first, "still here");
        assert_int_equal(x->ended[0] + x->ended[1], 0);
        assert_int_equal(shutdown(x->app[second], SHUT_WR), 0);
        expect(x, first, NULL);
        assert_true(turn_until(x, both_ended, NULL));
        assert_int_equal(x->ended[0], 1);
        assert_int_equal(x->ended[1], 1);
        close(x->app[0]);
        close(x->app[1]);
        x->ended[0] = x->ended[1] = 0;
        x->app[0] = x->app[1] = -1;
    }
}

/* An orderly end must not pass for a break because the way back was full. */
static void test_a_target_that_closes_with_much_under_way(void **state)
{
    struct fixture *x = *state;
    static uint8_t buf[65536];
    size_t sent = 0, got = 0;
    begin(x, x->key.pub, "");
    assert_int_equal(shutdown(x->app[1], SHUT_WR), 0);
    expect(x, 0, NULL);
    for (int idle = 0; idle < 2000; idle++) { /* until nothing moves any more */
        ssize_t n = send(x->app[0], buf, sizeof(buf), MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle;
        loop_poll(x->loop);
    }
    assert_true(sent > sizeof(buf));
    close(x->app[0]);
    x->app[0] = -1;
    for (int i = 0; i < 100; i++)
        loop_poll(x->loop);
    struct expected end = {.side = 1};
    while (got < sent) {
        ssize_t n = recv(x->app[1], buf, sizeof(buf), MSG_DONTWAIT);
        assert_true(n > 0 || (n < 0 && errno == EAGAIN && x->ended[1] == 0));
        got += n > 0 ? (size_t)n : 0;
        loop_poll(x->loop);
    }
    assert_true(turn_until(x, arrived, &end));
    assert_true(turn_until(x, both_ended, NULL));
    assert_int_equal(x->ended[0], 1);
    assert_int_equal(x->ended[1], 1);
}

static void test_a_target_that_resets(void **state)
{
    struct fixture *x = *state;
    begin(x, x->key.pub, "");
    say(x, 0, "part");
    expect(x, 1, "part");
    linger_break(x->app[0]);
    x->app[0] = -1;
    assert_true(turn_until(x, both_ended, NULL));
    assert_int_equal(x->ended[0], 2);
    assert_int_equal(x->ended[1], 2);
}

/* Also when one direction had ended in order before. */
static void test_a_user_that_goes_away(void **state)
{
    for (int half = 0; half < 2; half++) {
        struct fixture *x = *state;
        begin(x, x->key.pub, "");
        say(x, 1, "part");
        expect(x, 0, "part");
        if (half)
            assert_int_equal(shutdown(x->app[1], SHUT_WR), 0);
        if (half)
            expect(x, 0, NULL);
        close(x->app[1]);
        x->app[1] = -1;
        expect(x, 0, "!");
        assert_true(turn_until(x, both_ended, NULL));
        assert_int_equal(x->ended[0], 2);
        assert_int_equal(x->ended[1], 2);
        close(x->app[0]);
        x->app[0] = -1;
        x->ended[0] = x->ended[1] = 0;
    }
}

static void test_a_pipe_that_is_broken(void **state)
{
    struct fixture *x = *state;
    begin(x, x->key.pub, "");
    say(x, 1, "part");
    expect(x, 0, "part");
    assert_int_equal(shutdown(x->app[0], SHUT_WR), 0);
    expect(x, 1, NULL); /* the server's TLS has nothing to read any more */
    tlspipe_break(x->pipe[0]);
    x->pipe[0] = NULL;
    x->ended[0] = 2;
    assert_true(turn_until(x, both_ended, NULL));
    assert_int_equal(x->ended[1], 2);
}

static void test_another_key(void **state)
{
    struct fixture *x = *state;
    uint8_t other[KEY_LEN] = {1};
    begin(x, other, "secret");
    assert_true(turn_until(x, both_ended, NULL));
    assert_int_equal(x->ended[0], 2);
    assert_int_equal(x->ended[1], 2);
    char byte;
    assert_true(recv(x->app[1], &byte, 1, MSG_DONTWAIT) <= 0);
}

struct bulk {
    size_t sent[2], got[2];
};

enum { BULK = 3000000 };

static bool moved(struct fixture *x, void *arg)
{
    struct bulk *b = arg;
    uint8_t buf[16384];
    for (int i = 0; i < 2; i++) {
        size_t left = BULK - b->sent[i];
        for (size_t k = 0; k < sizeof(buf); k++)
            buf[k] = (uint8_t)((b->sent[i] + k) * 31 >> 3);
        ssize_t n =
            left == 0 ? 0
                      : send(x->app[i], buf, left < 16384 ? left : 16384, MSG_DONTWAIT);
        b->sent[i] += n > 0 ? (size_t)n : 0;
        n = recv(x->app[i], buf, sizeof(buf), MSG_DONTWAIT);
        for (ssize_t k = 0; k < n; k++)
            if (buf[k] != (uint8_t)((b->got[i] + (size_t)k) * 31 >> 3))
                fail_msg("side %d: byte %zu is wrong", i, b->got[i] + (size_t)k);
        b->got[i] += n > 0 ? (size_t)n : 0;
    }
    return b->got[0] == BULK && b->got[1] == BULK;
}

static void test_megabytes_both_ways(void **state)
{
    struct fixture *x = *state;
    struct bulk b = {0};
    begin(x, x->key.pub, "");
    assert_true(turn_until(x, moved, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_direction_ends_by_itself, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_target_that_closes_with_much_under_way,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_target_that_resets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_user_that_goes_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_pipe_that_is_broken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_megabytes_both_ways, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
