/* The portal's streams at a host, over a session made of memory: it may say anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clients_internal.h"
#include "host/portal_answers.h"
#include "host/portal_visits.h"
#include "io/audit.h"
#include "scratch.h"

enum { QUEUE = 4096, LIMIT_MS = 20000 };

struct wire {
    struct path path; /* first: what the sender holds */
    struct wire *other;
    uint8_t *queue[QUEUE];
    size_t len[QUEUE];
    size_t head, count;
};

struct fixture {
    char dir[SCRATCH_LEN];
    struct host host, *h;
    struct presence presence;
    struct portal_answers *answers;
    struct host_client client; /* the portal, as the host sees it */
    struct session *at_host;   /* its session */
    struct keypair portal_key, host_key;
    struct session_env portal_env;
    struct session *portal;
    struct wire wires[2]; /* the portal's end, the host's */
    struct timer carry, limit;
    bool open, timed_out;
    int listener;
};

/* What one call of the portal got. */
struct outcome {
    struct fixture *x;
    struct pump *pump;
    bool replied, ended;
    StreamReply reply;
    uint64_t code;
    int fd; /* our end of what the pump moves; -1: none */
    char text[4096];
    size_t used;
};

/*
 * The client's tie is the fixture: whoever asks it for its session (by the linker's
 * --wrap) gets the one that stands here without an approach.
 */
struct session *__wrap_tie_session(const struct tie *t);
struct session *__wrap_tie_session(const struct tie *t)
{
    return ((const struct fixture *)(const void *)t)->at_host;
}

struct session *__wrap_tie_open_session(const struct tie *t);
struct session *__wrap_tie_open_session(const struct tie *t)
{
    return __wrap_tie_session(t);
}

struct approach *__wrap_tie_approach(const struct tie *t);
struct approach *__wrap_tie_approach(const struct tie *t)
{
    (void)t;
    return NULL;
}

const char *__wrap_approach_failure(const struct approach *a, enum path_kind k);
const char *__wrap_approach_failure(const struct approach *a, enum path_kind k)
{
    (void)a, (void)k;
    return NULL;
}

/* ----------------------------------------------------------------------- the wires */

static int wire_send(struct path *p, const uint8_t *buf, size_t len, size_t segment_len)
{
    struct wire *x = (struct wire *)p;
    for (size_t at = 0; at < len; at += segment_len) {
        size_t n = len - at < segment_len ? len - at : segment_len;
        size_t slot = (x->head + x->count) % QUEUE;
        if (x->count == QUEUE || n > 1452)
            continue;
        x->queue[slot] = malloc(n);
        assert_non_null(x->queue[slot]);
        memcpy(x->queue[slot], buf + at, n);
        x->len[slot] = n;
        x->count++;
    }
    return 0;
}

static const struct path_ops wire_ops = {wire_send};

static void on_carry(void *ctx)
{
    struct fixture *x = ctx;
    timer_start(&x->carry, 0); /* in each turn */
    for (int i = 0; i < 2; i++) {
        struct wire *w = &x->wires[i];
        for (size_t n = w->count; n > 0; n--) {
            uint8_t *data = w->queue[w->head];
            size_t len = w->len[w->head];
            w->head = (w->head + 1) % QUEUE;
            w->count--;
            path_deliver(&w->other->path, data, len, len);
            free(data);
        }
    }
}

static void on_limit(void *ctx)
{
    ((struct fixture *)ctx)->timed_out = true;
}

#define RUN_UNTIL(x, condition)                                                        \
    do {                                                                               \
        while (!(condition) && !(x)->timed_out)                                        \
            loop_turn((x)->h->loop);                                                   \
        assert_false((x)->timed_out);                                                  \
    } while (0)

/* -------------------------------------------------------------------- the sessions */

static bool on_authorize(void *ctx, const uint8_t peer[static KEY_LEN])
{
    (void)ctx, (void)peer;
    return true;
}

static void on_portal_open(void *ctx)
{
    ((struct fixture *)ctx)->open = true;
}

static void on_host_open(void *ctx)
{
    (void)ctx;
}

static void on_stream(void *ctx, struct stream *st)
{
    struct fixture *x = ctx;
    service_stream_accept(x->h->streams, &x->client.who, st);
}

static void on_meta(void *ctx, const Meta *m)
{
    (void)ctx, (void)m;
}

static void on_close(void *ctx, int err, const char *why)
{
    (void)ctx, (void)err;
    fail_msg("the session ended: %s", why);
}

static const struct session_events portal_events = {.authorize = on_authorize,
                                                    .on_open = on_portal_open,
                                                    .on_meta = on_meta,
                                                    .on_close = on_close};
static const struct session_events host_session_events = {.authorize = on_authorize,
                                                          .on_open = on_host_open,
                                                          .on_meta = on_meta,
                                                          .on_stream = on_stream,
                                                          .on_close = on_close};

static void on_first(void *ctx, struct path *p, const uint8_t *buf, size_t len,
                     size_t segment_len)
{
    struct fixture *x = ctx;
    struct session_config c = {.env = &x->presence.endpoint.env,
                               .events = &host_session_events,
                               .ctx = x,
                               .rtt_hint_us = 100};
    (void)segment_len;
    if (x->at_host == NULL)
        assert_int_equal(
            session_new_server(&x->at_host, &c, x->portal_key.pub, p, buf, len), 0);
}

static void on_first_writable(void *ctx, struct path *p)
{
    (void)ctx, (void)p;
}

static const struct path_user first_user = {on_first, on_first_writable};

/* --------------------------------------------------------------------- the fixture */

static uint16_t listen_here(int *fd, bool keep)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&sa, &len), 0);
    if (keep)
        assert_int_equal(listen(*fd, 16), 0);
    else
        close(*fd); /* nobody listens there */
    return ntohs(sa.sin_port);
}

static void publish(struct fixture *x)
{
    char web[64], dead[64];
    int none;
    (void)snprintf(web, sizeof(web), "web=127.0.0.1:%u",
                   listen_here(&x->listener, true));
    (void)snprintf(dead, sizeof(dead), "dead=127.0.0.1:%u", listen_here(&none, false));
    const char *const texts[] = {web, dead, "dns=udp:127.0.0.1:53"};
    assert_int_equal(service_list_parse(&x->h->services, texts, 3, NULL), 0);
}

static void put_account(struct fixture *x, const char *name, const char *services,
                        bool owner, int64_t expires_s, bool change)
{
    struct access_account a = {.hash = "h", .owner = owner, .expires_s = expires_s};
    (void)snprintf(a.name, sizeof(a.name), "%s", name);
    (void)snprintf(a.services, sizeof(a.services), "%s", services);
    assert_int_equal(access_put(x->h->access, &a, change, NULL), 0);
}

static void start(struct fixture *x)
{
    struct session_config c = {
        .env = &x->portal_env, .events = &portal_events, .ctx = x, .rtt_hint_us = 100};
    const Meta ping = {.which_body = Meta_ping_tag};
    for (uint32_t i = 0; i < 2; i++) {
        x->wires[i].path = (struct path){.ops = &wire_ops, .kind = PATH_RELAY, .id = 1};
        x->wires[i].other = &x->wires[1 - i];
    }
    x->wires[1].path.user = &first_user;
    x->wires[1].path.user_ctx = x;
    assert_int_equal(
        session_new_client(&x->portal, &c, x->host_key.pub, &x->wires[0].path), 0);
    RUN_UNTIL(x, x->open);
    assert_int_equal(session_send_meta(x->portal, &ping), 0);
}

static int on_question(struct host *h, struct pump *p, const Visit *v)
{
    return portal_answer(LIST_OWNER(h, struct fixture, host)->answers, p, v);
}

static const struct host_events host_events = {.on_question = on_question};

static int setup(void **state)
{
    static const uint8_t seeds[2][KEY_LEN] = {{1}, {2}};
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    if (x == NULL || sodium_init() < 0 || scratch_make(x->dir) != 0)
        return -1;
    struct host *h = x->h = &x->host;
    assert_int_equal(loop_open(&h->loop), 0);
    (void)snprintf(h->settings.name, sizeof(h->settings.name), "home");
    (void)snprintf(h->broker.host, sizeof(h->broker.host), "broker.test");
    h->broker.type = LINK_BROKER;
    h->broker.port = 443;
    keypair_from_seed(&x->portal_key, seeds[0]);
    keypair_from_seed(&x->host_key, seeds[1]);
    memcpy(h->broker.broker_key, x->portal_key.pub, KEY_LEN);
    h->key = x->host_key;
    assert_int_equal(roster_open(&h->roster, x->dir, NULL), 0);
    assert_int_equal(access_open(&h->access, x->dir, NULL), 0);
    assert_int_equal(audit_open(&h->audit, x->dir, NULL), 0);
    publish(x);
    h->events = &host_events;
    h->visits = portal_visits_new(h);
    h->streams = service_streams_new(h);
    h->clients = clients_new(h);
    x->answers = portal_answers_new(h);
    x->client = (struct host_client){.host = h, .tie = (struct tie *)(void *)x};
    x->client.who.portal = portal_has_key(h, x->portal_key.pub);
    (void)snprintf(x->client.name, sizeof(x->client.name), "portal");
    h->clients->first = &x->client;
    assert_int_equal(session_env_init(&x->portal_env, h->loop, &x->portal_key), 0);
    assert_int_equal(session_env_init(&x->presence.endpoint.env, h->loop, &x->host_key),
                     0);
    timer_init(&x->carry, h->loop, on_carry, x);
    timer_init(&x->limit, h->loop, on_limit, x);
    timer_start(&x->carry, 0);
    timer_start(&x->limit, LIMIT_MS);
    start(x);
    put_account(x, "anna", "web,dead,dns", true, 0, false);
    put_account(x, "bob", "web", false, 0, false);
    put_account(x, "late", "all", true, 1000, false);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    session_free(x->portal);
    session_free(x->at_host);
    x->h->clients->first = NULL;
    clients_close(x->h->clients);
    timer_stop(&x->carry);
    timer_stop(&x->limit);
    loop_run(x->h->loop);
    loop_close(x->h->loop);
    free(x->h->visits);
    free(x->h->streams);
    free(x->answers);
    for (int i = 0; i < 2; i++)
        for (; x->wires[i].count > 0; x->wires[i].count--)
            free(x->wires[i].queue[(x->wires[i].head + x->wires[i].count - 1) % QUEUE]);
    session_env_fini(&x->portal_env);
    session_env_fini(&x->presence.endpoint.env);
    service_list_fini(&x->h->services);
    audit_close(x->h->audit);
    access_close(x->h->access);
    roster_close(x->h->roster);
    close(x->listener);
    scratch_remove(x->dir);
    free(x);
    return 0;
}

/* ----------------------------------------------------------------------- the calls */

static void on_reply(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    struct outcome *o = ctx;
    int pair[2];
    assert_int_equal(proto_decode(StreamReply_fields, &o->reply, msg, len), 0);
    o->replied = true;
    if (o->reply.datagrams)
        return;
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    o->fd = pair[0];
    assert_int_equal(pump_attach(p, pair[1]), 0);
}

static void on_end(void *ctx, struct pump *p, uint64_t code)
{
    struct outcome *o = ctx;
    (void)p;
    o->ended = true;
    o->code = code;
    o->pump = NULL;
}

static const struct pump_events call_events = {on_reply, NULL, on_end};

/* Opens a stream; `o` stays until hang_up. */
static void call(struct fixture *x, struct outcome *o, const char *service,
                 const Visit *v)
{
    StreamOpen open = {.has_visit = v != NULL};
    uint8_t buf[PROTO_FRAME_HEADER + StreamOpen_size];
    *o = (struct outcome){.x = x, .fd = -1};
    if (v != NULL)
        open.visit = *v;
    (void)snprintf(open.service, sizeof(open.service), "%s", service);
    int n = proto_encode_frame(buf, sizeof(buf), StreamOpen_fields, &open);
    assert_true(n > 0);
    assert_int_equal(pump_open(&o->pump, x->portal, &call_events, o, buf, (size_t)n),
                     0);
    RUN_UNTIL(x, o->replied || o->ended);
}

static void hang_up(struct outcome *o)
{
    if (o->fd >= 0)
        close(o->fd);
    if (o->pump != NULL)
        pump_drop(o->pump);
    o->pump = NULL;
}

static unsigned try_call(struct fixture *x, const char *service, const Visit *v,
                         char *reason)
{
    struct outcome o;
    call(x, &o, service, v);
    assert_true(o.replied);
    if (reason != NULL)
        (void)snprintf(reason, sizeof(o.reply.reason), "%s", o.reply.reason);
    hang_up(&o);
    return o.reply.code;
}

/* Whether the whole answer is in. */
static bool answered(struct outcome *o)
{
    ssize_t n = recv(o->fd, o->text + o->used, sizeof(o->text) - 1 - o->used, 0);
    if (n > 0)
        o->used += (size_t)n;
    o->text[o->used] = '\0';
    return n == 0;
}

/* The code of the reply, with the answer in `o->text`. */
static unsigned ask(struct fixture *x, struct outcome *o, const char *account,
                    unsigned what, const char *arg)
{
    Visit v = {.ask = what, .visitor = "192.0.2.1:5"};
    (void)snprintf(v.account, sizeof(v.account), "%s", account);
    (void)snprintf(v.arg, sizeof(v.arg), "%s", arg);
    call(x, o, "", &v);
    if (o->reply.code == STREAM_OK) {
        (void)shutdown(o->fd, SHUT_WR);
        RUN_UNTIL(x, answered(o));
    }
    hang_up(o);
    return o->reply.code;
}

/* The newest entry of the log. */
static struct audit_entry newest(struct fixture *x)
{
    struct audit_entry e = {0};
    assert_int_equal(audit_list(x->h->audit, &e, 1), 1);
    return e;
}

/* How many visits have ended, by the log. */
static int closed(struct fixture *x)
{
    static struct audit_entry entries[64];
    int n = audit_list(x->h->audit, entries, 64), ended = 0;
    for (int i = 0; i < n; i++)
        ended += strcmp(entries[i].what, "closed") == 0;
    return ended;
}

/* ----------------------------------------------------------------------- the tests */

static void test_who_may_use_what(void **state)
{
    struct fixture *x = *state;
    const struct {
        const char *service;
        Visit visit;
        unsigned code;
    } cases[] = {
        {"web", {.account = "anna"}, STREAM_OK},
        {"web", {.account = "anna", .by_name = true}, STREAM_OK},
        {"web", {.account = "bob"}, STREAM_OK},
        {"dns", {.account = "anna"}, STREAM_OK},
        {"dead", {.account = "anna"}, STREAM_REFUSED},
        {"dead", {.account = "bob"}, STREAM_DENIED},
        {"nothing", {.account = "bob"}, STREAM_NOTFOUND},
        {"", {.account = "bob"}, STREAM_NOTFOUND},
        {"web", {.account = "eve"}, STREAM_DENIED},
        {"web", {.account = "late"}, STREAM_DENIED}, /* expired */
        {"web", {.account = ""}, STREAM_DENIED},
        {"web", {.account = "", .by_name = true}, STREAM_DENIED}, /* not public */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned code = try_call(x, cases[i].service, &cases[i].visit, NULL);
        if (code != cases[i].code)
            fail_msg("case %zu: %u", i, code);
    }
    assert_int_equal(try_call(x, "web", NULL, NULL), STREAM_DENIED); /* no Visit */
}

static void test_public_by_name(void **state)
{
    struct fixture *x = *state;
    bool changed;
    const Visit by_name = {.by_name = true}, by_port = {.by_name = false};
    assert_int_equal(access_set_public(x->h->access, "web", true, &changed, NULL), 0);
    assert_int_equal(access_set_public(x->h->access, "dns", true, &changed, NULL), 0);
    assert_int_equal(try_call(x, "web", &by_name, NULL), STREAM_OK);
    assert_int_equal(try_call(x, "web", &by_port, NULL), STREAM_DENIED);
    assert_int_equal(try_call(x, "dns", &by_name, NULL), STREAM_DENIED); /* UDP */
    assert_int_equal(try_call(x, "dead", &by_name, NULL), STREAM_DENIED);
}

static void test_a_device_does_not_visit(void **state)
{
    struct fixture *x = *state;
    const Visit v = {.account = "anna"}, question = {.account = "anna", .ask = 6};
    x->client.who.portal = false;
    assert_int_equal(try_call(x, "web", &v, NULL), STREAM_DENIED);
    assert_int_equal(try_call(x, "", &question, NULL), STREAM_DENIED);
    x->client.who.member = true;
    assert_int_equal(try_call(x, "web", &v, NULL), STREAM_DENIED);
    assert_int_equal(try_call(x, "", &question, NULL), STREAM_DENIED);
    x->client.who.portal = true; /* and the portal is no device, whatever it was */
    assert_int_equal(try_call(x, "web", NULL, NULL), STREAM_DENIED);
}

static void test_a_change_ends_the_stream(void **state)
{
    struct fixture *x = *state;
    struct outcome anna, bob;
    const Visit as_anna = {.account = "anna", .visitor = "192.0.2.1:5"};
    const Visit as_bob = {.account = "bob"};
    call(x, &anna, "web", &as_anna);
    call(x, &bob, "web", &as_bob);
    assert_int_equal(anna.reply.code, STREAM_OK);
    portal_visits_check(x->h->visits, true); /* nothing has changed */
    put_account(x, "anna", "web", true, 0, true);
    portal_visits_check(x->h->visits, false); /* nobody said so */
    loop_poll(x->h->loop);
    assert_false(anna.ended);
    portal_visits_check(x->h->visits, true);
    RUN_UNTIL(x, anna.ended);
    assert_int_equal(anna.code, STREAM_DENIED);
    assert_false(bob.ended);
    RUN_UNTIL(x, closed(x) == 1);
    struct audit_entry e = newest(x);
    assert_string_equal(e.what, "closed");
    assert_string_equal(e.who, "anna");
    assert_string_equal(e.from, "192.0.2.1:5");
    assert_non_null(strstr(e.detail, "ended by the host"));
    assert_int_equal(access_remove(x->h->access, "bob", NULL), 0);
    portal_visits_check(x->h->visits, true);
    RUN_UNTIL(x, bob.ended);
    hang_up(&anna);
    hang_up(&bob);
    RUN_UNTIL(x, closed(x) == 2);
}

static void test_what_closes_when_private(void **state)
{
    struct fixture *x = *state;
    struct outcome o;
    bool changed;
    const Visit v = {.by_name = true};
    assert_int_equal(access_set_public(x->h->access, "web", true, &changed, NULL), 0);
    call(x, &o, "web", &v);
    assert_int_equal(o.reply.code, STREAM_OK);
    assert_int_equal(access_set_public(x->h->access, "web", false, &changed, NULL), 0);
    portal_visits_check(x->h->visits, true);
    RUN_UNTIL(x, o.ended);
    hang_up(&o);
    RUN_UNTIL(x, closed(x) == 1);
}

static void test_services_are_probed(void **state)
{
    struct fixture *x = *state;
    struct outcome o;
    assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_SERVICES, ""), STREAM_OK);
    assert_non_null(strstr(o.text, "\"name\":\"web\""));
    assert_non_null(
        strstr(o.text, "\"protocol\":\"tcp\",\"up\":true,\"refused\":false}\n"));
    assert_non_null(strstr(strstr(o.text, "\"name\":\"dead\""),
                           "\"up\":false,\"refused\":true}\n"));
    assert_non_null(
        strstr(strstr(o.text, "\"name\":\"dns\""), "\"up\":true,\"refused\":false}\n"));
    assert_int_equal(ask(x, &o, "bob", PORTAL_ASK_SERVICES, ""), STREAM_OK);
    assert_null(strstr(o.text, "dead"));
    assert_int_equal(ask(x, &o, "late", PORTAL_ASK_SERVICES, ""), STREAM_DENIED);
    assert_int_equal(ask(x, &o, "eve", PORTAL_ASK_SERVICES, ""), STREAM_DENIED);
    assert_int_equal(ask(x, &o, "", PORTAL_ASK_SERVICES, ""), STREAM_DENIED);
}

static void test_questions_of_owners(void **state)
{
    struct fixture *x = *state;
    struct outcome o;
    for (unsigned what = PORTAL_ASK_SESSIONS; what <= PORTAL_ASK_LOG; what++) {
        assert_int_equal(ask(x, &o, "bob", what, "60"), STREAM_DENIED);
        assert_int_equal(ask(x, &o, "late", what, "60"), STREAM_DENIED);
    }
    assert_string_equal(newest(x).what, "refused");
    assert_int_equal(ask(x, &o, "anna", 7, ""), STREAM_NOTFOUND);
    assert_int_equal(ask(x, &o, "anna", UINT32_MAX, ""), STREAM_NOTFOUND);
    assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_SESSIONS, ""), STREAM_OK);
    assert_string_equal(o.text, ""); /* devices only; this session is the portal's */
    assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_DEVICES, ""), STREAM_OK);
    assert_string_equal(o.text, "");
    assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_LOG, ""), STREAM_OK);
    assert_non_null(strstr(o.text, "\"event\":\"audit\""));
    assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_REVOKE, "nonsense"), STREAM_DENIED);
}

static void test_an_invite(void **state)
{
    struct fixture *x = *state;
    struct outcome o;
    struct roster_invite in;
    struct link l;
    uint8_t id[INVITE_ID_LEN];
    static const char *const wrong[] = {"",     "0",         "web",    "-5",
                                        "60 x", "31536001",  "60,web", "60web",
                                        " 60",  "9999999999"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_INVITE, wrong[i]),
                         STREAM_DENIED);
    assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_INVITE, "60 web,dns"), STREAM_OK);
    char *link = strstr(o.text, "postern://");
    assert_non_null(link);
    link[strcspn(link, "\"")] = '\0';
    assert_int_equal(link_parse(&l, link, NULL), 0);
    assert_int_equal(l.type, LINK_INVITE);
    assert_memory_equal(l.host_key, x->host_key.pub, KEY_LEN);
    link_invite_id(id, l.secret);
    assert_int_equal(roster_invite_find(x->h->roster, id, statedir_now_s() + 50, &in),
                     0);
    assert_string_equal(in.allowed, "web,dns");
    assert_int_equal(roster_invite_find(x->h->roster, id, statedir_now_s() + 70, &in),
                     POSTERN_ERR_EXPIRED);
    struct audit_entry e = newest(x);
    assert_string_equal(e.what, "invite");
    assert_string_equal(e.who, "anna");
    assert_null(strstr(e.detail, "postern:"));
    assert_int_equal(ask(x, &o, "anna", PORTAL_ASK_INVITE, "60"), STREAM_OK);
    assert_non_null(strstr(o.text, "\"services\":null"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_may_use_what, setup, teardown),
        cmocka_unit_test_setup_teardown(test_public_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_device_does_not_visit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_change_ends_the_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_closes_when_private, setup, teardown),
        cmocka_unit_test_setup_teardown(test_services_are_probed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_questions_of_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_invite, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
