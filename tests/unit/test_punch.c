/* The punching machine against itself over a small network of rules, and attacks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/punch.h"
#include "core/punch_wire.h"

enum { ONE_WAY_US = 20000, QUEUE = 512, SENT_TO = 128 };

struct flight {
    bool used;
    int to; /* side */
    struct addr from;
    struct punch_packet p;
    uint64_t at_us;
};

/* Two sides with one address each; `open` says whether a packet gets through. */
struct net {
    struct punch side[2];
    struct addr addr[2];
    struct flight q[QUEUE];
    uint64_t now_us;
    bool deaf[2];      /* nothing arrives at this side */
    enum fate fate[2]; /* of what each sends */
    bool filter;       /* a side hears only an address it has sent to */
    bool spoke[2];
    unsigned sent[2];
    unsigned lost_first; /* so many packets are dropped */
};

static struct addr A(const char *text) {
    struct addr a;
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

static struct punch_config
config_for(bool controlling)
{
    struct punch_config c = {.controlling = controlling, .seed = 7, .generation = 1};
    memset(c.key, 0x5a, sizeof(c.key));
    return c;
}

static void net_init(struct net *n)
{
    memset(n, 0, sizeof(*n));
    n->now_us = 1000000;
    n->addr[0] = A("198.51.100.1:4000");
    n->addr[1] = A("203.0.113.2:5000");
    for (int i = 0; i < 2; i++) {
        struct punch_config c = config_for(i == 0);
        punch_init(&n->side[i], &c);
        punch_add_socket(&n->side[i], 0, ADDR_V4);
    }
}

static void net_send(struct net *n, int from, const struct punch_packet *p)
{
    n->sent[from]++;
    n->spoke[from] = true;
    if (n->lost_first > 0) {
        n->lost_first--;
        return;
    }
    if (!addr_equal(&p->to, &n->addr[!from]))
        return;
    for (int i = 0; i < QUEUE; i++) {
        if (n->q[i].used)
            continue;
        n->q[i] = (struct flight){.used = true,
                                  .to = !from,
                                  .from = n->addr[from],
                                  .p = *p,
                                  .at_us = n->now_us + ONE_WAY_US};
        return;
    }
    fail_msg("queue full");
}

static void net_pull(struct net *n)
{
    struct punch_packet p;
    for (int i = 0; i < 2; i++)
        while (punch_next_packet(&n->side[i], n->now_us, &p)) {
            punch_on_sent(&n->side[i], &p, n->fate[i]);
            if (n->fate[i] == FATE_LEFT)
                net_send(n, i, &p);
        }
}

static void net_deliver(struct net *n)
{
    for (int i = 0; i < QUEUE; i++) {
        struct flight *f = &n->q[i];
        if (!f->used || f->at_us > n->now_us)
            continue;
        f->used = false;
        if (n->deaf[f->to] || (n->filter && !n->spoke[f->to]))
            continue;
        assert_int_equal(punch_on_packet(&n->side[f->to], 0, &f->from, f->p.buf,
                                         f->p.len, n->now_us),
                         1);
    }
}

static void net_run(struct net *n, uint64_t for_us)
{
    for (uint64_t end = n->now_us + for_us; n->now_us < end; n->now_us += 1000) {
        net_deliver(n);
        net_pull(n);
        for (int i = 0; i < 2; i++)
            assert_true(punch_deadline_us(&n->side[i]) > n->now_us);
    }
}

static void net_exchange(struct net *n)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(punch_add_remote(&n->side[i], CAND_REFLEXIVE, &n->addr[!i]),
                         0);
        punch_start(&n->side[i], n->now_us);
    }
}

static void test_both_prove(void **state)
{
    (void)state;
    struct net n;
    net_init(&n);
    n.filter = true;
    net_exchange(&n);
    net_run(&n, 400000);
    for (int i = 0; i < 2; i++) {
        const struct punch_pair *best = punch_best(&n.side[i]);
        assert_non_null(best);
        assert_int_equal(punch_state(&n.side[i]), PUNCH_PROVEN);
        assert_true(best->valid_inbound);
        assert_in_range(best->rtt_us, 2 * ONE_WAY_US, 2 * ONE_WAY_US + 5000);
        assert_true(addr_equal(&best->remote, &n.addr[!i]));
        assert_true(addr_equal(&best->seen, &n.addr[i]));
        assert_true(punch_known_remote(&n.side[i], 0, &n.addr[!i]));
        assert_true(n.sent[i] <= 6);
        assert_non_null(strstr(punch_reason(&n.side[i]), "answers in"));
    }
    assert_int_equal(punch_deadline_us(&n.side[0]), UINT64_MAX);
}

static void test_loss(void **state)
{
    (void)state;
    struct net n;
    net_init(&n);
    n.lost_first = 7;
    net_exchange(&n);
    net_run(&n, 3000000);
    assert_non_null(punch_best(&n.side[0]));
    assert_non_null(punch_best(&n.side[1]));
}

/* The side that was told nothing learns the other from its check. */
static void test_peer_reflexive(void **state)
{
    (void)state;
    struct net n;
    net_init(&n);
    punch_start(&n.side[0], n.now_us);
    punch_start(&n.side[1], n.now_us);
    assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &n.addr[1]), 0);
    net_run(&n, 300000);
    assert_non_null(punch_best(&n.side[1]));
    assert_int_equal(punch_best(&n.side[1])->type, CAND_PEER);
    assert_int_equal(punch_best(&n.side[0])->type, CAND_HOST);
}

static void test_budget_and_reason(void **state)
{
    (void)state;
    struct net n;
    net_init(&n);
    n.deaf[0] = n.deaf[1] = true;
    net_exchange(&n);
    punch_set_hint(
        &n.side[0],
        &(struct punch_hint){.own_mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
                             .peer_filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT});
    assert_non_null(strstr(punch_reason(&n.side[0]), "being tried"));
    net_run(&n, PUNCH_GIVE_UP_US + 100000);
    assert_int_equal(n.sent[0], PUNCH_MAX_REQUESTS);
    assert_int_equal(punch_state(&n.side[0]), PUNCH_FAILED);
    assert_non_null(strstr(punch_reason(&n.side[0]), "(symmetric)"));
    assert_non_null(strstr(punch_reason(&n.side[0]), "12 checks"));
    assert_null(strstr(punch_reason(&n.side[1]), "symmetric"));
    punch_set_hint(&n.side[1], &(struct punch_hint){.own_udp = PUNCH_UDP_BLOCKED});
    assert_non_null(strstr(punch_reason(&n.side[1]), "no UDP comes back"));
    assert_null(strstr(punch_reason(&n.side[1]), "which answers the other side"));
    punch_set_hint(&n.side[1], &(struct punch_hint){.own_udp = PUNCH_UDP_BLOCKED,
                                                    .peer_udp = PUNCH_UDP_OK});
    assert_non_null(strstr(punch_reason(&n.side[1]), "which answers the other side"));
    assert_int_equal(punch_deadline_us(&n.side[0]), UINT64_MAX);
    assert_int_equal(punch_probe(&n.side[0], 0, n.now_us), POSTERN_ERR_LIMIT);
}

/* What did not leave is not called unanswered, whyever it did not. */
static void test_nothing_left(void **state)
{
    static const struct {
        enum fate fate;
        const char *words;
    } cases[] = {{FATE_BARRED, "own firewall"},
                 {FATE_STRANDED, "no route"},
                 {FATE_HELD, "as much as may be"},
                 {FATE_NAMED, "as many new addresses"}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct net n;
        net_init(&n);
        n.fate[0] = cases[i].fate;
        n.deaf[0] = true;
        net_exchange(&n);
        net_run(&n, PUNCH_GIVE_UP_US + 100000);
        assert_int_equal(punch_state(&n.side[0]), PUNCH_FAILED);
        assert_non_null(strstr(punch_reason(&n.side[0]), cases[i].words));
        assert_null(strstr(punch_reason(&n.side[0]), "checks"));
    }
}

/* Requests arrive, answers do not: the answers are bounded too. */
static void test_one_way(void **state)
{
    (void)state;
    struct net n;
    net_init(&n);
    n.deaf[0] = true;
    net_exchange(&n);
    net_run(&n, PUNCH_GIVE_UP_US + 100000);
    assert_true(n.sent[1] <= PUNCH_MAX_UNANSWERED);
    assert_non_null(strstr(punch_reason(&n.side[1]), "checks arrive here"));
    /* the way opens late: the next try of the other side proves it after all */
    n.deaf[0] = false;
    punch_restart(&n.side[0], n.now_us);
    punch_add_socket(&n.side[0], 0, ADDR_V4);
    assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &n.addr[1]), 0);
    assert_true(
        punch_on_peer_generation(&n.side[1], punch_generation(&n.side[0]), n.now_us));
    net_run(&n, 1000000);
    assert_int_equal(punch_state(&n.side[0]), PUNCH_PROVEN);
    assert_int_equal(punch_state(&n.side[1]), PUNCH_PROVEN);
}

static void test_no_family(void **state)
{
    (void)state;
    struct punch p;
    struct punch_packet out;
    struct punch_config c = config_for(true);
    struct addr v6 = A("[2001:db8::1]:9");
    punch_init(&p, &c);
    punch_add_socket(&p, 0, ADDR_V4);
    assert_int_equal(punch_add_remote(&p, CAND_HOST, &v6), 0);
    punch_start(&p, 1000);
    assert_false(punch_next_packet(&p, 1000, &out));
    assert_int_equal(punch_state(&p), PUNCH_CHECKING);
    punch_set_remote_complete(&p);
    assert_false(punch_next_packet(&p, 2000, &out));
    assert_int_equal(punch_state(&p), PUNCH_FAILED);
    assert_non_null(strstr(punch_reason(&p), "family"));
    struct addr v4 = A("192.0.2.1:9");
    assert_int_equal(punch_add_remote(&p, CAND_HOST, &v4), 0);
    assert_true(punch_next_packet(&p, 3000, &out));
    assert_int_equal(punch_state(&p), PUNCH_CHECKING);
}

static void test_candidates_refused(void **state)
{
    (void)state;
    static const char *bad[] = {"0.0.0.0:5",   "224.0.0.1:5", "255.255.255.255:5",
                                "127.0.0.1:5", "192.0.2.1:0", "[::1]:5",
                                "[fe80::1]:5", "[ff02::1]:5", "[::]:5"};
    struct punch p;
    struct punch_config c = config_for(true);
    punch_init(&p, &c);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct addr a = A(bad[i]);
        assert_int_equal(punch_add_remote(&p, CAND_HOST, &a), POSTERN_ERR_INVALID);
    }
    struct addr a = A("192.0.2.1:1");
    int added = 0;
    for (int i = 0; i < 100; i++, a.port++)
        added += punch_add_remote(&p, CAND_HOST, &a) == 0;
    assert_int_equal(added, PUNCH_MAX_PER_IP);
    for (int i = 0; i < 100; i++, a.ip[3]++)
        added += punch_add_remote(&p, CAND_HOST, &a) == 0;
    assert_int_equal(added, PUNCH_MAX_LISTED);
    c.allow_loopback = true;
    punch_init(&p, &c);
    a = A("127.0.0.1:5");
    assert_int_equal(punch_add_remote(&p, CAND_HOST, &a), 0);
    assert_int_equal(punch_add_remote(&p, CAND_HOST, &a), 0);
    assert_int_equal(p.remote_count, 1);
}

static void test_pacing(void **state)
{
    (void)state;
    struct punch p;
    struct punch_packet out;
    struct punch_config c = config_for(true);
    punch_init(&p, &c);
    punch_add_socket(&p, 0, ADDR_V4);
    punch_add_socket(&p, 1, ADDR_V6);
    struct addr a = A("192.0.2.1:1"), b = A("[2001:db8::1]:1");
    for (int i = 0; i < 6; i++, a.ip[3]++, b.ip[15]++) {
        assert_int_equal(punch_add_remote(&p, CAND_REFLEXIVE, &a), 0);
        assert_int_equal(punch_add_remote(&p, CAND_HOST, &b), 0);
    }
    punch_start(&p, 0);
    uint64_t last = 0;
    unsigned first = 0;
    for (uint64_t now = 0; now < 60000; now += 500) {
        if (!punch_next_packet(&p, now, &out))
            continue;
        assert_true(now == 0 || now - last >= PUNCH_PACE_US);
        last = now;
        assert_int_equal(out.sock, first < 6 ? 1 : 0); /* IPv6 hosts go first */
        first++;
    }
    assert_int_equal(first, 12);
}

static size_t request(uint8_t *buf, bool controlling, uint32_t generation, uint64_t id)
{
    struct punch_config c = config_for(controlling);
    struct punch_check k = {
        .controlling = controlling, .generation = generation, .id = id << 32 | 5};
    return punch_check_encode(&k, c.key, buf);
}

static void test_strangers(void **state)
{
    (void)state;
    struct net n;
    struct punch_packet out;
    uint8_t buf[PUNCH_PACKET_MAX + 1] = {0}, bad[PUNCH_PACKET_MAX + 1];
    net_init(&n);
    struct punch *p = &n.side[1];
    size_t len = request(buf, true, 1, 1);
    for (size_t bit = 0; bit < len * 8; bit++) {
        memcpy(bad, buf, sizeof(bad));
        bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(punch_on_packet(p, 0, &n.addr[0], bad, len, 5), 0);
    }
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(punch_on_packet(p, 0, &n.addr[0], buf, cut, 5), 0);
    assert_int_equal(punch_on_packet(p, 0, &n.addr[0], buf, len + 1, 5), 0);
    /* reflected: it has our own direction */
    len = request(buf, false, 1, 1);
    assert_int_equal(punch_on_packet(p, 0, &n.addr[0], buf, len, 5), 0);
    assert_int_equal(punch_on_packet(p, 3, &n.addr[0], buf, len, 5), 0);
    assert_int_equal(punch_on_packet(p, 99, &n.addr[0], buf, len, 5), 0);
    assert_false(punch_next_packet(p, 5, &out));
    assert_int_equal(p->remote_count, 0);
    assert_false(punch_known_remote(p, 0, &n.addr[0]));
}

static void test_replay(void **state)
{
    (void)state;
    struct net n;
    struct punch_packet out;
    uint8_t buf[PUNCH_PACKET_MAX];
    struct addr victim = A("192.0.2.66:666");
    net_init(&n);
    struct punch *p = &n.side[1];
    size_t len = request(buf, true, 1, 10);
    assert_int_equal(punch_on_packet(p, 0, &n.addr[0], buf, len, 5), 1);
    assert_true(punch_next_packet(p, 5, &out));
    assert_false(punch_next_packet(p, 5, &out)); /* not started: it only answers */
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(punch_on_packet(p, 0, &victim, buf, len, 6), 1);
        assert_false(punch_next_packet(p, 6, &out));
    }
    assert_false(punch_known_remote(p, 0, &victim));
    unsigned answers = 0;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(punch_on_packet(p, 0, &n.addr[0], buf, len, 7), 1);
        while (punch_next_packet(p, 7, &out))
            answers++;
    }
    assert_int_equal(answers, PUNCH_MAX_REPLAYS);
    /* out of order is fine once; older than the window is not told from a replay */
    len = request(buf, true, 1, 9);
    (void)punch_on_packet(p, 0, &victim, buf, len, 8);
    assert_true(punch_known_remote(p, 0, &victim));
    len = request(buf, true, 1, 5000);
    (void)punch_on_packet(p, 0, &n.addr[0], buf, len, 9);
    struct addr other = A("192.0.2.67:1");
    len = request(buf, true, 1, 8);
    (void)punch_on_packet(p, 0, &other, buf, len, 9);
    assert_false(punch_known_remote(p, 0, &other));
    /* a generation that the peer left is stale, a newer one begins again at 1 */
    len = request(buf, true, 2, 1);
    (void)punch_on_packet(p, 0, &other, buf, len, 9);
    assert_true(punch_known_remote(p, 0, &other));
    struct addr late = A("192.0.2.68:1");
    len = request(buf, true, 1, 6000);
    (void)punch_on_packet(p, 0, &late, buf, len, 9);
    assert_false(punch_known_remote(p, 0, &late));
}

/* A response must come from where its request went, and is believed once. */
static void test_response_source(void **state)
{
    (void)state;
    struct net n;
    struct punch_packet out;
    uint8_t buf[PUNCH_PACKET_MAX];
    struct addr other = A("192.0.2.66:666");
    net_init(&n);
    net_exchange(&n);
    struct punch *p = &n.side[0];
    assert_true(punch_next_packet(p, n.now_us, &out));
    struct punch_config c = config_for(false);
    struct punch_check k = {
        .response = true, .generation = 1, .id = 1ull << 32, .seen = n.addr[0]};
    size_t len = punch_check_encode(&k, c.key, buf);
    (void)punch_on_packet(p, 0, &n.addr[1], buf, len, n.now_us);
    assert_null(punch_best(p)); /* a guess is not enough */
    struct punch_check asked;
    assert_int_equal(punch_check_decode(&asked, c.key, out.buf, out.len), 0);
    k.id = asked.id;
    len = punch_check_encode(&k, c.key, buf);
    (void)punch_on_packet(p, 0, &other, buf, len, n.now_us);
    assert_null(punch_best(p));
    k.generation = 2;
    len = punch_check_encode(&k, c.key, buf);
    (void)punch_on_packet(p, 0, &n.addr[1], buf, len, n.now_us);
    assert_null(punch_best(p));
    k.generation = 1;
    len = punch_check_encode(&k, c.key, buf);
    (void)punch_on_packet(p, 0, &n.addr[1], buf, len, n.now_us + 100);
    assert_non_null(punch_best(p));
    (void)punch_on_packet(p, 0, &n.addr[1], buf, len, n.now_us + 900000);
    assert_int_equal(punch_best(p)->rtt_us, 100);
}

static void test_restart_and_probe(void **state)
{
    (void)state;
    struct net n;
    net_init(&n);
    net_exchange(&n);
    net_run(&n, 300000);
    unsigned before = n.sent[0];
    int best = punch_best_index(&n.side[0]);
    assert_int_equal(punch_probe(&n.side[0], best, n.now_us), 0);
    assert_int_equal(punch_probe(&n.side[0], 77, n.now_us), POSTERN_ERR_INVALID);
    uint64_t answered = punch_best(&n.side[0])->answered_us;
    net_run(&n, 100000);
    assert_int_equal(n.sent[0], before + 1);
    assert_true(punch_best(&n.side[0])->answered_us > answered);
    punch_restart(&n.side[0], n.now_us);
    assert_null(punch_best(&n.side[0]));
    assert_true(punch_known_remote(&n.side[0], 0, &n.addr[1]));
    punch_add_socket(&n.side[0], 0, ADDR_V4);
    assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &n.addr[1]), 0);
    n.addr[0] = A("198.51.100.99:4321"); /* it moved */
    net_run(&n, 1500000);
    assert_non_null(punch_best(&n.side[0]));
    assert_int_not_equal(punch_find_pair(&n.side[1], 0, &n.addr[0]), PUNCH_NO_PAIR);
}

/*
 * A round of ours brings one of the peer's: what it names is asked at once. One more
 * soon after that is held back as ever.
 */
static void test_the_answer_to_a_round_is_not_held_back(void **state)
{
    (void)state;
    struct net n;
    struct punch_packet out;
    net_init(&n);
    assert_true(punch_on_peer_generation(&n.side[0], 1, n.now_us));
    assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &n.addr[1]), 0);
    punch_start(&n.side[0], n.now_us);
    n.now_us += 6000000;
    punch_restart(&n.side[0], n.now_us);
    punch_add_socket(&n.side[0], 0, ADDR_V4);
    for (uint32_t generation = 2; generation <= 3; generation++) {
        n.now_us += 50000;
        assert_true(punch_on_peer_generation(&n.side[0], generation, n.now_us));
        assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &n.addr[1]), 0);
        assert_int_equal(punch_next_packet(&n.side[0], n.now_us, &out),
                         generation == 2);
    }
}

/* A mapping that a check has reached speaks with who sent it, and nobody else. */
static void test_an_adopted_socket(void **state)
{
    (void)state;
    struct net n;
    struct punch_packet out;
    uint8_t probe[PUNCH_PACKET_MAX];
    struct addr other = A("203.0.113.2:6000"), third = A("203.0.113.2:6001");
    net_init(&n);
    assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &n.addr[1]), 0);
    punch_start(&n.side[0], n.now_us);
    while (punch_next_packet(&n.side[0], n.now_us, &out))
        ;
    punch_adopt_socket(&n.side[0], 5, ADDR_V4);
    assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &third), 0);
    size_t len = punch_make_probe(&n.side[1], probe);
    assert_int_equal(punch_on_packet(&n.side[0], 5, &other, probe, len, n.now_us), 1);
    unsigned from_adopted = 0;
    for (int i = 0; i < 100; i++, n.now_us += 5000)
        while (punch_next_packet(&n.side[0], n.now_us, &out)) {
            assert_true(out.sock != 5 || addr_equal(&out.to, &other));
            from_adopted += out.sock == 5;
        }
    assert_true(from_adopted >= 2); /* the response, and checks of its own */
    punch_remove_socket(&n.side[0], 5);
    for (int i = 0; i < 100; i++, n.now_us += 5000)
        while (punch_next_packet(&n.side[0], n.now_us, &out))
            assert_int_not_equal(out.sock, 5);
}

/* The first Offer may come after the checks: what they proved stays, if it is of it. */
static void test_first_offer_late(void **state)
{
    (void)state;
    for (uint32_t generation = 1; generation <= 2; generation++) {
        struct net n;
        net_init(&n);
        assert_int_equal(punch_add_remote(&n.side[0], CAND_HOST, &n.addr[1]), 0);
        punch_start(&n.side[0], n.now_us);
        punch_start(&n.side[1], n.now_us);
        net_run(&n, 300000);
        assert_non_null(punch_best(&n.side[1]));
        assert_true(punch_on_peer_generation(&n.side[1], generation, n.now_us));
        assert_int_equal(punch_best(&n.side[1]) != NULL, generation == 1);
        assert_false(punch_on_peer_generation(&n.side[1], generation, n.now_us));
    }
}

/* A silent pair is unproven, and only a new answer or a restart makes it good. */
static void test_dead(void **state)
{
    (void)state;
    struct net n;
    net_init(&n);
    net_exchange(&n);
    net_run(&n, 300000);
    int best = punch_best_index(&n.side[0]);
    punch_on_dead(&n.side[0], 77);
    punch_on_dead(&n.side[0], PUNCH_NO_PAIR);
    assert_int_equal(punch_state(&n.side[0]), PUNCH_PROVEN);
    punch_on_dead(&n.side[0], best);
    assert_null(punch_best(&n.side[0]));
    assert_int_equal(punch_state(&n.side[0]), PUNCH_FAILED);
    assert_non_null(strstr(punch_reason(&n.side[0]), "silent"));
    unsigned sent = n.sent[0];
    net_run(&n, 10000000);
    assert_int_equal(n.sent[0], sent);
    assert_int_equal(punch_probe(&n.side[0], best, n.now_us), 0);
    net_run(&n, 100000);
    assert_int_equal(punch_best_index(&n.side[0]), best);
    assert_int_equal(punch_state(&n.side[0]), PUNCH_PROVEN);
}

/* Generations may come as fast as they like, the counts start again once a second. */
static void test_restart_flood(void **state)
{
    (void)state;
    struct punch p;
    struct punch_packet out;
    struct punch_config c = config_for(false);
    struct addr victim = A("192.0.2.1:53");
    punch_init(&p, &c);
    punch_add_socket(&p, 0, ADDR_V4);
    punch_start(&p, 1000000);
    unsigned sent = 0;
    uint32_t generation = 1;
    for (uint64_t now = 1000000; now < 4000000; now += 1000) {
        if (punch_on_peer_generation(&p, ++generation, now))
            assert_int_equal(punch_add_remote(&p, CAND_HOST, &victim), 0);
        while (punch_next_packet(&p, now, &out))
            sent++;
    }
    assert_true(sent <= 4 * PUNCH_MAX_REQUESTS);
}

static void test_wire_forms(void **state)
{
    (void)state;
    struct punch_config c = config_for(true);
    uint8_t buf[PUNCH_PACKET_MAX];
    struct punch_check in = {.response = true,
                             .controlling = true,
                             .generation = 0xfffffffe,
                             .id = 0x0123456789abcdef,
                             .seen = A("[2001:db8::7]:65535")},
                       out;
    size_t len = punch_check_encode(&in, c.key, buf);
    assert_int_equal(len, PUNCH_PACKET_MAX);
    assert_null(memmem(buf, len, in.seen.ip, 4)); /* a NAT would change it */
    assert_int_equal(punch_check_decode(&out, c.key, buf, len), 0);
    assert_true(addr_equal(&in.seen, &out.seen) && in.id == out.id &&
                in.generation == out.generation && out.response && out.controlling);
    in.response = false;
    len = punch_check_encode(&in, c.key, buf);
    assert_int_equal(len, PUNCH_REQUEST_LEN);
    assert_int_equal(punch_check_decode(&out, c.key, buf, len), 0);
    assert_false(out.response);
    c.key[0] ^= 1;
    assert_int_equal(punch_check_decode(&out, c.key, buf, len), POSTERN_ERR_PROTO);
}

/* Within 10 % IPv6 and host addresses go before translated ones. */
static void test_best(void **state)
{
    (void)state;
    struct punch p;
    struct punch_config c = config_for(true);
    punch_init(&p, &c);
    punch_add_socket(&p, 0, ADDR_V4);
    punch_add_socket(&p, 1, ADDR_V6);
    struct addr refl = A("192.0.2.1:1"), host = A("192.0.2.2:1"), v6 = A("[2001::1]:1");
    assert_int_equal(punch_add_remote(&p, CAND_REFLEXIVE, &refl), 0);
    assert_int_equal(punch_add_remote(&p, CAND_HOST, &host), 0);
    assert_int_equal(punch_add_remote(&p, CAND_HOST, &v6), 0);
    assert_null(punch_best(&p));
    p.pairs[0].proven = p.pairs[1].proven = p.pairs[2].proven = true;
    p.pairs[0].rtt_us = 30000;
    p.pairs[1].rtt_us = 32000;
    p.pairs[2].rtt_us = 40000;
    assert_int_equal(punch_best_index(&p), 1);
    p.pairs[2].rtt_us = 33000;
    assert_int_equal(punch_best_index(&p), 2);
    p.pairs[0].rtt_us = 20000;
    assert_int_equal(punch_best_index(&p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_prove),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_peer_reflexive),
        cmocka_unit_test(test_budget_and_reason),
        cmocka_unit_test(test_nothing_left),
        cmocka_unit_test(test_one_way),
        cmocka_unit_test(test_no_family),
        cmocka_unit_test(test_candidates_refused),
        cmocka_unit_test(test_pacing),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_response_source),
        cmocka_unit_test(test_restart_and_probe),
        cmocka_unit_test(test_the_answer_to_a_round_is_not_held_back),
        cmocka_unit_test(test_an_adopted_socket),
        cmocka_unit_test(test_first_offer_late),
        cmocka_unit_test(test_dead),
        cmocka_unit_test(test_restart_flood),
        cmocka_unit_test(test_wire_forms),
        cmocka_unit_test(test_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
