/*
 * Paths that swallow bundles and let single packets pass are noticed, and those that
 * lose any packet are not taken for them.
 */
#include "session_fixture.h"
#include "stopwatch.h"

static void leave_one_path(struct world *w)
{
    session_remove_path(w->client.session, &w->client.wires[1].path);
    session_remove_path(w->server.session, &w->server.wires[1].path);
}

/* One long packet to a filter, which single ones pass; probes go singly. */
static void test_bundles_are_swallowed(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 4; way++) {
        struct world *w = world_new(0, 31);
        struct wire *up = &w->client.wires[0], *down = &w->server.wires[0];
        open_and_send(w);
        leave_one_path(w);
        RUN_UNTIL(w, w->client.got > TOTAL / 4);
        size_t longest = way == 3 ? 3000 : 1300; /* there two small ones pass */
        up->longest = way != 1 ? longest : 0;
        down->longest = way != 0 ? longest : 0;
        uint64_t got = w->client.got;
        struct stopwatch began = stopwatch_start();
        RUN_UNTIL(w, w->client.got > got + 256 * 1024);
        assert_true(stopwatch_ns(&began) < 5000000000ull);
        assert_whole(w);
        world_free(w);
    }
}

/* Tried with few packets, each time after a longer pause; used again where they pass.
 */
static void test_bundles_are_looked_for(void **state)
{
    (void)state;
    struct world *w = world_new(0, 32);
    struct wire *up = &w->client.wires[0];
    struct bundles *b = &up->path.bundles;
    open_stream(w);
    leave_one_path(w);
    w->to_send = UINT32_MAX;
    feed(&w->client);
    RUN_UNTIL(w, w->client.got > TOTAL / 4);
    up->longest = 1300;
    struct stopwatch began = stopwatch_start();
    RUN_UNTIL(w, b->fell_ns != 0);
    assert_true(stopwatch_ns(&began) < 5000000000ull);
    uint64_t pause_ns = b->pause_ns;
    up->too_long = 0;
    RUN_UNTIL(w, b->pause_ns == 4 * pause_ns);
    assert_int_equal(up->too_long, 2);
    assert_int_equal(b->most, 1);
    up->longest = 7000; /* four and no more */
    b->next_ns = clock_ns();
    RUN_UNTIL(w, b->most == 4);
    RUN_UNTIL(w, up->too_long > 2);
    RUN_UNTIL(w, b->trial == 0);
    assert_int_equal(b->most, 4);
    up->longest = 0;
    b->next_ns = clock_ns(); /* the pause is over */
    RUN_UNTIL(w, b->most == 0);
    world_free(w);
}

/* QUIC takes back what left before a probe timeout, and never says that it was lost. */
static void test_a_try_may_be_taken_back(void **state)
{
    (void)state;
    static const uint8_t bytes[2000];
    for (unsigned busy = 0; busy < 2; busy++) {
        struct world *w = world_new(0, 33);
        struct wire *up = &w->client.wires[0];
        struct bundles *b = &up->path.bundles;
        open_stream(w);
        leave_one_path(w);
        pass_until(w, w->client.session->singly_ns);
        up->longest = 1300;
        b->most = 1;
        assert_int_equal(stream_write(w->client.stream, bytes, sizeof(bytes)), 0);
        RUN_UNTIL(w, b->trial != 0);
        up->own_only = true;
        RUN_UNTIL(w,
                  up->swallowed > 5); /* some timeouts: each takes one or two packets */
        up->own_only = false;
        w->to_send = busy ? UINT32_MAX : 0;
        feed(&w->client);
        RUN_UNTIL(w, b->failed > 0);
        world_free(w);
    }
}

static uint64_t in_flight(const struct side *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->session->conn, &info);
    return info.bytes_in_flight;
}

/* The last bundle was lost, its repeats came over, and nothing follows. */
static void test_a_last_bundle_is_awaited_no_more(void **state)
{
    (void)state;
    static const uint8_t bytes[2500];
    struct world *w = world_new(0, 34);
    struct wire *up = &w->client.wires[0];
    struct bundles *b = &up->path.bundles;
    open_stream(w);
    leave_one_path(w);
    up->longest = 1300;
    assert_int_equal(stream_write(w->client.stream, bytes, sizeof(bytes)), 0);
    RUN_UNTIL(w, up->too_long > 0);
    assert_true(b->open > 0);
    up->longest = 0;
    RUN_UNTIL(w, w->client.got == sizeof(bytes) && in_flight(&w->client) == 0);
    assert_int_equal(b->open, 0);
    world_free(w);
}

/* A path that loses any packet loses some bundles, not all: no size is given up. */
static void test_loss_is_not_of_bundles(void **state)
{
    (void)state;
    static const unsigned losses[][2] = {
        {100, 100}, {200, 200}, {300, 300}, {300, 0}, {0, 300}};
    for (unsigned i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        struct world *w = world_new(0, 40 + i);
        struct wire *up = &w->client.wires[0], *down = &w->server.wires[0];
        open_stream(w);
        leave_one_path(w);
        w->to_send = UINT32_MAX;
        feed(&w->client);
        RUN_UNTIL(w, w->client.got > TOTAL / 4);
        up->loss_permille = losses[i][0];
        down->loss_permille = losses[i][1];
        pass_until(w, clock_ns() + 600000000ull);
        assert_int_equal(up->path.bundles.fell_ns, 0);
        assert_int_equal(down->path.bundles.fell_ns, 0);
        assert_true(w->client.session->witness > 0);
        world_free(w);
    }
}

/* A video's frames: bursts, and nothing else. What is lost of them is not repeated. */
static const struct burst {
    size_t bytes, more_bytes; /* of a datagram; each is so much longer than the last */
    unsigned count, each_ms;
    bool typing; /* single datagrams between the bursts */
} bursts[] = {
    {1000, 0, 12, 50, false}, {1000, 0, 2, 50, false},  {700, 0, 12, 20, true},
    {400, 0, 40, 100, false}, {1000, 10, 8, 50, false}, {1060, 0, 12, 50, true},
};

/* How many of a hundred came, of bursts for so long? */
static unsigned percent_of_bursts(struct world *w, const struct burst *b, uint64_t ns)
{
    static const uint8_t buf[1200];
    unsigned sent = 0, before = w->server.datagrams;
    struct stopwatch began = stopwatch_start();
    for (unsigned i = 0; stopwatch_ns(&began) < ns; i++) {
        uint64_t each_ns = (uint64_t)b->each_ms * 500000,
                 next_ns = clock_ns() + each_ns;
        unsigned count = i % 2 == 0 ? b->count : b->typing ? 1 : 0;
        for (unsigned j = 0; j < count; j++)
            sent += stream_send_datagram(w->client.stream, buf,
                                         b->bytes + j * b->more_bytes) == 0;
        pass_until(w, next_ns);
    }
    return 100 * (w->server.datagrams - before) / sent;
}

static void test_bursts_of_datagrams_go_on(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(bursts) / sizeof(bursts[0]); i++) {
        struct world *w = world_new(0, 50 + i);
        struct wire *up = &w->client.wires[0];
        open_stream(w);
        leave_one_path(w);
        assert_int_equal(stream_write(w->client.stream, (const uint8_t *)"all", 3), 0);
        RUN_UNTIL(w, w->client.got == 3 && w->client.session->unacked == 0);
        assert_true(percent_of_bursts(w, &bursts[i], 150000000ull) > 80);
        assert_int_equal(up->path.bundles.fell_ns, 0);
        up->longest = 1300;
        (void)percent_of_bursts(w, &bursts[i], 600000000ull);
        assert_true(percent_of_bursts(w, &bursts[i], 600000000ull) >= 80);
        world_free(w);
    }
}

/* What waited for long only delays what comes behind it; the newest one stays. */
static void test_datagrams_do_not_wait_for_long(void **state)
{
    static const uint8_t buf[1000];
    struct world *w = world_new(0, 61);
    (void)state;
    open_stream(w);
    leave_one_path(w);
    struct session *s = w->client.session;
    assert_int_equal(stream_write(w->client.stream, (const uint8_t *)"all", 3), 0);
    RUN_UNTIL(w, w->client.got == 3 && s->unacked == 0);
    w->client.wires[0].own_only = true;
    for (int i = 0; i < 2 * SESSION_DATAGRAMS_QUEUED_MAX; i++)
        assert_int_equal(stream_send_datagram(w->client.stream, buf, sizeof(buf)), 0);
    assert_int_equal(s->datagram_count, SESSION_DATAGRAMS_QUEUED_MAX);
    struct stopwatch began = stopwatch_start();
    RUN_UNTIL(w, s->datagram_count <= 1);
    assert_true(stopwatch_ns(&began) < 3000000000ull);
    assert_true(s->stale.count > SESSION_DATAGRAMS_QUEUED_MAX);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bundles_are_swallowed),
        cmocka_unit_test(test_bundles_are_looked_for),
        cmocka_unit_test(test_a_try_may_be_taken_back),
        cmocka_unit_test(test_a_last_bundle_is_awaited_no_more),
        cmocka_unit_test(test_loss_is_not_of_bundles),
        cmocka_unit_test(test_bursts_of_datagrams_go_on),
        cmocka_unit_test(test_datagrams_do_not_wait_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
