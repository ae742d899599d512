/*
 * The pump between a socket of this machine and a stream that is made of memory: what
 * it passes on, and each step of its three machines. Sessions are not here.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/proto.h"
#include "core/wire.h"
#include "io/loop.h"
#include "io/sock.h"
#include "session/pump.h"
#include "state_watch.h"

enum { BULK = 16 * 1024 * 1024 };

/* One stream as the pump sees it. */
struct stream {
    const struct stream_events *events;
    void *ctx;
    struct chain out;
    size_t room, consumed;
    bool fin, acked;
    uint64_t reset, stopped;
};

struct bench {
    struct loop *loop;
    struct session_env env;
    struct stream stream;
    struct pump *pump;
    int app; /* the application's end of the socket */
    unsigned headers, ends, datagrams;
    uint64_t code;
};

static struct bench *bench_of(const void *anything)
{
    static struct bench *only;
    if (anything != NULL)
        only = (struct bench *)(uintptr_t)anything;
    return only;
}

/* ----------------------------------------- session/session.h, as far as it is used */

int stream_open(struct session *s, struct stream **out,
                const struct stream_events *events, void *ctx)
{
    (void)s;
    *out = &bench_of(NULL)->stream;
    stream_accept(*out, events, ctx);
    return 0;
}

void stream_accept(struct stream *st, const struct stream_events *events, void *ctx)
{
    st->events = events;
    st->ctx = ctx;
}

size_t stream_room(const struct stream *st)
{
    return st->fin ? 0 : st->room;
}

bool stream_is_acked(const struct stream *st)
{
    return st->acked;
}

int stream_write(struct stream *st, const void *data, size_t len)
{
    return chain_append(&st->out, data, len);
}

size_t stream_reserve(struct stream *st, struct iovec *iov, size_t max)
{
    return chain_reserve(&st->out, iov, max);
}

void stream_commit(struct stream *st, size_t len)
{
    chain_commit(&st->out, len);
    st->room = len < st->room ? st->room - len : 0;
}

void stream_finish(struct stream *st)
{
    st->fin = true;
}

void stream_reset(struct stream *st, uint64_t code)
{
    st->reset = code;
}

void stream_stop(struct stream *st, uint64_t code)
{
    st->stopped = code;
}

void stream_consumed(struct stream *st, size_t len)
{
    st->consumed += len;
}

size_t stream_datagram_max(const struct stream *st)
{
    (void)st;
    return 0; /* all of them are large */
}

int stream_send_datagram(struct stream *st, const uint8_t *data, size_t len)
{
    (void)st, (void)data, (void)len;
    return POSTERN_ERR_LIMIT;
}

struct session *stream_session(const struct stream *st)
{
    (void)st;
    return NULL;
}

struct session_env *session_env_of(const struct session *s)
{
    (void)s;
    return &bench_of(NULL)->env;
}

/* ----------------------------------------------------------------------- the bench */

static void on_header(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    struct bench *b = ctx;
    (void)p;
    assert_int_equal(len, 2);
    assert_memory_equal(msg, "hi", 2);
    b->headers++;
}

static void on_datagram(void *ctx, struct pump *p, const uint8_t *data, size_t len)
{
    (void)p, (void)data;
    ((struct bench *)ctx)->datagrams += len == 3;
}

static void on_end(void *ctx, struct pump *p, uint64_t code)
{
    struct bench *b = ctx;
    (void)p;
    b->ends++;
    b->code = code;
    b->pump = NULL;
}

static const struct pump_events pump_events = {on_header, on_datagram, on_end};

static void arrive(struct bench *b, const void *data, size_t len, bool fin)
{
    b->stream.events->on_data(b->stream.ctx, data, len, fin);
    b->stream.events->on_flush(b->stream.ctx);
}

static void arrive_frame(struct bench *b, const char *text)
{
    uint8_t frame[64];
    struct wire_writer w = wire_writer(frame, sizeof(frame));
    wire_put_u32(&w, (uint32_t)strlen(text));
    wire_put_bytes(&w, text, strlen(text));
    arrive(b, frame, PROTO_FRAME_HEADER + strlen(text), false);
}

static struct bench *bench_new(size_t room)
{
    struct bench *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    (void)bench_of(b);
    assert_int_equal(loop_open(&b->loop), 0);
    b->env.loop = b->loop;
    b->app = -1;
    chain_init(&b->stream.out, &b->env.pool);
    b->stream.room = room;
    assert_int_equal(pump_accept(&b->pump, &b->stream, &pump_events, b), 0);
    return b;
}

static void attach(struct bench *b)
{
    int fds[2];
    assert_int_equal(sock_pair(fds), 0);
    b->app = fds[0];
    assert_int_equal(pump_attach(b->pump, fds[1]), 0);
}

/* The same by TCP, which alone knows a reset. */
static void attach_tcp(struct bench *b)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    b->app = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(connect(b->app, (struct sockaddr *)&at, len), 0);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(listener);
    assert_int_equal(pump_attach(b->pump, fd), 0);
}

/* QUIC closes the stream. */
static void close_stream(struct bench *b, uint64_t code)
{
    b->stream.events->on_close(b->stream.ctx, code);
}

static void bench_free(struct bench *b)
{
    assert_int_equal(b->ends, 1);
    assert_null(b->pump);
    if (b->app >= 0)
        close(b->app);
    loop_run(b->loop);
    loop_close(b->loop);
    chain_fini(&b->stream.out);
    chain_pool_fini(&b->env.pool);
    free(b);
}

static size_t stands(const struct bench *b)
{
    return (size_t)(b->stream.out.end - b->stream.out.start);
}

static void write_app(struct bench *b, size_t len)
{
    uint8_t buf[4096] = {0};
    for (size_t done = 0; done < len;) {
        ssize_t n =
            write(b->app, buf, len - done < sizeof(buf) ? len - done : sizeof(buf));
        assert_true(n > 0);
        done += (size_t)n;
    }
}

/* Takes `len` bytes out of the socket while the loop turns. */
static void read_app(struct bench *b, size_t len)
{
    uint8_t buf[65536];
    while (len > 0) {
        ssize_t n = sock_read(b->app, buf, len < sizeof(buf) ? len : sizeof(buf));
        assert_true(n > 0 || n == POSTERN_ERR_AGAIN);
        len -= n > 0 ? (size_t)n : 0;
        loop_poll(b->loop);
    }
}

#define TURN_UNTIL(b, condition)                                                       \
    while (!(condition))                                                               \
    loop_turn((b)->loop)

/* --------------------------------------------------------------------------- tests */

/* Nothing of the first message is for the application; the rest is, and both ends. */
static void test_both_ways_and_to_the_end(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    char buf[8];
    attach(b);
    arrive(b, "\0\0", 2, false); /* a part of the length */
    assert_int_equal(b->headers, 0);
    arrive(b, "\0\2hi", 4, false);
    assert_int_equal(b->headers, 1);
    assert_int_equal(sock_read(b->app, buf, sizeof(buf)), POSTERN_ERR_AGAIN);
    arrive(b, "hello", 5, false);
    assert_int_equal(sock_read(b->app, buf, sizeof(buf)), 5);
    assert_int_equal(b->stream.consumed, 6 + 5);
    write_app(b, 3);
    TURN_UNTIL(b, stands(b) == 3);
    arrive(b, "", 0, true);
    assert_int_equal(sock_read(b->app, buf, sizeof(buf)), 0);
    write_app(b, 3); /* the other half goes on */
    TURN_UNTIL(b, stands(b) == 6);
    sock_end_writing(b->app);
    TURN_UNTIL(b, b->stream.fin);
    assert_int_equal(b->ends, 0); /* what was sent is not acknowledged */
    close_stream(b, 0);
    assert_int_equal(b->code, 0);
    bench_free(b);
}

/* The application does not read: what arrives waits, and is not counted as taken. */
static void test_full_socket(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    uint8_t *bulk = calloc(1, BULK);
    assert_non_null(bulk);
    attach(b);
    arrive_frame(b, "hi");
    arrive(b, bulk, BULK, false);
    size_t taken = b->stream.consumed;
    assert_true(taken < BULK);
    arrive(b, bulk, 1, true);
    assert_int_equal(b->stream.consumed, taken);
    read_app(b, BULK + 1);
    assert_int_equal(b->stream.consumed, 6 + BULK + 1);
    close_stream(b, 0); /* with it all that the peer wanted */
    assert_int_equal(b->code, 0);
    bench_free(b);
    free(bulk);
}

/* The stream has no room: the socket is read when it has again, not before. */
static void test_full_stream(void **state)
{
    (void)state;
    struct bench *b = bench_new(CHAIN_BLOCK_BYTES / 2);
    attach(b);
    arrive_frame(b, "hi");
    write_app(b, CHAIN_BLOCK_BYTES / 2);
    TURN_UNTIL(b, b->stream.room < CHAIN_BLOCK_BYTES / 4);
    write_app(b, 9);
    size_t stood = stands(b);
    for (int i = 0; i < 8; i++)
        loop_poll(b->loop);
    assert_int_equal(stands(b), stood);
    b->stream.room = SIZE_MAX;
    b->stream.events->on_room(b->stream.ctx);
    TURN_UNTIL(b, stands(b) == CHAIN_BLOCK_BYTES / 2 + 9);
    pump_abort(b->pump, SESSION_RESET_BY_APP);
    assert_int_equal(b->stream.reset, SESSION_RESET_BY_APP);
    assert_int_equal(b->ends, 0);
    close_stream(b, SESSION_RESET_BY_APP);
    assert_int_equal(b->code, SESSION_RESET_BY_APP);
    bench_free(b);
}

/* A refusal: a message, the end, and no socket. */
static void test_refusal(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    arrive_frame(b, "hi");
    pump_finish(b->pump);
    assert_true(b->stream.fin);
    arrive(b, "", 0, true);
    close_stream(b, 0);
    assert_int_equal(b->code, 0);
    bench_free(b);
}

/* The session ends under it: the application sees a reset, and why is told. */
static void test_session_ends(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    char byte;
    attach(b);
    arrive_frame(b, "hi");
    write_app(b, 1);
    close_stream(b, 0);
    assert_int_equal(b->code, STREAM_UNREACHABLE);
    assert_true(read(b->app, &byte, 1) <= 0);
    bench_free(b);
}

static void test_peer_resets(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    attach(b);
    arrive_frame(b, "hi");
    b->stream.events->on_reset(b->stream.ctx, 0x31);
    arrive(b, "late", 4, false);
    assert_int_equal(b->stream.consumed, 6 + 4); /* the others' credit flows on */
    close_stream(b, 0x31);
    assert_int_equal(b->code, 0x31);
    bench_free(b);
}

/* The application ends its half after three bytes, and is gone. */
static struct bench *bench_of_a_dead_one(void)
{
    struct bench *b = bench_new(SIZE_MAX);
    attach(b);
    arrive_frame(b, "hi");
    write_app(b, 3);
    sock_end_writing(b->app);
    TURN_UNTIL(b, b->stream.fin);
    close(b->app);
    b->app = -1;
    return b;
}

/* What it sent is not taken back; when the peer has it, the peer hears the rest. */
static void test_dies_after_its_half(void **state)
{
    (void)state;
    struct bench *b = bench_of_a_dead_one();
    loop_turn(b->loop);
    assert_int_equal(b->stream.stopped, 0);
    b->stream.acked = true;
    b->stream.events->on_room(b->stream.ctx);
    assert_int_equal(b->stream.stopped, SESSION_LEFT_BY_APP);
    assert_int_equal(b->stream.reset, 0);
    assert_int_equal(stands(b), 3);
    close_stream(b, SESSION_LEFT_BY_APP);
    assert_int_equal(b->code, 0);
    bench_free(b);
}

/* As of TCP: what is said to the dead resets it, and so does what he has not taken. */
static void test_is_spoken_to_after_its_death(void **state)
{
    (void)state;
    struct bench *b = bench_of_a_dead_one();
    loop_turn(b->loop);
    assert_int_equal(b->stream.reset, 0);
    arrive(b, "more", 4, false);
    assert_int_equal(b->stream.reset, SESSION_RESET_BY_APP);
    close_stream(b, SESSION_RESET_BY_APP);
    bench_free(b);
}

static void test_dies_with_unread(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    uint8_t *bulk = calloc(1, BULK);
    attach(b);
    arrive_frame(b, "hi");
    sock_end_writing(b->app);
    TURN_UNTIL(b, b->stream.fin);
    arrive(b, bulk, BULK, false); /* more than the socket takes */
    close(b->app);
    b->app = -1;
    TURN_UNTIL(b, b->stream.reset != 0);
    close_stream(b, SESSION_RESET_BY_APP);
    free(bulk);
    bench_free(b);
}

/* QUIC has closed the stream before: there is nobody to be told. */
static void test_dies_when_all_is_said(void **state)
{
    (void)state;
    struct bench *b = bench_of_a_dead_one();
    loop_turn(b->loop);
    arrive(b, NULL, 0, true);
    close_stream(b, 0);
    bench_free(b);
}

/* The peer's application died so: this one gets all that was sent, and then a reset. */
static void test_peer_died_after_its_half(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    uint8_t *bulk = calloc(1, BULK);
    char byte;
    attach_tcp(b);
    arrive_frame(b, "hi");
    arrive(b, bulk, BULK, true); /* more than the socket takes */
    close_stream(b, SESSION_LEFT_BY_APP);
    assert_int_equal(b->ends, 0);
    read_app(b, BULK - 1);
    TURN_UNTIL(b, b->ends == 1);
    assert_int_equal(b->code, 0);
    assert_int_equal(sock_read(b->app, &byte, 1), 1);
    assert_true(sock_read(b->app, &byte, 1) <= 0);
    while (!sock_is_over(b->app))
        loop_poll(b->loop);
    free(bulk);
    bench_free(b);
}

/* It was spoken to, and did not hear it. */
static void test_peer_was_reset_after_its_half(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    attach(b);
    arrive_frame(b, "hi");
    arrive(b, "all", 3, true);
    close_stream(b, SESSION_RESET_BY_APP);
    assert_int_equal(b->code, SESSION_RESET_BY_APP);
    bench_free(b);
}

/* Nothing is left to be said to it: an orderly end. */
static void test_peer_died_after_both_halves(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    attach_tcp(b);
    arrive_frame(b, "hi");
    sock_end_writing(b->app);
    TURN_UNTIL(b, b->stream.fin);
    arrive(b, "all", 3, true);
    close_stream(b, 0x31);
    assert_int_equal(b->code, 0);
    bench_free(b);
}

/* More than a first message may have: nothing is kept for who sends it. */
static void test_malformed_header(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    arrive(b, "\xff\xff\xff\xff", 4, false);
    assert_int_equal(b->headers, 0);
    assert_int_equal(b->stream.reset, STREAM_LIMIT);
    close_stream(b, STREAM_LIMIT);
    bench_free(b);
}

static void test_datagrams_on_the_stream(void **state)
{
    (void)state;
    struct bench *b = bench_new(SIZE_MAX);
    arrive_frame(b, "hi");
    pump_set_datagrams(b->pump);
    arrive_frame(b, "one");
    arrive_frame(b, "two");
    assert_int_equal(b->datagrams, 2);
    assert_int_equal(pump_stats(b->pump).from_peer_bytes, 6);
    assert_int_equal(pump_send_datagram(b->pump, (const uint8_t *)"abc", 3), 0);
    assert_int_equal(pump_stats(b->pump).to_peer_bytes, 3);
    assert_int_equal(stands(b), PROTO_FRAME_HEADER + 3);
    pump_drop(b->pump); /* its user wants to hear no more */
    close_stream(b, SESSION_RESET_BY_APP);
    assert_int_equal(b->ends, 0);
    b->ends = 1;
    b->pump = NULL;
    bench_free(b);
}

/* The last: the tests before it have made each step that the tables allow. */
static void test_each_step_was_made(void **state)
{
    (void)state;
    assert_int_equal(state_watch_unmade("out_next"), 0);
    assert_int_equal(state_watch_unmade("in_next"), 0);
    assert_int_equal(state_watch_unmade("life_next"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_and_to_the_end),
        cmocka_unit_test(test_full_socket),
        cmocka_unit_test(test_full_stream),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_session_ends),
        cmocka_unit_test(test_peer_resets),
        cmocka_unit_test(test_dies_after_its_half),
        cmocka_unit_test(test_is_spoken_to_after_its_death),
        cmocka_unit_test(test_dies_with_unread),
        cmocka_unit_test(test_dies_when_all_is_said),
        cmocka_unit_test(test_peer_died_after_its_half),
        cmocka_unit_test(test_peer_was_reset_after_its_half),
        cmocka_unit_test(test_peer_died_after_both_halves),
        cmocka_unit_test(test_malformed_header),
        cmocka_unit_test(test_datagrams_on_the_stream),
        cmocka_unit_test(test_each_step_was_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
