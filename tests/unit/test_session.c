/*
 * Two sessions in one loop over paths made of memory, with loss, reordering, black
 * holes and changes of path: every byte arrives once and in order, half-close and
 * reset are carried, and nobody without the right key comes in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "io/clock.h"
#include "io/loop.h"
#include "session/internal.h"
#include "session/session.h"
#include "state_watch.h"

enum { QUEUE = 4096, TOTAL = 3 * 1024 * 1024, LIMIT_MS = 30000 };

struct packet {
    uint8_t *data;
    size_t len;
};

/* One direction of one path. */
struct wire {
    struct path path; /* first: what the sender holds */
    struct wire *other;
    struct world *world;
    bool dead;
    bool probes_only; /* swallows what is QUIC's */
    size_t mtu;
    unsigned loss_permille;
    struct packet queue[QUEUE];
    size_t head, count;
    uint64_t sent;
};

struct side {
    struct world *world;
    struct session_env env;
    struct session_env *other_env; /* used in its place */
    struct keypair key;
    struct session *session;
    struct wire wires[2];
    bool open, closed, admit;
    bool leaves; /* frees its session when that has ended */
    bool hoards; /* takes streams and reads none of them */
    uint64_t hoarded;
    unsigned resets;
    int close_err;
    unsigned paths_told, dead_told;
    uint32_t rtt_us;
    uint64_t got, reset_code;
    uint8_t digest_in[32];
    crypto_generichash_state hash;
    bool fin, ended;
    struct stream *stream;
};

struct world {
    struct loop *loop;
    struct timer pump, limit;
    struct side client, server;
    uint32_t rng;
    bool timed_out;
    uint64_t to_send;
    crypto_generichash_state sent_hash;
};

static uint32_t next_random(struct world *w)
{
    w->rng = w->rng * 1664525 + 1013904223;
    return w->rng >> 8;
}

static int wire_send(struct path *p, const uint8_t *buf, size_t len, size_t segment_len)
{
    struct wire *x = (struct wire *)p;
    for (size_t at = 0; at < len; at += segment_len) {
        size_t n = len - at < segment_len ? len - at : segment_len;
        if (x->dead || n > x->mtu || (x->probes_only && buf[at] != PROBE_FIRST_BYTE) ||
            next_random(x->world) % 1000 < x->loss_permille || x->count == QUEUE)
            continue;
        struct packet *k = &x->queue[(x->head + x->count++) % QUEUE];
        k->data = malloc(n);
        assert_non_null(k->data);
        memcpy(k->data, buf + at, n);
        k->len = n;
        x->sent++;
    }
    return 0;
}

static const struct path_ops wire_ops = {wire_send};

static void deliver(struct wire *x)
{
    size_t n = x->count < 64 ? x->count : 64;
    for (size_t i = 0; i < n; i++) {
        if (x->count > 1 && x->loss_permille > 0 && next_random(x->world) % 50 == 0) {
            struct packet *a = &x->queue[x->head], t = *a; /* the next one overtakes */
            struct packet *b = &x->queue[(x->head + 1) % QUEUE];
            *a = *b;
            *b = t;
        }
        struct packet k = x->queue[x->head];
        x->head = (x->head + 1) % QUEUE;
        x->count--;
        path_deliver(&x->other->path, k.data, k.len, k.len);
        free(k.data);
    }
}

static void on_pump(void *ctx)
{
    struct world *w = ctx;
    timer_start(&w->pump, 0); /* in each turn */
    for (int i = 0; i < 2; i++) {
        deliver(&w->client.wires[i]);
        deliver(&w->server.wires[i]);
    }
}

/* ------------------------------------------------------------------------- streams */

static void feed(struct side *s)
{
    struct world *w = s->world;
    uint8_t buf[8192];
    while (w->to_send > 0 && s->stream != NULL &&
           stream_room(s->stream) >= sizeof(buf)) {
        size_t n = w->to_send < sizeof(buf) ? (size_t)w->to_send : sizeof(buf);
        for (size_t i = 0; i < n; i++)
            buf[i] = (uint8_t)next_random(w);
        crypto_generichash_update(&w->sent_hash, buf, n);
        assert_int_equal(stream_write(s->stream, buf, n), 0);
        w->to_send -= n;
        if (w->to_send == 0)
            stream_finish(s->stream);
    }
}

static void on_data(void *ctx, const uint8_t *data, size_t len, bool fin)
{
    struct side *s = ctx;
    s->got += len;
    crypto_generichash_update(&s->hash, data, len);
    s->fin = s->fin || fin;
    stream_consumed(s->stream, len);
    if (s == &s->world->server) { /* an echo */
        assert_int_equal(stream_write(s->stream, data, len), 0);
        if (fin)
            stream_finish(s->stream);
    }
}

static void on_flush(void *ctx)
{
    struct side *s = ctx;
    if (s == &s->world->client)
        feed(s);
}

static void on_stream_reset(void *ctx, uint64_t code)
{
    ((struct side *)ctx)->reset_code = code;
}

static void on_stream_end(void *ctx, uint64_t code)
{
    struct side *s = ctx;
    (void)code;
    s->stream = NULL;
    s->ended = true;
}

static const struct stream_events stream_events = {
    .on_data = on_data,
    .on_flush = on_flush,
    .on_reset = on_stream_reset,
    .on_stop = on_stream_reset,
    .on_room = on_flush,
    .on_close = on_stream_end,
};

/* ------------------------------------------------------------------ paused readers */

static void hoard_data(void *ctx, const uint8_t *data, size_t len, bool fin)
{
    (void)data, (void)fin;
    ((struct side *)ctx)->hoarded += len;
}

static void hoard_nothing(void *ctx)
{
    (void)ctx;
}

static void hoard_code(void *ctx, uint64_t code)
{
    (void)ctx, (void)code;
}

static const struct stream_events hoard_events = {
    .on_data = hoard_data,
    .on_flush = hoard_nothing,
    .on_reset = hoard_code,
    .on_stop = hoard_code,
    .on_room = hoard_nothing,
    .on_close = hoard_code,
};

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
    .on_stop = bulk_stopped,
    .on_room = bulk_feed,
    .on_close = hoard_code,
};

/* ------------------------------------------------------------------------ sessions */

static bool on_authorize(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct side *s = ctx;
    assert_memory_equal(peer, s->world->client.key.pub, KEY_LEN);
    return s->admit;
}

static void on_open(void *ctx)
{
    ((struct side *)ctx)->open = true;
}

static void on_stream(void *ctx, struct stream *st)
{
    struct side *s = ctx;
    s->stream = st;
    if (s->hoards) {
        stream_accept(st, &hoard_events, s);
        return;
    }
    stream_accept(st, &stream_events, s);
}

static void on_meta(void *ctx, const Meta *m)
{
    (void)ctx, (void)m;
}

static void on_path(void *ctx, struct path *p)
{
    (void)p;
    ((struct side *)ctx)->paths_told++;
}

static void on_path_dead(void *ctx, struct path *p, uint64_t silent_us)
{
    struct side *s = ctx;
    (void)p, (void)silent_us;
    s->dead_told++;
}

static void on_silent(void *ctx)
{
    (void)ctx;
}

static void on_path_rtt(void *ctx, struct path *p, uint32_t rtt_us)
{
    (void)p;
    ((struct side *)ctx)->rtt_us = rtt_us;
}

static void on_close(void *ctx, int err, const char *why)
{
    struct side *s = ctx;
    (void)why;
    s->closed = true;
    s->close_err = err;
    if (s->leaves) {
        session_free(s->session);
        s->session = NULL;
    }
}

static const struct session_events session_events = {
    .authorize = on_authorize,
    .on_open = on_open,
    .on_stream = on_stream,
    .on_meta = on_meta,
    .on_path = on_path,
    .on_path_dead = on_path_dead,
    .on_path_rtt = on_path_rtt,
    .on_silent = on_silent,
    .on_close = on_close,
};

/* The host's first packet makes its session. */
static void on_first(void *ctx, struct path *p, const uint8_t *buf, size_t len,
                     size_t segment_len)
{
    struct side *s = ctx;
    (void)segment_len;
    struct session_config c = {.env = s->other_env != NULL ? s->other_env : &s->env,
                               .events = &session_events,
                               .ctx = s,
                               .rtt_hint_us = 100};
    if (s->session != NULL)
        return;
    assert_int_equal(
        session_new_server(&s->session, &c, s->world->client.key.pub, p, buf, len), 0);
    session_add_path(s->session, &s->wires[1].path);
}

static void on_first_writable(void *ctx, struct path *p)
{
    (void)ctx, (void)p;
}
static const struct path_user first_user = {on_first, on_first_writable};

static void on_limit(void *ctx)
{
    ((struct world *)ctx)->timed_out = true;
}

static void side_init(struct side *s, struct world *w, uint8_t seed_byte)
{
    uint8_t seed[KEY_LEN] = {seed_byte};
    s->world = w;
    s->admit = true;
    keypair_from_seed(&s->key, seed);
    assert_int_equal(session_env_init(&s->env, w->loop, &s->key), 0);
    crypto_generichash_init(&s->hash, NULL, 0, 32);
    for (uint32_t i = 0; i < 2; i++) {
        s->wires[i].path =
            (struct path){.ops = &wire_ops, .kind = PATH_UDP_PUNCH, .id = i + 1};
        s->wires[i].world = w;
        s->wires[i].mtu = 1452;
    }
}

static struct world *world_new(unsigned loss_permille, uint32_t seed)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    assert_true(sodium_init() >= 0);
    w->rng = seed;
    assert_int_equal(loop_open(&w->loop), 0);
    side_init(&w->client, w, 1);
    side_init(&w->server, w, 2);
    crypto_generichash_init(&w->sent_hash, NULL, 0, 32);
    for (int i = 0; i < 2; i++) {
        w->client.wires[i].other = &w->server.wires[i];
        w->server.wires[i].other = &w->client.wires[i];
        w->client.wires[i].loss_permille = w->server.wires[i].loss_permille =
            loss_permille;
        w->server.wires[i].path.user = &first_user;
        w->server.wires[i].path.user_ctx = &w->server;
    }
    timer_init(&w->pump, w->loop, on_pump, w);
    timer_start(&w->pump, 0);
    timer_init(&w->limit, w->loop, on_limit, w);
    timer_start(&w->limit, LIMIT_MS);
    return w;
}

static void world_start(struct world *w, const uint8_t *host_key)
{
    struct session_config c = {.env = &w->client.env,
                               .events = &session_events,
                               .ctx = &w->client,
                               .rtt_hint_us = 100};
    assert_int_equal(
        session_new_client(&w->client.session, &c, host_key, &w->client.wires[0].path),
        0);
    session_add_path(w->client.session, &w->client.wires[1].path);
}

#define RUN_UNTIL(w, condition)                                                        \
    do {                                                                               \
        while (!(condition) && !(w)->timed_out)                                        \
            loop_turn((w)->loop);                                                      \
        assert_false((w)->timed_out);                                                  \
    } while (0)

static void world_free(struct world *w)
{
    session_free(w->client.session);
    session_free(w->server.session);
    timer_stop(&w->pump);
    timer_stop(&w->limit);
    loop_run(w->loop);
    loop_close(w->loop);
    for (int i = 0; i < 2; i++) {
        struct wire *all[2] = {&w->client.wires[i], &w->server.wires[i]};
        for (int j = 0; j < 2; j++)
            for (; all[j]->count > 0; all[j]->count--)
                free(all[j]->queue[(all[j]->head + all[j]->count - 1) % QUEUE].data);
    }
    session_env_fini(&w->client.env);
    session_env_fini(&w->server.env);
    free(w);
}

static void open_and_send(struct world *w)
{
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.open && w->server.open);
    Meta hello = {.which_body = Meta_list_tag, .body.list = true};
    assert_int_equal(session_send_meta(w->client.session, &hello), 0);
    w->to_send = TOTAL;
    assert_int_equal(
        stream_open(w->client.session, &w->client.stream, &stream_events, &w->client),
        0);
    feed(&w->client);
}

static void assert_whole(struct world *w)
{
    uint8_t sent[32], there[32], back[32];
    RUN_UNTIL(w, w->client.ended && w->server.ended);
    assert_int_equal(w->server.got, TOTAL);
    assert_int_equal(w->client.got, TOTAL);
    assert_true(w->client.fin && w->server.fin);
    crypto_generichash_final(&w->sent_hash, sent, 32);
    crypto_generichash_final(&w->server.hash, there, 32);
    crypto_generichash_final(&w->client.hash, back, 32);
    assert_memory_equal(sent, there, 32);
    assert_memory_equal(sent, back, 32);
}

/* --------------------------------------------------------------------------- tests */

static void test_whole(void **state)
{
    (void)state;
    struct world *w = world_new(0, 1);
    open_and_send(w);
    assert_whole(w);
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

/* What arrives on a path does not say that what leaves on it arrives. */
static void test_one_way_is_left(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct world *w = world_new(0, 14);
        open_and_send(w);
        RUN_UNTIL(w, w->client.got > TOTAL / 4);
        (way == 0 ? &w->client : &w->server)->wires[0].dead = true;
        uint64_t began = clock_ns();
        RUN_UNTIL(w, session_path(w->client.session) == &w->client.wires[1].path &&
                         session_path(w->server.session) == &w->server.wires[1].path);
        assert_true(clock_ns() - began < 1500000000ull);
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
        RUN_UNTIL(w, clock_ns() >= until);
        w->client.wires[living].dead = w->server.wires[living].dead = false;
        uint64_t got = w->client.got, began = clock_ns();
        RUN_UNTIL(w, w->client.got > got || w->client.got == TOTAL);
        assert_true(clock_ns() - began < 2000000000ull);
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
        uint64_t got = w->client.got, began = clock_ns();
        RUN_UNTIL(w, w->client.got > got + 65536);
        assert_true(clock_ns() - began < 2000000000ull);
        assert_whole(w);
        world_free(w);
    }
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
    to[0].probes_only = to[1].probes_only = true;
    session_use_path(s, &to[1].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED);
    assert_int_equal(s->label, name + 1);
    session_use_path(s, &to[0].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED_STALE);
    session_return_to_path(s, &to[1].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED);
    session_use_path(s, &to[0].path);
    RUN_UNTIL(w, s->label_state == LABEL_TRIED_STALE);
    to[0].probes_only = to[1].probes_only = false;
    RUN_UNTIL(w, s->label_state == LABEL_GOOD && s->label > name + 1);
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
        cmocka_unit_test(test_one_way_is_left),
        cmocka_unit_test(test_paths_die_again_and_again),
        cmocka_unit_test(test_mtu_shrinks),
        cmocka_unit_test(test_lost_path_object),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_fullest_stream_is_reset),
        cmocka_unit_test(test_full_sessions_wait),
        cmocka_unit_test(test_wrong_host_key),
        cmocka_unit_test(test_client_not_admitted),
        cmocka_unit_test(test_exporter_is_shared),
        cmocka_unit_test(test_ends_at_any_time),
        cmocka_unit_test(test_peer_ends_it),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_each_step_was_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
