/* The standing paths of a session: doubt, census, choice and packet size, in the
 * machine alone: two of them over ways that are cut, narrowed and slowed at will. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/paths.h"
#include "core/rng.h"

#define MS 1000ull
#define S 1000000ull

enum { WAYS = 4, FLIGHT_MAX = 512 };

struct flight {
    uint64_t at_us;
    unsigned way;
    bool to_client;
    struct path_probe probe;
};

struct way {
    bool up, down, there; /* client to host, host to client; in both tables */
    uint16_t mtu;
    uint64_t delay_us;
};

/* Client and host, and everything between. */
struct net {
    struct paths side[2]; /* 0 host, 1 client */
    struct way ways[WAYS];
    struct flight flights[FLIGHT_MAX];
    unsigned flight_count, sent, sent_bytes, moves[2], shrinks[2], dead[WAYS];
    unsigned doubts[2], silent[2];
    uint64_t now_us, largest;
};

static void net_init(struct net *n, unsigned ways, uint64_t delay_us)
{
    memset(n, 0, sizeof(*n));
    n->now_us = 10 * S;
    for (unsigned i = 0; i < 2; i++)
        paths_init(&n->side[i], i == 1, n->now_us);
    for (unsigned w = 0; w < ways; w++) {
        n->ways[w] = (struct way){.up = true, .down = true, .there = true, .mtu = 1452};
        n->ways[w].delay_us = delay_us;
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(paths_add(&n->side[i], w + 1, false, n->now_us), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        paths_on_rtt(&n->side[i], (uint32_t)(2 * delay_us), (uint32_t)delay_us / 4,
                     n->now_us);
        paths_set_streams(&n->side[i], 1);
        paths_set_size(&n->side[i], PROBE_LEN_BASE);
    }
}

static bool passes(const struct net *n, unsigned way, bool to_client, uint16_t len)
{
    const struct way *w = &n->ways[way];
    return w->there && len <= w->mtu && (to_client ? w->down : w->up);
}

static void launch(struct net *n, unsigned way, bool to_client,
                   const struct path_probe *q)
{
    n->sent++;
    n->sent_bytes += q->len;
    if (!passes(n, way, to_client, q->len))
        return;
    assert_true(n->flight_count < FLIGHT_MAX);
    n->flights[n->flight_count++] =
        (struct flight){n->now_us + n->ways[way].delay_us, way, to_client, *q};
}

static void act(struct net *n, unsigned who)
{
    struct paths_action a;
    unsigned count = 0;
    while (paths_next(&n->side[who], n->now_us, &a)) {
        assert_true(++count < 200);
        switch (a.type) {
        case PATHS_SEND:
            launch(n, a.id - 1, who == 0, &a.probe);
            break;
        case PATHS_MOVE:
            n->moves[who]++;
            assert_int_equal(paths_current(&n->side[who]), a.id);
            break;
        case PATHS_DEAD:
            assert_int_equal(who, 1);
            n->dead[a.id - 1]++;
            break;
        case PATHS_DOUBT:
            n->doubts[who]++;
            break;
        case PATHS_SILENT:
            n->silent[who]++;
            break;
        case PATHS_SUSPECT:
        case PATHS_REVIVED:
            break;
        case PATHS_SHRINK:
            n->shrinks[who]++;
            break;
        }
    }
}

static void land(struct net *n, const struct flight *f)
{
    struct paths *to = &n->side[f->to_client];
    struct path_probe reply;
    uint32_t id = f->way + 1;
    if (f->probe.flags & PROBE_RESPONSE)
        (void)paths_on_response(to, id, &f->probe, n->now_us);
    else if (paths_on_request(to, id, &f->probe, &reply, n->now_us))
        launch(n, f->way, !f->to_client, &reply);
}

/* Data that both sides send all the time on the path in use: who gets an answer? */
static void talk(struct net *n, unsigned who)
{
    struct paths *p = &n->side[who];
    uint32_t id = paths_current(p);
    if (id == PATHS_NONE)
        return;
    paths_on_activity(p);
    paths_on_sent(p, p->size > PROBE_LEN_BASE, n->now_us);
    if (passes(n, id - 1, who == 0, p->size)) {
        struct paths *peer = &n->side[!who];
        uint32_t back = paths_current(peer);
        paths_on_received(peer, id, n->now_us);
        if (back != PATHS_NONE && passes(n, back - 1, who != 0, 100))
            paths_on_progress(p, n->now_us); /* acknowledged on the peer's own way */
    }
}

/* What arrives now, and what both do of it. */
static void turn(struct net *n)
{
    for (unsigned i = 0; i < n->flight_count;) {
        struct flight f = n->flights[i];
        if (f.at_us > n->now_us) {
            i++;
            continue;
        }
        n->flights[i] = n->flights[--n->flight_count];
        land(n, &f);
    }
    for (unsigned who = 0; who < 2; who++) {
        act(n, who);
        assert_true(paths_deadline_us(&n->side[who]) > n->now_us);
    }
}

static void run_for(struct net *n, uint64_t us)
{
    uint64_t end = n->now_us + us;
    for (; n->now_us < end; n->now_us += MS) {
        for (unsigned who = 0; who < 2 && n->now_us % (20 * MS) == 0; who++)
            talk(n, who);
        turn(n);
    }
}

static bool flows(const struct net *n)
{
    uint32_t c = paths_current(&n->side[1]), h = paths_current(&n->side[0]);
    return c != PATHS_NONE && h != PATHS_NONE &&
           passes(n, c - 1, false, n->side[1].size) &&
           passes(n, h - 1, true, n->side[0].size);
}

/* How long until data goes both ways again; at most `limit_us`. */
static uint64_t until_flows(struct net *n, uint64_t limit_us)
{
    uint64_t began = n->now_us;
    while (!flows(n) && n->now_us < began + limit_us)
        run_for(n, MS);
    return n->now_us - began;
}

static void test_quiet_when_well(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 3, 10 * MS);
    run_for(&n, 60 * S);
    assert_int_equal(n.sent, 0);
    paths_set_size(&n.side[1], 1452);
    run_for(&n, 60 * S);
    assert_in_range(n.sent, 100, 220); /* a probe of full size and its answer */
    assert_int_equal(n.shrinks[0] + n.shrinks[1] + n.moves[0] + n.moves[1], 0);
}

static void test_one_way_or_both(void **state)
{
    (void)state;
    for (unsigned cut = 1; cut < 4; cut++) {
        struct net n;
        net_init(&n, 2, 10 * MS);
        run_for(&n, S);
        n.ways[0].up = !(cut & 1);
        n.ways[0].down = !(cut & 2);
        assert_in_range(until_flows(&n, 10 * S), 1, 900 * MS);
        assert_int_equal(paths_current(&n.side[1]), 2);
        run_for(&n, 3 * S);
        assert_int_equal(n.dead[0], 1);
        assert_int_equal(n.dead[1], 0);
    }
}

/* What still carries something is not given up for a few requests that are lost. */
static void test_lossy_is_not_buried(void **state)
{
    (void)state;
    for (int back = 0; back < 2; back++) {
        struct net n;
        net_init(&n, 1, 10 * MS);
        run_for(&n, S);
        n.ways[0].up = false;
        run_for(&n, 4 * S);
        assert_int_equal(n.dead[0], 0);
        n.ways[0].up = back == 1;
        run_for(&n, 4 * S);
        assert_int_equal(n.dead[0], back == 0);
    }
}

static void test_many_dead_at_once(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 4, 25 * MS);
    run_for(&n, S);
    for (unsigned w = 0; w < 3; w++)
        n.ways[w].up = n.ways[w].down = false;
    assert_in_range(until_flows(&n, 10 * S), 1, S);
    assert_int_equal(n.moves[1], 1); /* once, to the one that answers */
}

/* One that carries little is not moved to while another answers, however quick it is.
 */
static void test_meagre(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 3, 25 * MS);
    n.ways[1].delay_us = 5 * MS;
    paths_set_meagre(&n.side[0], 2);
    paths_set_meagre(&n.side[1], 2);
    run_for(&n, S);
    assert_true(n.doubts[0] == 0 && n.doubts[1] == 0);
    n.ways[0].up = n.ways[0].down = false;
    assert_in_range(until_flows(&n, 10 * S), 1, S);
    assert_true(n.doubts[0] + n.doubts[1] >= 1); /* before a second of silence */
    assert_true(n.silent[0] == 0 && n.silent[1] == 0);
    assert_int_equal(paths_current(&n.side[0]), 3);
    assert_int_equal(paths_current(&n.side[1]), 3);
    run_for(&n, 3 * S);
    n.ways[2].up = n.ways[2].down = false;
    assert_in_range(until_flows(&n, 10 * S), 1, S);
    assert_int_equal(paths_current(&n.side[1]), 2);
}

/* It is left for the first other one that answers, though it answers itself, and
 * whatever is wished for. */
static void test_meagre_is_left(void **state)
{
    struct paths p;
    struct paths_action a;
    uint64_t now_us = 10 * S, end_us = now_us + 2 * S;
    (void)state;
    paths_init(&p, true, now_us);
    assert_int_equal(paths_add(&p, 1, true, now_us), 0);
    assert_int_equal(paths_add(&p, 2, false, now_us), 0);
    paths_set_meagre(&p, 2);
    paths_want(&p, 1, now_us);
    paths_force(&p, 1, now_us);
    paths_on_sent(&p, false, now_us);
    paths_remove(&p, 1,
                 now_us); /* its address is gone, and only the meagre one answers */
    for (; now_us < end_us; now_us += 10 * MS) {
        if (now_us == end_us - S)
            assert_int_equal(paths_add(&p, 3, true, now_us), 0);
        while (paths_next(&p, now_us, &a)) {
            a.probe.flags = PROBE_RESPONSE;
            if (a.type == PATHS_SEND)
                (void)paths_on_response(&p, a.id, &a.probe, now_us + 1);
        }
        if (now_us == end_us - S - 10 * MS)
            assert_int_equal(paths_current(&p), 2);
    }
    assert_int_equal(paths_current(&p), 3);
}

/*
 * Paths that answer nothing come one after the other, so that the census never ends:
 * the one in use, which has answered, is no silent one; and when it falls silent in the
 * midst of that, it is given up like any other.
 */
static void test_a_census_without_end(void **state)
{
    struct paths p;
    struct paths_action a;
    struct path_probe reply;
    unsigned silences = 0, dead = 0;
    uint32_t last = 3;
    uint64_t now_us = 10 * S, cut_us = now_us + 90 * S, silent_us = 0, dead_us = 0;
    (void)state;
    paths_init(&p, true, now_us);
    assert_int_equal(paths_add(&p, 1, false, now_us), 0);
    assert_int_equal(paths_add(&p, 2, true, now_us), 0);
    paths_on_rtt(&p, 50 * MS, 10 * MS, now_us);
    paths_set_streams(&p, 1);
    paths_force(&p, 1, now_us);
    paths_on_sent(&p, false, now_us); /* which nobody acknowledges */
    assert_int_equal(paths_add(&p, last, false, now_us), 0);
    for (; dead_us == 0 && now_us < cut_us + 60 * S; now_us += 10 * MS) {
        while (paths_next(&p, now_us, &a)) {
            reply = a.probe;
            reply.flags = PROBE_RESPONSE;
            if (a.type == PATHS_SEND && a.id == 2 && now_us < cut_us)
                (void)paths_on_response(&p, 2, &reply, now_us);
            silences += a.type == PATHS_SILENT && now_us < cut_us;
            if (a.type != PATHS_DEAD)
                continue;
            dead_us = a.id == 2 ? now_us : dead_us;
            dead++;
            paths_remove(&p, a.id, now_us);
            assert_int_equal(paths_add(&p, ++last, false, now_us), 0);
        }
        uint64_t since_us = paths_silent_since_us(&p);
        if (since_us != 0 && now_us < cut_us && now_us - since_us > silent_us)
            silent_us = now_us - since_us;
    }
    assert_true(dead > 5);
    assert_int_equal(silences, 0);
    assert_in_range(silent_us, 0, 4 * S);
    assert_in_range(dead_us, cut_us, cut_us + 20 * S);
}

/* A stream on which packets arrive is slow: it is kept, and no silence is told. */
static void test_slow_stream(void **state)
{
    struct paths p;
    struct paths_action a;
    unsigned silences = 0, moved = 0, dead = 0;
    uint64_t now_us = 10 * S, cut_us = now_us + 10 * S;
    (void)state;
    paths_init(&p, true, now_us);
    assert_int_equal(paths_add(&p, 1, true, now_us), 0);
    assert_int_equal(paths_add(&p, 2, false, now_us), 0);
    paths_set_meagre(&p, 2);
    paths_on_rtt(&p, 50 * MS, 10 * MS, now_us);
    paths_set_streams(&p, 1);
    paths_on_sent(&p, false, now_us);
    for (; moved == 0 && now_us < cut_us + 10 * S; now_us += 10 * MS) {
        if (now_us < cut_us && now_us % (200 * MS) == 0)
            paths_on_received(&p, 1, now_us);
        while (paths_next(&p, now_us, &a)) {
            a.probe.flags = PROBE_RESPONSE;
            if (a.type == PATHS_SEND && a.id == 2)
                (void)paths_on_response(&p, 2, &a.probe, now_us + 1);
            moved += a.type == PATHS_MOVE;
            dead += a.type == PATHS_DEAD && now_us < cut_us;
            silences += a.type == PATHS_SILENT;
        }
    }
    assert_int_equal(silences, 0);
    assert_int_equal(dead, 0);
    assert_int_equal(paths_current(&p), 2);
    assert_in_range(now_us, cut_us, cut_us + S);
}

/* Where large packets have come over a stream, small questions ask as well. */
static void test_a_proven_stream_is_asked_by_little(void **state)
{
    struct paths p;
    struct paths_action a;
    unsigned large[3] = {0}, small[3] = {0};
    uint64_t now_us = 10 * S, silent_us = now_us + S;
    (void)state;
    paths_init(&p, true, now_us);
    assert_int_equal(paths_add(&p, 1, true, now_us), 0);
    assert_int_equal(paths_add(&p, 2, true, now_us), 0);
    paths_on_rtt(&p, 50 * MS, 10 * MS, now_us);
    paths_want(&p, 2, now_us);
    for (; now_us < silent_us + 3 * S; now_us += 10 * MS) {
        if (now_us == silent_us)
            paths_doubt(&p, true, now_us);
        while (paths_next(&p, now_us, &a)) {
            if (a.type != PATHS_SEND)
                continue;
            unsigned *count = a.probe.len > PROBE_LEN_MIN ? large : small;
            count[a.id] += now_us >= silent_us;
            a.probe.flags = PROBE_RESPONSE;
            if (now_us < silent_us)
                (void)paths_on_response(&p, a.id, &a.probe, now_us + MS);
        }
    }
    assert_int_equal(paths_current(&p), 2);
    assert_true(large[1] == 3 && large[2] == 0 && small[2] > 5);
}

/* A line that keeps packets for seconds, and many paths over it: a doubt asks little,
 * and of what answers one path after the other is asked in full. */
static void test_doubt_on_a_full_line(void **state)
{
    enum { MANY = 8, TAKES_US = 1500000, ASKED_MAX = 200 };
    struct paths p;
    struct paths_action a;
    struct {
        struct path_probe q;
        uint32_t id;
        uint64_t at_us;
    } asked[ASKED_MAX];
    unsigned n = 0, told = 0;
    size_t bytes = 0;
    uint64_t now_us = 10 * S, until_us = now_us + 4 * S;
    (void)state;
    paths_init(&p, true, now_us);
    for (uint32_t id = 1; id <= MANY; id++)
        assert_int_equal(paths_add(&p, id, id > 3, now_us), 0);
    paths_on_rtt(&p, 50 * MS, 10 * MS, now_us);
    paths_on_sent(&p, true, now_us);
    for (; now_us < until_us; now_us += 10 * MS) {
        for (; told < n && asked[told].at_us <= now_us; told++)
            (void)paths_on_response(&p, asked[told].id, &asked[told].q, now_us);
        while (paths_next(&p, now_us, &a)) {
            assert_int_not_equal(a.type, PATHS_DEAD);
            if (a.type != PATHS_SEND)
                continue;
            assert_true(n < ASKED_MAX);
            bytes += a.probe.len;
            a.probe.flags = PROBE_RESPONSE;
            asked[n].q = a.probe;
            asked[n].id = a.id;
            asked[n++].at_us = now_us + TAKES_US;
        }
    }
    print_message("%u questions of %zu bytes\n", n, bytes);
    assert_true(bytes < 6000); /* asked in full each were 11,000 at once */
}

/* When a path that falls silent is dead, where the answers before were `late_us` late.
 */
static uint64_t dies_after_us(bool stream, uint64_t late_us)
{
    struct paths p;
    struct paths_action a;
    uint64_t began_us = 10 * S, now_us = began_us;
    paths_init(&p, true, now_us);
    assert_int_equal(paths_add(&p, 1, stream, now_us), 0);
    paths_on_rtt(&p, 50 * MS, 10 * MS, now_us);
    paths_set_streams(&p, 1);
    paths_set_late(&p, late_us);
    paths_on_sent(&p, false, now_us);
    for (; now_us < began_us + 60 * S; now_us += 10 * MS) {
        if (now_us == began_us + S) /* sent before, and late */
            paths_on_received(&p, 1, now_us);
        while (paths_next(&p, now_us, &a))
            if (a.type == PATHS_DEAD)
                return now_us - began_us;
    }
    return UINT64_MAX;
}

/* Who saw answers come late waits for the next ones; else a death is soon known. */
static void test_patience_where_answers_are_late(void **state)
{
    (void)state;
    assert_in_range(dies_after_us(false, 0), 2 * S, 5 * S / 2);
    assert_in_range(dies_after_us(true, 0), 3 * S, 7 * S / 2);
    for (unsigned stream = 0; stream < 2; stream++) {
        assert_in_range(dies_after_us(stream, S), 6 * S, 15 * S / 2);
        assert_in_range(dies_after_us(stream, 3 * S), 12 * S, 27 * S / 2);
    }
}

static void test_all_dead_then_one_back(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 3, 10 * MS);
    for (unsigned pause_s = 1; pause_s < 700; pause_s *= 5) {
        for (unsigned w = 0; w < 3; w++)
            n.ways[w].up = n.ways[w].down = false;
        unsigned sent = n.sent;
        run_for(&n, pause_s * S);
        assert_true(n.sent - sent < 200 + 12 * pause_s);
        assert_true(paths_silent_since_us(&n.side[1]) > 0);
        n.ways[pause_s % 3].up = n.ways[pause_s % 3].down = true;
        paths_doubt(&n.side[1], true, n.now_us); /* the network came back */
        paths_doubt(&n.side[0], true, n.now_us);
        assert_in_range(until_flows(&n, 60 * S), 0, 200 * MS);
        run_for(&n, 5 * S);
        assert_int_equal(paths_silent_since_us(&n.side[1]), 0);
    }
}

/* A path that is added again where another was removed before it must not stand twice:
 * the table would move from the one to the other for ever. */
static void test_added_twice(void **state)
{
    (void)state;
    struct paths p;
    struct paths_action a;
    paths_init(&p, true, 1000);
    for (uint32_t id = 1; id <= 3; id++)
        assert_int_equal(paths_add(&p, id, false, 1000), 0);
    paths_remove(&p, 2, 2000);
    assert_int_equal(paths_add(&p, 3, false, 3000), 0);
    paths_remove(&p, 3, 4000);
    paths_force(&p, 3, 5000);
    assert_int_not_equal(paths_current(&p), 3);
    unsigned actions = 0;
    while (paths_next(&p, 6000, &a))
        assert_true(++actions < 100);
}

static void test_hint_is_quicker(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 2, 10 * MS);
    run_for(&n, S);
    n.ways[0].up = n.ways[0].down = false;
    paths_doubt(&n.side[1], true, n.now_us);
    assert_in_range(until_flows(&n, 10 * S), 1, 120 * MS);
}

/* A census is open for long beside a path that is dead: who asks meanwhile whether the
 * other side lives gets an answer of now. */
static void test_hint_is_answered_anew(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 2, 10 * MS);
    run_for(&n, S);
    n.ways[1].up = n.ways[1].down = false;
    paths_doubt(&n.side[1], true, n.now_us);
    for (unsigned i = 0; i < 3; i++) {
        run_for(&n, 100 * MS);
        assert_true(n.side[1].census);
        uint64_t asked_us = n.now_us;
        paths_doubt(&n.side[1], true, n.now_us);
        run_for(&n, 50 * MS);
        assert_true(n.side[1].list[0].answered_us >= asked_us);
    }
}

static void test_wish(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 3, 10 * MS);
    paths_want(&n.side[1], 2, n.now_us);
    run_for(&n, 200 * MS);
    assert_int_equal(paths_current(&n.side[1]), 2);
    assert_int_equal(paths_current(&n.side[0]), 2); /* the host follows */
    n.ways[2].up = false;
    paths_want(&n.side[1], 3, n.now_us);
    run_for(&n, 4 * S);
    assert_int_equal(paths_current(&n.side[1]), 2); /* never to one that is dead */
    assert_int_equal(n.dead[2], 1);
}

/* It answered in a census and is wished for then: what a slow path in use may still
 * take for its answer does not hold it up. */
static void test_wish_in_census(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 2, 10 * MS);
    run_for(&n, S);
    n.ways[0].up = n.ways[0].down = false;
    n.side[1].list[0].rtt_us = 1500 * MS;
    paths_on_rtt(&n.side[1], 3 * S, S, n.now_us);
    paths_doubt(&n.side[1], false, n.now_us);
    run_for(&n, 100 * MS);
    assert_int_equal(paths_current(&n.side[1]), 1);
    paths_want(&n.side[1], 2, n.now_us);
    run_for(&n, 100 * MS);
    assert_int_equal(paths_current(&n.side[1]), 2);
}

/* Far away, or farther than it was: it is used all the same, at once and for good. */
static void test_far_wish(void **state)
{
    (void)state;
    for (uint64_t delay_us = 40 * MS; delay_us <= 340 * MS; delay_us += 60 * MS) {
        struct net n;
        net_init(&n, 3, 5 * MS);
        run_for(&n, S);
        paths_want(&n.side[1], 2, n.now_us);
        run_for(&n, S);
        paths_want(&n.side[1], 1, n.now_us);
        run_for(&n, S);
        n.ways[1].delay_us = delay_us;
        n.moves[0] = n.moves[1] = 0;
        paths_want(&n.side[1], 2, n.now_us);
        for (uint64_t t = 0; t < 4 * delay_us; t += 10 * MS) {
            run_for(&n, 10 * MS);
            for (unsigned i = 0; i < 2; i++) /* QUIC still speaks of the other one */
                paths_on_rtt(&n.side[i], 10 * MS, 2 * MS, n.now_us);
        }
        run_for(&n, 5 * S);
        assert_int_equal(paths_current(&n.side[1]), 2);
        assert_int_equal(paths_current(&n.side[0]), 2);
        assert_int_equal(n.moves[1], 1);
        assert_int_equal(n.moves[0], 1);
        assert_int_equal(n.dead[1], 0);
    }
}

/* A choice from before there were keys reaches the host all the same. */
static void test_forced(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 2, 10 * MS);
    paths_force(&n.side[1], 2, n.now_us);
    run_for(&n, 100 * MS);
    assert_int_equal(paths_current(&n.side[1]), 2);
    assert_int_equal(paths_current(&n.side[0]), 2);
}

/* Everything is forgotten just after a move to a far path: to ask again and again which
 * way the host sends puts no doubt off. And bulk is kept back until something answers.
 */
static void test_lost_just_after_a_move(void **state)
{
    struct net n;
    struct paths *p = &n.side[1];
    (void)state;
    net_init(&n, 2, 170 * MS);
    run_for(&n, 3 * S);
    paths_want(p, 2, n.now_us);
    for (unsigned i = 0; i < 3000 && paths_current(p) != 2; i++)
        run_for(&n, MS);
    assert_int_equal(paths_current(p), 2);
    for (unsigned i = 0; i < 2; i++)
        n.ways[i].up = n.ways[i].down = false;
    uint64_t cut_us = n.now_us;
    paths_on_sent(p, false, cut_us);
    assert_false(paths_is_mute(p, cut_us + 340 * MS));
    while (!p->census && n.now_us < cut_us + 10 * S)
        run_for(&n, MS);
    assert_in_range(n.now_us - cut_us, 1, 1500 * MS);
    assert_true(paths_is_mute(p, n.now_us));
    paths_on_progress(p, n.now_us);
    assert_false(paths_is_mute(p, n.now_us));
}

/* What was wished for falls silent for a moment: it is left, and come back to. */
static void test_comes_back(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 2, 10 * MS);
    paths_want(&n.side[1], 2, n.now_us);
    run_for(&n, S);
    n.ways[1].up = n.ways[1].down = false;
    run_for(&n, 700 * MS);
    assert_int_equal(paths_current(&n.side[1]), 1);
    n.ways[1].up = n.ways[1].down = true;
    run_for(&n, 2 * S);
    assert_int_equal(paths_current(&n.side[1]), 2);
    assert_int_equal(paths_current(&n.side[0]), 2);
    assert_int_equal(n.dead[1], 0);
}

/* Only small packets pass from now on, one way or the other. */
static void test_size(void **state)
{
    (void)state;
    for (unsigned who = 0; who < 2; who++) {
        struct net n;
        net_init(&n, 1, 20 * MS);
        paths_set_size(&n.side[who], 1452);
        run_for(&n, 2 * S);
        assert_int_equal(n.shrinks[who], 0);
        n.ways[0].mtu = 1300;
        uint64_t began = n.now_us;
        while (n.shrinks[who] == 0 && n.now_us < began + 10 * S)
            run_for(&n, MS);
        assert_in_range(n.now_us - began, 1, 1500 * MS);
        assert_int_equal(n.dead[0], 0);
        run_for(&n, 20 * S);
        assert_int_equal(n.shrinks[who], 1);
    }
}

/* A path that does not bear the base size is dead, though small packets pass. */
static void test_base_does_not_pass(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 2, 10 * MS);
    run_for(&n, S);
    n.ways[0].mtu = 1100;
    assert_in_range(until_flows(&n, 10 * S), 1, S);
    assert_int_equal(paths_current(&n.side[1]), 2);
    run_for(&n, 3 * S);
    assert_int_equal(n.dead[0], 1);
}

/* No request is answered twice, none of an unknown path, and none from long ago. */
static void test_replay(void **state)
{
    struct paths p;
    struct path_probe q = {.len = 28, .txn = 100, .flags = PROBE_CLIENT}, reply;
    (void)state;
    paths_init(&p, false, S);
    assert_int_equal(paths_add(&p, 7, false, S), 0);
    assert_false(paths_on_request(&p, 8, &q, &reply, S));
    assert_true(paths_on_request(&p, 7, &q, &reply, S));
    assert_false(paths_on_request(&p, 7, &q, &reply, S));
    q.txn = 90;
    assert_true(paths_on_request(&p, 7, &q, &reply, S));
    q.txn = 36;
    assert_false(paths_on_request(&p, 7, &q, &reply, S));
    struct path_probe r = {.len = 28, .txn = 5, .flags = PROBE_RESPONSE};
    assert_int_equal(paths_on_response(&p, 7, &r, S), 0); /* nobody asked */
}

/* An answer that waited while one side slept shows that the path lives, and no time. */
static void test_sleep_is_no_round_trip(void **state)
{
    (void)state;
    struct paths p;
    struct paths_action a;
    paths_init(&p, true, S);
    assert_int_equal(paths_add(&p, 7, false, S), 0);
    paths_doubt(&p, true, S);
    uint32_t rtt = 1;
    while (paths_next(&p, S, &a)) {
        if (a.type != PATHS_SEND)
            continue;
        struct path_probe r = a.probe;
        r.flags = PROBE_RESPONSE;
        rtt = paths_on_response(&p, 7, &r, 59 * S);
        break;
    }
    assert_int_equal(rtt, 0);
    assert_int_equal(p.list[0].answered_us, S);
}

/* Both sides ask once, as keepalives do, and nobody waits for anything. */
static void stand_by(struct net *n, uint64_t us)
{
    paths_ask(&n->side[0], n->now_us);
    paths_ask(&n->side[1], n->now_us);
    for (uint64_t end = n->now_us + us; n->now_us < end; n->now_us += MS)
        turn(n);
}

/*
 * A line that others have filled: answers come after 1.6 s on every way. Who only
 * stands by asks little, moves nowhere and calls nothing dead; the same where none
 * come.
 */
static void test_stands_by_on_a_full_line(void **state)
{
    (void)state;
    for (unsigned cut = 0; cut < 2; cut++) {
        struct net n;
        net_init(&n, 3, 20 * MS);
        paths_doubt(&n.side[1], false, n.now_us);
        run_for(&n, S);
        unsigned moves = n.moves[0] + n.moves[1];
        for (unsigned w = 0; w < 3; w++) {
            n.ways[w].delay_us = 800 * MS;
            n.ways[w].up = n.ways[w].down = cut == 0;
        }
        n.sent = n.sent_bytes = 0;
        paths_on_settled(&n.side[0]);
        paths_on_settled(&n.side[1]);
        stand_by(&n, 15 * S);
        assert_int_equal(n.moves[0] + n.moves[1], moves);
        assert_in_range(n.sent_bytes, 28, cut == 0 ? 400 : 12000);
        assert_int_equal(n.dead[0] + n.dead[1] + n.dead[2], cut == 0 ? 0 : 3);
    }
}

static uint64_t until_silent(struct net *n, unsigned who)
{
    uint64_t began = n->now_us;
    for (; n->silent[who] == 0 && n->now_us < began + 20 * S; n->now_us += MS)
        turn(n);
    return n->now_us - began;
}

/* Who stands by has patience with a path that is dead; who begins to type has none, and
 * no more who got data and then nothing. */
static void test_who_waits_has_no_patience(void **state)
{
    (void)state;
    for (unsigned typed = 0; typed < 2; typed++) {
        struct net n;
        net_init(&n, 1, 20 * MS);
        run_for(&n, 2 * S);
        paths_on_settled(&n.side[1]);
        n.ways[0].up = n.ways[0].down = false;
        if (typed == 0) {
            assert_in_range(until_silent(&n, 1), 1, 2500 * MS);
            continue;
        }
        n.side[1].armed = false; /* nothing came before it for long */
        paths_ask(&n.side[1], n.now_us);
        while (paths_silent_since_us(&n.side[1]) == 0) {
            n.now_us += MS;
            turn(&n);
        }
        assert_int_equal(n.silent[1], 0);
        stand_by(&n, 100 * MS);
        paths_on_sent(&n.side[1], false, n.now_us);
        assert_in_range(until_silent(&n, 1), 1, 1000 * MS);
    }
}

/* Where answers take long it is asked late: the silence began with the last word all
 * the same. */
static void test_silence_since_the_last_word(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 1, 700 * MS);
    run_for(&n, 10 * S);
    n.side[1].list[0].rtt_us = 1500 * MS;
    paths_on_rtt(&n.side[1], 1500 * MS, 200 * MS, n.now_us);
    n.ways[0].down = false;
    uint64_t began_us = n.now_us;
    while (paths_silent_since_us(&n.side[1]) == 0) {
        run_for(&n, MS);
        assert_true(n.now_us < began_us + 20 * S);
    }
    assert_true(n.now_us > began_us + 2 * S);
    assert_in_range(paths_silent_since_us(&n.side[1]), began_us - 20 * MS,
                    began_us + 20 * MS);
}

/*
 * The same line, filled by us: answers take longer than anything was believed to, and
 * what was sent is acknowledged all the while. That is no trouble; where it ends it is.
 */
static void test_busy_on_a_full_line(void **state)
{
    struct net n;
    (void)state;
    net_init(&n, 3, 20 * MS);
    paths_doubt(&n.side[1], false, n.now_us);
    run_for(&n, S);
    n.ways[0].delay_us = 2 * S;
    n.sent = n.sent_bytes = 0;
    paths_ask(&n.side[0], n.now_us);
    paths_ask(&n.side[1], n.now_us);
    run_for(&n, 10 * S);
    assert_int_equal(n.moves[0] + n.moves[1], 0);
    assert_in_range(n.sent_bytes, 28, 600);
    n.ways[0].up = n.ways[0].down = false;
    assert_in_range(until_flows(&n, 10 * S), 1, S);
}

/* A host that followed its client to a path that it never asked asks it once, and has
 * its patience from then on: a path that is lost just then is missed as soon as any. */
static void test_who_follows_measures(void **state)
{
    struct paths p;
    struct paths_action a;
    uint64_t now_us = 10 * S;
    unsigned asked = 0;
    (void)state;
    paths_init(&p, false, now_us);
    assert_int_equal(paths_add(&p, 1, true, now_us), 0);
    assert_int_equal(paths_add(&p, 2, false, now_us), 0);
    paths_on_rtt(&p, 40 * MS, 5 * MS, now_us);
    paths_set_streams(&p, 1);
    struct path_probe use = {
        .flags = PROBE_USE | PROBE_CLIENT, .len = PROBE_LEN_MIN, .txn = 1, .use = 1};
    struct path_probe reply;
    assert_true(paths_on_request(&p, 2, &use, &reply, now_us));
    while (paths_next(&p, now_us, &a))
        if (a.type == PATHS_SEND && a.id == 2 && a.probe.len == PROBE_LEN_MIN) {
            asked++;
            a.probe.flags = PROBE_RESPONSE;
            now_us += 20 * MS;
            assert_in_range(paths_on_response(&p, 2, &a.probe, now_us), 1, 20 * MS);
        }
    assert_int_equal(paths_current(&p), 2);
    assert_int_equal(asked, 1);
    paths_on_sent(&p, false, now_us);
    assert_in_range(paths_deadline_us(&p), now_us, now_us + 250 * MS);
}

/* In a census who is asked asks back by the same way, and not after a pause. */
static void test_who_is_asked_asks(void **state)
{
    struct paths p;
    struct paths_action a;
    uint64_t now_us = 10 * S;
    bool asked = false;
    (void)state;
    paths_init(&p, true, now_us);
    assert_int_equal(paths_add(&p, 1, true, now_us), 0);
    assert_int_equal(paths_add(&p, 2, true, now_us), 0);
    paths_set_meagre(&p, 2);
    paths_on_rtt(&p, 40 * MS, 5 * MS, now_us);
    paths_doubt(&p, false, now_us);
    for (uint64_t end_us = now_us + S; now_us < end_us; now_us = paths_deadline_us(&p))
        while (paths_next(&p, now_us, &a))
            assert_false(a.type == PATHS_MOVE);
    uint64_t asks_us = now_us - 200 * MS; /* the census does not, before now_us */
    struct path_probe q = {.len = PROBE_LEN_MIN, .txn = 1}, reply;
    assert_true(paths_on_request(&p, 2, &q, &reply, asks_us));
    while (paths_next(&p, asks_us, &a))
        asked = asked || (a.type == PATHS_SEND && a.id == 2);
    assert_true(asked);
}

/*
 * Ways die and come back at random, some in one direction alone; whenever one has lived
 * for a while, data flows: mostly soon, always at last.
 */
static void test_any_weather(void **state)
{
    (void)state;
    unsigned late = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct net n;
        uint64_t rng = seed, worst = 0;
        net_init(&n, 4, 5 * MS + rng_below(&rng, 40) * MS);
        for (unsigned i = 0; i < 40; i++) {
            for (unsigned w = 0; w < 4; w++) {
                n.ways[w].up = rng_below(&rng, 3) == 0;
                n.ways[w].down = n.ways[w].up || rng_below(&rng, 4) == 0;
            }
            run_for(&n, rng_below(&rng, 3000) * MS);
            unsigned lives = (unsigned)rng_below(&rng, 4);
            n.ways[lives].up = n.ways[lives].down = true;
            uint64_t took = until_flows(&n, 20 * S);
            worst = took > worst ? took : worst;
            late += took > 2 * S;
            paths_want(&n.side[1], 1 + (uint32_t)rng_below(&rng, 4), n.now_us);
        }
        assert_in_range(worst, 0, 6 * S);
    }
    assert_in_range(late, 0, 100 * 40 / 100); /* 1 % */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet_when_well),
        cmocka_unit_test(test_one_way_or_both),
        cmocka_unit_test(test_lossy_is_not_buried),
        cmocka_unit_test(test_many_dead_at_once),
        cmocka_unit_test(test_added_twice),
        cmocka_unit_test(test_meagre),
        cmocka_unit_test(test_meagre_is_left),
        cmocka_unit_test(test_slow_stream),
        cmocka_unit_test(test_a_census_without_end),
        cmocka_unit_test(test_a_proven_stream_is_asked_by_little),
        cmocka_unit_test(test_doubt_on_a_full_line),
        cmocka_unit_test(test_patience_where_answers_are_late),
        cmocka_unit_test(test_all_dead_then_one_back),
        cmocka_unit_test(test_hint_is_quicker),
        cmocka_unit_test(test_hint_is_answered_anew),
        cmocka_unit_test(test_wish),
        cmocka_unit_test(test_wish_in_census),
        cmocka_unit_test(test_far_wish),
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_lost_just_after_a_move),
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_base_does_not_pass),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_sleep_is_no_round_trip),
        cmocka_unit_test(test_stands_by_on_a_full_line),
        cmocka_unit_test(test_who_waits_has_no_patience),
        cmocka_unit_test(test_silence_since_the_last_word),
        cmocka_unit_test(test_busy_on_a_full_line),
        cmocka_unit_test(test_who_follows_measures),
        cmocka_unit_test(test_who_is_asked_asks),
        cmocka_unit_test(test_any_weather),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
