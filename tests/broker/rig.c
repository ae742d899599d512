/* See rig.h. */
#include "rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <sodium.h>

#include "core/relay_preface.h"
#include "io/linger.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sockaddr.h"

enum { BIND_TRIES = 10, PORT_FIRST = 10000, PORT_PAIRS = 10000, NEXT_PAIR = 997 };

static void on_guard(void *ctx)
{
    (void)ctx;
}

unsigned rig_port(unsigned attempt)
{
    return PORT_FIRST + 2 * (((unsigned)getpid() + attempt * NEXT_PAIR) % PORT_PAIRS);
}

/* "ADDRESS:0" becomes "ADDRESS:PORT". */
static void name_port(char *listen, size_t cap, unsigned attempt)
{
    char *colon = strrchr(listen, ':');
    if (strcmp(colon, ":0") == 0)
        (void)snprintf(colon, cap - (size_t)(colon - listen), ":%u", rig_port(attempt));
}

void rig_start_broker(struct rig *r)
{
    struct fault f = {0};
    char wanted[sizeof(r->listen)];
    int rc = POSTERN_ERR_INUSE;
    memcpy(wanted, r->listen, sizeof(wanted));
    for (unsigned i = 0;
         i < BIND_TRIES && (rc == POSTERN_ERR_INUSE || rc == POSTERN_ERR_IO); i++) {
        memcpy(r->listen, wanted, sizeof(wanted));
        name_port(r->listen, sizeof(r->listen), i);
        rc = broker_open(&r->broker, &r->config, &f);
    }
    if (rc != 0)
        print_error("%s; %s\n", f.what, f.advice);
    assert_int_equal(rc, 0);
    assert_int_equal(link_parse(&r->link, broker_link(r->broker), &f), 0);
    (void)snprintf(r->listen, sizeof(r->listen), "127.0.0.1:%u", r->link.port);
}

void rig_stop_broker(struct rig *r)
{
    broker_close(r->broker);
    r->broker = NULL;
}

void rig_open(struct rig *r, const struct broker_config *config)
{
    memset(r, 0, sizeof(*r));
    assert_true(sodium_init() >= 0);
    if (getenv("POSTERN_TEST_VERBOSE") != NULL)
        log_set_level(LOG_LEVEL_DEBUG);
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/postern-test-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    (void)snprintf(r->listen, sizeof(r->listen), "127.0.0.1:0");
    r->listens[0] = r->listen;
    r->config = *config;
    r->config.state_dir = r->dir;
    r->config.listen = r->listens;
    r->config.listen_count = 1;
    assert_int_equal(loop_open(&r->loop), 0);
    timer_init(&r->guard, r->loop, on_guard, r);
    timer_every(&r->guard, 100, 100);
    rig_start_broker(r);
}

static void remove_dir(const char *dir)
{
    static const char *const files[] = {"broker.db", "broker.db-wal", "broker.db-shm",
                                        "broker.lock"};
    char path[128];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

void rig_close(struct rig *r)
{
    for (size_t i = 0; i < r->device_count; i++) {
        device_close(r->devices[i]);
        free(r->devices[i]);
    }
    broker_close(r->broker);
    timer_stop(&r->guard);
    loop_run(r->loop);
    loop_close(r->loop);
    remove_dir(r->dir);
}

void rig_wait(struct rig *r, bool (*done)(void *ctx), void *ctx)
{
    loop_refresh(r->loop);
    uint64_t end = loop_now_ms(r->loop) + RIG_WAIT_MS;
    while (!done(ctx)) {
        if (loop_now_ms(r->loop) > end)
            fail_msg("waited too long");
        loop_turn(r->loop);
    }
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct device *d = ctx;
    assert_memory_equal(peer, d->rig->link.broker_key, KEY_LEN);
    d->open = true;
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct device *d = ctx;
    if (d->inbox_count < RIG_INBOX) {
        assert_int_equal(proto_decode_control(&d->inbox[d->inbox_count], msg, len), 0);
        d->inbox_count++;
    }
}

static void on_close(void *ctx, int err, const char *why)
{
    struct device *d = ctx;
    (void)why;
    d->closed = true;
    d->close_err = err;
}

const struct channel_events rig_events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

static int dial(const struct rig *r, const char *source)
{
    struct addr a;
    struct sockaddr_storage ss;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(addr_parse_ip(&a, source), 0);
    socklen_t len = sockaddr_from_addr(&ss, &a);
    assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    assert_int_equal(addr_parse(&a, r->listen), 0);
    len = sockaddr_from_addr(&ss, &a);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
    return fd;
}

int rig_dial_from(const struct rig *r, const char *source)
{
    struct timeval tv = {.tv_sec = RIG_WAIT_MS / 1000};
    int fd = dial(r, source);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
    return fd;
}

int rig_dial(const struct rig *r)
{
    return rig_dial_from(r, "127.0.0.1");
}

int rig_dial_relay(const struct rig *r, const uint8_t ticket[static TICKET_LEN])
{
    uint8_t preface[RELAY_PREFACE_LEN];
    int fd = rig_dial(r);
    relay_preface_encode(preface, ticket);
    assert_int_equal(send(fd, preface, sizeof(preface), 0), sizeof(preface));
    return fd;
}

static bool is_settled(void *ctx)
{
    struct device *d = ctx;
    return d->open || d->closed;
}

struct device *rig_connect(struct rig *r, const struct device *same)
{
    return rig_connect_from(r, same, "127.0.0.1");
}

struct device *rig_connect_from(struct rig *r, const struct device *same,
                                const char *source)
{
    assert_true(r->device_count < RIG_DEVICES);
    struct device *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    r->devices[r->device_count++] = d;
    d->rig = r;
    if (same != NULL) {
        d->key = same->key;
    } else {
        uint8_t seed[KEY_LEN];
        randombytes_buf(seed, sizeof(seed));
        keypair_from_seed(&d->key, seed);
    }
    struct channel_config c = {
        .loop = r->loop, .own = &d->key, .events = &rig_events, .ctx = d};
    int fd = dial(r, source);
    d->fd = fd;
    int flags = fcntl(fd, F_GETFL);
    assert_int_equal(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    assert_int_equal(channel_new_client(&d->channel, &c, fd, r->link.broker_key), 0);
    rig_wait(r, is_settled, d);
    assert_true(d->open);
    return d;
}

void device_close(struct device *d)
{
    channel_free(d->channel);
    d->channel = NULL;
}

void device_kill(struct device *d)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_true(null >= 0);
    linger_reset(d->fd);
    assert_int_equal(dup2(null, d->fd), d->fd); /* it was the only one */
    close(null);
    device_close(d);
}

void device_send(struct device *d, const Control *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    assert_true(n > 0);
    assert_int_equal(channel_send(d->channel, buf, (size_t)n), 0);
}

void device_hello(struct device *d, bool host, bool token)
{
    Control m = Control_init_zero;
    m.which_body = Control_hello_tag;
    m.body.hello.version = PROTO_VERSION;
    m.body.hello.host = host;
    if (token) {
        m.body.hello.token.size = LINK_SECRET_LEN;
        memcpy(m.body.hello.token.bytes, d->rig->link.token, LINK_SECRET_LEN);
    }
    device_send(d, &m);
}

Control introduce_to(const struct device *host)
{
    Control m = Control_init_zero;
    m.which_body = Control_introduce_tag;
    memcpy(m.peer, host->key.pub, KEY_LEN);
    randombytes_buf(m.conv, CONV_LEN);
    m.body.introduce.sealed.size = 1024;
    randombytes_buf(m.body.introduce.sealed.bytes, 1024);
    m.body.introduce.early.size = 1200;
    return m;
}

void ping_pong(struct device *d)
{
    device_send(d, &(Control){.which_body = Control_ping_tag});
    (void)device_expect(d, Control_pong_tag);
}

void device_accept(struct device *host, const Control *in, bool listed)
{
    Control m = Control_init_zero;
    m.which_body = Control_accept_tag;
    memcpy(m.peer, in->peer, KEY_LEN);
    memcpy(m.conv, in->conv, CONV_LEN);
    m.body.accept.listed = listed;
    m.body.accept.mark.size = in->body.introduce.mark.size;
    memcpy(m.body.accept.mark.bytes, in->body.introduce.mark.bytes,
           in->body.introduce.mark.size);
    device_send(host, &m);
}

bool device_has(const struct device *d, pb_size_t tag)
{
    for (size_t i = 0; i < d->inbox_count; i++)
        if (d->inbox[i].which_body == tag)
            return true;
    return false;
}

struct expectation {
    struct device *d;
    pb_size_t tag;
};

static bool is_met(void *ctx)
{
    struct expectation *e = ctx;
    return device_has(e->d, e->tag);
}

void device_await(struct device *d, pb_size_t tag)
{
    struct expectation e = {d, tag};
    rig_wait(d->rig, is_met, &e);
}

Control device_expect(struct device *d, pb_size_t tag)
{
    device_await(d, tag);
    size_t i = 0;
    while (d->inbox[i].which_body != tag)
        i++;
    Control m = d->inbox[i++];
    d->inbox_count -= i;
    memmove(d->inbox, d->inbox + i, d->inbox_count * sizeof(d->inbox[0]));
    return m;
}

struct device *rig_join(struct rig *r, bool host)
{
    struct device *d = rig_connect(r, NULL);
    device_hello(d, host, host);
    (void)device_expect(d, Control_welcome_tag);
    return d;
}

static bool is_closed(void *ctx)
{
    return ((struct device *)ctx)->closed;
}

void device_wait_closed(struct device *d)
{
    rig_wait(d->rig, is_closed, d);
}
