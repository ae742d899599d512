/*
 * The connection to the broker. Knows no peer and no path.
 *
 * While a connection is in doubt, or a try takes long, a second one is made beside it,
 * and whichever shows life first is kept, so that nothing waits for a timeout.
 */
#include "path/uplink.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "core/familiar.h"
#include "core/least.h"
#include "core/patience.h"
#include "io/clock.h"
#include "io/egress.h"
#include "io/lack.h"
#include "io/last_good.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/nat64_way.h"
#include "io/netmon.h"
#include "io/tcp.h"
#include "path/detour.h"
#include "path/uplink_internal.h"
#include "path/uplink_words.h"

enum {
    CONNECT_TIMEOUT_MS = 4000, /* two SYNs more; then its name is looked up anew */
    CONNECT_SLOW_MS = 7500,    /* three, where its answers may wait in a full line */
    SLOW_US = 500000,
    CONNECT_LEAST_MS = 800,
    WELCOME_TIMEOUT_MS = 10000,
    HURRY_MIN_US = 1000000,   /* between tries, however many ask */
    SILENT_US = 90000,        /* no answer for so long: another interface may do */
    BESIDE_AGAIN_US = 500000, /* the one beside failed, and the old is silent still */
    /*
     * A try that was begun while the way was cut waits for TCP's doubling timers, from
     * a port that a NAT may have forgotten: a fresh one begins beside it, a few times.
     */
    FRESH_CONNECT_MS = 1000, /* no connection yet */
    FRESH_BESIDE_MS = 2000,  /* the same, beside one that stands: TCP itself has asked
                              * again by then, and a line that became slow may answer */
    FRESH_WELCOME_MS = 2000, /* connected, and not welcomed: the broker may be busy */
    FRESH_MAX = 3,           /* in one try; more only while its name is waited for */
    NAME_FIRST_MS = 4000,    /* for its name, where known addresses refuse */
    FRESH_LATER_MS = 2000,   /* between those */
    /* Of what the broker carries for a device or a host (broker/limits.h), most. */
    CARRY_BYTES = 96 * 1024,
    CARRY_HOST_BYTES = 384 * 1024,
    CARRY_BURST_S = 4,
    /* More is not queued for a line that takes less: it would only be delay. */
    UNSENT_BYTES = 16 * 1024,
    CARRY_QUEUED_BYTES = 16 * 1024,
    CARRY_COST_MIN = 512, /* a message costs as much as its bytes */
};

#define SETTLES_MAX_MS 15000u /* longer nobody is believed */

#define REPLACED_HEALTH_US 1800000000u /* then the other is forgotten */
#define REPLACED_MAX 4

#define CROSSED_US                                                                     \
    10000000u /* what TCP sends again comes until then, or hardly ever                 \
               */

static void on_timer(void *ctx);
static void arm_fresh(struct uplink *u);
static void on_line_timer(void *ctx);

void uplink_set_timer(struct uplink *u, uint64_t ms)
{
    loop_refresh(u->config.net->loop);
    timer_start(&u->timer, ms);
}

/* So many times what a late answer takes over this line. */
static unsigned late_ms(const struct uplink *u, unsigned times)
{
    return times * (unsigned)(uplink_late_us(u) / 1000);
}

/* --------------------------------------------------------------------------- lines */

/*
 * A line is given up for another one, and the broker must not take that for the end of
 * this program: what is closed in order from an address that is gone may still arrive,
 * since IPv6 routes outlive the address.
 */
void uplink_line_free(struct line *l)
{
    if (l == NULL)
        return;
    reach_cancel(l->dial);
    channel_break(l->channel);
    timer_stop(&l->timer);
    free(l);
}

void uplink_drop_lines(struct uplink *u)
{
    if (u->state == UPLINK_UP)
        u->slow = uplink_rtt_us(u) > SLOW_US;
    uplink_line_free(u->line);
    uplink_line_free(u->beside);
    u->line = u->beside = NULL;
    u->pinging = false;
}

static enum comeback_why why_down(const struct uplink *u, const struct fault *why,
                                  bool fatal)
{
    bool was_up = u->state == UPLINK_UP;
    if (fatal)
        return COMEBACK_FATAL;
    switch (why->code) {
    case POSTERN_ERR_REFUSED:
        return COMEBACK_REFUSED;
    case POSTERN_ERR_UNREACHABLE:
        return COMEBACK_DARK;
    case POSTERN_ERR_RESET:
        return was_up ? COMEBACK_ENDED : COMEBACK_TURNED;
    case POSTERN_ERR_CLOSED:
        return was_up ? COMEBACK_ENDED : COMEBACK_OTHER;
    case POSTERN_ERR_PROTO:
        return COMEBACK_STRANGER;
    default:
        return COMEBACK_OTHER;
    }
}

static unsigned pause_ms(struct uplink *u, const struct fault *why, bool fatal)
{
    uint64_t now_us = clock_us();
    unsigned ms =
        comeback_on_down(&u->comeback, why_down(u, why, fatal), now_us / 1000);
    if (ms < u->retry_floor_ms)
        ms = u->retry_floor_ms;
    u->floor_us = now_us + u->retry_floor_ms * 1000ull;
    u->retry_floor_ms = 0;
    return ms;
}

static void go_down(struct uplink *u, const struct fault *why, bool fatal)
{
    unsigned ms = pause_ms(u, why, fatal);
    if (uplink_name(u) == UPLINK_NAME_ASKED)
        u->name_slow = true;
    uplink_drop_lines(u);
    u->doubted = u->stranger = false;
    u->state = UPLINK_WAITING;
    u->fault = *why;
    u->fatal = fatal;
    uplink_set_timer(u, ms);
    u->config.events->on_down(u->config.ctx, &u->fault, ms, fatal);
}

/* A try or a connection is over. */
static void line_over(struct line *l, const struct fault *why, bool fatal)
{
    struct uplink *u = l->uplink;
    if (l == u->beside) {
        log_debug("the second connection to the broker: %s", why->what);
        uplink_line_free(l);
        u->beside = NULL;
        u->beside_us = clock_us() + BESIDE_AGAIN_US;
        if (u->state == UPLINK_UP)
            uplink_arm(u);
    } else if (u->beside != NULL) { /* which takes its place when it is welcomed */
        bool was_up = u->state == UPLINK_UP;
        bool seamless = u->beside->open; /* it said Hello: that ended this one */
        uplink_line_free(l);
        u->line = u->beside;
        u->beside = NULL;
        u->pinging = false;
        u->state = UPLINK_TRYING;
        u->fault = *why;
        u->fatal = false;
        if (was_up) {
            u->fresh = 0;
            u->tried_us = clock_us();
        }
        arm_fresh(u);
        if (was_up && !seamless)
            u->config.events->on_down(u->config.ctx, &u->fault, 0, false);
    } else {
        go_down(u, why, fatal);
    }
}

static const struct addr *self_only(const struct uplink *u)
{
    static const struct addr none = {0};
    struct addr literal;
    if (u->resolved_count == 0 || strcmp(u->config.broker.host, "localhost") == 0 ||
        addr_parse_ip(&literal, u->config.broker.host) == 0)
        return &none;
    for (size_t i = 0; i < u->resolved_count; i++)
        if (addr_scope_of(&u->resolved[i]) != ADDR_SCOPE_LOOPBACK &&
            addr_scope_of(&u->resolved[i]) != ADDR_SCOPE_UNUSABLE)
            return &none;
    return &u->resolved[0];
}

/*
 * Another program answers at an address that was tried first: the others get their turn
 * before anybody is told. Once between two pauses.
 */
static bool try_elsewhere(struct line *l, int err)
{
    struct uplink *u = l->uplink;
    bool others = false;
    if (u->proxied || u->doubted || l != u->line || u->state != UPLINK_TRYING ||
        l->remote.family == ADDR_NONE ||
        (err != POSTERN_ERR_KEY && err != POSTERN_ERR_PROTO))
        return false;
    for (size_t i = 0; i < u->known_count; i++)
        others = others || !addr_equal(&u->known[i], &l->remote);
    for (size_t i = 0; i < u->resolved_count; i++)
        others = others || !addr_equal(&u->resolved[i], &l->remote);
    if (!others)
        return false;
    u->doubted = true;
    u->stranger = err == POSTERN_ERR_PROTO;
    u->doubtful = l->remote;
    uplink_connect_now(u);
    return true;
}

void uplink_line_failed(struct line *l, int err)
{
    struct uplink *u = l->uplink;
    struct addr none = {0};
    struct fault f = {0};
    bool dialling = l->channel == NULL;
    struct uplink_trouble t = {.broker = &u->config.broker,
                               .lan = u->config.lan,
                               .proxy = u->proxied && dialling ? &u->proxy : NULL,
                               .last = u->known_count > 0 ? &u->known[0] : &none,
                               .self = self_only(u),
                               .name_err = u->looked_up ? u->name_err
                                           : dialling   ? POSTERN_ERR_DNS
                                                        : 0,
                               .at = &l->remote,
                               .taken = !dialling,
                               .clogged = !dialling && channel_is_clogged(l->channel)};
    if (l == u->line && u->state == UPLINK_UP)
        t.silent_s =
            1 + (unsigned)((clock_us() - max64(u->heard_us, u->pinged_us)) / 1000000);
    if (try_elsewhere(l, err))
        return;
    if (dialling && u->stranger && l == u->line && u->state == UPLINK_TRYING) {
        err = POSTERN_ERR_PROTO; /* that says more than the others' silence */
        t.at = &u->doubtful;
        dialling = false;
    }
    uplink_describe(&t, err, &f);
    if (dialling && err == POSTERN_ERR_TIMEOUT) /* it is not slow: it is not there */
        f.code = POSTERN_ERR_UNREACHABLE;
    line_over(l, &f, patience_ends(err, PATIENCE_LINE));
}

/* --------------------------------------------------------- where the broker may be */

static void know(struct uplink *u, const struct addr *a)
{
    for (size_t i = 0; i < u->known_count; i++)
        if (addr_equal(&u->known[i], a))
            return;
    if (u->known_count < UPLINK_KNOWN_MAX)
        u->known[u->known_count++] = *a;
}

static bool same_addrs(const struct addr *x, size_t nx, const struct addr *y, size_t ny)
{
    bool same = nx == ny;
    for (size_t i = 0; same && i < nx; i++)
        same = addr_equal(&x[i], &y[i]);
    return same;
}

/* The broker's proven address first, then what its name stands for, then what it says.
 */
static void learn_addresses(struct uplink *u, const struct addr *proven)
{
    struct addr before[UPLINK_KNOWN_MAX], literal;
    size_t count = u->known_count;
    memcpy(before, u->known, sizeof(before));
    memset(u->known, 0, sizeof(u->known));
    u->known_count = 0;
    know(u, proven);
    for (size_t i = 0; i < u->resolved_count; i++)
        know(u, &u->resolved[i]);
    for (size_t i = 0; i < count && u->resolved_count == 0; i++)
        know(u, &before[i]);
    for (size_t i = 0; i < u->stun_count; i++) {
        struct addr a = u->stun[i];
        a.port = u->config.broker.port;
        know(u, &a);
    }
    if (u->config.state != NULL &&
        addr_parse_ip(&literal, u->config.broker.host) != 0 &&
        !same_addrs(before, count, u->known, u->known_count))
        last_good_save(u->config.state, u->config.broker.host, u->config.broker.port,
                       u->known, u->known_count);
}

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct line *l = ctx;
    struct uplink *u = l->uplink;
    u->looked_up = true;
    u->name_err = err;
    u->name_slow = clock_us() - u->tried_us > NAME_FIRST_MS * 1000ull;
    if (err != 0)
        return;
    u->resolved_count = n < UPLINK_KNOWN_MAX ? n : UPLINK_KNOWN_MAX;
    memcpy(u->resolved, addrs, u->resolved_count * sizeof(*addrs));
}

enum uplink_name uplink_name(const struct uplink *u)
{
    struct addr literal;
    if (u->state != UPLINK_TRYING || u->proxied || u->line == NULL ||
        u->line->channel != NULL || addr_parse_ip(&literal, u->config.broker.host) == 0)
        return UPLINK_NAME_KNOWN;
    if (!u->looked_up)
        return UPLINK_NAME_ASKED;
    return u->name_err != 0 ? UPLINK_NAME_FAILED : UPLINK_NAME_KNOWN;
}

/* ------------------------------------------------------------------------ messages */

static void add_stun(struct uplink *u, const struct addr *a)
{
    for (size_t i = 0; i < u->stun_count; i++)
        if (addr_equal(&u->stun[i], a))
            return;
    if (u->stun_count < UPLINK_STUN_MAX && addr_scope_of(a) != ADDR_SCOPE_UNUSABLE)
        u->stun[u->stun_count++] = *a;
}

/*
 * The address at which the broker was reached comes first: what it believes to be its
 * own may be another (its name in its own /etc/hosts, one-to-one NAT) or of a family
 * that has no route here (NAT64).
 */
static void take_proof(struct uplink *u, const uint8_t *bytes, size_t len)
{
    if (len == sizeof(u->proof))
        memcpy(u->proof, bytes, len);
}

/* Through a translator its name stands for IPv6 addresses, and it is IPv4 behind it. */
static void use_ipv4(struct addr *a)
{
    struct addr v4;
    if (nat64_way_take_out(a, &v4))
        *a = v4;
}

static void take_welcome(struct uplink *u, const Welcome *w)
{
    struct addr reached = u->broker_addr;
    u->stun_count = 0;
    if (reached.family != ADDR_NONE && w->stun_count > 0) {
        reached.port = (uint16_t)w->stun[0].port;
        add_stun(u, &reached);
        reached.port = (uint16_t)w->stun_second;
        if (reached.port != 0) /* a network may let nothing through to the first */
            add_stun(u, &reached);
    }
    if (addr_from_bytes(&u->seen, w->seen_ip.bytes, w->seen_ip.size, w->seen_port) != 0)
        u->seen = (struct addr){0};
    for (pb_size_t i = 0; i < w->stun_count; i++) {
        struct addr a;
        if (addr_from_bytes(&a, w->stun[i].ip.bytes, w->stun[i].ip.size,
                            w->stun[i].port) == 0)
            add_stun(u, &a);
    }
    memset(u->proof, 0, sizeof(u->proof)); /* of another address, or another broker */
    take_proof(u, w->proof.bytes, w->proof.size);
    u->takes_familiar = w->familiar;
    u->takes_spoken = w->spoken;
    uplink_take_granting(u, w->nat_sessions);
    uint32_t settles_ms =
        w->settles_ms < SETTLES_MAX_MS ? w->settles_ms : SETTLES_MAX_MS;
    u->settled_us = clock_us() + settles_ms * 1000ull;
    u->broker_began_s =
        w->time_s != 0 ? (int64_t)w->time_s - (int64_t)(clock_us() / 1000000) : 0;
}

/* One that has said Hello takes the other's place at the broker: it is let. */
static void drop_unneeded(struct uplink *u)
{
    if (u->beside == NULL || u->beside->open)
        return;
    uplink_line_free(u->beside);
    u->beside = NULL;
}

/*
 * What was used answers nothing. Something may come in by it all the same, where only
 * what leaves is lost: what we said is not acknowledged then.
 */
static bool is_mute(const struct uplink *u)
{
    return u->state != UPLINK_UP || u->heard_us < u->pinged_us ||
           (u->pinging && uplink_line_is_connected(u->line) &&
            channel_is_clogged(u->line->channel));
}

/* This line is the connection from here on, whichever was before. */
static void on_welcome(struct line *l, const Welcome *w)
{
    struct uplink *u = l->uplink;
    bool elsewhere = l->over != 0 && is_mute(u);
    if (l == u->beside) {
        log_debug("a new connection to the broker replaces a silent one");
        if (u->line->open && u->state == UPLINK_TRYING)
            u->crossed_us = clock_us();
        uplink_line_free(u->line);
        u->line = l;
        u->beside = NULL;
    }
    drop_unneeded(u);
    timer_stop(&l->timer);
    if (elsewhere)
        detour_take(u->config.net->budget, l->over, l->instead, &l->remote);
    u->state = UPLINK_UP;
    u->up_us = u->heard_us = clock_us();
    u->spoke_us = u->said_us = 0;
    u->yields = 0;
    u->pinging = false;
    u->doubted = u->stranger = false;
    u->doubtful = (struct addr){0};
    u->fault = (struct fault){0};
    u->broker_addr = (struct addr){0};
    if (!u->proxied)
        u->broker_addr = l->remote;
    use_ipv4(&u->broker_addr);
    take_welcome(u, w);
    comeback_on_up(&u->comeback, w->settles_ms > 0, clock_us() / 1000);
    keepalive_init(&u->keep, true, 0, clock_us());
    if (u->config.host)
        keepalive_bound(&u->keep, uplink_is_watched(u) ? KEEPALIVE_HOST_US
                                                       : KEEPALIVE_HOST_BLIND_US);
    uplink_arm(u);
    if (!u->proxied)
        learn_addresses(u, &l->remote);
    uplink_prefix_ask(u);
    u->config.events->on_up(u->config.ctx);
}

/*
 * Somebody else has this device's key: a copy of the state directory, most likely. Who
 * was thrown out asks, with growing pauses, whether the place is free, and takes it
 * back only after many tries (the other may be dead, and the broker not know), more of
 * them each time. So one of the two works, and not both in turns of a moment.
 */
static void on_replaced(struct uplink *u)
{
    if (u->state != UPLINK_UP) {
        u->yields -= u->yields > 0;
        return;
    }
    if (clock_us() - u->up_us >= REPLACED_HEALTH_US)
        u->replaced = 0;
    u->replaced += u->replaced < REPLACED_MAX;
    u->yields = 4u << u->replaced;
}

/* The Hello of a first try that was given up when the second was welcomed came to the
 * broker after that one's, and took its place: nobody else has this key. */
static bool has_crossed(struct uplink *u, const Bye *b)
{
    bool lately = u->crossed_us != 0 && clock_us() - u->crossed_us < CROSSED_US;
    u->crossed_us = 0;
    return lately && b->code == BYE_REPLACED && u->beside == NULL;
}

static void on_bye(struct line *l, const Bye *b)
{
    struct fault f = {0};
    if (has_crossed(l->uplink, b)) {
        (void)fault_set(&f, POSTERN_ERR_CLOSED, ADVICE_RETRIED,
                        "two connections to the broker crossed");
        line_over(l, &f, false);
        return;
    }
    uplink_describe_bye(b, l->uplink->config.lan, &f);
    if (b->code == BYE_REPLACED && l->uplink->beside == NULL)
        on_replaced(l->uplink);
    l->uplink->retry_floor_ms = b->retry_ms < 600000 ? b->retry_ms : 600000;
    line_over(l, &f, patience_ends(f.code, PATIENCE_BROKER));
}

static void on_pong(struct uplink *u)
{
    uint64_t now_us = clock_us();
    if (u->pinging)
        lateness_note(&u->config.net->late, now_us - u->pinged_us, uplink_min_rtt_us(u),
                      now_us);
    u->pinging = false;
    drop_unneeded(u);
    uplink_arm(u);
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct line *l = ctx;
    (void)peer; /* the channel checked the key; Hello is on its way */
    l->open = true;
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct line *l = ctx;
    struct uplink *u = l->uplink;
    bool welcomed = l == u->line && u->state == UPLINK_UP;
    Control m;
    if (proto_decode_control(&m, msg, len) != 0) {
        uplink_line_failed(l, POSTERN_ERR_PROTO);
        return;
    }
    if (welcomed) {
        u->heard_us = clock_us();
        u->spoke_us = 0;
        keepalive_on_received(&u->keep, u->heard_us);
    }
    if (m.which_body == Control_bye_tag) {
        on_bye(l, &m.body.bye);
    } else if (!welcomed) {
        if (m.which_body == Control_welcome_tag)
            on_welcome(l, &m.body.welcome);
        else
            uplink_line_failed(l, POSTERN_ERR_PROTO);
    } else if (m.which_body == Control_pong_tag) {
        take_proof(u, m.body.pong.proof.bytes, m.body.pong.proof.size);
        on_pong(u);
    } else if (m.which_body == Control_badge_tag) {
        uplink_take_badge(u, &m);
    } else if (m.which_body == Control_nat_sessions_tag) {
        uplink_take_grant(u, &m);
    } else {
        u->config.events->on_control(u->config.ctx, &m);
    }
}

static void on_close(void *ctx, int err, const char *why)
{
    struct line *l = ctx;
    log_debug("connection to the broker ended: %s", why);
    if (l == l->uplink->line && l->uplink->state == UPLINK_UP)
        keepalive_on_dead(&l->uplink->keep);
    uplink_line_failed(l, err);
}

static const struct channel_events channel_events = {on_open, on_message, on_close};

static void on_dialed(void *ctx, int err, int fd)
{
    struct line *l = ctx;
    struct uplink *u = l->uplink;
    l->dial = NULL;
    if (err != 0) {
        uplink_line_failed(l, err);
        return;
    }
    struct channel_config cc = {.loop = u->config.net->loop,
                                .badge = uplink_badge(u),
                                .protocol = u->config.lan ? PROTO_ALPN_AGENT : NULL,
                                .own = &u->config.net->own,
                                .acks_at_once = u->config.host,
                                .any_key = u->config.any_broker,
                                .asks_after_s = uplink_is_watched(u) ? WATCH_S : 0,
                                .events = &channel_events,
                                .ctx = l};
    tcp_unsent_max(fd, UNSENT_BYTES);
    l->over = l->also != 0 ? egress_of(fd) : 0;
    if (channel_new_client(&l->channel, &cc, fd, u->config.broker.broker_key) != 0) {
        l->channel = NULL;
        uplink_line_failed(l, POSTERN_ERR_IO);
        return;
    }
    channel_local(l->channel, &l->local);
    channel_remote(l->channel, &l->remote);
    timer_start(&l->timer, WELCOME_TIMEOUT_MS + 4 * channel_rtt_us(l->channel) / 1000 +
                               late_ms(u, 4));
    if (u->state == UPLINK_TRYING)
        arm_fresh(u);
    Control m = {.which_body = Control_hello_tag};
    Hello *h = &m.body.hello;
    h->version = PROTO_VERSION;
    h->host = u->config.host;
    h->yields = u->yields > 0;
    h->keeps_badge = !u->config.lan;
    h->process.size = NET_PROCESS_LEN;
    memcpy(h->process.bytes, u->config.net->process, NET_PROCESS_LEN);
    if (u->config.broker.has_token) {
        h->token.size = LINK_SECRET_LEN;
        memcpy(h->token.bytes, u->config.broker.token, LINK_SECRET_LEN);
    }
    memcpy(h->name, u->config.name, sizeof(h->name));
    if (u->config.events->familiar != NULL)
        h->familiar.size =
            (pb_size_t)u->config.events->familiar(u->config.ctx, h->familiar.bytes);
    uint8_t buf[256 + FAMILIAR_BYTES];
    int n = proto_encode_control(buf, sizeof(buf), &m);
    if (n < 0 || channel_send(l->channel, buf, (size_t)n) != 0)
        uplink_line_failed(l, POSTERN_ERR_IO);
}

/* A fresh dial gets what is left of its try: whoever waits is told in time. */
static unsigned dial_ms(const struct uplink *u)
{
    uint64_t ms = (clock_us() - u->tried_us) / 1000;
    unsigned most_ms = (u->slow ? CONNECT_SLOW_MS : CONNECT_TIMEOUT_MS) + late_ms(u, 2);
    if (u->state != UPLINK_TRYING || u->line == NULL)
        return most_ms;
    if (u->fresh > FRESH_MAX)
        return FRESH_LATER_MS + late_ms(u, 2);
    return ms + CONNECT_LEAST_MS < most_ms ? most_ms - (unsigned)ms : CONNECT_LEAST_MS;
}

static const struct addr *connected_from(const struct uplink *u)
{
    static const struct addr none = {0};
    return u->state == UPLINK_UP ? &u->line->local : &none;
}

static unsigned other_way(const struct uplink *u)
{
    if (u->proxied || u->config.lan)
        return 0;
    return detour_other(u->config.net->budget,
                        u->known_count > 0 ? &u->known[0] : &u->broker_addr,
                        connected_from(u));
}

bool uplink_may_go_round(const struct uplink *u)
{
    return other_way(u) != 0;
}

/*
 * The machine may have another way to the Internet than the one that is silent: what
 * shows life there first is taken.
 */
static unsigned also_over(const struct uplink *u)
{
    bool silent = u->state == UPLINK_UP
                      ? u->pinging && clock_us() - u->pinged_us >= SILENT_US
                      : u->fresh > 0 && !uplink_line_is_connected(u->line);
    return silent ? other_way(u) : 0;
}

/*
 * Where the known addresses refuse, a try is short; only when the name was not answered
 * in it is it waited for in the next. That draws a try out, and the addresses may
 * answer at any moment of it: they are asked anew, and the name is not.
 */
static struct line *line_new(struct uplink *u)
{
    bool by_name = u->state != UPLINK_TRYING || u->fresh <= FRESH_MAX;
    bool waits = u->known_count == 0 || u->name_slow;
    struct line *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    timer_init(&l->timer, u->config.net->loop, on_line_timer, l);
    l->uplink = u;
    l->also = also_over(u);
    l->instead = l->also != 0 ? egress_with(connected_from(u)) : 0;
    struct reach_config rc = {.loop = u->config.net->loop,
                              .via = u->proxied ? &u->proxy : NULL,
                              .to = {.host = by_name ? u->config.broker.host : NULL,
                                     .port = u->config.broker.port,
                                     .addrs = u->known,
                                     .count = u->known_count,
                                     .doubtful = &u->doubtful,
                                     .idle_ms = waits ? 0 : NAME_FIRST_MS,
                                     .on_resolved = on_resolved},
                              .timeout_ms = dial_ms(u),
                              .small = true,
                              .also = l->also};
    if (reach_start(&l->dial, &rc, on_dialed, l) != 0) {
        l->dial = NULL;
        uplink_line_free(l);
        return NULL;
    }
    return l;
}

static void on_looked(void *ctx)
{
    struct uplink *u = ctx;
    u->look = NULL;
    uplink_prefix_ask(u);
}

/* What is behind a translator is to be known by the time that others are looked for. */
static void look_for_translator(struct uplink *u)
{
    if (u->look == NULL && !u->config.lan && nat64_way_is_wanted() &&
        nat64_look_start(&u->look, u->config.net->loop, on_looked, u) != 0)
        u->look = NULL;
}

void uplink_connect_now(struct uplink *u)
{
    struct fault f;
    uplink_drop_lines(u);
    u->state = UPLINK_TRYING;
    u->looked_up = false;
    u->name_err = 0;
    u->tried_us = clock_us();
    timer_stop(&u->timer);
    int via = u->config.lan ? 0 : proxy_from_env(&u->proxy, u->config.broker.host, &f);
    u->proxied = via > 0;
    look_for_translator(u);
    if (via < 0) {
        go_down(u, &f, patience_ends(f.code, PATIENCE_LINE));
        return;
    }
    if (u->fresh > FRESH_MAX) /* of the last try */
        u->fresh = FRESH_MAX;
    u->line = line_new(u);
    u->fresh = 0;
    if (u->line == NULL) {
        (void)fault_lack(&f, POSTERN_ERR_NOMEM);
        go_down(u, &f, false);
        return;
    }
    arm_fresh(u);
}

/* -------------------------------------------------------------------------- timing */

static void on_line_timer(void *ctx)
{
    uplink_line_failed(ctx, POSTERN_ERR_TIMEOUT);
}

void uplink_begin_beside(struct uplink *u)
{
    unsigned most_ms = CONNECT_TIMEOUT_MS + late_ms(u, 2);
    uplink_line_free(u->beside);
    u->beside = line_new(u);
    u->beside_ms =
        u->beside_ms == 0 ? FRESH_BESIDE_MS + late_ms(u, 2) : 2 * u->beside_ms;
    if (u->beside_ms > most_ms) /* each is given time where the line is slow */
        u->beside_ms = most_ms;
    u->beside_us =
        clock_us() + (u->beside == NULL ? BESIDE_AGAIN_US : u->beside_ms * 1000ull);
}

/* While trying: when the next fresh line begins. */
static void arm_fresh(struct uplink *u)
{
    bool connected =
        uplink_line_is_connected(u->line) || uplink_line_is_connected(u->beside);
    bool asks = u->known_count > 0 && uplink_name(u) == UPLINK_NAME_ASKED &&
                clock_us() - u->tried_us < DIAL_NAME_MS * 1000ull;
    unsigned ms = (connected               ? FRESH_WELCOME_MS
                   : u->fresh >= FRESH_MAX ? FRESH_LATER_MS
                                           : FRESH_CONNECT_MS) +
                  late_ms(u, 2);
    if (u->fresh < FRESH_MAX || asks)
        uplink_set_timer(u, backoff_jitter_ms(&u->comeback.backoff, ms + ms / 4));
    else
        timer_stop(&u->timer);
}

static void on_trying_timer(struct uplink *u)
{
    u->fresh++;
    uplink_begin_beside(u);
    arm_fresh(u);
}

static void on_timer(void *ctx)
{
    struct uplink *u = ctx;
    if (u->state == UPLINK_WAITING)
        uplink_connect_now(u);
    else if (u->state == UPLINK_UP)
        uplink_on_up_timer(u);
    else
        on_trying_timer(u);
}

/* --------------------------------------------------------------------------- calls */

int uplink_open(struct uplink **out, const struct uplink_config *c)
{
    struct uplink *u = calloc(1, sizeof(*u));
    if (u == NULL)
        return POSTERN_ERR_NOMEM;
    u->config = *c;
    uint64_t seed;
    randombytes_buf(&seed, sizeof(seed));
    randombytes_buf(u->conv, sizeof(u->conv));
    comeback_init(&u->comeback, seed, clock_us() / 1000);
    if (c->state != NULL)
        u->known_count = last_good_load(c->state, c->broker.host, c->broker.port,
                                        u->known, UPLINK_KNOWN_MAX);
    uplink_load_badge(u);
    timer_init(&u->timer, c->net->loop, on_timer, u);
    timer_init(&u->prefix.timer, c->net->loop, uplink_on_prefix_timer, u);
    u->state = UPLINK_WAITING;
    u->slow = true; /* nothing is known of the line yet */
    uplink_set_timer(u, 0);
    *out = u;
    return 0;
}

void uplink_close(struct uplink *u)
{
    if (u == NULL)
        return;
    if (u->line != NULL) { /* the program ends, and says so */
        channel_free(u->line->channel);
        u->line->channel = NULL;
    }
    uplink_drop_lines(u);
    nat64_look_cancel(u->look);
    uplink_prefix_stop(u);
    timer_stop(&u->timer);
    free(u);
}

int uplink_send(struct uplink *u, const Control *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    if (u->state != UPLINK_UP)
        return POSTERN_ERR_CLOSED;
    int n = proto_encode_control(buf, sizeof(buf), m);
    if (n < 0)
        return n;
    keepalive_on_sent(&u->keep, clock_us());
    uplink_on_said(u);
    return channel_send(u->line->channel, buf, (size_t)n);
}

void uplink_hurry(struct uplink *u)
{
    uint64_t now_us = clock_us();
    if (u->state == UPLINK_WAITING && now_us - u->tried_us > HURRY_MIN_US &&
        now_us > u->floor_us && timer_due_in_ms(&u->timer) > UPLINK_HURRY_MS)
        uplink_set_timer(u, backoff_jitter_ms(&u->comeback.backoff, UPLINK_HURRY_MS));
}

bool uplink_may_carry(struct uplink *u, size_t len)
{
    uint64_t now_us = clock_us();
    if (uplink_is_up(u) && channel_queued_bytes(u->line->channel) > CARRY_QUEUED_BYTES)
        return false;
    uint64_t rate = u->config.host ? CARRY_HOST_BYTES : CARRY_BYTES; /* a second */
    uint64_t cost_us = (len > CARRY_COST_MIN ? len : CARRY_COST_MIN) * 1000000 / rate;
    uint64_t at_us = u->carried_us > now_us ? u->carried_us : now_us;
    if (at_us + cost_us > now_us + CARRY_BURST_S * 1000000ull)
        return false;
    u->carried_us = at_us + cost_us;
    return true;
}
