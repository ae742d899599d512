/*
 * Every byte arrives once and in order whatever the paths do, half-close and reset are
 * carried, and nobody without the right key comes in.
 */
#include "session_fixture.h"
#include "state_watch.h"
#include "stopwatch.h"

static void test_whole(void **state)
{
    (void)state;
    struct world *w = world_new(0, 1);
    open_and_send(w);
    assert_whole(w);
    assert_true(w->client.session->witness > 0); /* and all of them came over */
    assert_int_equal(w->client.wires[0].path.bundles.fell_ns, 0);
    assert_int_equal(w->server.wires[0].path.bundles.fell_ns, 0);
    world_free(w);
}

static void test_loss_and_reordering(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 5; seed++) {
        struct world *w = world_new(20, seed);
        open_and_send(w);
        assert_whole(w);
        world_free(w);
    }
}

static void test_moves_from_path_to_path(void **state)
{
    (void)state;
    struct world *w = world_new(5, 3);
    open_and_send(w);
    for (unsigned i = 1; i <= 4; i++) {
        RUN_UNTIL(w, w->client.got > i * TOTAL / 6);
        unsigned told = w->client.paths_told;
        session_use_path(w->client.session, &w->client.wires[i % 2].path);
        RUN_UNTIL(w, w->client.paths_told > told);
        assert_ptr_equal(session_path(w->client.session), &w->client.wires[i % 2].path);
    }
    assert_whole(w);
    world_free(w);
}

static void test_black_hole_is_left(void **state)
{
    (void)state;
    struct world *w = world_new(0, 4);
    open_and_send(w);
    RUN_UNTIL(w, w->client.got > TOTAL / 4);
    w->client.wires[0].dead = w->server.wires[0].dead = true;
    RUN_UNTIL(w, session_path(w->client.session) == &w->client.wires[1].path);
    assert_whole(w);
    RUN_UNTIL(w, w->client.dead_told > 0);
    assert_ptr_equal(session_path(w->client.session), &w->client.wires[1].path);
    world_free(w);
}

static void await_open_on_second(struct world *w)
{
    struct stopwatch began = stopwatch_start();
    RUN_UNTIL(w, w->client.open && w->server.open &&
                     session_path(w->client.session) == &w->client.wires[1].path &&
                     session_path(w->server.session) == &w->server.wires[1].path);
    assert_true(stopwatch_ns(&began) < 2500000000ull);
    world_free(w);
}

/* Nobody can answer a probe yet: what does not come tells. Each time something else of
 * the handshake is lost: all, the host's answer, what ends it. */
static void test_dead_path_is_left_before_it_opens(void **state)
{
    (void)state;
    struct world *w = world_new(0, 19);
    w->client.wires[0].dead = true;
    world_start(w, w->server.key.pub);
    await_open_on_second(w);
    w = world_new(0, 20);
    w->server.wires[0].dead = true;
    world_start(w, w->server.key.pub);
    await_open_on_second(w);
    w = world_new(0, 21);
    w->client.wires[0].own_only = true;
    w->client.wires[0].lets_pass = 1;
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.open);
    w->client.wires[0].dead = w->server.wires[0].dead = true;
    assert_false(w->server.open);
    await_open_on_second(w);
}

/* A path that was wished for before the one that the user took, as the first that does
 * better than the broker's own connection, does not take its place when keys are there:
 * the user would go on to believe in his own. */
static void test_choice_before_keys_stays(void **state)
{
    (void)state;
    struct world *w = world_new(0, 26);
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->server.session != NULL); /* which knows both wires then */
    struct session *s = w->client.session;
    w->client.wires[0].mtu = w->server.wires[0].mtu = 2 * PROBE_LEN_BASE;
    paths_want(&s->net, w->client.wires[0].path.id, clock_us());
    session_use_path(s, &w->client.wires[1].path);
    RUN_UNTIL(w, w->client.open && w->server.open && s->confirmed);
    RUN_UNTIL(w, paths_answered_us(&s->net) != 0);
    for (int i = 0; i < 100; i++) /* what was asked with it is answered, too */
        loop_turn(w->loop);
    assert_ptr_equal(session_path(s), &w->client.wires[1].path);
    assert_ptr_equal(session_path(w->server.session), &w->server.wires[1].path);
    world_free(w);
}

/* No other stands: the user hears of it; proven anew, it carries at once what was said.
 */
static void test_mute_path_is_told(void **state)
{
    (void)state;
    struct world *w = world_new(0, 22);
    w->client.wires[0].dead = true;
    world_start(w, w->server.key.pub);
    session_remove_path(w->client.session, &w->client.wires[1].path);
    RUN_UNTIL(w, w->client.mute_told == 2);
    w->client.wires[0].dead = false;
    struct stopwatch began = stopwatch_start();
    session_on_proven(w->client.session, &w->client.wires[0].path);
    RUN_UNTIL(w, w->client.open && w->server.open);
    assert_true(stopwatch_ns(&began) < 1500000000ull);
    assert_int_equal(w->client.dead_told, 0);
    world_free(w);
}

/* Before QUIC has repeated anything. */
static void test_lost_path_is_followed_at_once(void **state)
{
    (void)state;
    struct world *w = world_new(0, 23);
    w->client.wires[0].own_only = true;
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.wires[0].swallowed > 0);
    struct stopwatch began = stopwatch_start();
    session_remove_path(w->client.session, &w->client.wires[0].path);
    RUN_UNTIL(w, w->client.open && w->server.open);
    assert_true(stopwatch_ns(&began) < 700000000ull);
    assert_int_equal(w->client.mute_told, 0);
    world_free(w);
}

/* What arrives on a path does not say that what leaves on it arrives. */
static void test_one_way_is_left(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct world *w = world_new(0, 14);
        open_and_send(w);
        RUN_UNTIL(w, w->client.got > TOTAL / 4);
        (way == 0 ? &w->client : &w->server)->wires[0].dead = true;
        struct stopwatch began = stopwatch_start();
        RUN_UNTIL(w, session_path(w->client.session) == &w->client.wires[1].path &&
                         session_path(w->server.session) == &w->server.wires[1].path);
        assert_true(stopwatch_ns(&began) < 1500000000ull);
        assert_whole(w);
        world_free(w);
    }
}

/*
 * Both paths die and come back again and again, sometimes both at once: more often than
 * there are connection ids, and each time nothing answers for a while.
 */
static void test_paths_die_again_and_again(void **state)
{
    (void)state;
    struct world *w = world_new(0, 15);
    open_and_send(w);
    for (unsigned i = 0; i < 24; i++) {
        unsigned living = i % 2;
        uint64_t until = clock_ns() + (i % 3 == 0 ? 400000000ull : 0);
        for (unsigned k = 0; k < 2; k++)
            w->client.wires[k].dead = w->server.wires[k].dead =
                until > clock_ns() || k != living;
        pass_until(w, until);
        w->client.wires[living].dead = w->server.wires[living].dead = false;
        uint64_t got = w->client.got;
        struct stopwatch began = stopwatch_start();
        RUN_UNTIL(w, w->client.got > got || w->client.got == TOTAL);
        assert_true(stopwatch_ns(&began) < 2000000000ull);
    }
    w->client.wires[0].dead = w->server.wires[0].dead = false;
    assert_whole(w);
    world_free(w);
}

/* Large packets are lost from now on, small ones are not; no ICMP says so. */
static void test_mtu_shrinks(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct world *w = world_new(0, 16);
        open_and_send(w);
        session_remove_path(w->client.session, &w->client.wires[1].path);
        session_remove_path(w->server.session, &w->server.wires[1].path);
        RUN_UNTIL(w, w->client.got > TOTAL / 4);
        if (way != 1)
            w->client.wires[0].mtu = 1250;
        if (way != 0)
            w->server.wires[0].mtu = 1250;
        uint64_t got = w->client.got;
        struct stopwatch began = stopwatch_start();
        RUN_UNTIL(w, w->client.got > got + 65536);
        assert_true(stopwatch_ns(&began) < 2000000000ull);
        assert_whole(w);
        world_free(w);
    }
}

/* Larger packets are looked for where data pays for it, and not again in vain. */
static void test_search_for_size(void **state)
{
    (void)state;
    enum { LITTLE = 16 * 1024, MUCH = 2 * 1024 * 1024 };
    static uint8_t little[LITTLE];
    struct world *w = world_new(0, 29);
    struct wire *up = &w->client.wires[0], *down = &w->server.wires[0];
    open_stream(w);
    for (int i = 0; i < 16; i++)
        assert_int_equal(stream_write(w->client.stream, little, LITTLE / 16), 0);
    RUN_UNTIL(w, w->client.got == LITTLE);
    assert_int_equal(up->large + down->large, 0);
    w->to_send = 32 * (uint64_t)MUCH;
    feed(&w->client);
    RUN_UNTIL(w, up->path.too_long != 0 && down->path.too_long != 0);
    assert_int_equal(size_of_quic(w->client.session), 1452);
    assert_int_equal(size_of_quic(w->server.session), 1452);
    assert_int_equal(up->too_large, 3);
    uint64_t label = w->client.session->label, got = w->client.got;
    steer_want_renewal(w->client.session);
    RUN_UNTIL(w, w->client.session->label != label && w->client.got > got + MUCH &&
                     size_of_quic(w->client.session) == 1452 &&
                     size_of_quic(w->server.session) == 1452);
    assert_int_equal(up->too_large, 3);
    assert_int_equal(down->too_large, 3);
    world_free(w);
}

static void test_lost_path_object(void **state)
{
    (void)state;
    struct world *w = world_new(0, 5);
    open_and_send(w);
    RUN_UNTIL(w, w->client.got > TOTAL / 4);
    session_remove_path(w->client.session, &w->client.wires[0].path);
    session_remove_path(w->server.session, &w->server.wires[0].path);
    assert_null(session_path(w->client.session));
    assert_whole(w); /* without a word from anybody */
    assert_ptr_equal(session_path(w->client.session), &w->client.wires[1].path);
    world_free(w);
}

static void test_reset(void **state)
{
    (void)state;
    struct world *w = world_new(0, 6);
    open_and_send(w);
    RUN_UNTIL(w, w->server.got > 0);
    stream_reset(w->client.stream, SESSION_RESET_BY_APP);
    RUN_UNTIL(w, w->server.reset_code == SESSION_RESET_BY_APP);
    assert_false(w->client.fin);
    world_free(w);
}

static void test_wrong_host_key(void **state)
{
    (void)state;
    struct world *w = world_new(0, 7);
    world_start(w, w->client.key.pub); /* expects another key than the server has */
    RUN_UNTIL(w, w->client.closed);
    assert_int_equal(w->client.close_err, POSTERN_ERR_KEY);
    assert_false(w->client.open || w->server.open);
    world_free(w);
}

static void test_client_not_admitted(void **state)
{
    (void)state;
    struct world *w = world_new(0, 8);
    w->server.admit = false;
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.closed && w->server.closed);
    assert_int_equal(w->client.close_err, POSTERN_ERR_DENIED);
    assert_false(w->server.open);
    world_free(w);
    w = world_new(0, 8);
    w->server.admit = false;
    w->server.deny = "the invite is used";
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.closed && w->server.closed);
    assert_int_equal(w->client.close_err, POSTERN_ERR_DENIED);
    assert_int_equal(w->server.close_err, POSTERN_ERR_DENIED);
    assert_string_equal(w->client.close_why, w->server.deny);
    world_free(w);
}

static void test_exporter_is_shared(void **state)
{
    (void)state;
    uint8_t a[32], b[32];
    struct world *w = world_new(0, 9);
    open_and_send(w);
    assert_int_equal(session_exporter(w->client.session, a), 0);
    assert_int_equal(session_exporter(w->server.session, b), 0);
    assert_memory_equal(a, b, sizeof(a));
    assert_whole(w);
    world_free(w);
}

/* ------------------------------------------------------------- the machines' steps */

/* What ends a session may come at any time, also before its user knows that it stands.
 */
static void test_ends_at_any_time(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 4; way++) {
        struct world *w = world_new(0, 20 + way);
        world_start(w, w->server.key.pub);
        struct session *s = w->client.session;
        if (way > 0) { /* the handshake is complete, the round is still to come */
            while (s->life == LIFE_HANDSHAKE && !w->timed_out) {
                on_pump(w);
                if (s->life == LIFE_HANDSHAKE)
                    loop_turn(w->loop);
            }
            assert_int_equal(s->life, LIFE_SECURE);
            assert_false(w->client.open);
        }
        w->client.leaves = way == 3;
        if (way < 2) {
            session_free(s);
            w->client.session = NULL;
        } else {
            session_fail(s, POSTERN_ERR_PROTO, "a test wants it");
            assert_false(w->client.closed); /* it is told from the loop */
            RUN_UNTIL(w, w->client.closed);
            assert_int_equal(w->client.close_err, POSTERN_ERR_PROTO);
            assert_false(w->client.open);
        }
        world_free(w);
    }
}

static void test_peer_ends_it(void **state)
{
    (void)state;
    struct world *w = world_new(0, 24);
    w->client.leaves = true;
    open_and_send(w);
    RUN_UNTIL(w, w->server.got > 0);
    session_close(w->server.session, 7, "enough");
    RUN_UNTIL(w, w->client.closed);
    assert_int_equal(w->client.close_err, POSTERN_ERR_CLOSED);
    world_free(w);
}

/* Paths come and go before the label of the one before is validated. */
static void test_labels(void **state)
{
    (void)state;
    struct world *w = world_new(0, 25);
    struct wire *to = w->client.wires;
    world_start(w, w->server.key.pub);
    struct session *s = w->client.session;
    session_use_path(s, &to[1].path);
    assert_int_equal(s->label_state, LABEL_STALE);
    session_return_to_path(s, &to[0].path); /* it was this one's all along */
    assert_int_equal(s->label_state, LABEL_GOOD);
    RUN_UNTIL(w, w->client.open && w->server.open && s->confirmed);
    RUN_UNTIL(w, s->label_state == LABEL_GOOD);
    uint64_t name = s->label;
    to[0].own_only = to[1].own_only = true;
    session_use_path(s, &to[1].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED);
    assert_int_equal(s->label, name + 1);
    session_use_path(s, &to[0].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED_STALE);
    session_return_to_path(s, &to[1].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED);
    session_use_path(s, &to[0].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED_STALE);
    to[0].own_only = to[1].own_only = false;
    RUN_UNTIL(w, s->label_state == LABEL_GOOD && s->label > name + 1);
    world_free(w);
}

static void swallow_quic(struct world *w, bool swallow)
{
    for (int i = 0; i < 2; i++)
        w->client.wires[i].own_only = w->server.wires[i].own_only = swallow;
}

/* A host asks for a new beginning until it sees one. On a line where answers take
 * seconds that is once, and what a label needs is not sent again before it can be
 * answered. */
static void test_asked_to_begin_anew_again_and_again(void **state)
{
    (void)state;
    struct world *w = world_new(0, 25);
    world_start(w, w->server.key.pub);
    struct session *c = w->client.session;
    RUN_UNTIL(w, w->client.open && w->server.open && c->confirmed &&
                     c->label_state == LABEL_GOOD);
    uint64_t name = c->label, until = clock_ns() + 2500000000ull;
    steer_note_late(c, 2000000, 20000, clock_us());
    swallow_quic(w, true);
    while (clock_ns() < until) {
        steer_note_late(c, 2000000, 20000, clock_us());
        paths_want_renewal(&w->server.session->net, clock_us());
        session_touch(w->server.session);
        loop_turn(w->loop);
    }
    assert_int_equal(c->label, name + 1);
    swallow_quic(w, false);
    RUN_UNTIL(w, c->label_state == LABEL_GOOD);
    world_free(w);
}

/*
 * QUIC backs off, twice as long each time: seconds in which all of it is lost must not
 * be paid for with as many more, where the path answers again or has done so always.
 */
static void test_no_long_pause_after_loss(void **state)
{
    (void)state;
    struct world *w = world_new(0, 26);
    open_and_send(w);
    RUN_UNTIL(w, w->client.got > TOTAL / 4);
    swallow_quic(w, true);
    uint64_t until = clock_ns() + 7300000000ull;
    pass_until(w, until);
    assert_true(w->client.dead_told > 0); /* perhaps another one is better */
    swallow_quic(w, false);
    uint64_t got = w->client.got;
    struct stopwatch began = stopwatch_start();
    RUN_UNTIL(w, w->client.got > got);
    assert_true(stopwatch_ns(&began) < 3000000000ull);
    assert_whole(w);
    assert_false(w->client.closed || w->server.closed);
    world_free(w);
}

/*
 * Of a new label the host heard little, and may yet send all that its window takes: its
 * bound would stop the timer that misses what was lost.
 */
static void test_no_label_makes_a_host_mute(void **state)
{
    (void)state;
    static const uint8_t buf[700];
    ngtcp2_conn_info info;
    struct world *w = world_new(0, 28);
    struct wire *from = w->server.wires;
    open_and_send(w);
    w->to_send = 0;
    RUN_UNTIL(w, w->client.got > 0 && w->client.session->unacked == 0);
    RUN_UNTIL(w, w->client.session->label_state == LABEL_GOOD);
    from[0].own_only = from[1].own_only = true; /* its packets alone are lost */
    struct in6_addr label = w->server.session->vouched;
    w->client.wires[0].own_only = w->client.wires[1].own_only = true;
    w->client.wires[0].lets_pass = 3; /* two challenges, and what is heeded */
    steer_want_renewal(w->client.session);
    session_touch(w->client.session);
    RUN_UNTIL(w, memcmp(&label, &w->server.session->vouched, sizeof(label)) != 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(stream_send_datagram(w->server.stream, buf, sizeof(buf)), 0);
    uint64_t until = clock_ns() + 200000000ull;
    pass_until(w, until);
    ngtcp2_conn_get_conn_info(w->server.session->conn, &info);
    assert_true(info.bytes_in_flight >= info.cwnd); /* three times what came is less */
    world_free(w);
}

/* Where it never moves again the session ends, so that another one may begin. */
static void test_what_never_moves_ends(void **state)
{
    (void)state;
    struct world *w = world_new(0, 27);
    open_and_send(w);
    RUN_UNTIL(w, w->client.got > TOTAL / 4);
    swallow_quic(w, true);
    RUN_UNTIL(w, w->client.closed && w->server.closed);
    assert_int_equal(w->client.close_err, POSTERN_ERR_TIMEOUT);
    world_free(w);
}

/* The last: all tests before it have made each step that the tables allow. */
static void test_each_step_was_made(void **state)
{
    (void)state;
    assert_int_equal(state_watch_unmade("session_life_next"), 0);
    assert_int_equal(state_watch_unmade("session_use_next"), 0);
    assert_int_equal(state_watch_unmade("turn_next"), 0);
    assert_int_equal(state_watch_unmade("label_next"), 0);
}

/* The chain under the streams, against a plain array. */
static void test_chain(void **state)
{
    (void)state;
    struct chain_pool pool = {0};
    struct chain c;
    uint32_t rng = 5;
    uint8_t *model = malloc(4 * 1024 * 1024), *copy = malloc(4 * 1024 * 1024);
    assert_non_null(model);
    assert_non_null(copy);
    chain_init(&c, &pool);
    for (int i = 0; i < 2000 && c.end < 3 * 1024 * 1024; i++) {
        struct iovec iov[5];
        rng = rng * 1664525 + 1013904223;
        size_t n = rng >> 8 & 0xffff;
        for (size_t j = 0; j < n; j++)
            model[c.end + j] = (uint8_t)(j * 31 + (size_t)i);
        if (rng & 1u << 30) {
            uint64_t end = c.end;
            size_t count = chain_reserve(&c, iov, 5), done = 0;
            for (size_t k = 0; k < count && done < n; k++) {
                size_t m = iov[k].iov_len < n - done ? iov[k].iov_len : n - done;
                memcpy(iov[k].iov_base, model + end + done, m);
                done += m;
            }
            assert_int_equal(done, n);
            chain_commit(&c, n);
        } else {
            assert_int_equal(chain_append(&c, model + c.end, n), 0);
        }
        if (rng & 1u << 29)
            chain_release(&c, c.start + (c.end - c.start) / 2);
        size_t want = c.end - c.start < 200000 ? c.end - c.start : 200000;
        size_t have = chain_copy(&c, c.start, copy, want);
        assert_memory_equal(copy, model + c.start, have);
        assert_true(have == want || have >= 65536);
    }
    chain_fini(&c);
    chain_pool_fini(&pool);
    free(model);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_loss_and_reordering),
        cmocka_unit_test(test_moves_from_path_to_path),
        cmocka_unit_test(test_black_hole_is_left),
        cmocka_unit_test(test_dead_path_is_left_before_it_opens),
        cmocka_unit_test(test_choice_before_keys_stays),
        cmocka_unit_test(test_mute_path_is_told),
        cmocka_unit_test(test_lost_path_is_followed_at_once),
        cmocka_unit_test(test_one_way_is_left),
        cmocka_unit_test(test_paths_die_again_and_again),
        cmocka_unit_test(test_mtu_shrinks),
        cmocka_unit_test(test_search_for_size),
        cmocka_unit_test(test_lost_path_object),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_wrong_host_key),
        cmocka_unit_test(test_client_not_admitted),
        cmocka_unit_test(test_exporter_is_shared),
        cmocka_unit_test(test_ends_at_any_time),
        cmocka_unit_test(test_peer_ends_it),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_asked_to_begin_anew_again_and_again),
        cmocka_unit_test(test_no_long_pause_after_loss),
        cmocka_unit_test(test_no_label_makes_a_host_mute),
        cmocka_unit_test(test_what_never_moves_ends),
        cmocka_unit_test(test_each_step_was_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
