/* An agent and hosts that say the wrong thing, too much of it, or at the wrong time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/relay_preface.h"
#include "host/agent.h"
#include "host/internal.h"
#include "host/lan.h"
#include "host/race.h"
#include "io/channel.h"
#include "io/dial.h"
#include "io/loop.h"
#include "io/sockaddr.h"
#include "path/framed.h"
#include "scratch.h"

enum { PEERS = 3, UPDATES_MAX = 10, STREAMS = SESSION_STREAMS_MAX };

struct fixture;

/* A host of the LAN, as hostile as the test wants it. */
struct peer {
    struct fixture *x;
    struct keypair key;
    struct channel *channel;
    struct dial *dial;
    bool open, closed;
    bool stays;        /* away from the agent's introductions */
    unsigned seen[16]; /* how many of each body */
    Control last;
    /* Its end of the session. */
    struct net net;
    struct session_env env;
    bool made;
    struct dial *pair_dial;
    int fd;
    struct watch watch;
    struct framed *pair;
    uint32_t path_id;
    struct session *session;
    bool ended;
    Names names;
    unsigned named;
    struct pump *streams[STREAMS]; /* by the order of their coming */
    size_t stream_count, reset_count;
    char said[8]; /* by the last datagram */
    Ticket ticket;
};

struct fixture {
    char dir[SCRATCH_LEN];
    struct serve_config config;
    struct statedir state;
    struct serve *serve;
    struct agent *agent;
    struct addr at;
    uint8_t agent_key[KEY_LEN];
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

/* -------------------------------------------------------- a host's end of a session */

static void say(struct peer *p, const Control *m)
{
    static uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    assert_true(n >= 0);
    assert_int_equal(channel_send(p->channel, buf, (size_t)n), 0);
}

static void on_header(void *ctx, struct pump *pump, const uint8_t *msg, size_t len)
{
    struct peer *p = ctx;
    StreamOpen open = StreamOpen_init_zero;
    assert_int_equal(proto_decode(StreamOpen_fields, &open, msg, len), 0);
    assert_false(open.has_visit);
    p->streams[p->stream_count++] = pump;
}

static void on_datagram(void *ctx, struct pump *pump, const uint8_t *data, size_t len)
{
    struct peer *p = ctx;
    (void)pump;
    assert_true(len < sizeof(p->said));
    memcpy(p->said, data, len);
}

static void on_stream_end(void *ctx, struct pump *pump, uint64_t code)
{
    struct peer *p = ctx;
    for (size_t i = 0; i < p->stream_count; i++)
        if (p->streams[i] == pump)
            p->streams[i] = NULL;
    p->reset_count += code != 0;
}

static const struct pump_events pump_events = {on_header, on_datagram, on_stream_end};

/* Answers a stream that came. */
static void reply(struct peer *p, size_t n, unsigned code, const char *reason, bool udp)
{
    StreamReply r = {.code = code, .datagrams = udp};
    uint8_t buf[256];
    (void)snprintf(r.reason, sizeof(r.reason), "%s", reason);
    int len = proto_encode_frame(buf, sizeof(buf), StreamReply_fields, &r);
    if (udp)
        pump_set_datagrams(p->streams[n]);
    assert_int_equal(pump_send_header(p->streams[n], buf, (size_t)len), 0);
}

static bool on_authorize(void *ctx, const uint8_t key[static KEY_LEN])
{
    struct peer *p = ctx;
    return memcmp(key, p->x->agent_key, KEY_LEN) == 0;
}

static void on_session_open(void *ctx)
{
    (void)ctx;
}

static void on_stream(void *ctx, struct stream *st)
{
    struct pump *pump;
    assert_int_equal(pump_accept(&pump, st, &pump_events, ctx), 0);
}

static void on_meta(void *ctx, const Meta *m)
{
    struct peer *p = ctx;
    if (m->which_body != Meta_names_tag)
        return;
    p->names = m->body.names;
    p->named++;
}

static void on_path(void *ctx, struct path *path)
{
    (void)ctx, (void)path;
}

static void on_path_dead(void *ctx, struct path *path, uint64_t silent_us)
{
    (void)ctx, (void)path, (void)silent_us;
}

static void on_path_rtt(void *ctx, struct path *path, uint32_t rtt_us)
{
    (void)ctx, (void)path, (void)rtt_us;
}

static void on_session_close(void *ctx, int err, const char *why)
{
    struct peer *p = ctx;
    (void)err, (void)why;
    session_free(p->session);
    p->session = NULL;
    p->ended = true;
}

static const struct session_events session_events = {
    .authorize = on_authorize,
    .on_open = on_session_open,
    .on_stream = on_stream,
    .on_meta = on_meta,
    .on_path = on_path,
    .on_path_dead = on_path_dead,
    .on_path_rtt = on_path_rtt,
    .on_silent = on_session_open,
    .on_close = on_session_close,
};

static void on_first_packets(void *ctx, struct path *path, const uint8_t *buf,
                             size_t len, size_t segment_len)
{
    struct peer *p = ctx;
    struct session_config sc = {.env = &p->env, .events = &session_events, .ctx = p};
    assert_int_equal(session_new_server(&p->session, &sc, p->x->agent_key, path, buf,
                                        len < segment_len ? len : segment_len),
                     0);
    session_add_path(p->session, path);
}

static void on_writable(void *ctx, struct path *path)
{
    (void)ctx, (void)path;
}

static const struct path_user first_user = {on_first_packets, on_writable};

static void drop_pair(struct peer *p)
{
    if (p->pair != NULL && p->session != NULL)
        session_remove_path(p->session, framed_path(p->pair));
    framed_free(p->pair);
    p->pair = NULL;
}

static void on_pair_broke(void *ctx, struct framed *f, const char *why)
{
    (void)f, (void)why;
    drop_pair(ctx);
}

static void on_joined(void *ctx, int events)
{
    struct peer *p = ctx;
    uint8_t byte;
    int fd = p->fd;
    (void)events;
    assert_int_equal(read(fd, &byte, 1), 1);
    assert_int_equal(byte, RELAY_JOINED);
    watch_close(&p->watch);
    p->fd = -1;
    assert_int_equal(
        framed_new(&p->pair, &p->net, fd, PATH_RELAY, ++p->path_id, on_pair_broke, p),
        0);
    struct path *path = framed_path(p->pair);
    path->user = &first_user;
    path->user_ctx = p;
    if (p->session != NULL)
        session_add_path(p->session, path);
}

static void on_pair_dialed(void *ctx, int err, int fd)
{
    struct peer *p = ctx;
    uint8_t preface[RELAY_PREFACE_LEN];
    p->pair_dial = NULL;
    assert_int_equal(err, 0);
    relay_preface_encode(preface, p->ticket.ticket.bytes);
    assert_int_equal(write(fd, preface, sizeof(preface)), sizeof(preface));
    p->fd = fd;
    assert_int_equal(
        watch_start(&p->watch, p->x->serve->loop, fd, WATCH_READ, on_joined, p), 0);
}

static void end_session(struct peer *p)
{
    dial_cancel(p->pair_dial);
    watch_close(&p->watch);
    if (p->fd >= 0)
        close(p->fd);
    for (size_t i = 0; i < p->stream_count; i++)
        if (p->streams[i] != NULL)
            pump_drop(p->streams[i]);
    struct session *s = p->session;
    p->session = NULL;
    session_free(s);
    drop_pair(p);
    p->pair_dial = NULL;
    p->fd = -1;
    p->stream_count = 0;
}

/* ----------------------------------------------------------------------- the hosts */

static void on_open(void *ctx, const uint8_t key[static KEY_LEN])
{
    struct peer *p = ctx;
    (void)key;
    p->open = true;
}

static void accept_introduction(struct peer *p, const Introduce *in)
{
    Control m = {.which_body = Control_accept_tag};
    Offer o;
    assert_memory_equal(in->peer, p->x->agent_key, KEY_LEN);
    assert_int_equal(approach_open_offer(&o, &p->key, p->x->agent_key, in->conv,
                                         in->sealed.bytes, in->sealed.size),
                     0);
    assert_int_equal(o.kinds_count, 1);
    memcpy(m.body.accept.peer, in->peer, KEY_LEN);
    memcpy(m.body.accept.conv, in->conv, CONV_LEN);
    say(p, &m);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct peer *p = ctx;
    assert_int_equal(proto_decode_control(&p->last, msg, len), 0);
    p->seen[p->last.which_body]++;
    if (p->stays)
        return;
    if (p->last.which_body == Control_introduce_tag)
        accept_introduction(p, &p->last.body.introduce);
    if (p->last.which_body != Control_ticket_tag)
        return;
    p->ticket = p->last.body.ticket;
    assert_int_equal(dial_start(&p->pair_dial, p->x->serve->loop, &p->x->at, 1, 5000,
                                on_pair_dialed, p),
                     0);
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
    assert_int_equal(channel_new_client(&p->channel, &cc, fd, p->x->agent_key), 0);
}

static void peer_end(struct peer *p)
{
    dial_cancel(p->dial);
    end_session(p);
    channel_free(p->channel);
    if (p->made) {
        session_env_fini(&p->env);
        net_fini(&p->net);
    }
    memset(p, 0, sizeof(*p));
    p->fd = -1;
}

static struct peer *dial(struct fixture *x, size_t n)
{
    struct peer *p = &x->peers[n];
    uint8_t seed[KEY_LEN] = {(uint8_t)(n + 1)};
    peer_end(p);
    p->x = x;
    keypair_from_seed(&p->key, seed);
    assert_int_equal(net_init(&p->net, x->serve->loop, &p->key, NULL), 0);
    assert_int_equal(session_env_init(&p->env, x->serve->loop, &p->net.own), 0);
    p->made = true;
    assert_int_equal(
        dial_start(&p->dial, x->serve->loop, &x->at, 1, 5000, on_dialed, p), 0);
    WAIT(x, p->open);
    return p;
}

static void hello(struct peer *p, const char *name, const uint8_t *token)
{
    Control m = {.which_body = Control_hello_tag,
                 .body.hello = {.version = PROTO_VERSION, .host = true}};
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
    WAIT(x, p->session != NULL && session_is_open(p->session));
    return p;
}

static void offer(struct peer *p, const ServiceInfo *services, size_t n)
{
    static Meta m;
    m = (Meta){.which_body = Meta_services_tag};
    m.body.services.services_count = (pb_size_t)n;
    memcpy(m.body.services.services, services, n * sizeof(*services));
    assert_int_equal(session_send_meta(p->session, &m), 0);
}

static void hand_over(struct peer *p, const char *const *names, size_t n)
{
    static ServiceInfo list[64];
    for (size_t i = 0; i < n; i++) {
        list[i] = (ServiceInfo){.port = 80};
        (void)snprintf(list[i].name, sizeof(list[i].name), "%s", names[i]);
    }
    offer(p, list, n);
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
    assert_int_equal(p->seen[Control_bye_tag], 1);
    assert_int_equal(p->last.body.bye.code, code);
}

/* --------------------------------------------------------------------- the fixture */

static void free_port(struct addr *a)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000001)}};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    close(fd);
    *a = (struct addr){
        .family = ADDR_V4, .ip = {127, 0, 0, 1}, .port = ntohs(in.sin_port)};
}

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
    struct keypair key;
    char listen[ADDR_TEXT_LEN];
    free_port(&x->at);
    if (statedir_open(&x->state, x->dir, &f) != 0 ||
        statedir_key(&x->state, &key, &f) != 0 ||
        roster_open(&s->roster, x->dir, &f) != 0 ||
        agent_open(&s->agent, s, addr_format(&x->at, listen), &f) != 0)
        fail_msg("%s", f.what);
    x->agent = s->agent;
    memcpy(x->agent_key, key.pub, KEY_LEN);
    for (size_t i = 0; i < PEERS; i++)
        x->peers[i].fd = -1;
    return lan_token(s->roster, x->token, none);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    for (size_t i = 0; i < PEERS; i++)
        peer_end(&x->peers[i]);
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
    WAIT(x, p->seen[Control_welcome_tag] == 1);
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
    WAIT(x, used->named == 1);
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
    Control ping = {.which_body = Control_ping_tag};
    struct peer *p = dial(x, 0);
    say(p, &ping); /* before its Hello */
    expect_bye(p, BYE_PROTOCOL);
    p = dial(x, 0);
    assert_int_equal(channel_send(p->channel, "\xff\xff\xff\xff", 4), 0);
    expect_bye(p, BYE_PROTOCOL);
    p = join(x, 0, "nas");
    hello(p, "nas", x->token);
    expect_bye(p, BYE_PROTOCOL);
    p = join(x, 0, "nas");
    say(p, &ping);
    WAIT(x, p->seen[Control_pong_tag] == 1);
    Control introduce = {.which_body = Control_introduce_tag};
    say(p, &introduce); /* it has no other client than its agent, and no host */
    expect_bye(p, BYE_PROTOCOL);
    p = dial(x, 0);
    Control old = {.which_body = Control_hello_tag, .body.hello.version = 99};
    say(p, &old);
    expect_bye(p, BYE_VERSION);
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
    WAIT(x, p->named == 1);
    const Names *n = &p->names;
    assert_int_equal(n->names_count, 8);
    for (size_t i = 0; i < 8; i++)
        assert_string_equal(n->names[i], called[i]);
    assert_int_equal(x->serve->services.count, 2);
    static const ServiceInfo others[] = {{"u", 53, true},       {"zero", 0, false},
                                         {"big", 70000, false}, {"udp:53", 53, true},
                                         {"udp:x", 5, true},    {"udp:7", 7, false}};
    static const char *const then[] = {"u/nas", "", "", "udp:53/nas", "", ""};
    offer(p, others, 6);
    WAIT(x, p->named == 2);
    assert_int_equal(n->names_count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(n->names[i], then[i]);
    assert_int_equal(x->serve->services.count, 2); /* what was before is gone */
    assert_true(service_find(&x->serve->services, "u")->udp);
}

static void test_a_flood_of_lists(void **state)
{
    struct fixture *x = *state;
    static const char *const web[] = {"web"};
    struct peer *p = join(x, 0, "nas");
    for (int i = 0; i < 3 * UPDATES_MAX; i++)
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
    WAIT(x, a->named == 1);
    hand_over(b, both, 2);
    WAIT(x, b->named == 1);
    assert_string_equal(b->names.names[0], "web/pi");
    assert_string_equal(b->names.names[1], "ssh-2/pi");
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
    struct race *race;
    struct pump *stream;
    int code;
    bool connected, failed;
    char reason[160];
    int app; /* the other end of a socket to which the stream is attached */
};

static void on_won(void *ctx, int fd)
{
    (void)ctx;
    fail_msg("dialled here: %d", fd);
}

static void on_connected(void *ctx, struct pump *stream)
{
    struct dialer *c = ctx;
    int pair[2];
    c->connected = true;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    pump_disown(stream);
    assert_int_equal(pump_attach(stream, pair[0]), 0);
    c->app = pair[1];
}

static void on_failed(void *ctx, enum stream_code code, const char *reason)
{
    struct dialer *c = ctx;
    c->failed = true;
    c->code = code;
    (void)snprintf(c->reason, sizeof(c->reason), "%s", reason);
}

static const struct race_events call_events = {on_won, on_connected, on_failed};

static void call_as(struct fixture *x, struct dialer *c, uint64_t host, bool udp,
                    const struct race_events *events)
{
    struct service s = {.name = "web", .port = 80, .udp = udp, .target_count = 1};
    s.targets[0] = (struct service_target){.host = "web", .port = 80, .by = host};
    assert_int_equal(race_start(&c->race, x->serve->loop, x->agent, &s, events, c), 0);
}

static void call(struct fixture *x, struct dialer *c, uint64_t host)
{
    *c = (struct dialer){.app = -1};
    call_as(x, c, host, false, &call_events);
}

static void expect_failed(struct fixture *x, struct dialer *c, const char *words)
{
    WAIT(x, c->failed);
    assert_int_equal(c->code, STREAM_UNREACHABLE);
    assert_non_null(strstr(c->reason, words));
    race_free(c->race);
}

/* Joined, with one service; returns its number. */
static uint64_t with_service(struct peer *p, bool udp)
{
    ServiceInfo web = {"web", 80, udp};
    offer(p, &web, 1);
    WAIT(p->x, p->named == 1);
    return service_find(&p->x->serve->services, "web")->targets[0].by;
}

static void test_answers(void **state)
{
    struct fixture *x = *state;
    struct dialer c;
    call(x, &c, 1);
    expect_failed(x, &c, "not connected");
    struct peer *p = join(x, 0, "nas");
    uint64_t number = with_service(p, false);
    call(x, &c, number + 1);
    expect_failed(x, &c, "not connected");
    call(x, &c, number);
    WAIT(x, p->stream_count == 1);
    reply(p, 0, 99, "because", false);
    expect_failed(x, &c, "because");
    call(x, &c, number);
    WAIT(x, p->stream_count == 2);
    size_t before = p->reset_count;
    race_free(c.race); /* nobody waits any more */
    WAIT(x, p->reset_count == before + 1);
    call(x, &c, number);
    WAIT(x, p->stream_count == 3);
    assert_int_equal(pump_send_header(p->streams[2], (uint8_t[]){0, 0, 0, 1, 255}, 5),
                     0);
    expect_failed(x, &c, "malformed");
    call(x, &c, number);
    WAIT(x, p->stream_count == 4);
    pump_abort(p->streams[3], STREAM_LIMIT); /* instead of an answer */
    expect_failed(x, &c, "broke");
    call(x, &c, number);
    end_session(p);
    channel_free(p->channel);
    p->channel = NULL;
    expect_failed(x, &c, "broke");
    call(x, &c, number);
    expect_failed(x, &c, "not connected");
}

static void ignore_end(void *ctx, struct pump *pump, uint64_t code)
{
    (void)ctx, (void)pump, (void)code;
}

static void test_no_more_streams_than_so_many(void **state)
{
    static const struct pump_events events = {on_header, NULL, ignore_end};
    static struct pump *streams[STREAMS];
    struct fixture *x = *state;
    struct peer *p = join(x, 0, "nas");
    uint64_t number = with_service(p, false);
    int n = 0, rc = 0;
    while (n < STREAMS && (rc = agent_open_stream(&streams[n], x->agent, number, "web",
                                                  &events, p)) == 0)
        n++;
    assert_int_equal(rc, POSTERN_ERR_LIMIT);
    assert_true(n >= STREAMS / 2);
    for (int i = 0; i < n; i++)
        pump_drop(streams[i]);
}

static void test_streams_go_on(void **state)
{
    struct fixture *x = *state;
    struct dialer c;
    char text[8] = "";
    struct peer *p = join(x, 0, "nas");
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    call(x, &c, with_service(p, false));
    WAIT(x, p->stream_count == 1);
    reply(p, 0, STREAM_OK, "", false);
    assert_int_equal(pump_attach(p->streams[0], pair[0]), 0);
    WAIT(x, c.connected);
    race_free(c.race);
    drop_pair(p); /* it breaks: the session goes on over the next one */
    assert_int_equal(send(pair[1], "hi", 3, 0), 3);
    WAIT(x, recv(c.app, text, sizeof(text), MSG_DONTWAIT) == 3);
    assert_string_equal(text, "hi");
    assert_true(p->seen[Control_introduce_tag] > 1);
    assert_false(p->ended);
    channel_free(p->channel); /* its control connection goes: this stream stands */
    p->channel = NULL;
    WAIT(x, x->serve->services.count == 0);
    assert_int_equal(send(c.app, "ho", 3, 0), 3);
    WAIT(x, recv(pair[1], text, sizeof(text), MSG_DONTWAIT) == 3);
    assert_string_equal(text, "ho");
    assert_false(agent_forget(x->agent, p->key.pub)); /* not connected, but known */
    WAIT(x, recv(c.app, text, sizeof(text), MSG_DONTWAIT) <= 0 && p->ended);
    close(pair[1]);
    close(c.app);
}

static void on_joined_end(void *ctx, struct pump *pump, uint64_t code)
{
    struct dialer *c = ctx;
    (void)pump;
    c->stream = NULL;
    c->failed = code != 0;
}

static const struct pump_events joined_events = {on_header, NULL, on_joined_end};

static void keep_stream(void *ctx, struct pump *stream)
{
    struct dialer *c = ctx;
    c->stream = stream;
    pump_set_user(stream, &joined_events, c);
}

static void on_connected_join(void *ctx, struct pump *stream)
{
    struct dialer *c = ctx;
    c->connected = true;
    pump_set_datagrams(c->stream);
    pump_join(c->stream, stream);
}

/* Two hosts: a stream of the one is joined to one of the other. */
static void test_streams_are_joined(void **state)
{
    static const struct race_events keeps = {on_won, keep_stream, on_failed},
                                    joins = {on_won, on_connected_join, on_failed};
    struct fixture *x = *state;
    struct dialer c = {.app = -1};
    struct peer *a = join(x, 0, "nas"), *b = join(x, 1, "pi");
    uint64_t of_a = with_service(a, true);
    with_service(b, true);
    uint64_t of_b = service_find(&x->serve->services, "web")->targets[1].by;
    call_as(x, &c, of_a, true, &keeps);
    WAIT(x, a->stream_count == 1);
    reply(a, 0, STREAM_OK, "", true);
    WAIT(x, c.stream != NULL);
    race_free(c.race);
    call_as(x, &c, of_b, true, &joins);
    WAIT(x, b->stream_count == 1);
    reply(b, 0, STREAM_OK, "", true);
    WAIT(x, c.connected);
    race_free(c.race);
    assert_int_equal(pump_send_datagram(a->streams[0], (const uint8_t *)"two", 4), 0);
    WAIT(x, strcmp(b->said, "two") == 0);
    assert_int_equal(pump_send_datagram(b->streams[0], (const uint8_t *)"six", 4), 0);
    WAIT(x, strcmp(a->said, "six") == 0);
    pump_abort(b->streams[0], STREAM_TIMEOUT);
    WAIT(x, c.failed && a->streams[0] == NULL);
    assert_null(c.stream);
}

/* A host that was begun anew says so, and gets a session that it knows. */
static void test_a_session_that_is_forgotten(void **state)
{
    struct fixture *x = *state;
    struct peer *p = join(x, 0, "nas");
    Control m = {.which_body = Control_signal_tag};
    Offer o = {.fresh = true};
    with_service(p, false);
    memcpy(o.conv, p->ticket.conv, CONV_LEN);
    memcpy(m.body.signal.conv, p->ticket.conv, CONV_LEN);
    memcpy(m.body.signal.peer, x->agent_key, KEY_LEN);
    int n = approach_seal_offer(m.body.signal.sealed.bytes,
                                sizeof(m.body.signal.sealed.bytes), &o, &p->key,
                                x->agent_key);
    assert_true(n > 0);
    m.body.signal.sealed.size = (pb_size_t)n;
    end_session(p);
    say(p, &m);
    WAIT(x, x->serve->services.count == 0);
    WAIT(x, p->session != NULL && session_is_open(p->session));
    assert_memory_not_equal(p->ticket.conv, o.conv, CONV_LEN);
    p->named = 0;
    with_service(p, false);
}

/* -------------------------------------------------------------------------- the door
 */

/* What is said to the door ends the connection. */
static void expect_closed(struct fixture *x, const void *said, size_t len)
{
    struct sockaddr_storage ss;
    socklen_t ss_len = sockaddr_from_addr(&ss, &x->at);
    uint8_t byte;
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, ss_len), 0);
    assert_int_equal(send(fd, said, len, 0), (ssize_t)len);
    WAIT(x, recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
    close(fd);
}

static void test_tickets(void **state)
{
    struct fixture *x = *state;
    uint8_t preface[RELAY_PREFACE_LEN];
    struct peer *p = join(x, 0, "nas");
    relay_preface_encode(preface, p->ticket.ticket.bytes); /* it was used */
    expect_closed(x, preface, sizeof(preface));
    relay_preface_encode(preface, (const uint8_t[TICKET_LEN]){1});
    expect_closed(x, preface, sizeof(preface));
    preface[4]++;
    expect_closed(x, preface, sizeof(preface));
    expect_closed(x, "nothing of ours", 15);
    assert_true(session_is_open(p->session));
}

static void test_another_protocol(void **state)
{
    struct fixture *x = *state;
    struct peer *p = &x->peers[0];
    struct channel_config cc = {.loop = x->serve->loop,
                                .own = &p->key, /* and a broker's protocol */
                                .events = &channel_events,
                                .ctx = p};
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, &x->at);
    uint8_t seed[KEY_LEN] = {1};
    keypair_from_seed(&p->key, seed);
    p->x = x;
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(channel_new_client(&p->channel, &cc, fd, x->agent_key), 0);
    WAIT(x, p->closed);
    assert_false(p->open);
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
        cmocka_unit_test_setup_teardown(test_no_more_streams_than_so_many, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_streams_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_streams_are_joined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_that_is_forgotten, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_tickets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_protocol, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
