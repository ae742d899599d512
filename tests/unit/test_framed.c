/* Packets over a connected socket, and the greeting before them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "path/attempt.h"
#include "io/loop.h"
#include "path/framed.h"

struct rig {
    struct loop *loop;
    struct net net;
    struct framed *framed;
    int far; /* the other end */
    unsigned packets, broken, writable;
    size_t last_len;
    uint64_t bytes;
    uint8_t last_first;
    bool free_in_packet;
};

static void on_packets(void *ctx, struct path *p, const uint8_t *buf, size_t len,
                       size_t segment_len)
{
    struct rig *r = ctx;
    assert_int_equal(len, segment_len);
    r->packets++;
    r->bytes += len;
    r->last_len = len;
    r->last_first = buf[0];
    if (r->free_in_packet) {
        p->user = NULL;
        framed_free(r->framed);
        r->framed = NULL;
    }
}

static void on_writable(void *ctx, struct path *p)
{
    struct rig *r = ctx;
    (void)p;
    r->writable++;
}

static const struct path_user user = {on_packets, on_writable};

static void on_broke(void *ctx, struct framed *f, const char *why)
{
    struct rig *r = ctx;
    assert_ptr_equal(f, r->framed);
    assert_non_null(why);
    r->broken++;
    framed_free(f);
    r->framed = NULL;
}

static void rig_init(struct rig *r)
{
    static const struct keypair key;
    int fds[2];
    memset(r, 0, sizeof(*r));
    assert_int_equal(loop_open(&r->loop), 0);
    assert_int_equal(net_init(&r->net, r->loop, &key, NULL), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    r->far = fds[1];
    assert_int_equal(
        framed_new(&r->framed, &r->net, fds[0], PATH_RELAY, 7, on_broke, r), 0);
    framed_path(r->framed)->user = &user;
    framed_path(r->framed)->user_ctx = r;
}

static void rig_fini(struct rig *r)
{
    framed_free(r->framed);
    if (r->far >= 0)
        close(r->far);
    loop_run(r->loop);
    net_fini(&r->net);
    loop_close(r->loop);
}

static void put(struct rig *r, const void *bytes, size_t len)
{
    assert_int_equal(write(r->far, bytes, len), len);
    loop_poll(r->loop);
}

static void test_frames_byte_by_byte(void **state)
{
    static const uint8_t wire[] = {0, 3, 'a', 'b', 'c', 0, 0, 0, 1, 'z'};
    struct rig r;
    (void)state;
    rig_init(&r);
    for (size_t i = 0; i < sizeof(wire); i++)
        put(&r, wire + i, 1);
    assert_int_equal(r.packets, 2); /* an empty frame is none */
    assert_int_equal(r.bytes, 4);
    assert_int_equal(r.last_first, 'z');
    put(&r, wire, sizeof(wire));
    assert_int_equal(r.packets, 4);
    rig_fini(&r);
}

static void test_batch_is_framed(void **state)
{
    struct rig r;
    uint8_t got[64];
    (void)state;
    rig_init(&r);
    assert_int_equal(path_send(framed_path(r.framed), (const uint8_t *)"aaabbbc", 7, 3),
                     0);
    assert_int_equal(read(r.far, got, sizeof(got)), 13);
    assert_memory_equal(got, "\0\3aaa\0\3bbb\0\1c", 13);
    rig_fini(&r);
}

static void test_full_socket_keeps_the_batch(void **state)
{
    struct rig r;
    static uint8_t batch[64 * 1024], sink[256 * 1024];
    size_t sent = 0, got = 0;
    int rc;
    (void)state;
    rig_init(&r);
    while ((rc = path_send(framed_path(r.framed), batch, sizeof(batch), 16384)) == 0)
        sent += sizeof(batch) + 4 * 2;
    assert_int_equal(rc, POSTERN_ERR_AGAIN);
    while (got < sent) {
        ssize_t n = read(r.far, sink, sizeof(sink));
        if (n > 0)
            got += (size_t)n;
        loop_poll(r.loop);
    }
    assert_int_equal(got, sent); /* all that was taken came out, nothing twice */
    assert_int_equal(r.writable, 1);
    assert_int_equal(path_send(framed_path(r.framed), batch, 10, 10), 0);
    rig_fini(&r);
}

static void test_close_is_told_once(void **state)
{
    struct rig r;
    (void)state;
    rig_init(&r);
    close(r.far);
    r.far = -1;
    for (int i = 0; i < 3; i++)
        loop_poll(r.loop);
    assert_int_equal(r.broken, 1);
    rig_fini(&r);
}

static void test_free_in_a_packet(void **state)
{
    static const uint8_t two[] = {0, 1, 'x', 0, 1, 'y'};
    struct rig r;
    (void)state;
    rig_init(&r);
    r.free_in_packet = true;
    put(&r, two, sizeof(two));
    assert_int_equal(r.packets, 1);
    rig_fini(&r);
}

/* ----------------------------------------------------------------------- greetings */

static int greeted_err;
static int greeted_fd;

static void on_greeted(void *ctx, struct attempt *a, int err, int fd)
{
    (void)ctx, (void)a;
    greeted_err = err;
    greeted_fd = fd;
}

static int greet(const uint8_t *bytes, size_t len, bool close_after)
{
    static const struct keypair key;
    struct greeting_terms terms = {.client = true, .kind = PATH_TCP_PUNCH, .key = {9}};
    uint8_t mine[GREETING_LEN], want[GREETING_LEN];
    struct attempt *a;
    struct net net;
    struct loop *loop;
    int fds[2];
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(net_init(&net, loop, &key, NULL), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    greeted_err = 1;
    greeted_fd = -1;
    assert_int_equal(attempt_accepted(&a, &net, fds[0], &terms, on_greeted, NULL), 0);
    loop_poll(loop);
    assert_int_equal(read(fds[1], mine, sizeof(mine)), sizeof(mine));
    greeting_make(want, terms.key, true, PATH_TCP_PUNCH);
    assert_memory_equal(mine, want, sizeof(want));
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(greeted_err, 1);
        assert_int_equal(write(fds[1], bytes + i, 1), 1);
        loop_poll(loop);
    }
    if (close_after)
        close(fds[1]);
    loop_poll(loop);
    if (greeted_err == 1)
        attempt_free(a);
    if (!close_after)
        close(fds[1]);
    if (greeted_fd >= 0)
        close(greeted_fd);
    loop_run(loop);
    net_fini(&net);
    loop_close(loop);
    return greeted_err;
}

static void test_greeting(void **state)
{
    uint8_t right[GREETING_LEN], reflected[GREETING_LEN], other[GREETING_LEN];
    const uint8_t key[GREETING_KEY_LEN] = {9};
    (void)state;
    greeting_make(right, key, false, PATH_TCP_PUNCH);
    greeting_make(reflected, key, true, PATH_TCP_PUNCH);
    greeting_make(other, key, false, PATH_JIT_LISTEN);
    assert_int_equal(greet(right, sizeof(right), false), 0);
    assert_int_equal(greet(reflected, sizeof(reflected), false), POSTERN_ERR_DENIED);
    assert_int_equal(greet(other, sizeof(other), false), POSTERN_ERR_DENIED);
    assert_int_equal(greet(right, 15, false), 1); /* still waiting */
    assert_int_equal(greet(right, 15, true), POSTERN_ERR_CLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_byte_by_byte),
        cmocka_unit_test(test_batch_is_framed),
        cmocka_unit_test(test_full_socket_keeps_the_batch),
        cmocka_unit_test(test_close_is_told_once),
        cmocka_unit_test(test_free_in_a_packet),
        cmocka_unit_test(test_greeting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
