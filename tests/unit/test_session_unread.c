/* What nobody reads: how much of it one session, and all together, may hold. */
#include "session_fixture.h"

/* A program that has more to send than anybody reads. */
struct bulk {
    struct side *side;
    struct stream *stream;
    size_t left;
};

static void bulk_feed(void *ctx)
{
    static const uint8_t zeros[8192];
    struct bulk *b = ctx;
    for (; b->left > 0 && stream_room(b->stream) >= sizeof(zeros); b->left--)
        assert_int_equal(stream_write(b->stream, zeros, sizeof(zeros)), 0);
}

static void bulk_data(void *ctx, const uint8_t *data, size_t len, bool fin)
{
    struct bulk *b = ctx;
    (void)data, (void)fin;
    stream_consumed(b->stream, len);
}

static void bulk_stopped(void *ctx, uint64_t code)
{
    struct bulk *b = ctx;
    b->side->resets += b->left != SIZE_MAX && code == STREAM_LIMIT;
    b->left = SIZE_MAX; /* counted, and writes no more */
}

static const struct stream_events bulk_events = {
    .on_data = bulk_data,
    .on_flush = bulk_feed,
    .on_reset = bulk_stopped,
    .on_stopped = bulk_stopped,
    .on_room = bulk_feed,
    .on_close = hoard_code,
};

/* `count` streams to a server that reads none of them, each as much as it takes. */
static struct bulk *start_hoard(struct world *w, unsigned count)
{
    struct bulk *all = calloc(count, sizeof(*all));
    assert_non_null(all);
    Meta hello = {.which_body = Meta_list_tag, .body.list = true};
    assert_int_equal(session_send_meta(w->client.session, &hello), 0);
    w->server.hoards = true;
    for (unsigned i = 0; i < count; i++) {
        struct bulk *b = &all[i];
        *b = (struct bulk){.side = &w->client, .left = SESSION_STREAM_WINDOW / 8192};
        assert_int_equal(stream_open(w->client.session, &b->stream, &bulk_events, b),
                         0);
        bulk_feed(b);
    }
    return all;
}

/*
 * More lies unread in one session than may: the fullest streams are reset, never more
 * than is needed, and who reads what he asked for gets all of it.
 */
static void test_fullest_stream_is_reset(void **state)
{
    (void)state;
    const unsigned fit = 32;
    const uint64_t before = SESSION_UNREAD_MAX - fit * SESSION_STREAM_WINDOW;
    struct world *w = world_new(0, 17);
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.open && w->server.open);
    w->server.session->unread = w->server.env.unread = before; /* as if it lay there */
    struct bulk *all = start_hoard(w, fit + 8);
    while (w->client.resets < 8 && !w->timed_out) {
        loop_turn(w->loop);
        assert_true(w->server.env.unread <= SESSION_UNREAD_MAX);
    }
    assert_false(w->timed_out);
    assert_true(w->server.env.unread > SESSION_UNREAD_MAX - 16 * SESSION_STREAM_WINDOW);
    w->server.hoards = false;
    w->to_send = TOTAL;
    assert_int_equal(
        stream_open(w->client.session, &w->client.stream, &stream_events, &w->client),
        0);
    feed(&w->client);
    assert_whole(w);
    assert_in_range(w->client.resets, 8, 16); /* few: who reads leaves nothing unread */
    assert_false(w->client.closed || w->server.closed);
    world_free(w);
    free(all);
}

#define RUN_BOTH_UNTIL(w, v, condition)                                                \
    while (!(condition)) {                                                             \
        loop_poll((w)->loop);                                                          \
        loop_poll((v)->loop);                                                          \
        assert_false((w)->timed_out || (v)->timed_out);                                \
    }

/*
 * When all sessions together hold too much, one that holds its share waits, also where
 * nothing of its own is ever read; and goes on when another gives something back.
 */
static void test_full_sessions_wait(void **state)
{
    (void)state;
    struct world *w = world_new(0, 18), *v = world_new(0, 19);
    const unsigned count = 2 * (SESSION_FAIR_UNREAD / SESSION_STREAM_WINDOW);
    const uint64_t all_of_it = (uint64_t)count * SESSION_STREAM_WINDOW;
    struct session_env *env = &w->server.env;
    v->server.other_env = env;
    memcpy(v->server.key.pub, w->server.key.pub, KEY_LEN);
    struct bulk *few = NULL, *all = NULL;
    v->server.hoards = w->server.hoards = true;
    world_start(v, w->server.key.pub);
    RUN_BOTH_UNTIL(w, v, v->client.open && v->server.open);
    few = start_hoard(v, 1);
    RUN_BOTH_UNTIL(w, v, v->server.hoarded == SESSION_STREAM_WINDOW);
    env->unread += SESSION_ALL_UNREAD_MAX; /* as if more sessions held it */
    world_start(w, w->server.key.pub);
    RUN_BOTH_UNTIL(w, v, w->client.open && w->server.open);
    all = start_hoard(w, count);
    RUN_BOTH_UNTIL(w, v, w->server.hoarded > SESSION_FAIR_UNREAD);
    uint64_t until = clock_ns() + 300000000ull;
    RUN_BOTH_UNTIL(w, v, clock_ns() > until);
    assert_true(w->server.hoarded < SESSION_FAIR_UNREAD + SESSION_WINDOW_MAX);
    env->unread -= SESSION_ALL_UNREAD_MAX; /* and another reads its own */
    stream_consumed(v->server.stream, SESSION_STREAM_WINDOW);
    RUN_BOTH_UNTIL(w, v, w->server.hoarded == all_of_it);
    assert_int_equal(w->client.resets, 0);
    world_free(v); /* before the other, whose env its server used */
    world_free(w);
    free(few);
    free(all);
}

/* When a process keeps much for who does not read, a stream keeps little more; and all
 * of it arrives all the same. */
static void test_little_is_kept_when_much_is(void **state)
{
    (void)state;
    struct world *w = world_new(0, 20);
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.open && w->server.open);
    Meta hello = {.which_body = Meta_list_tag, .body.list = true};
    assert_int_equal(session_send_meta(w->client.session, &hello), 0);
    w->client.env.pool.used += 1 + SESSION_ALL_KEPT_MAX / CHAIN_BLOCK_BYTES;
    w->to_send = TOTAL;
    assert_int_equal(
        stream_open(w->client.session, &w->client.stream, &stream_events, &w->client),
        0);
    assert_in_range(stream_room(w->client.stream), 1, SESSION_UNSENT_SCARCE);
    feed(&w->client);
    assert_whole(w);
    w->client.env.pool.used -= 1 + SESSION_ALL_KEPT_MAX / CHAIN_BLOCK_BYTES;
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fullest_stream_is_reset),
        cmocka_unit_test(test_full_sessions_wait),
        cmocka_unit_test(test_little_is_kept_when_much_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
