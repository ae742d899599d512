/*
 * What passes between an approach and its session, and each step of a tie's life. Both
 * ends are stubs here, which note what they are told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/netmon.h"
#include "session/tie.h"
#include "state_watch.h"

/* ----------------------------------------------------------------- what it is told */

struct session {
    const struct session_events *events;
    void *ctx;
    bool open, closed;
    struct path *current;
    unsigned added, removed, doubts, proven;
    uint64_t silent_since_us;
};

struct approach {
    struct approach_config config;
    struct list paths;
    unsigned used, dead, silent, back, measured, asked, again, established, network;
};

/* One at a time, and what is said of the uplink. */
static struct {
    struct session session;
    struct approach approach;
    bool up, no_session;
    unsigned sessions, approaches, refreshed, suspected;
} w;

int session_new_client(struct session **out, const struct session_config *c,
                       const uint8_t host[static KEY_LEN], struct path *first)
{
    (void)host;
    if (w.no_session)
        return POSTERN_ERR_NOMEM;
    w.session = (struct session){.events = c->events, .ctx = c->ctx, .current = first};
    w.sessions++;
    *out = &w.session;
    return 0;
}

int session_new_server(struct session **out, const struct session_config *c,
                       const uint8_t client[static KEY_LEN], struct path *first,
                       const uint8_t *packet, size_t len)
{
    assert_int_equal(len, 2); /* the first packet alone */
    (void)packet;
    return session_new_client(out, c, client, first);
}

void session_close(struct session *s, uint64_t code, const char *reason)
{
    (void)code, (void)reason;
    s->closed = true;
}

bool session_is_ended_by_peer(const struct session *s)
{
    (void)s;
    return false;
}

void session_free(struct session *s)
{
    w.sessions -= s != NULL;
}

void session_add_path(struct session *s, struct path *p)
{
    (void)p;
    s->added++;
}

void session_use_path(struct session *s, struct path *p)
{
    s->current = p;
}

void session_on_proven(struct session *s, struct path *p)
{
    (void)p;
    s->proven++;
}

void session_remove_path(struct session *s, struct path *p)
{
    (void)p;
    s->removed++;
}

void session_doubt(struct session *s, bool hinted)
{
    (void)hinted;
    s->doubts++;
}

struct path *session_path(const struct session *s)
{
    return s->current;
}

bool session_is_open(const struct session *s)
{
    return s->open;
}

uint32_t session_rtt_us(const struct session *s)
{
    (void)s;
    return 7000;
}

uint64_t session_silent_since_us(const struct session *s)
{
    return s->silent_since_us;
}

uint64_t session_heard_us(const struct session *s)
{
    return s->open ? 9 : 5;
}

static int new_approach(struct approach **out, const struct approach_config *c)
{
    w.approach = (struct approach){.config = *c};
    list_init(&w.approach.paths);
    w.approaches++;
    *out = &w.approach;
    return 0;
}

int approach_new_client(struct approach **out, const struct approach_config *c)
{
    return new_approach(out, c);
}

int approach_new_host(struct approach **out, const struct approach_config *c,
                      const Offer *offer, const Introduce *in)
{
    (void)offer, (void)in;
    return new_approach(out, c);
}

void approach_settle(struct approach *a)
{
    (void)a;
}

void approach_free(struct approach *a)
{
    LIST_EACH (struct path, p, &a->paths, link)
        a->config.events->on_path_gone(a->config.ctx, p);
    w.approaches--;
}

struct path *approach_first_path(struct approach *a)
{
    return list_empty(&a->paths) ? NULL : LIST_FIRST(&a->paths, struct path, link);
}

const struct list *approach_paths(const struct approach *a)
{
    return &a->paths;
}

void approach_set_established(struct approach *a)
{
    a->established++;
}

void approach_on_path_used(struct approach *a, struct path *p)
{
    (void)p;
    a->used++;
}

void approach_on_path_dead(struct approach *a, struct path *p, const char *reason)
{
    (void)reason;
    a->dead++;
    list_remove(&p->link);
    a->config.events->on_path_gone(a->config.ctx, p);
}

bool approach_on_path_silent(struct approach *a, struct path *p)
{
    a->silent++;
    p->silent = true;
    return true;
}

void approach_on_path_back(struct approach *a, struct path *p)
{
    a->back++;
    p->silent = false;
}

void approach_again(struct approach *a, enum path_kind kind)
{
    assert_int_equal(kind, PATH_UDP_PUNCH);
    a->again++;
}

void approach_on_path_rtt(struct approach *a, const struct path *p)
{
    (void)p;
    a->measured++;
}

void approach_on_uplink(struct approach *a, bool up)
{
    (void)a, (void)up;
}

void approach_on_network_change(struct approach *a)
{
    a->network++;
}

void approach_ask(struct approach *a)
{
    a->asked++;
}

bool uplink_is_up(const struct uplink *u)
{
    (void)u;
    return w.up;
}

uint32_t uplink_rtt_us(const struct uplink *u)
{
    (void)u;
    return 1000;
}

uint32_t uplink_min_rtt_us(const struct uplink *u)
{
    (void)u;
    return 1000;
}

void uplink_refresh(struct uplink *u)
{
    (void)u;
    w.refreshed++;
}

void uplink_suspect(struct uplink *u)
{
    (void)u;
    w.suspected++;
}

enum netmon_way netmon_way_of(const struct addr *local, const struct addr *remote)
{
    (void)local, (void)remote;
    return NETMON_WAY_SAME;
}

/* --------------------------------------------------------------------- the fixture */

struct fixture {
    struct endpoint endpoint;
    struct tie *tie;
    struct path relay, direct;
    unsigned opened, ended, selected, pairs_ended;
};

static bool on_authorize(void *ctx, const uint8_t peer[static KEY_LEN])
{
    (void)ctx, (void)peer;
    return true;
}

static void on_open(void *ctx)
{
    ((struct fixture *)ctx)->opened++;
}

static void on_meta(void *ctx, const Meta *m)
{
    (void)ctx, (void)m;
}

static void on_close(void *ctx, int err, const char *why)
{
    (void)err, (void)why;
    ((struct fixture *)ctx)->ended++;
}

static void on_refused(void *ctx, unsigned code, const char *reason)
{
    (void)ctx, (void)code, (void)reason;
}

static void on_select(void *ctx, struct path *p)
{
    (void)p;
    ((struct fixture *)ctx)->selected++;
}

static void on_path_ended(void *ctx)
{
    ((struct fixture *)ctx)->pairs_ended++;
}

static const struct tie_events events = {.authorize = on_authorize,
                                         .on_open = on_open,
                                         .on_meta = on_meta,
                                         .on_close = on_close,
                                         .on_refused = on_refused,
                                         .on_select = on_select,
                                         .on_path_ended = on_path_ended};

static void begin(struct fixture *x, bool client)
{
    struct tie_config c = {.endpoint = &x->endpoint, .events = &events, .ctx = x};
    Offer o = Offer_init_zero;
    Introduce *in = calloc(1, sizeof(*in));
    memset(&w, 0, sizeof(w));
    assert_non_null(in);
    *x = (struct fixture){.relay = {.kind = PATH_RELAY, .id = 1},
                          .direct = {.kind = PATH_UDP_PUNCH, .id = 2}};
    assert_int_equal(
        client ? tie_new_client(&x->tie, &c) : tie_new_host(&x->tie, &c, &o, in), 0);
    free(in);
    assert_int_equal(w.approach.config.client, client);
}

static void find(struct path *p)
{
    list_push(&w.approach.paths, &p->link);
    w.approach.config.events->on_path(w.approach.config.ctx, p);
}

static void choose(struct path *p)
{
    w.approach.config.events->on_select(w.approach.config.ctx, p);
}

static void open_up(void)
{
    w.session.open = true;
    w.session.events->on_open(w.session.ctx);
}

/* Of a client: OPENING, on the relay. */
static void begin_opening(struct fixture *x)
{
    begin(x, true);
    find(&x->relay);
    assert_int_equal(w.sessions, 0); /* the broker's distance is not known yet */
    w.up = true;
    tie_on_uplink(x->tie, true);
    assert_int_equal(w.sessions, 1);
    assert_int_equal(tie_heard_us(x->tie), 0);
}

static void end(struct fixture *x)
{
    tie_free(x->tie);
    assert_int_equal(w.sessions, 0);
    assert_int_equal(w.approaches, 0);
}

/* ----------------------------------------------------------------------- the tests */

static void test_a_client_opens_on_the_relay(void **state)
{
    struct fixture x;
    (void)state;
    begin_opening(&x);
    assert_null(tie_path(x.tie));
    open_up();
    assert_true(x.opened == 1 && tie_is_open(x.tie));
    assert_int_equal(w.approach.established, 1);
    assert_ptr_equal(tie_path(x.tie), &x.relay);
    assert_int_equal(x.relay.rtt_us, 7000);
    assert_int_not_equal(tie_heard_us(x.tie), 0);
    find(&x.direct);
    choose(&x.direct);
    assert_true(x.selected == 1 && w.session.current == &x.direct);
    end(&x);
}

static void test_a_client_without_relay_opens_on_what_is_chosen(void **state)
{
    struct fixture x;
    (void)state;
    begin(&x, true);
    find(&x.direct);
    choose(NULL);
    assert_int_equal(w.sessions, 0);
    w.no_session = true;
    choose(&x.direct);
    assert_int_equal(w.sessions, 0);
    w.no_session = false;
    choose(&x.direct);
    assert_int_equal(w.sessions, 1);
    assert_int_equal(w.session.added, 1);
    end(&x); /* while it opens */
}

static void test_a_host_opens_by_the_first_packet(void **state)
{
    struct fixture x;
    (void)state;
    begin(&x, false);
    find(&x.direct);
    find(&x.relay);
    path_deliver(&x.relay, (const uint8_t *)"abc", 3, 2);
    assert_int_equal(w.sessions, 1);
    assert_int_equal(w.session.added, 2);
    path_deliver(&x.direct, (const uint8_t *)"ab", 2, 2); /* a copy on another path */
    assert_int_equal(w.sessions, 1);
    open_up();
    w.session.events->on_path(w.session.ctx, &x.direct);
    assert_true(w.refreshed == 1 && w.approach.used == 1);
    w.session.events->on_path_dead(w.session.ctx, &x.direct, 1);
    assert_true(w.refreshed == 2 && w.approach.dead == 0); /* the client says it */
    end(&x);
}

static void test_a_host_is_closed_before_a_packet_came(void **state)
{
    struct fixture x;
    (void)state;
    begin(&x, false);
    find(&x.relay);
    tie_close(x.tie, 0, "");
    path_deliver(&x.relay, (const uint8_t *)"ab", 2, 2);
    assert_int_equal(w.sessions, 0);
    end(&x);
}

static void test_what_is_given_up_may_open_yet(void **state)
{
    struct fixture x;
    (void)state;
    begin_opening(&x);
    tie_give_up(x.tie, false);
    assert_false(tie_is_on(x.tie) || tie_is_over(x.tie));
    find(&x.direct);
    choose(&x.direct); /* nothing is begun any more */
    tie_on_network_change(x.tie);
    assert_true(x.selected == 0 && w.approach.network == 0);
    open_up();
    assert_true(x.opened == 1 && tie_is_open(x.tie));
    tie_give_up(x.tie, false); /* what was open is lost */
    assert_true(tie_is_over(x.tie));
    end(&x);
}

static void test_what_is_given_up_for_good_does_not_open(void **state)
{
    struct fixture x;
    (void)state;
    begin_opening(&x);
    tie_give_up(x.tie, true);
    open_up();
    assert_true(x.opened == 0 && w.approach.established == 0);
    end(&x);
    begin(&x, true);
    tie_give_up(x.tie, false);
    tie_close(x.tie, 0, "");
    end(&x);
}

static void test_a_silent_path_is_kept_until_the_broker_is_back(void **state)
{
    struct fixture x;
    (void)state;
    begin_opening(&x);
    find(&x.direct);
    open_up();
    w.up = false;
    w.session.events->on_path_dead(w.session.ctx, &x.direct, 1);
    assert_true(x.direct.silent && w.approach.dead == 0);
    w.session.events->on_path_rtt(w.session.ctx, &x.direct);
    assert_false(x.direct.silent);
    w.session.events->on_path_dead(w.session.ctx, &x.direct, 1);
    w.up = true;
    tie_on_uplink(x.tie, true);
    assert_true(w.approach.dead == 1 && w.session.removed == 1);
    assert_int_equal(w.session.doubts, 1);
    end(&x);
}

static void test_a_silent_pair_is_kept_while_another_is_made(void **state)
{
    struct fixture x;
    (void)state;
    begin_opening(&x);
    open_up();
    w.session.silent_since_us = 5;
    w.session.events->on_path_dead(w.session.ctx, &x.relay, 1);
    assert_true(x.relay.silent && w.approach.silent == 1 && w.approach.dead == 0);
    tie_on_uplink(x.tie, true); /* the broker's being there says nothing of it */
    assert_true(x.relay.silent && w.approach.dead == 0);
    w.session.events->on_path_rtt(w.session.ctx, &x.relay);
    assert_true(!x.relay.silent && w.approach.back == 1);
    w.session.silent_since_us = 0; /* it answers, and carries nothing all the same */
    w.session.events->on_path_dead(w.session.ctx, &x.relay, 1);
    assert_int_equal(w.approach.dead, 1);
    end(&x);
}

static void test_silence_and_ends_are_told(void **state)
{
    struct fixture x;
    (void)state;
    begin_opening(&x);
    w.session.events->on_mute(w.session.ctx, &x.relay);
    assert_int_equal(w.suspected, 0);
    w.session.events->on_mute(w.session.ctx, &x.direct);
    assert_true(w.suspected == 1 && w.approach.again == 1);
    w.approach.config.events->on_proven(w.approach.config.ctx, &x.direct);
    assert_int_equal(w.session.proven, 1);
    open_up();
    w.session.events->on_silent(w.session.ctx);
    assert_true(w.suspected == 2 && w.approach.asked == 1);
    w.session.events->on_doubt(w.session.ctx); /* the broker alone is asked */
    assert_true(w.suspected == 3 && w.approach.asked == 1);
    w.approach.config.events->on_renewed(w.approach.config.ctx);
    assert_int_equal(w.session.doubts, 1);
    x.relay.ended = true;
    w.session.events->on_path_dead(w.session.ctx, &x.relay, 1);
    assert_int_equal(x.pairs_ended, 1);
    w.session.events->on_close(w.session.ctx, 0, "");
    assert_int_equal(x.ended, 1);
    end(&x);
}

static void test_each_step_was_made(void **state)
{
    (void)state;
    assert_int_equal(state_watch_unmade("tie_next"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_opens_on_the_relay),
        cmocka_unit_test(test_a_client_without_relay_opens_on_what_is_chosen),
        cmocka_unit_test(test_a_host_opens_by_the_first_packet),
        cmocka_unit_test(test_a_host_is_closed_before_a_packet_came),
        cmocka_unit_test(test_what_is_given_up_may_open_yet),
        cmocka_unit_test(test_what_is_given_up_for_good_does_not_open),
        cmocka_unit_test(test_a_silent_path_is_kept_until_the_broker_is_back),
        cmocka_unit_test(test_a_silent_pair_is_kept_while_another_is_made),
        cmocka_unit_test(test_silence_and_ends_are_told),
        cmocka_unit_test(test_each_step_was_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
