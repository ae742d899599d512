/* An agent and hosts that say the wrong thing, too much of it, or at the wrong time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/agent_state.h"
#include "io/dial.h"
#include "io/loop.h"
#include "io/sockaddr.h"
#include "scratch.h"

enum { PEERS = 3, SEEN_MAX = 300 };

struct fixture;

/* A host of the LAN, as hostile as the test wants it. */
struct peer {
    struct fixture *x;
    struct keypair key;
    struct channel *channel;
    struct dial *dial;
    bool open, closed;
    unsigned seen[9]; /* how many of each body */
    Agent last;
    uint8_t ids[SEEN_MAX][CALL_ID_LEN]; /* of calls */
    size_t id_count;
};

struct fixture {
    char dir[SCRATCH_LEN];
    struct serve_config config;
    struct statedir state;
    struct serve *serve;
    struct agent *agent;
    uint8_t token[LINK_SECRET_LEN];
    struct peer peers[PEERS];
    bool timeout;
};

/* ------------------------------------------------------------------------ the loop */

static void on_timeout(void *ctx)
{
    *(bool *)ctx = true;
}

#define WAIT(x, condition)                                                             \
    do {                                                                               \
        struct timer t_;                                                               \
        timer_init(&t_, (x)->serve->loop, on_timeout, &(x)->timeout);                  \
        (x)->timeout = false;                                                          \
        timer_start(&t_, 5000);                                                        \
        while (!(condition) && !(x)->timeout)                                          \
            loop_turn((x)->serve->loop);                                               \
        timer_stop(&t_);                                                               \
        if ((x)->timeout)                                                              \
            fail_msg("never: %s", #condition);                                         \
    } while (0)

/* ----------------------------------------------------------------------- the hosts */

static void on_open(void *ctx, const uint8_t key[static KEY_LEN])
{
    struct peer *p = ctx;
    (void)key;
    p->open = true;
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct peer *p = ctx;
    assert_int_equal(proto_decode(Agent_fields, &p->last, msg, len), 0);
    p->seen[p->last.which_body]++;
    if (p->last.which_body == Agent_call_tag && p->id_count < SEEN_MAX)
        memcpy(p->ids[p->id_count++], p->last.body.call.id, CALL_ID_LEN);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct peer *p = ctx;
    (void)err, (void)why;
    p->closed = true;
    channel_free(p->channel);
    p->channel = NULL;
}

static const struct channel_events channel_events = {on_open, on_message, on_close};

static void on_dialed(void *ctx, int err, int fd)
{
    struct peer *p = ctx;
    struct channel_config cc = {.loop = p->x->serve->loop,
                                .protocol = PROTO_ALPN_AGENT,
                                .own = &p->key,
                                .events = &channel_events,
                                .ctx = p};
    p->dial = NULL;
    assert_int_equal(err, 0);
    assert_int_equal(channel_new_client(&p->channel, &cc, fd, p->x->agent->key.pub), 0);
}

static struct peer *dial(struct fixture *x, size_t n)
{
    struct peer *p = &x->peers[n];
    struct keypair key = p->key;
    uint8_t seed[KEY_LEN] = {(uint8_t)(n + 1)};
    channel_free(p->channel);
    *p = (struct peer){.x = x, .key = key};
    keypair_from_seed(&p->key, seed);
    assert_int_equal(
        dial_start(&p->dial, x->serve->loop, &x->agent->listen, 1, 5000, on_dialed, p),
        0);
    WAIT(x, p->open);
    return p;
}

static void say(struct peer *p, const Agent *m)
{
    static uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode(buf, sizeof(buf), Agent_fields, m);
    assert_true(n >= 0);
    assert_int_equal(channel_send(p->channel, buf, (size_t)n), 0);
}

static void hello(struct peer *p, const char *name, const uint8_t *token)
{
    Agent m = {.which_body = Agent_hello_tag, .body.hello.version = PROTO_VERSION};
    (void)snprintf(m.body.hello.name, sizeof(m.body.hello.name), "%s", name);
    if (token != NULL) {
        m.body.hello.token.size = LINK_SECRET_LEN;
        memcpy(m.body.hello.token.bytes, token, LINK_SECRET_LEN);
    }
    say(p, &m);
}

static struct peer *join(struct fixture *x, size_t n, const char *name)
{
    struct peer *p = dial(x, n);
    hello(p, name, x->token);
    WAIT(x, p->seen[Agent_welcome_tag] == 1);
    return p;
}

static void hand_over(struct peer *p, const char *const *names, size_t n)
{
    static Agent m;
    m = (Agent){.which_body = Agent_services_tag};
    for (size_t i = 0; i < n; i++) {
        AgentService *s = &m.body.services.services[m.body.services.services_count++];
        (void)snprintf(s->name, sizeof(s->name), "%s", names[i]);
        s->port = 80;
    }
    say(p, &m);
}

/* What the agent calls it. */
static void expect_name(struct peer *p, const char *name)
{
    struct lan_host h;
    assert_int_equal(lan_host_find(p->x->serve->roster, p->key.pub, &h), 0);
    assert_string_equal(h.name, name);
}

static void expect_bye(struct peer *p, unsigned code)
{
    WAIT(p->x, p->closed);
    assert_int_equal(p->seen[Agent_bye_tag], 1);
    assert_int_equal(p->last.body.bye.code, code);
}

/* --------------------------------------------------------------------- the fixture */

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    uint8_t none[LINK_SECRET_LEN] = {0};
    struct fault f = {0};
    *state = x;
    if (x == NULL || scratch_make(x->dir) != 0)
        return -1;
    x->serve = calloc(1, sizeof(*x->serve));
    struct serve *s = x->serve;
    s->config = &x->config;
    s->state = &x->state;
    assert_int_equal(loop_open(&s->loop), 0);
    (void)snprintf(s->settings.name, sizeof(s->settings.name), "home");
    if (statedir_open(&x->state, x->dir, &f) != 0 ||
        roster_open(&s->roster, x->dir, &f) != 0 ||
        agent_open(&s->agent, s, "127.0.0.1:0", &f) != 0)
        fail_msg("%s", f.what);
    x->agent = s->agent;
    return lan_token(s->roster, x->token, none);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    for (size_t i = 0; i < PEERS; i++) {
        dial_cancel(x->peers[i].dial);
        channel_free(x->peers[i].channel);
    }
    agent_close(x->agent);
    loop_run(x->serve->loop);
    loop_close(x->serve->loop);
    service_list_fini(&x->serve->services);
    roster_close(x->serve->roster);
    scratch_remove(x->dir);
    free(x->serve);
    free(x);
    return 0;
}

/* ----------------------------------------------------------------------- the tests */

static void test_who_is_let_in(void **state)
{
    struct fixture *x = *state;
    struct lan_host h;
    uint8_t wrong[LINK_SECRET_LEN] = {1};
    struct peer *p = dial(x, 0);
    hello(p, "nas", wrong);
    expect_bye(p, BYE_TOKEN);
    p = dial(x, 0);
    hello(p, "nas", NULL);
    expect_bye(p, BYE_TOKEN);
    assert_int_equal(lan_host_find(x->serve->roster, p->key.pub, &h),
                     POSTERN_ERR_NOTFOUND);
    p = join(x, 0, "N\xc3\xa4s der Erste!");
    expect_name(p, "nsdererste");
    p = dial(x, 0); /* known now: no token, and the name that it has */
    hello(p, "other", NULL);
    WAIT(x, p->seen[Agent_welcome_tag] == 1);
    expect_name(p, "nsdererste");
    p = join(x, 1, "2024");
    expect_name(p, "host");
    p = join(x, 2, "HOST");
    expect_name(p, "host-2");
}

static bool all_are(void *ctx, const uint8_t key[static KEY_LEN])
{
    (void)key;
    return *(bool *)ctx;
}

/* Places that hosts took and never used keep no host out that comes; those in use do.
 */
static void test_no_more_than_so_many(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"};
    struct roster *r = x->serve->roster;
    struct lan_host h;
    bool connected = true;
    struct lan_room room = {.is_connected = all_are, .ctx = &connected};
    struct peer *used = join(x, 1, "used");
    hand_over(used, web, 1);
    WAIT(x, used->seen[Agent_names_tag] == 1);
    struct peer *idle = join(x, 2, "idle");
    for (unsigned i = 2; i < LAN_HOSTS_MAX; i++) {
        uint8_t key[KEY_LEN] = {99, (uint8_t)i};
        assert_int_equal(lan_host_add(r, key, "pi", 1, &room, &h), 0);
        if (i > 2)
            assert_int_equal(lan_host_published(r, key), 0);
    }
    assert_string_equal(h.name, "pi-62");
    (void)join(x, 0, "nas"); /* in the place of the first "pi", which proved nothing */
    assert_int_equal(lan_host_find(r, (uint8_t[KEY_LEN]){99, 2}, &h),
                     POSTERN_ERR_NOTFOUND);
    expect_name(idle, "idle");
    uint8_t key[KEY_LEN] = {98};
    connected = false;
    assert_int_equal(lan_host_add(r, key, "pi", 1, &room, &h), 0);
    assert_true(room.left);
    assert_string_equal(room.who.name, "idle"); /* for all that this call was told */
    assert_string_equal(h.name, "pi");
    connected = true;
    for (unsigned i = 3; i < LAN_HOSTS_MAX; i++)
        assert_int_equal(lan_host_find(r, (uint8_t[KEY_LEN]){99, (uint8_t)i}, &h), 0);
    assert_int_equal(lan_host_published(r, key), 0);
    assert_int_equal(lan_host_published(r, x->peers[0].key.pub), 0);
    assert_int_equal(lan_host_add(r, (uint8_t[KEY_LEN]){97}, "pi", 1, &room, &h),
                     POSTERN_ERR_LIMIT);
}

/* Connected, and nothing more: it is told, and its place goes to who comes. */
static void test_idle_host_makes_room(void **state)
{
    struct fixture *x = *state;
    struct lan_host h;
    bool connected = true;
    struct lan_room room = {.is_connected = all_are, .ctx = &connected};
    struct peer *idle = join(x, 1, "idle");
    for (unsigned i = 1; i < LAN_HOSTS_MAX; i++) {
        uint8_t key[KEY_LEN] = {99, (uint8_t)i};
        assert_int_equal(lan_host_add(x->serve->roster, key, "pi", 1, &room, &h), 0);
        assert_int_equal(lan_host_published(x->serve->roster, key), 0);
    }
    /* those are not connected, but have published: more than this one did */
    (void)join(x, 0, "nas");
    expect_bye(idle, BYE_BUSY);
    assert_int_equal(lan_host_find(x->serve->roster, idle->key.pub, &h),
                     POSTERN_ERR_NOTFOUND);
}

static void test_what_comes_at_the_wrong_time(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"};
    struct peer *p = dial(x, 0);
    hand_over(p, web, 1);
    expect_bye(p, BYE_PROTOCOL);
    p = dial(x, 0);
    assert_int_equal(channel_send(p->channel, "\xff\xff\xff\xff", 4), 0);
    expect_bye(p, BYE_PROTOCOL);
    p = join(x, 0, "nas");
    hello(p, "nas", x->token);
    expect_bye(p, BYE_PROTOCOL);
    p = join(x, 0, "nas");
    Agent call = {.which_body = Agent_call_tag};
    say(p, &call); /* only agents call */
    expect_bye(p, BYE_PROTOCOL);
    p = dial(x, 0);
    Agent old = {.which_body = Agent_hello_tag, .body.hello.version = 99};
    say(p, &old);
    expect_bye(p, BYE_VERSION);
    WAIT(x, x->agent->hosts == NULL);
    assert_int_equal(x->agent->host_greeting, 0);
    assert_int_equal(x->serve->services.count, 0);
}

static void test_services_that_cannot_be(void **state)
{
    struct fixture *x = *state;
    static const char *const names[] = {
        "web",     "WEB",
        "",        "a b",
        "web/nas", "-x",
        "22",      "this-name-is-so-long-that-with-an-instance-it-does-not-fit"};
    static const char *const called[] = {"web/nas", "web/nas", "",       "",
                                         "",        "",        "22/nas", ""};
    struct peer *p = join(x, 0, "nas");
    hand_over(p, names, 8);
    WAIT(x, p->seen[Agent_names_tag] == 1);
    const AgentNames *n = &p->last.body.names;
    assert_int_equal(n->names_count, 8);
    for (size_t i = 0; i < 8; i++)
        assert_string_equal(n->names[i], called[i]);
    assert_int_equal(x->serve->services.count, 2);
    static Agent m = {.which_body = Agent_services_tag};
    m.body.services.services_count = 3;
    memcpy(m.body.services.services,
           (AgentService[]){{"u", 53, true}, {"zero", 0, false}, {"big", 70000, false}},
           3 * sizeof(AgentService));
    say(p, &m);
    WAIT(x, p->seen[Agent_names_tag] == 2);
    assert_int_equal(n->names_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(n->names[i], "");
    assert_int_equal(x->serve->services.count, 0); /* what was before is gone */
}

static void test_a_flood_of_lists(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"};
    struct peer *p = join(x, 0, "nas");
    for (int i = 0; i < 3 * AGENT_UPDATES_MAX; i++)
        hand_over(p, web, 1);
    expect_bye(p, BYE_BUSY);
    assert_int_equal(x->serve->services.count, 0);
}

static void test_instances_of_several_hosts(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"}, *const both[] = {"Web", "ssh"};
    struct service own;
    assert_int_equal(service_parse(&own, "ssh=22", NULL), 0);
    assert_int_equal(service_list_add(&x->serve->services, &own, x), 0);
    struct peer *a = join(x, 0, "nas"), *b = join(x, 1, "pi");
    hand_over(a, web, 1);
    WAIT(x, a->seen[Agent_names_tag] == 1);
    hand_over(b, both, 2);
    WAIT(x, b->seen[Agent_names_tag] == 1);
    assert_string_equal(b->last.body.names.names[0], "web/pi");
    assert_string_equal(b->last.body.names.names[1], "ssh-2/pi");
    const struct service *s = service_find(&x->serve->services, "web");
    assert_int_equal(s->target_count, 2);
    assert_non_null(service_find(&x->serve->services, "web/nas"));
    join(x, 0, "nas"); /* the same key again: the old connection is replaced */
    WAIT(x, service_find(&x->serve->services, "web/nas") == NULL);
    assert_int_equal(service_find(&x->serve->services, "web")->target_count, 1);
    channel_free(b->channel);
    b->channel = NULL;
    WAIT(x, x->serve->services.count == 1);
    assert_string_equal(x->serve->services.items[0].name, "ssh");
}

/* ----------------------------------------------------------------------- the calls */

struct dialer {
    struct agent_call *call;
    int fd, code;
    bool connected, failed, broken;
    char reason[160];
};

static void on_connected(void *ctx, int fd)
{
    struct dialer *c = ctx;
    c->connected = true;
    c->fd = fd;
}

static void on_failed(void *ctx, enum stream_code code, const char *reason)
{
    struct dialer *c = ctx;
    c->failed = true;
    c->code = code;
    (void)snprintf(c->reason, sizeof(c->reason), "%s", reason);
}

static void on_broken(void *ctx)
{
    ((struct dialer *)ctx)->broken = true;
}

static const struct agent_call_events call_events = {on_connected, on_failed,
                                                     on_broken};

static int call(struct fixture *x, struct dialer *c, uint64_t host)
{
    *c = (struct dialer){.fd = -1};
    return agent_call_start(&c->call, x->agent, host, "web", &call_events, c);
}

static void test_answers(void **state)
{
    struct fixture *x = *state;
    struct dialer c;
    assert_int_equal(call(x, &c, 1), POSTERN_ERR_UNREACHABLE);
    struct peer *p = join(x, 0, "nas");
    uint64_t number = x->agent->last_number;
    struct peer *other = join(x, 1, "pi");
    assert_int_equal(call(x, &c, number), 0);
    WAIT(x, p->id_count == 1);
    Agent m = {.which_body = Agent_answer_tag,
               .body.answer = {.code = 99, .reason = "because"}};
    say(p, &m); /* an id of nobody */
    memcpy(m.body.answer.id, p->ids[0], CALL_ID_LEN);
    say(other, &m); /* not its call */
    hand_over(other, NULL, 0);
    hand_over(p, NULL, 0);
    WAIT(x, other->seen[Agent_names_tag] == 1 && p->seen[Agent_names_tag] == 1);
    assert_false(c.failed);
    say(p, &m);
    WAIT(x, c.failed);
    assert_int_equal(c.code, STREAM_UNREACHABLE);
    assert_string_equal(c.reason, "because");
    say(p, &m); /* twice */
    agent_call_free(c.call);
    assert_int_equal(p->seen[Agent_cancel_tag], 0);
    assert_int_equal(call(x, &c, number), 0);
    agent_call_free(c.call);
    WAIT(x, p->seen[Agent_cancel_tag] == 1);
    assert_int_equal(call(x, &c, number), 0);
    channel_free(p->channel);
    p->channel = NULL;
    WAIT(x, c.failed);
    assert_string_equal(c.reason, "nas left the agent");
    agent_call_free(c.call);
    assert_int_equal(x->agent->call_count, 0);
}

static void test_no_more_calls_than_so_many(void **state)
{
    struct fixture *x = *state;
    static struct dialer c[AGENT_CALLS_HOST_MAX], more;
    struct peer *p = join(x, 0, "nas");
    uint64_t number = x->agent->last_number;
    for (int i = 0; i < AGENT_CALLS_HOST_MAX; i++)
        assert_int_equal(call(x, &c[i], number), 0);
    assert_int_equal(call(x, &more, number), POSTERN_ERR_LIMIT);
    WAIT(x, p->id_count == AGENT_CALLS_HOST_MAX);
    for (int i = 0; i < AGENT_CALLS_HOST_MAX; i++)
        agent_call_free(c[i].call);
    assert_int_equal(call(x, &more, number), 0);
    agent_call_free(more.call);
}

struct data {
    struct fixture *x;
    struct tlspipe *pipe;
    const uint8_t *id;
    size_t id_len;
    int app;
    bool ended;
};

static void on_data_end(void *ctx, bool broken)
{
    struct data *d = ctx;
    (void)broken;
    d->ended = true;
    d->pipe = NULL;
}

static void on_data_dialed(void *ctx, int err, int fd)
{
    struct data *d = ctx;
    int pair[2];
    assert_int_equal(err, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    struct tlspipe_join j = {.config = {.loop = d->x->serve->loop,
                                        .protocol = PROTO_ALPN_AGENT_DATA,
                                        .expect = d->x->agent->key.pub},
                             .fd = fd,
                             .plain = pair[0],
                             .first = d->id,
                             .first_len = d->id_len,
                             .on_end = on_data_end,
                             .ctx = d};
    d->app = pair[1];
    assert_int_equal(tlspipe_join(&d->pipe, &j), 0);
}

static void dial_data(struct fixture *x, struct data *d, const uint8_t *id, size_t len)
{
    struct dial *dialing;
    *d = (struct data){.x = x, .id = id, .id_len = len, .app = -1};
    assert_int_equal(dial_start(&dialing, x->serve->loop, &x->agent->listen, 1, 5000,
                                on_data_dialed, d),
                     0);
    WAIT(x, d->pipe != NULL || d->ended);
}

static void test_connections(void **state)
{
    struct fixture *x = *state;
    struct data good, bad;
    struct dialer c;
    uint8_t wrong[CALL_ID_LEN] = {1};
    char text[8] = "";
    struct peer *p = join(x, 0, "nas");
    assert_int_equal(call(x, &c, x->agent->last_number), 0);
    WAIT(x, p->id_count == 1);
    dial_data(x, &bad, wrong, sizeof(wrong));
    WAIT(x, bad.ended);
    close(bad.app);
    dial_data(x, &bad, p->ids[0], 7); /* cut short */
    assert_int_equal(shutdown(bad.app, SHUT_WR), 0);
    WAIT(x, bad.ended);
    close(bad.app);
    assert_false(c.connected);
    dial_data(x, &good, p->ids[0], CALL_ID_LEN);
    WAIT(x, c.connected);
    assert_int_equal(send(good.app, "hi", 3, 0), 3);
    WAIT(x, recv(c.fd, text, sizeof(text), MSG_DONTWAIT) == 3);
    assert_string_equal(text, "hi");
    dial_data(x, &bad, p->ids[0], CALL_ID_LEN); /* the same id once more */
    WAIT(x, bad.ended);
    close(bad.app);
    channel_free(p->channel); /* its control connection goes: this one stands */
    p->channel = NULL;
    WAIT(x, x->agent->hosts == NULL);
    assert_false(c.broken || good.ended);
    assert_false(agent_forget(x->agent, p->key.pub)); /* not connected, but known */
    assert_true(c.broken);
    WAIT(x, good.ended);
    close(good.app);
    close(c.fd);
    agent_call_free(c.call);
    assert_int_equal(x->agent->conn_count + x->agent->conn_new, 0);
}

static void test_another_protocol(void **state)
{
    struct fixture *x = *state;
    struct data d = {.x = x};
    struct tlspipe_join j = {.config = {.loop = x->serve->loop,
                                        .protocol = PROTO_ALPN_RELAY,
                                        .expect = x->agent->key.pub},
                             .on_end = on_data_end,
                             .ctx = &d};
    int pair[2];
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, &x->agent->listen);
    j.fd = socket(ss.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(j.fd, (struct sockaddr *)&ss, len), 0);
    assert_int_equal(fcntl(j.fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    j.plain = pair[0];
    assert_int_equal(tlspipe_join(&d.pipe, &j), 0);
    WAIT(x, d.ended);
    close(pair[1]);
    assert_int_equal(x->agent->conn_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_is_let_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_more_than_so_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_host_makes_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_comes_at_the_wrong_time, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_services_that_cannot_be, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_flood_of_lists, setup, teardown),
        cmocka_unit_test_setup_teardown(test_instances_of_several_hosts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_more_calls_than_so_many, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_protocol, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
