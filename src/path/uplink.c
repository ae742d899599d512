/* The connection to the broker. Knows no peer and no path. */
#include "path/uplink.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/keepalive.h"
#include "io/channel.h"
#include "io/reach.h"
#include "io/log.h"

enum {
    CONNECT_TIMEOUT_MS = 8000,
    WELCOME_TIMEOUT_MS = 10000,
    PONG_TIMEOUT_MS = 5000,
    RETRY_FIRST_MS = 200,
    RETRY_MAX_MS = 15000,
    RETRY_FATAL_MS = 60000,
};

enum uplink_state { UPLINK_WAITING, UPLINK_DIALING, UPLINK_GREETING, UPLINK_UP };

struct uplink {
    struct uplink_config config;
    enum uplink_state state;
    struct reach *dial;
    struct proxy proxy;
    bool proxied;
    struct channel *channel;
    uv_timer_t *timer; /* retry, welcome, ping or pong: what `state` says */
    struct addr broker_addr, seen;
    struct addr stun[UPLINK_STUN_MAX];
    size_t stun_count;
    unsigned failures;
    unsigned retry_floor_ms; /* the broker asked for it */
    int64_t skew_s;
    struct keepalive keep;
    bool pinging;
    bool busy, freed;
};

static void on_timer(uv_timer_t *t);
static void connect_now(struct uplink *u);

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void set_timer(struct uplink *u, uint64_t ms)
{
    uv_update_time(u->config.net->loop);
    (void)uv_timer_start(u->timer, on_timer, ms, 0);
}

static unsigned jitter_ms(unsigned ms)
{
    uint32_t r = 0;
    (void)!getrandom(&r, sizeof(r), 0);
    return ms / 2 + r % (ms / 2 + 1);
}

static void drop_connection(struct uplink *u)
{
    reach_cancel(u->dial);
    u->dial = NULL;
    channel_free(u->channel);
    u->channel = NULL;
    u->pinging = false;
}

static void go_down(struct uplink *u, const struct fault *why, bool fatal)
{
    unsigned shift = u->failures < 7 ? u->failures : 7;
    unsigned ms = (unsigned)RETRY_FIRST_MS << shift;
    if (ms > RETRY_MAX_MS)
        ms = RETRY_MAX_MS;
    if (fatal)
        ms = RETRY_FATAL_MS;
    ms = jitter_ms(ms);
    if (ms < u->retry_floor_ms)
        ms = u->retry_floor_ms;
    u->retry_floor_ms = 0;
    u->failures++;
    drop_connection(u);
    u->state = UPLINK_WAITING;
    set_timer(u, ms);
    u->config.events->on_down(u->config.ctx, why, ms, fatal);
}

static void describe_proxy(const struct uplink *u, int err, struct fault *f)
{
    const struct proxy *p = &u->proxy;
    if (err == POSTERN_ERR_DENIED)
        (void)fault_set(
            f, err, "put them into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
            "the proxy at %s:%u wants a user name and password", p->host, p->port);
    else if (err == POSTERN_ERR_PROTO)
        (void)fault_set(f, err, "allow it there, or unset HTTPS_PROXY",
                        "the proxy at %s:%u does not lead to the broker at %s:%u",
                        p->host, p->port, u->config.broker.host, u->config.broker.port);
    else
        (void)fault_set(f, err, "check HTTPS_PROXY",
                        "the proxy at %s:%u cannot be reached (%s)", p->host, p->port,
                        postern_strerror(err));
}

static void describe(struct uplink *u, int err, struct fault *f)
{
    const struct link *l = &u->config.broker;
    if (u->proxied && u->state == UPLINK_DIALING) {
        describe_proxy(u, err, f);
        return;
    }
    const char *host = l->host;
    switch (err) {
    case POSTERN_ERR_KEY:
        (void)fault_set(
            f, err, "ask for a fresh link; do not go on if this is unexpected",
            "the broker at %s:%u holds another key than the link says", host, l->port);
        break;
    case POSTERN_ERR_REFUSED:
        (void)fault_set(f, err, "start the broker, or check the address in the link",
                        "nothing listens at the broker's address %s:%u", host, l->port);
        break;
    case POSTERN_ERR_NOTFOUND:
        (void)fault_set(f, err, "check the name in the link and this machine's DNS",
                        "the broker's name %s cannot be resolved", host);
        break;
    case POSTERN_ERR_TIMEOUT:
    case POSTERN_ERR_UNREACHABLE:
        (void)fault_set(f, err,
                        "check this machine's network and the broker's firewall",
                        "the broker at %s:%u cannot be reached (%s)", host, l->port,
                        postern_strerror(err));
        break;
    default:
        (void)fault_set(f, err,
                        "check that the address in the link is a Postern broker",
                        "the connection to the broker at %s:%u failed (%s)", host,
                        l->port, postern_strerror(err));
    }
}

static void fail(struct uplink *u, int err)
{
    struct fault f = {0};
    describe(u, err, &f);
    go_down(u, &f, err == POSTERN_ERR_KEY);
}

/* ----------------------------------------------------------------------- messages */

static void on_welcome(struct uplink *u, const Welcome *w)
{
    u->state = UPLINK_UP;
    u->failures = 0;
    u->stun_count = 0;
    if (addr_from_bytes(&u->seen, w->seen_ip.bytes, w->seen_ip.size, w->seen_port) != 0)
        u->seen = (struct addr){0};
    for (pb_size_t i = 0; i < w->stun_count && u->stun_count < UPLINK_STUN_MAX; i++) {
        struct addr a;
        if (addr_from_bytes(&a, w->stun[i].ip.bytes, w->stun[i].ip.size,
                            w->stun[i].port) == 0 &&
            addr_scope_of(&a) != ADDR_SCOPE_UNUSABLE)
            u->stun[u->stun_count++] = a;
    }
    u->skew_s = w->time_s != 0 ? (int64_t)w->time_s - (int64_t)time(NULL) : 0;
    keepalive_init(&u->keep, true, 0, net_now_us());
    set_timer(u, (keepalive_deadline_us(&u->keep) - net_now_us()) / 1000 + 1);
    u->config.events->on_up(u->config.ctx);
}

static void on_bye(struct uplink *u, const Bye *b)
{
    struct fault f = {0};
    bool fatal = false;
    switch (b->code) {
    case BYE_TOKEN:
        fatal = true;
        (void)fault_set(&f, POSTERN_ERR_DENIED,
                        "use the link that the broker prints at its start",
                        "the broker does not accept this link's enrolment token");
        break;
    case BYE_VERSION:
        fatal = true;
        (void)fault_set(&f, POSTERN_ERR_NEWER, "update the older of the two",
                        "the broker speaks another version of the protocol");
        break;
    case BYE_REPLACED:
        (void)fault_set(&f, POSTERN_ERR_INUSE, "stop the other program, or use --state",
                        "another program connected with this device's key");
        break;
    case BYE_BUSY:
        (void)fault_set(&f, POSTERN_ERR_LIMIT, "it is tried again by itself",
                        "the broker is at its limit: %s", b->reason);
        break;
    default:
        (void)fault_set(&f, POSTERN_ERR_CLOSED, "it is tried again by itself",
                        "the broker ended the connection: %s", b->reason);
    }
    u->retry_floor_ms = b->retry_ms < 600000 ? b->retry_ms : 600000;
    go_down(u, &f, fatal);
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    (void)ctx, (void)peer; /* the channel checked the key; Hello is on its way */
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct uplink *u = ctx;
    Control m;
    if (proto_decode_control(&m, msg, len) != 0) {
        fail(u, POSTERN_ERR_PROTO);
        return;
    }
    keepalive_on_received(&u->keep, net_now_us());
    if (m.which_body == Control_bye_tag) {
        on_bye(u, &m.body.bye);
    } else if (u->state == UPLINK_GREETING) {
        if (m.which_body == Control_welcome_tag)
            on_welcome(u, &m.body.welcome);
        else
            fail(u, POSTERN_ERR_PROTO);
    } else {
        switch (m.which_body) {
        case Control_pong_tag:
            u->pinging = false;
            break;
        case Control_introduce_tag:
        case Control_ticket_tag:
        case Control_signal_tag:
        case Control_carry_tag:
        case Control_refuse_tag:
            u->config.events->on_control(u->config.ctx, &m);
            break;
        default:
            log_debug("the broker sent a message of type %d", (int)m.which_body);
        }
    }
}

static void on_close(void *ctx, int err, const char *why)
{
    struct uplink *u = ctx;
    log_debug("connection to the broker ended: %s", why);
    if (u->state == UPLINK_UP)
        keepalive_on_dead(&u->keep);
    fail(u, err);
}

static const struct channel_events channel_events = {on_open, on_message, on_close};

static void on_dialed(void *ctx, int err, int fd)
{
    struct uplink *u = ctx;
    u->dial = NULL;
    if (err != 0) {
        fail(u, err);
        return;
    }
    struct channel_config cc = {.loop = u->config.net->loop,
                                .own = &u->config.net->own,
                                .events = &channel_events,
                                .ctx = u};
    if (channel_new_client(&u->channel, &cc, fd, u->config.broker.broker_key) != 0) {
        u->channel = NULL;
        fail(u, POSTERN_ERR_IO);
        return;
    }
    if (!u->proxied)
        channel_remote(u->channel, &u->broker_addr);
    u->state = UPLINK_GREETING;
    set_timer(u, WELCOME_TIMEOUT_MS);
    Control m = {.which_body = Control_hello_tag};
    Hello *h = &m.body.hello;
    h->version = PROTO_VERSION;
    h->host = u->config.host;
    if (u->config.broker.has_token) {
        h->token.size = LINK_SECRET_LEN;
        memcpy(h->token.bytes, u->config.broker.token, LINK_SECRET_LEN);
    }
    memcpy(h->name, u->config.name, sizeof(h->name));
    uint8_t buf[256];
    int n = proto_encode_control(buf, sizeof(buf), &m);
    if (n < 0 || channel_send(u->channel, buf, (size_t)n) != 0)
        fail(u, POSTERN_ERR_IO);
}

static void connect_now(struct uplink *u)
{
    drop_connection(u);
    u->state = UPLINK_DIALING;
    (void)uv_timer_stop(u->timer);
    struct fault f;
    int via = proxy_from_env(&u->proxy, u->config.broker.host, &f);
    u->proxied = via > 0;
    if (via < 0) {
        go_down(u, &f, true);
        return;
    }
    if (reach_start(&u->dial, u->config.net->loop, u->proxied ? &u->proxy : NULL,
                    u->config.broker.host, u->config.broker.port, NULL,
                    CONNECT_TIMEOUT_MS, on_dialed, u) != 0) {
        u->dial = NULL;
        fail(u, POSTERN_ERR_IO);
    }
}

/* ------------------------------------------------------------------------ timing */

static void send_ping(struct uplink *u)
{
    Control m = {.which_body = Control_ping_tag, .body.ping.nonce = net_now_us()};
    u->pinging = true;
    if (uplink_send(u, &m) != 0)
        fail(u, POSTERN_ERR_CLOSED);
    else
        set_timer(u, PONG_TIMEOUT_MS);
}

static void on_timer(uv_timer_t *t)
{
    struct uplink *u = t->data;
    if (u == NULL)
        return;
    u->busy = true;
    switch (u->state) {
    case UPLINK_WAITING:
        connect_now(u);
        break;
    case UPLINK_DIALING:
        break;
    case UPLINK_GREETING:
        fail(u, POSTERN_ERR_TIMEOUT);
        break;
    case UPLINK_UP:
        if (u->pinging) {
            keepalive_on_dead(&u->keep);
            fail(u, POSTERN_ERR_TIMEOUT);
        } else if (keepalive_due(&u->keep, net_now_us())) {
            send_ping(u);
        } else {
            uint64_t at = keepalive_deadline_us(&u->keep), now = net_now_us();
            set_timer(u, at > now ? (at - now) / 1000 + 1 : 1);
        }
        break;
    }
    u->busy = false;
    if (u->freed)
        free(u);
}

/* ------------------------------------------------------------------------- calls */

int uplink_open(struct uplink **out, const struct uplink_config *c)
{
    struct uplink *u = calloc(1, sizeof(*u));
    if (u == NULL)
        return POSTERN_ERR_NOMEM;
    u->config = *c;
    u->timer = malloc(sizeof(*u->timer));
    if (u->timer == NULL) {
        free(u);
        return POSTERN_ERR_NOMEM;
    }
    (void)uv_timer_init(c->net->loop, u->timer);
    u->timer->data = u;
    u->state = UPLINK_WAITING;
    set_timer(u, 0);
    *out = u;
    return 0;
}

void uplink_close(struct uplink *u)
{
    if (u == NULL || u->freed)
        return;
    drop_connection(u);
    u->timer->data = NULL;
    uv_close((uv_handle_t *)u->timer, free_handle);
    u->freed = true;
    if (!u->busy)
        free(u);
}

bool uplink_is_up(const struct uplink *u)
{
    return u->state == UPLINK_UP;
}

int uplink_send(struct uplink *u, const Control *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    if (u->state != UPLINK_UP)
        return POSTERN_ERR_CLOSED;
    int n = proto_encode_control(buf, sizeof(buf), m);
    if (n < 0)
        return n;
    keepalive_on_sent(&u->keep, net_now_us());
    return channel_send(u->channel, buf, (size_t)n);
}

void uplink_kick(struct uplink *u)
{
    switch (u->state) {
    case UPLINK_WAITING:
    case UPLINK_DIALING:
        u->failures = 0;
        u->state = UPLINK_WAITING;
        drop_connection(u);
        set_timer(u, 0);
        break;
    case UPLINK_GREETING:
        break;
    case UPLINK_UP:
        if (!u->pinging) {
            send_ping(u);
            if (u->state == UPLINK_UP)
                set_timer(u, PONG_TIMEOUT_MS / 2);
        }
        break;
    }
}

uint32_t uplink_rtt_us(const struct uplink *u)
{
    return u->channel != NULL ? channel_rtt_us(u->channel) : 0;
}

uint32_t uplink_min_rtt_us(const struct uplink *u)
{
    return u->channel != NULL ? channel_min_rtt_us(u->channel) : 0;
}

int uplink_reach(const struct uplink *u, struct reach **out, unsigned timeout_ms,
                 dial_cb cb, void *ctx)
{
    const struct addr *known =
        u->broker_addr.family != ADDR_NONE ? &u->broker_addr : NULL;
    return reach_start(out, u->config.net->loop, u->proxied ? &u->proxy : NULL,
                       u->config.broker.host, u->config.broker.port, known, timeout_ms,
                       cb, ctx);
}

const struct addr *uplink_broker_addr(const struct uplink *u)
{
    return &u->broker_addr;
}

void uplink_local(const struct uplink *u, struct addr *a)
{
    *a = (struct addr){0};
    if (u->channel != NULL)
        channel_local(u->channel, a);
}

const struct addr *uplink_seen(const struct uplink *u)
{
    return &u->seen;
}

size_t uplink_stun(const struct uplink *u, struct addr out[static UPLINK_STUN_MAX])
{
    memcpy(out, u->stun, u->stun_count * sizeof(out[0]));
    return u->stun_count;
}

int64_t uplink_clock_skew_s(const struct uplink *u)
{
    return u->skew_s;
}

const struct link *uplink_link(const struct uplink *u)
{
    return &u->config.broker;
}
