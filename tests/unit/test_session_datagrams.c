/*
 * Datagrams between two sessions that both take them in fragments: of any size, whole,
 * once, at most a second old; and to a peer that does not know of it as ever.
 */
#include "session_fixture.h"

enum { TIMES_MAX = 4096 };

static struct heard {
    unsigned count, wrong, doubled, old;
    size_t longest;
    bool times[TIMES_MAX];
    struct stream *stream;
} heard;

struct mark {
    uint64_t at_ns;
    uint32_t number;
    uint8_t sum[16];
};

static void sum_of(uint8_t sum[static 16], const uint8_t *data, size_t len)
{
    crypto_generichash(sum, 16, data, len, NULL, 0);
}

static void heard_datagram(void *ctx, const uint8_t *data, size_t len)
{
    struct heard *h = ctx;
    struct mark m;
    uint8_t sum[16];
    h->count++;
    h->longest = len > h->longest ? len : h->longest;
    if (len < sizeof(m))
        return;
    memcpy(&m, data, sizeof(m));
    sum_of(sum, data + sizeof(m), len - sizeof(m));
    h->wrong += memcmp(sum, m.sum, sizeof(sum)) != 0;
    h->old += clock_ns() - m.at_ns > 1100000000ull;
    h->doubled += h->times[m.number % TIMES_MAX];
    h->times[m.number % TIMES_MAX] = true;
}

static void heard_data(void *ctx, const uint8_t *data, size_t len, bool fin)
{
    (void)ctx, (void)data, (void)len, (void)fin;
}

static void heard_nothing(void *ctx)
{
    (void)ctx;
}

static void heard_code(void *ctx, uint64_t code)
{
    (void)ctx, (void)code;
}

static const struct stream_events events = {
    .on_data = heard_data,
    .on_datagram = heard_datagram,
    .on_flush = heard_nothing,
    .on_reset = heard_code,
    .on_stopped = heard_code,
    .on_room = heard_nothing,
    .on_close = heard_code,
};

static struct world *begin(unsigned loss_permille, uint32_t seed, bool say)
{
    struct world *w = world_new(loss_permille, seed);
    heard = (struct heard){0};
    w->server.second = &events;
    w->server.second_ctx = &heard;
    open_stream(w);
    if (say)
        session_say_fragments(w->client.session);
    assert_int_equal(stream_write(w->client.stream, "x", 1), 0);
    RUN_UNTIL(w, w->client.got == 1);
    assert_int_equal(stream_open(w->client.session, &heard.stream, &events, &heard), 0);
    assert_int_equal(stream_write(heard.stream, "<", 1), 0);
    RUN_UNTIL(w, w->server.small != NULL && stream_is_acked(heard.stream));
    assert_int_equal(w->client.session->fragments.peer, say);
    assert_int_equal(w->server.session->fragments.peer, say);
    return w;
}

static int say_one(struct world *w, size_t len)
{
    static uint8_t buf[FRAGMENT_WHOLE_MAX];
    static uint32_t number;
    struct mark m = {.at_ns = clock_ns(), .number = ++number};
    for (size_t i = sizeof(m); i < len; i++)
        buf[i] = (uint8_t)next_random(w);
    if (len >= sizeof(m)) {
        sum_of(m.sum, buf + sizeof(m), len - sizeof(m));
        memcpy(buf, &m, sizeof(m));
    }
    return stream_send_datagram(heard.stream, buf, len);
}

static void wait_ns(struct world *w, uint64_t ns)
{
    pass_until(w, clock_ns() + ns);
}

static void test_any_size(void **state)
{
    static const size_t sizes[] = {0,    1,    64,    1100,  1140,  1141,
                                   1142, 1150, 1200,  1280,  1452,  1500,
                                   2000, 8000, 16384, 60000, 65507, FRAGMENT_WHOLE_MAX};
    struct world *w = begin(0, 81, true);
    (void)state;
    for (size_t round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            unsigned before = heard.count;
            assert_int_equal(say_one(w, sizes[i]), 0);
            RUN_UNTIL(w, heard.count == before + 1);
        }
    for (size_t len = 1000; len < 1600; len++) {
        unsigned before = heard.count;
        assert_int_equal(say_one(w, len), 0);
        RUN_UNTIL(w, heard.count == before + 1);
    }
    assert_int_equal(heard.longest, FRAGMENT_WHOLE_MAX);
    assert_int_equal(heard.wrong + heard.doubled, 0);
    RUN_UNTIL(w, w->client.session->datagram_bytes == 0); /* all told of */
    assert_int_equal(w->server.env.partial_bytes, 0);
    world_free(w);
}

/* Of 55 fragments all come at 5 % of loss one time in 17: those lost are said again. */
static void test_large_ones_and_loss(void **state)
{
    struct world *w = begin(50, 82, true);
    unsigned sent = 0;
    (void)state;
    for (; sent < 60; sent++) {
        assert_int_equal(say_one(w, 60000), 0);
        wait_ns(w, 20000000);
    }
    wait_ns(w, 500000000);
    assert_in_range(heard.count, 50, sent);
    assert_int_equal(heard.wrong + heard.doubled, 0);
    assert_true(w->server.env.partial_bytes <= PARTIALS_BYTES_MAX);
    wait_ns(w, 1100000000);
    assert_int_equal(w->server.env.partial_bytes, 0);
    world_free(w);
}

/* The line is dead for a while; then nothing comes that is older than a second. */
static void test_none_is_old(void **state)
{
    struct world *w = begin(0, 83, true);
    (void)state;
    w->client.wires[1].dead = true;
    for (int i = 0; i < 300; i++) {
        w->client.wires[0].dead = i >= 50 && i < 250;
        (void)say_one(w, i % 2 == 0 ? 1452 : 8000);
        wait_ns(w, 10000000);
    }
    wait_ns(w, 500000000);
    assert_true(heard.count > 60);
    assert_int_equal(heard.wrong + heard.doubled + heard.old, 0);
    world_free(w);
}

/* What waited elsewhere than here, the other end sees by its time. */
static void test_the_receiver_drops_what_is_old(void **state)
{
    struct world *w = begin(0, 84, true);
    struct list *waiting = &w->client.session->datagrams;
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(say_one(w, 3000), 0);
        RUN_UNTIL(w, heard.count == (unsigned)i + 1);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(say_one(w, i == 0 ? 100 : 3000), 0);
        LIST_FIRST(waiting, struct datagram, link)->at_ms -= 1500;
        RUN_UNTIL(w, list_empty(waiting));
        wait_ns(w, 50000000);
    }
    assert_int_equal(heard.count, 3);
    assert_true(w->server.session->stale.count >= 2);
    assert_int_equal(say_one(w, 3000), 0);
    RUN_UNTIL(w, heard.count == 4);
    world_free(w);
}

static void test_an_older_peer(void **state)
{
    struct world *w = begin(0, 85, false);
    (void)state;
    assert_int_equal(say_one(w, 1452), POSTERN_ERR_LIMIT); /* its stream's business */
    assert_int_equal(say_one(w, 1000), 0);
    RUN_UNTIL(w, heard.count == 1);
    session_say_fragments(w->client.session);
    RUN_UNTIL(w, w->client.session->fragments.peer);
    assert_int_equal(say_one(w, 1452), 0);
    RUN_UNTIL(w, heard.count == 2);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_size),
        cmocka_unit_test(test_large_ones_and_loss),
        cmocka_unit_test(test_none_is_old),
        cmocka_unit_test(test_the_receiver_drops_what_is_old),
        cmocka_unit_test(test_an_older_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
