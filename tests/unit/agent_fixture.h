/*
 * For test_agent.c: an agent with its serve, and hosts of its LAN as hostile as the
 * test wants them, each with its end of a session.
 */
#ifndef POSTERN_TEST_AGENT_FIXTURE_H
#define POSTERN_TEST_AGENT_FIXTURE_H

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
#include "host/host.h"
#include "host/lan.h"
#include "host/race.h"
#include "io/channel.h"
#include "io/dial.h"
#include "io/sockaddr.h"
#include "path/approach.h"
#include "path/framed.h"
#include "path/offer.h"
#include "session/pump.h"
#include "session/session.h"
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
    uint8_t conv[CONV_LEN]; /* of it */
};

struct fixture {
    char dir[SCRATCH_LEN];
    struct statedir state;
    struct host *host;
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
        timer_init(&t_, (x)->host->loop, on_timeout, &(x)->timeout);                   \
        (x)->timeout = false;                                                          \
        timer_start(&t_, 5000);                                                        \
        while (!(condition) && !(x)->timeout)                                          \
            loop_turn((x)->host->loop);                                                \
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
        watch_start(&p->watch, p->x->host->loop, fd, WATCH_READ, on_joined, p), 0);
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

static void accept_introduction(struct peer *p, const Control *said)
{
    const Introduce *in = &said->body.introduce;
    Control m = {.which_body = Control_accept_tag};
    Offer o;
    assert_memory_equal(said->peer, p->x->agent_key, KEY_LEN);
    assert_int_equal(offer_open(&o, &p->key, p->x->agent_key, said->conv,
                                in->sealed.bytes, in->sealed.size),
                     0);
    assert_int_equal(o.kinds_count, 1);
    memcpy(m.peer, said->peer, KEY_LEN);
    memcpy(m.conv, said->conv, CONV_LEN);
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
        accept_introduction(p, &p->last);
    if (p->last.which_body != Control_ticket_tag)
        return;
    p->ticket = p->last.body.ticket;
    memcpy(p->conv, p->last.conv, CONV_LEN);
    assert_int_equal(dial_start(&p->pair_dial, p->x->host->loop, &p->x->at, 1, 5000,
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
    struct channel_config cc = {.loop = p->x->host->loop,
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
    assert_int_equal(net_init(&p->net, x->host->loop, &p->key, NULL), 0);
    assert_int_equal(session_env_init(&p->env, x->host->loop, &p->net.own), 0);
    p->made = true;
    assert_int_equal(dial_start(&p->dial, x->host->loop, &x->at, 1, 5000, on_dialed, p),
                     0);
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
    assert_int_equal(lan_host_find(p->x->host->roster, p->key.pub, &h), 0);
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

static void on_services(struct host *h)
{
    (void)h;
}

static const struct host_events host_events = {.on_services = on_services};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    uint8_t none[LINK_SECRET_LEN] = {0};
    struct fault f = {0};
    *state = x;
    if (x == NULL || scratch_make(x->dir) != 0)
        return -1;
    x->host = calloc(1, sizeof(*x->host));
    struct host *h = x->host;
    h->events = &host_events;
    h->state = &x->state;
    assert_int_equal(loop_open(&h->loop), 0);
    (void)snprintf(h->settings.name, sizeof(h->settings.name), "home");
    struct keypair key;
    char listen[ADDR_TEXT_LEN];
    free_port(&x->at);
    if (statedir_open(&x->state, x->dir, &f) != 0 ||
        statedir_key(&x->state, &key, &f) != 0 ||
        roster_open(&h->roster, x->dir, &f) != 0 ||
        agent_open(&h->agent, h, addr_format(&x->at, listen), &f) != 0)
        fail_msg("%s", f.what);
    x->agent = h->agent;
    memcpy(x->agent_key, key.pub, KEY_LEN);
    for (size_t i = 0; i < PEERS; i++)
        x->peers[i].fd = -1;
    return lan_token(h->roster, x->token, none);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    for (size_t i = 0; i < PEERS; i++)
        peer_end(&x->peers[i]);
    agent_close(x->agent);
    loop_run(x->host->loop);
    loop_close(x->host->loop);
    service_list_fini(&x->host->services);
    roster_close(x->host->roster);
    scratch_remove(x->dir);
    free(x->host);
    free(x);
    return 0;
}

#endif
