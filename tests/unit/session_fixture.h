/*
 * Two sessions in one loop over paths made of memory, with loss, reordering, black
 * holes and changes of path, for the tests of sessions. Include it once.
 */
#ifndef POSTERN_TESTS_SESSION_FIXTURE_H
#define POSTERN_TESTS_SESSION_FIXTURE_H

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
    bool own_only;      /* swallows what is QUIC's */
    unsigned lets_pass; /* but so many packets of it */
    unsigned swallowed;
    size_t longest;    /* bundle that passes, in bytes; 0: any */
    unsigned too_long; /* bundles that did not */
    size_t mtu;
    unsigned large, too_large; /* packets: above the base size, above the MTU */
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
    unsigned datagrams;
    unsigned resets;
    int close_err;
    char close_why[128];
    const char *deny; /* what the other side is told where it is not admitted */
    unsigned paths_told, dead_told, mute_told;
    uint32_t rtt_us;
    uint64_t got, reset_code;
    uint8_t digest_in[32];
    crypto_generichash_state hash;
    bool fin, ended;
    struct stream *stream;
    const struct stream_events *second; /* of a second stream; NULL: as the first */
    void *second_ctx;
    struct stream *small;
};

struct world {
    struct loop *loop;
    struct timer pump, limit, until;
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

static bool swallows(struct wire *x, uint8_t first)
{
    if (!x->own_only || (first & 0x40) == 0)
        return false;
    if (x->lets_pass > 0) {
        x->lets_pass--;
        return false;
    }
    x->swallowed++;
    return true;
}

static int wire_send(struct path *p, const uint8_t *buf, size_t len, size_t segment_len)
{
    struct wire *x = (struct wire *)p;
    if (x->longest != 0 && len > segment_len && len > x->longest) {
        x->too_long++;
        return 0;
    }
    for (size_t at = 0; at < len; at += segment_len) {
        size_t n = len - at < segment_len ? len - at : segment_len;
        x->large += n > PROBE_LEN_BASE;
        x->too_large += n > x->mtu;
        if (x->dead || n > x->mtu || swallows(x, buf[at]) ||
            next_random(x->world) % 1000 < x->loss_permille || x->count == QUEUE)
            continue;
        struct packet *k = &x->queue[(x->head + x->count++) % QUEUE];
        k->data = malloc(n);
        assert_non_null(k->data);
        memcpy(k->data, buf + at, n);
        k->len = n;
        x->sent++;
        if (!timer_is_active(&x->world->pump))
            timer_start(&x->world->pump, 0);
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
    bool more = false;
    for (int i = 0; i < 2; i++) {
        deliver(&w->client.wires[i]);
        deliver(&w->server.wires[i]);
    }
    for (int i = 0; i < 2; i++)
        more = more || w->client.wires[i].count > 0 || w->server.wires[i].count > 0;
    if (more && !timer_is_active(&w->pump)) /* in the next turn */
        timer_start(&w->pump, 0);
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

static void on_datagram(void *ctx, const uint8_t *data, size_t len)
{
    struct side *s = ctx;
    (void)data, (void)len;
    s->datagrams++;
}

static const struct stream_events stream_events = {
    .on_data = on_data,
    .on_datagram = on_datagram,
    .on_flush = on_flush,
    .on_reset = on_stream_reset,
    .on_stopped = on_stream_reset,
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
    .on_stopped = hoard_code,
    .on_room = hoard_nothing,
    .on_close = hoard_code,
};

/* ------------------------------------------------------------------------ sessions */

static bool on_authorize(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct side *s = ctx;
    assert_memory_equal(peer, s->world->client.key.pub, KEY_LEN);
    if (!s->admit && s->deny != NULL)
        session_deny(s->session, s->deny);
    return s->admit;
}

static void on_open(void *ctx)
{
    ((struct side *)ctx)->open = true;
}

static void on_stream(void *ctx, struct stream *st)
{
    struct side *s = ctx;
    if (s->second != NULL && s->stream != NULL) {
        s->small = st;
        stream_accept(st, s->second, s->second_ctx);
        return;
    }
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

static void on_mute(void *ctx, struct path *p)
{
    struct side *s = ctx;
    assert_ptr_equal(p, session_path(s->session));
    s->mute_told++;
}

static void on_path_rtt(void *ctx, struct path *p)
{
    ((struct side *)ctx)->rtt_us = p->rtt_us;
}

static void on_close(void *ctx, int err, const char *why)
{
    struct side *s = ctx;
    (void)why;
    s->closed = true;
    s->close_err = err;
    (void)snprintf(s->close_why, sizeof(s->close_why), "%s", why);
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
    .on_mute = on_mute,
    .on_path_rtt = on_path_rtt,
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

static void on_until(void *ctx)
{
    (void)ctx; /* the loop is awake then, whatever else is due */
}

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
    timer_init(&w->until, w->loop, on_until, w);
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

static inline void pass_until(struct world *w, uint64_t ns)
{
    timer_at_ns(&w->until, ns);
    RUN_UNTIL(w, clock_ns() >= ns);
}

static void world_free(struct world *w)
{
    session_free(w->client.session);
    session_free(w->server.session);
    timer_stop(&w->pump);
    timer_stop(&w->limit);
    timer_stop(&w->until);
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

static inline void open_stream(struct world *w)
{
    world_start(w, w->server.key.pub);
    RUN_UNTIL(w, w->client.open && w->server.open);
    Meta hello = {.which_body = Meta_list_tag, .body.list = true};
    assert_int_equal(session_send_meta(w->client.session, &hello), 0);
    assert_int_equal(
        stream_open(w->client.session, &w->client.stream, &stream_events, &w->client),
        0);
}

static inline void open_and_send(struct world *w)
{
    open_stream(w);
    w->to_send = TOTAL;
    feed(&w->client);
}

static inline void assert_whole(struct world *w)
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

#endif
