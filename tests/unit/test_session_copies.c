/*
 * Early copies between two sessions: what is small comes over beside QUIC, each byte
 * once, and in calm nothing of it is sent.
 */
#include "session_fixture.h"

enum { SMALL_MAX = 20000 };

/* What a small stream brought. */
static struct small {
    uint8_t got[SMALL_MAX + 1];
    size_t len;
    bool fin, reset, closed;
    bool reads;
    struct stream *stream;
} there, back;

static void small_data(void *ctx, const uint8_t *data, size_t len, bool fin)
{
    struct small *m = ctx;
    assert_false(m->fin);
    assert_true(m->len + len <= SMALL_MAX);
    if (len > 0)
        memcpy(m->got + m->len, data, len);
    m->len += len;
    m->fin = fin;
    if (m->stream != NULL && m->reads)
        stream_consumed(m->stream, len);
}

static void small_nothing(void *ctx)
{
    (void)ctx;
}

static void small_reset(void *ctx, uint64_t code)
{
    (void)code;
    ((struct small *)ctx)->reset = true;
}

static void small_close(void *ctx, uint64_t code)
{
    (void)code;
    ((struct small *)ctx)->closed = true;
    ((struct small *)ctx)->stream = NULL;
}

static const struct stream_events small_events = {
    .on_data = small_data,
    .on_flush = small_nothing,
    .on_reset = small_reset,
    .on_stopped = small_reset,
    .on_room = small_nothing,
    .on_close = small_close,
};

/* A small stream stands beside another; both ends take copies, or say nothing of it. */
static struct world *begin(unsigned loss_permille, uint32_t seed, bool say)
{
    struct world *w = world_new(loss_permille, seed);
    Meta m = {.which_body = Meta_copies_tag, .body.copies = true};
    there = back = (struct small){.reads = true};
    w->server.second = &small_events;
    w->server.second_ctx = &there;
    open_stream(w);
    if (say)
        assert_int_equal(session_send_meta(w->client.session, &m), 0);
    assert_int_equal(stream_write(w->client.stream, "x", 1), 0);
    RUN_UNTIL(w, w->client.got == 1);
    assert_int_equal(stream_open(w->client.session, &back.stream, &small_events, &back),
                     0);
    assert_int_equal(stream_write(back.stream, "<", 1), 0);
    RUN_UNTIL(w, there.len == 1);
    there.stream = w->server.small;
    stream_consumed(there.stream, 1);
    assert_int_equal(stream_write(there.stream, ">", 1), 0);
    RUN_UNTIL(w, back.len == 1 && stream_is_acked(back.stream) &&
                     stream_is_acked(there.stream));
    assert_int_equal(w->server.session->copies.peer, say);
    assert_int_equal(w->client.session->copies.peer, say);
    return w;
}

static void own_only(struct world *w, bool on)
{
    for (int i = 0; i < 2; i++)
        w->client.wires[i].own_only = w->server.wires[i].own_only = on;
}

static void trouble(struct world *w)
{
    copies_on_moved(w->client.session);
    copies_on_moved(w->server.session);
}

static void say(struct stream *st, const char *text)
{
    assert_int_equal(stream_write(st, text, strlen(text)), 0);
}

#define CAME(m, text)                                                                  \
    ((m).len == strlen(text) && memcmp((m).got, text, strlen(text)) == 0)

static void test_come_without_quic(void **state)
{
    (void)state;
    struct world *w = begin(0, 71, true);
    own_only(w, true);
    trouble(w);
    say(back.stream, "hello");
    RUN_UNTIL(w, CAME(there, "<hello"));
    say(back.stream, ", you");
    say(there.stream, "what?");
    RUN_UNTIL(w, CAME(there, "<hello, you") && CAME(back, ">what?"));
    assert_false(stream_is_acked(back.stream)); /* only QUIC says so */
    own_only(w, false);
    say(back.stream, "!");
    stream_finish(back.stream);
    stream_finish(there.stream);
    RUN_UNTIL(w, there.fin && back.fin);
    assert_true(CAME(there, "<hello, you!") && CAME(back, ">what?"));
    RUN_UNTIL(w, there.closed && back.closed);
    assert_int_equal(w->server.session->unread, 0);
    assert_int_equal(w->client.session->unread, 0);
    world_free(w);
}

static void test_credit_is_given_once(void **state)
{
    (void)state;
    struct world *w = begin(0, 72, true);
    uint8_t piece[200] = {7};
    there.reads = false;
    for (unsigned i = 0; i < 40; i++) {
        size_t want = there.len + sizeof(piece);
        own_only(w, true);
        trouble(w);
        assert_int_equal(stream_write(back.stream, piece, sizeof(piece)), 0);
        RUN_UNTIL(w, there.len == want);
        assert_int_equal(w->server.session->unread, want - 1);
        own_only(w, false);
        RUN_UNTIL(w, stream_is_acked(back.stream));
        assert_int_equal(there.len, want);
        assert_int_equal(w->server.session->unread, want - 1);
        assert_int_equal(w->server.session->owed, 0);
    }
    stream_consumed(there.stream, there.len - 1);
    assert_int_equal(w->server.session->unread, 0);
    world_free(w);
}

static void test_nothing_after_a_reset(void **state)
{
    (void)state;
    struct world *w = begin(0, 73, true);
    own_only(w, true);
    trouble(w);
    say(back.stream, "hello");
    RUN_UNTIL(w, CAME(there, "<hello"));
    stream_stop(there.stream, STREAM_LIMIT);
    say(back.stream, " again");
    unsigned before = w->server.session->copies.came;
    RUN_UNTIL(w, w->server.session->copies.came >= before + 2);
    assert_true(CAME(there, "<hello"));
    own_only(w, false);
    say(there.stream, "enough"); /* the other direction goes on */
    RUN_UNTIL(w, CAME(back, ">enough"));
    assert_true(CAME(there, "<hello"));
    world_free(w);
}

/* Nothing of it leaves in calm, nor to who did not say that he takes it. */
static void test_silent_in_calm(void **state)
{
    (void)state;
    for (int peer = 0; peer < 2; peer++) {
        struct world *w = begin(0, 74, peer == 1);
        if (peer == 0)
            trouble(w);
        w->to_send = TOTAL - 1;
        feed(&w->client);
        for (unsigned i = 0; i < 200; i++) {
            size_t want = there.len + 1;
            say(back.stream, "k");
            RUN_UNTIL(w, there.len == want);
        }
        RUN_UNTIL(w, w->server.got == TOTAL && w->client.got == TOTAL);
        assert_int_equal(w->client.session->copies.sent, 0);
        assert_int_equal(w->server.session->copies.sent, 0);
        world_free(w);
    }
}

/* Bulk and a typist under much loss, with gaps: each byte once, in order. */
static void test_whole_under_loss(void **state)
{
    (void)state;
    unsigned used = 0;
    for (uint32_t seed = 0; seed < 6; seed++) {
        struct world *w = begin(seed % 3 * 60, 80 + seed, true);
        size_t said = 1;
        w->to_send = 256 * 1024;
        feed(&w->client);
        for (unsigned i = 0; i < 60; i++) {
            bool gap = i % 10 < 3;
            own_only(w, gap);
            trouble(w);
            char c = (char)('a' + i % 26);
            assert_int_equal(stream_write(back.stream, &c, 1), 0);
            assert_int_equal(stream_write(there.stream, &c, 1), 0);
            said++;
            if (gap || i % 10 == 9)
                RUN_UNTIL(w, there.len >= said && back.len >= said);
        }
        own_only(w, false);
        stream_finish(back.stream);
        stream_finish(there.stream);
        RUN_UNTIL(w, there.fin && back.fin);
        assert_int_equal(there.len, said);
        assert_int_equal(back.len, said);
        for (unsigned i = 0; i < 60; i++) {
            assert_int_equal(there.got[i + 1], 'a' + i % 26);
            assert_int_equal(back.got[i + 1], 'a' + i % 26);
        }
        RUN_UNTIL(w, w->client.got == 1 + 256 * 1024);
        used += w->client.session->copies.used + w->server.session->copies.used;
        world_free(w);
    }
    assert_true(used > 50);
}

/* A packet as the peer makes it, but for what is in it. */
static void inject(struct world *w, const struct copy *c, uint32_t number, bool right)
{
    uint8_t buf[COPY_LEN_MAX];
    size_t len = copy_seal(c, w->client.session->copies.key_out, number, buf);
    buf[len - 1] ^= right ? 0 : 1;
    path_deliver(&w->server.wires[0].path, buf, len, len);
}

static void test_strange_copies(void **state)
{
    (void)state;
    struct world *w = begin(0, 75, true);
    struct copying *c = &w->server.session->copies;
    struct copy copy = {.stream = (uint64_t)back.stream->id, .offset = 1, .len = 3};
    memcpy(copy.data, "abc", 3);
    inject(w, &copy, 1, false);
    assert_int_equal(c->malformed, 1);
    assert_true(CAME(there, "<"));
    static const uint64_t strange[] = {0 /* Meta's */, 1, 2, 3, 400, (1ull << 62) - 4};
    uint32_t number = 1;
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
        struct copy other = copy;
        other.stream = strange[i];
        other.offset = 0;
        inject(w, &other, number++, true);
    }
    copy.offset = 2; /* beyond a gap */
    inject(w, &copy, number++, true);
    assert_true(CAME(there, "<"));
    assert_int_equal(c->used, 0);
    copy.offset = 1;
    inject(w, &copy, number, true);
    assert_true(CAME(there, "<abc"));
    inject(w, &copy, number, true); /* a replay */
    assert_int_equal(c->used, 1);
    assert_int_equal(c->came, number);
    uint8_t back_again[COPY_LEN_MAX]; /* a packet of its own comes back to its sender */
    copy.offset = 1;
    size_t len = copy_seal(&copy, w->client.session->copies.key_out, 50, back_again);
    path_deliver(&w->client.wires[0].path, back_again, len, len);
    assert_int_equal(w->client.session->copies.malformed, 1);
    assert_true(CAME(back, ">"));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_come_without_quic),
        cmocka_unit_test(test_credit_is_given_once),
        cmocka_unit_test(test_nothing_after_a_reset),
        cmocka_unit_test(test_silent_in_calm),
        cmocka_unit_test(test_whole_under_loss),
        cmocka_unit_test(test_strange_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
