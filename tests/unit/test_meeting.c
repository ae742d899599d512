/*
 * Meetings told as stories of two machines that hear each other's Offers, and random
 * ones: whatever happens in whatever order, a meeting comes to an end, and nobody is
 * sent more than is stated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/key.h"
#include "core/meeting.h"
#include "core/rng.h"
#include "state_watch.h"

enum { RTT_MS = 80, LOG_MAX = 64 };

struct side {
    struct meeting m;
    struct meeting_side own;
    struct meeting_address addrs[2];
    size_t addr_count;
    const char *refuses; /* in PREPARE */
    bool silent;         /* answers neither GATHER nor PREPARE by itself */
    bool telling;        /* an Offer is to go out */
    enum meeting_action_type log[LOG_MAX];
    struct meeting_step steps[LOG_MAX];
    uint64_t step_ms[LOG_MAX];
    size_t log_count, step_count;
};

static bool all_fit(void *ctx, const struct addr *a)
{
    (void)ctx, (void)a;
    return true;
}

static struct addr address(unsigned last, uint16_t port)
{
    struct addr a = {.family = ADDR_V4, .port = port, .ip = {198, 51, 100}};
    a.ip[3] = (uint8_t)last;
    return a;
}

static void side_init(struct side *s, enum path_kind kind, bool client)
{
    memset(s, 0, sizeof(*s));
    meeting_init(&s->m, kind, client, 0);
    s->addrs[0].addr = address(client ? 1 : 2, 4000);
    s->addr_count = 1;
    meeting_at(&s->m, 1000, RTT_MS);
}

static void pull(struct side *s)
{
    enum meeting_action_type a;
    while (meeting_next(&s->m, &a)) {
        assert_true(s->log_count < LOG_MAX);
        s->log[s->log_count++] = a;
        if (a == MEETING_TELL) {
            s->telling = true;
        } else if (a == MEETING_STEP) {
            assert_int_equal(s->m.phase, MEETING_MEETING);
            s->step_ms[s->step_count] = s->m.now_ms;
            s->steps[s->step_count++] = meeting_step_now(&s->m);
        } else if (a == MEETING_LAST && !s->m.udp) {
            meeting_over(&s->m);
        } else if (!s->silent && a == MEETING_GATHER) {
            meeting_gathered(&s->m, &s->own);
        } else if (!s->silent && a == MEETING_PREPARE && s->refuses != NULL) {
            meeting_refuse(&s->m, s->refuses);
        } else if (!s->silent && a == MEETING_PREPARE) {
            meeting_ready(&s->m);
        }
    }
}

static bool did(const struct side *s, enum meeting_action_type a)
{
    for (size_t i = 0; i < s->log_count; i++)
        if (s->log[i] == a)
            return true;
    return false;
}

/* Both pull, and what is to be told arrives at once. */
static void talk(struct side *a, struct side *b)
{
    for (int i = 0; i < 8; i++) {
        struct side *from = i % 2 == 0 ? a : b, *to = i % 2 == 0 ? b : a;
        pull(from);
        if (!from->telling)
            continue;
        Offer o = Offer_init_zero;
        from->telling = false;
        meeting_fill(&from->m, from->addrs, from->addr_count, &o);
        meeting_on_offer(&to->m, &o, all_fit, NULL);
        pull(to);
    }
}

static void pass(struct side *a, struct side *b, uint64_t ms)
{
    for (uint64_t end = a->m.now_ms + ms; a->m.now_ms < end;) {
        meeting_at(&a->m, a->m.now_ms + 5, RTT_MS);
        meeting_at(&b->m, b->m.now_ms + 5, RTT_MS);
        talk(a, b);
    }
}

static void begin(struct side *client, struct side *host, enum path_kind kind)
{
    side_init(client, kind, true);
    side_init(host, kind, false);
}

static void start(struct side *client, struct side *host)
{
    meeting_start(&client->m, true);
    talk(client, host);
}

/* ------------------------------------------------------------------------- stories */

static void test_each_plan_meets(void **state)
{
    (void)state;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        struct side c, h;
        if (meeting_plan_of((enum path_kind)k) == NULL)
            continue;
        begin(&c, &h, (enum path_kind)k);
        start(&c, &h);
        pass(&c, &h, 10);
        assert_int_equal(c.m.phase, MEETING_MEETING);
        assert_int_equal(h.m.phase, MEETING_MEETING);
        assert_int_equal(c.m.round, h.m.round);
        meeting_on_path(&h.m);
        meeting_on_path(&c.m);
        pass(&c, &h, 5000);
        assert_true(meeting_rests(&c.m) && meeting_rests(&h.m));
        assert_int_equal(c.m.phase, MEETING_MET);
        assert_false(did(&c, MEETING_FAILED) || did(&h, MEETING_FAILED));
        assert_true(c.log[c.log_count - 1] == MEETING_END);
        assert_true(h.log[h.log_count - 1] == MEETING_END);
    }
}

static void test_each_plan_fails_with_words(void **state)
{
    (void)state;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        struct side c, h;
        if (meeting_plan_of((enum path_kind)k) == NULL)
            continue;
        begin(&c, &h, (enum path_kind)k);
        start(&c, &h);
        pass(&c, &h, 20000);
        assert_int_equal(c.m.phase, MEETING_IDLE);
        assert_int_equal(h.m.phase, MEETING_IDLE);
        assert_true(did(&c, MEETING_FAILED) && did(&h, MEETING_FAILED));
        assert_true(did(&c, MEETING_LAST) && did(&h, MEETING_LAST));
        assert_true(meeting_words(&c.m)[0] != '\0');
    }
}

static void test_sleeps_until_the_uplink_is_up(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_TCP_PUNCH);
    meeting_start(&c.m, false);
    pass(&c, &h, 60000);
    assert_int_equal(c.m.phase, MEETING_ASLEEP);
    assert_false(did(&c, MEETING_GATHER));
    meeting_on_uplink(&c.m);
    talk(&c, &h);
    assert_true(did(&c, MEETING_GATHER) && did(&h, MEETING_GATHER));
    meeting_stop(&c.m);
    meeting_on_uplink(&c.m); /* was stopped meanwhile */
    pull(&c);
    assert_int_equal(c.m.phase, MEETING_IDLE);
}

static void test_refusal_is_told(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_TCP_KNOCK);
    h.refuses = "it is behind a NAT";
    start(&c, &h);
    assert_string_equal(meeting_words(&c.m), "the host cannot: it is behind a NAT");
    assert_true(did(&c, MEETING_FAILED) && did(&h, MEETING_FAILED));
    h.refuses = NULL; /* and not for ever */
    start(&c, &h);
    pass(&c, &h, 10);
    assert_int_equal(c.m.phase, MEETING_MEETING);
    assert_int_equal(h.m.phase, MEETING_MEETING);
}

/* The filter for a knock is gone while the client knocks. */
static void test_late_refusal_is_told(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_UDP_KNOCK);
    start(&c, &h);
    pass(&c, &h, 200);
    assert_int_equal(c.m.phase, MEETING_MEETING);
    meeting_refuse(&h.m, "the helper is gone");
    talk(&h, &c);
    assert_string_equal(meeting_words(&c.m), "the host cannot: the helper is gone");
    assert_true(meeting_rests(&c.m) && meeting_rests(&h.m));
}

static void test_client_tells_no_refusal(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_SPOOF);
    c.refuses = "no privilege";
    start(&c, &h);
    Offer o = Offer_init_zero;
    meeting_fill(&c.m, c.addrs, 1, &o);
    assert_int_equal(o.meets_count, 0);
    assert_int_equal(h.m.phase, MEETING_IDLE);
    assert_string_equal(meeting_words(&c.m), "no privilege");
}

/* All of them at once, with as much as they may say, fit what is sealed. */
static void test_all_plans_fit_an_offer(void **state)
{
    Offer o = Offer_init_zero;
    uint8_t buf[4096 - SEAL_OVERHEAD];
    struct meeting_address own[MEETING_PEERS_MAX];
    unsigned plans = 0;
    (void)state;
    for (unsigned i = 0; i < MEETING_PEERS_MAX; i++)
        own[i] = (struct meeting_address){{.family = ADDR_V6, .port = 65535}, true};
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        struct meeting m;
        if (meeting_plan_of((enum path_kind)k) == NULL)
            continue;
        meeting_init(&m, (enum path_kind)k, true, 0);
        meeting_start(&m, true);
        meeting_gathered(&m, &(struct meeting_side){true, true, UINT32_MAX, 0x7f});
        meeting_ready(&m);
        meeting_fill(&m, own, MEETING_PEERS_MAX, &o);
        assert_int_equal(o.meets_count, ++plans);
    }
    o.candidates_count = sizeof(o.candidates) / sizeof(o.candidates[0]);
    for (pb_size_t i = 0; i < o.candidates_count; i++)
        o.candidates[i] = (Candidate){.type = 2, .port = 65535, .ip.size = 16};
    assert_true(proto_encode_offer(buf, sizeof(buf), &o) > 0);
}

static void test_silent_host_is_given_up(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_JIT_LISTEN);
    h.silent = true;
    start(&c, &h);
    pass(&c, &h, 7900);
    assert_int_equal(c.m.phase, MEETING_WAITING);
    pass(&c, &h, 200);
    assert_int_equal(c.m.phase, MEETING_IDLE);
    assert_string_equal(meeting_words(&c.m), "the other side told no TCP address");
}

static void test_another_round_is_not_heard(void **state)
{
    struct side c, h;
    Offer old = Offer_init_zero;
    (void)state;
    begin(&c, &h, PATH_JIT_LISTEN);
    start(&c, &h);
    meeting_fill(&h.m, h.addrs, 1, &old);
    assert_int_equal(old.meets_count, 1);
    h.silent = true; /* does not get ready for the second round */
    start(&c, &h);
    meeting_on_offer(&c.m, &old, all_fit, NULL);
    pass(&c, &h, 100);
    assert_int_equal(c.m.phase, MEETING_WAITING);
    meeting_fill(&c.m, c.addrs, 1, &old); /* and the host hears no older one */
    uint32_t round = h.m.round;
    old.meets[0].round = 1;
    old.meets_count = 1;
    meeting_on_offer(&h.m, &old, all_fit, NULL);
    assert_int_equal(h.m.round, round);
}

static void test_new_round_from_every_phase(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 6000; ms += 35) {
        struct side c, h;
        begin(&c, &h, PATH_TCP_PUNCH);
        start(&c, &h);
        c.log_count = h.log_count = 0;
        pass(&c, &h, ms);
        c.log_count = h.log_count = 0;
        start(&c, &h);
        assert_int_equal(c.log[0], MEETING_END);
        assert_int_equal(h.log[0], MEETING_END);
        assert_int_equal(c.log[1], MEETING_GATHER);
        pass(&c, &h, 10);
        assert_int_equal(c.m.phase, MEETING_MEETING);
        assert_int_equal(h.m.round, 2);
    }
}

/* --------------------------------------------------------------------------- steps */

static void test_opener_is_first(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_JIT_LISTEN);
    start(&c, &h);
    pass(&c, &h, 3000);
    assert_int_equal(h.steps[0].move, MEETING_OPEN);
    assert_int_equal(h.steps[0].hops, 2);
    assert_int_equal(c.steps[0].move, MEETING_CONNECT);
    assert_true(c.step_ms[0] >= h.step_ms[0] + 100);
    assert_int_equal(c.step_count, 1);
    begin(&c, &h, PATH_JIT_LISTEN_CLIENT);
    start(&c, &h);
    pass(&c, &h, 3000);
    assert_int_equal(c.steps[0].move, MEETING_OPEN);
    assert_int_equal(h.steps[0].move, MEETING_CONNECT);
}

static void test_punch_without_helpers(void **state)
{
    struct side c, h;
    static const unsigned hops[] = {2, 3, 4, 0};
    (void)state;
    begin(&c, &h, PATH_TCP_PUNCH);
    start(&c, &h);
    pass(&c, &h, 20000);
    assert_int_equal(h.step_count, 4); /* no time is lost for what cannot be */
    assert_int_equal(c.step_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(h.steps[i].move, MEETING_OPEN);
        assert_int_equal(h.steps[i].hops, hops[i]);
        assert_int_equal(c.steps[i].move, MEETING_CONNECT);
        assert_false(h.steps[i].sweeps);
    }
    /* Two round trips and a bit, said by the client. */
    assert_in_range(h.step_ms[1] - h.step_ms[0], 250 + 2 * RTT_MS,
                    250 + 2 * RTT_MS + 5);
}

static void test_punch_arranged(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_TCP_PUNCH);
    c.own.sequence = 7;
    h.own.sequence = 9;
    start(&c, &h);
    pass(&c, &h, 20000);
    assert_int_equal(h.step_count, 6);
    assert_int_equal(h.steps[0].move, MEETING_ANSWER);
    assert_int_equal(c.steps[0].move, MEETING_CALL);
    assert_int_equal(h.steps[1].move, MEETING_CALL);
    assert_int_equal(c.steps[1].move, MEETING_ANSWER);
    assert_int_equal(h.steps[2].move, MEETING_OPEN);
    assert_true(h.steps[1].answer_ms > c.steps[1].answer_ms);
    assert_int_equal(h.m.peer.sequence, 7);
}

static void test_symmetric_side_connects(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_TCP_PUNCH);
    c.own.sequence = h.own.sequence = 7; /* of no use then */
    h.own.symmetric = h.own.low = true;
    start(&c, &h);
    pass(&c, &h, 20000);
    assert_int_equal(h.steps[0].move, MEETING_CONNECT);
    assert_int_equal(c.steps[0].move, MEETING_OPEN);
    assert_true(c.steps[0].sweeps);
    assert_false(c.steps[3].sweeps); /* all the way: not to 424 ports */
    begin(&c, &h, PATH_JIT_LISTEN);  /* which foresees no ports */
    h.own.symmetric = true;
    start(&c, &h);
    assert_true(meeting_opens(&h.m));
}

static void test_both_symmetric_sweep_once(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_TCP_PUNCH);
    c.own = h.own = (struct meeting_side){.symmetric = true, .low = true};
    for (unsigned round = 1; round <= 2; round++) {
        c.step_count = h.step_count = c.log_count = h.log_count = 0;
        start(&c, &h);
        pass(&c, &h, 20000);
        assert_int_equal(c.step_count, 1);
        assert_int_equal(h.step_count, 1);
        assert_int_equal(c.steps[0].move, MEETING_SWEEP);
        assert_int_equal(h.steps[0].hops, round == 2 ? 2 : 0);
        assert_int_equal(h.m.phase, MEETING_IDLE);
    }
}

static void test_stranger_and_window(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_JIT_LISTEN);
    meeting_init(&h.m, PATH_JIT_LISTEN, false, 200);
    meeting_at(&h.m, 1000, RTT_MS);
    start(&c, &h);
    pass(&c, &h, 190);
    assert_false(did(&h, MEETING_LAST));
    struct addr from = address(9, 4000);
    meeting_on_stranger(&h.m, &from);
    pass(&c, &h, 20);
    assert_true(did(&h, MEETING_LAST));
    meeting_over(&h.m);
    assert_string_equal(
        meeting_words(&h.m),
        "the temporary port was closed when 198.51.100.9 touched it, an "
        "address that the other side had not named");
}

static void test_tries_are_bounded(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_TCP_PUNCH);
    start(&c, &h);
    unsigned n = 0;
    while (meeting_try(&c.m, 0))
        n++;
    assert_int_equal(n, MEETING_TRIES_MAX);
    start(&c, &h);
    assert_true(meeting_try(&c.m, 0)); /* a new round is a new count */
}

/* ----------------------------------------------------------------------------- UDP */

static void test_mapped_by_the_clients_router(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_MAPPED);
    c.addrs[0].shown = h.addrs[0].shown = true;
    h.silent = true;
    start(&c, &h);
    assert_int_equal(h.m.phase, MEETING_GATHERING);
    h.silent = false;
    meeting_gathered(&h.m, &h.own);
    meeting_regret(&h.m, "no router answers");
    talk(&h, &c);
    assert_true(did(&c, MEETING_ALONE));
    assert_string_equal(meeting_words(&c.m), "no router answers");
    assert_int_equal(h.m.phase, MEETING_WAITING); /* for an address that it may check */
    assert_true(h.m.peer_seen.family == ADDR_V4);
    c.addrs[1].addr = address(3, 777);
    c.addr_count = 2;
    meeting_found(&c.m);
    talk(&c, &h);
    pass(&c, &h, 10);
    assert_int_equal(h.m.peer_count, 1);
    assert_int_equal(h.m.peers[0].port, 777);
    assert_int_equal(h.steps[0].move, MEETING_CHECK);
    assert_int_equal(c.m.phase, MEETING_MEETING);
}

/* A host that was told nothing to check waits for it, and follows a newer round. */
static void test_host_waits_too(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_SPOOF);
    c.addrs[0].shown = true;
    start(&c, &h);
    assert_int_equal(h.m.phase, MEETING_WAITING);
    c.addrs[0].shown = false;
    start(&c, &h);
    pass(&c, &h, 10);
    assert_int_equal(h.m.round, 2);
    assert_int_equal(h.m.phase, MEETING_MEETING);
}

static void test_late_address_begins_anew(void **state)
{
    struct side c, h;
    (void)state;
    begin(&c, &h, PATH_MAPPED);
    start(&c, &h);
    pass(&c, &h, 1900);
    assert_int_equal(h.step_count, MEETING_TURNS);
    h.log_count = h.step_count = 0;
    pass(&c, &h, 300);
    assert_int_equal(h.m.phase, MEETING_LINGERING);
    while (meeting_try(&h.m, 0))
        ;
    c.addrs[1].addr = address(3, 777);
    c.addr_count = 2;
    Offer o = Offer_init_zero;
    meeting_fill(&c.m, c.addrs, 2, &o);
    meeting_on_offer(&h.m, &o, all_fit, NULL);
    pass(&c, &h, 1000);
    assert_true(h.step_count > 5);
    assert_true(meeting_try(&h.m, 1));
    assert_false(meeting_try(&h.m, 0)); /* who had enough has enough */
}

static void test_knock_shows_the_peer(void **state)
{
    struct side c, h;
    struct addr from = address(9, 1234);
    (void)state;
    begin(&c, &h, PATH_UDP_KNOCK);
    memset(h.m.knock, 5, sizeof(h.m.knock));
    assert_false(meeting_on_knock(&h.m, &from));
    start(&c, &h);
    assert_memory_equal(c.m.knock, h.m.knock, sizeof(c.m.knock));
    assert_true(meeting_on_knock(&h.m, &from));
    assert_int_equal(h.m.peer_count, 1);
    assert_true(addr_equal(&h.m.peers[0], &from));
    assert_true(meeting_try(&h.m, 0));
    assert_true(meeting_on_knock(&h.m, &from)); /* repeated: no new count */
    assert_int_equal(h.m.tries[0], 1);
}

/* -------------------------------------------------------------------------- random */

static void nudge(struct side *s, uint64_t *rng)
{
    static const struct meeting_side sides[] = {
        {0}, {.symmetric = true}, {.symmetric = true, .low = true}, {.sequence = 5}};
    struct addr a =
        address((unsigned)rng_below(rng, 9), (uint16_t)(1 + rng_below(rng, 3)));
    switch (rng_below(rng, 16)) {
    case 0:
        if (s->m.client)
            meeting_start(&s->m, rng_below(rng, 2) == 0);
        break;
    case 1:
        meeting_on_uplink(&s->m);
        break;
    case 2:
        if (rng_below(rng, 8) == 0)
            meeting_stop(&s->m);
        break;
    case 3:
        meeting_refuse(&s->m, "refused");
        break;
    case 4:
        meeting_on_path(&s->m);
        break;
    case 5:
        (void)meeting_add_peer(&s->m, &a);
        break;
    case 6:
        (void)meeting_on_knock(&s->m, &a);
        break;
    case 7:
        meeting_found(&s->m);
        break;
    case 8:
        meeting_over(&s->m);
        break;
    case 9:
        meeting_ready(&s->m);
        break;
    case 10:
        meeting_on_stranger(&s->m, &(struct addr){.family = ADDR_V4});
        break;
    default:
        s->own = sides[rng_below(rng, 4)];
        s->silent = rng_below(rng, 4) == 0;
        meeting_gathered(&s->m, &s->own);
        break;
    }
}

static void test_every_order_ends(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1500; seed++) {
        struct side c, h;
        uint64_t rng = seed;
        enum path_kind kind;
        do
            kind = (enum path_kind)rng_below(&rng, PATH_KIND_COUNT);
        while (meeting_plan_of(kind) == NULL);
        begin(&c, &h, kind);
        for (int i = 0; i < 60; i++) {
            nudge(&c, &rng);
            nudge(&h, &rng);
            c.log_count = h.log_count = c.step_count = h.step_count = 0;
            pass(&c, &h, rng_below(&rng, 200));
            c.log_count = h.log_count = c.step_count = h.step_count = 0;
        }
        for (int i = 0; i < 2; i++) { /* whoever waits for somebody is answered */
            struct side *s = i == 0 ? &c : &h;
            s->silent = false;
            meeting_on_uplink(&s->m);
            meeting_gathered(&s->m, &s->own);
            meeting_ready(&s->m);
        }
        for (int i = 0; i < 60; i++) {
            c.log_count = h.log_count = c.step_count = h.step_count = 0;
            pass(&c, &h, 1000);
        }
        if (!meeting_rests(&c.m) || !meeting_rests(&h.m))
            fail_msg("seed %llu: the client is in phase %d, the host in %d",
                     (unsigned long long)seed, c.m.phase, h.m.phase);
    }
}

static void test_each_step_was_made(void **state)
{
    (void)state;
    assert_int_equal(state_watch_unmade("phase_next"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_plan_meets),
        cmocka_unit_test(test_each_plan_fails_with_words),
        cmocka_unit_test(test_sleeps_until_the_uplink_is_up),
        cmocka_unit_test(test_refusal_is_told),
        cmocka_unit_test(test_late_refusal_is_told),
        cmocka_unit_test(test_client_tells_no_refusal),
        cmocka_unit_test(test_all_plans_fit_an_offer),
        cmocka_unit_test(test_silent_host_is_given_up),
        cmocka_unit_test(test_another_round_is_not_heard),
        cmocka_unit_test(test_new_round_from_every_phase),
        cmocka_unit_test(test_opener_is_first),
        cmocka_unit_test(test_punch_without_helpers),
        cmocka_unit_test(test_punch_arranged),
        cmocka_unit_test(test_symmetric_side_connects),
        cmocka_unit_test(test_both_symmetric_sweep_once),
        cmocka_unit_test(test_stranger_and_window),
        cmocka_unit_test(test_tries_are_bounded),
        cmocka_unit_test(test_mapped_by_the_clients_router),
        cmocka_unit_test(test_host_waits_too),
        cmocka_unit_test(test_late_address_begins_anew),
        cmocka_unit_test(test_knock_shows_the_peer),
        cmocka_unit_test(test_every_order_ends),
        cmocka_unit_test(test_each_step_was_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
