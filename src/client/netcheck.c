/*
 * Asks the broker's STUN how the NAT here maps and filters (RFC 5780; core/natcheck
 * decides), how large a packet gets through, and how far the broker is.
 */
#include "client/netcheck.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "core/natcheck.h"
#include "core/stun.h"
#include "io/clock.h"
#include "io/helper.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/portmap.h"
#include "io/stop.h"
#include "io/udp.h"
#include "path/uplink.h"
#include "path/uplink_words.h"

enum {
    TICK_MS = 10,
    TOTAL_MS = 12000,
    TELL_MS = 1000, /* then a person is told what this waits for */
    MTU_WAIT_MS = 1500,
    V6_WAIT_MS = 1500,
    STUN_HEADER = 20,
    STUN_ATTRIBUTES = 12, /* PADDING's header and FINGERPRINT */
    IP_UDP_V4 = 28,
};

/* UDP payloads that fill these MTUs over IPv4. */
static const uint16_t mtus[] = {1500, 1492, 1480, 1420, 1400, 1280};
enum { MTU_COUNT = sizeof(mtus) / sizeof(mtus[0]) };

struct netcheck_state {
    const struct netcheck_config *config;
    struct loop *loop;
    struct timer timer;
    struct net net;
    struct uplink *uplink;
    struct udp *sockets[2], *v6;
    struct addr server_v4, server_v6;
    struct natcheck check;
    bool begun, told, told_checking, mtu_begun, v6_answered;
    struct portmap *map;
    bool map_answered, mapped;
    char map_words[160];
    uint8_t mtu_txid[MTU_COUNT][STUN_TXID_LEN], v6_txid[STUN_TXID_LEN];
    bool mtu_ok[MTU_COUNT];
    uint64_t began_ms, mtu_ms;
    int result;
    struct fault fault;
};

static unsigned limit_ms(const struct netcheck_state *s)
{
    return s->config->limit_ms != 0 ? s->config->limit_ms : TOTAL_MS;
}

static void finish(struct netcheck_state *s, int result)
{
    s->result = result;
    loop_stop(s->loop);
}

static unsigned found_mtu(const struct netcheck_state *s)
{
    for (int i = 0; i < MTU_COUNT; i++)
        if (s->mtu_ok[i])
            return mtus[i];
    return 0;
}

static const char *yes_no(enum natcheck_answer a)
{
    return a == NATCHECK_YES ? "yes" : a == NATCHECK_NO ? "no" : "unknown";
}

static const char *privilege_words(char *buf, size_t cap)
{
    (void)snprintf(
        buf, cap,
        "udp-knock, tcp-knock and spoof need privileges, and tcp-punch knows "
        "more with them: %s",
        helper_missing());
    return buf;
}

/* The router was asked for a port, which goes back when this ends. */
static void on_mapped(void *ctx, const struct addr *external, const char *words)
{
    struct netcheck_state *s = ctx;
    s->map_answered = true;
    s->mapped = external != NULL;
    (void)snprintf(s->map_words, sizeof(s->map_words), "%s", words);
}

static void report(struct netcheck_state *s)
{
    const struct natcheck_result *r = natcheck_result(&s->check);
    struct event own = {0}, *e = s->config->found != NULL ? s->config->found : &own;
    char words[NATCHECK_WORDS_LEN];
    unsigned mtu = found_mtu(s);
    enum nat_mapping mapping = r->mapping;
    enum nat_filtering filtering = r->filtering;
    bool certain = true;
    /* A broker with one address cannot tell these two apart: the likely one, marked. */
    if (mapping == NAT_MAPPING_UNKNOWN && r->mapping_not_port_dependent) {
        mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT;
        certain = false;
    }
    if (filtering == NAT_FILTERING_UNKNOWN && r->filtering_not_port_dependent) {
        filtering = NAT_FILTERING_ADDRESS_DEPENDENT;
        certain = false;
    }
    event_begin(e, "netcheck");
    /* The NAT's tests go over IPv4; what IPv6 answers is UDP as well. */
    bool only_v6 = r->udp != NATCHECK_YES && s->v6_answered;
    event_text(e, "udp", only_v6 ? "yes" : yes_no(r->udp));
    event_text(e, "mapping", nat_mapping_name(mapping));
    event_text(e, "filtering", nat_filtering_name(filtering));
    event_bool(e, "certain", certain);
    event_text(e, "port_preserved", yes_no(r->port_preserved));
    event_addr(e, "seen_as", &r->mapped[NATCHECK_MAPPING]);
    event_text(e, "ipv6",
               s->v6_answered                     ? "yes"
               : s->server_v6.family == ADDR_NONE ? "unknown"
                                                  : "no");
    if (mtu != 0)
        event_int(e, "mtu", mtu);
    else
        json_text(&e->json, "mtu", NULL);
    event_rtt(e, "udp_rtt_ms", r->rtt_us);
    event_rtt(e, "broker_rtt_ms", uplink_rtt_us(s->uplink));
    event_int(e, "clock_skew_s", uplink_clock_skew_s(s->uplink));
    event_text(e, "port_mapping", s->mapped ? s->map_words : "no");
    bool privileged = helper_can(PRIVILEGE_CAN_FILTER | PRIVILEGE_CAN_RAW);
    event_bool(e, "privileged", privileged);
    event_text(e, "words",
               only_v6
                   ? "UDP works over IPv6 only: over IPv4 this network has no way to "
                     "the broker, or blocks UDP there"
                   : natcheck_words(r, words));
    event_text(e, "more", privileged ? "" : privilege_words(words, sizeof(words)));
    events_print(s->config->found != NULL ? NULL : s->config->out, e);
}

/* ----------------------------------------------------------------------------- UDP */

static void on_packets(void *ctx, struct udp *u, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct netcheck_state *s = ctx;
    struct stun_message m;
    (void)from;
    size_t n = len < segment_len ? len : segment_len;
    if (stun_parse(&m, buf, n) != 0 || m.type != STUN_BINDING_SUCCESS)
        return;
    if (u == s->v6) {
        s->v6_answered = s->v6_answered || stun_is_response_to(&m, s->v6_txid);
        return;
    }
    for (int i = 0; i < MTU_COUNT; i++)
        s->mtu_ok[i] =
            s->mtu_ok[i] || (s->mtu_begun && stun_is_response_to(&m, s->mtu_txid[i]));
    (void)natcheck_on_response(
        &s->check, u == s->sockets[0] ? NATCHECK_FILTERING : NATCHECK_MAPPING, m.txid,
        &m.mapped, m.other.family != ADDR_NONE ? &m.other : NULL, clock_us());
}

static void on_writable(void *ctx, struct udp *u)
{
    (void)ctx, (void)u;
}

static const struct udp_events udp_events = {on_packets, on_writable};

/* The local address that leads to the server: what an unchanged mapping looks like. */
static void local_towards(struct addr *out, const struct udp *u)
{
    struct addr own[16];
    udp_local(u, out);
    uint16_t port = out->port;
    size_t n = netmon_addresses(own, 16, true);
    for (size_t i = 0; i < n; i++) {
        if (own[i].family == ADDR_V4) {
            *out = own[i];
            out->port = port;
            return;
        }
    }
}

static int begin(struct netcheck_state *s)
{
    struct addr any4 = {.family = ADDR_V4}, any6 = {.family = ADDR_V6};
    struct addr servers[UPLINK_STUN_MAX];
    struct natcheck_config nc = {.rtt_hint_us = uplink_rtt_us(s->uplink)};
    size_t n = uplink_stun(s->uplink, servers);
    for (size_t i = 0; i < n; i++) {
        struct addr *slot =
            servers[i].family == ADDR_V4 ? &s->server_v4 : &s->server_v6;
        if (slot->family == ADDR_NONE)
            *slot = servers[i];
    }
    for (int i = 0; i < 2; i++)
        if (udp_open(&s->sockets[i], s->loop, &any4, s->net.scratch, &udp_events, s) !=
            0)
            return POSTERN_ERR_IO;
    if (udp_open(&s->v6, s->loop, &any6, s->net.scratch, &udp_events, s) != 0)
        s->v6 = NULL;
    nc.server = s->server_v4;
    randombytes_buf(nc.seed, sizeof(nc.seed));
    for (int i = 0; i < 2; i++)
        local_towards(&nc.local[i], s->sockets[i]);
    natcheck_init(&s->check, &nc, clock_us());
    randombytes_buf(s->v6_txid, sizeof(s->v6_txid));
    const struct addr nobody = {0};
    s->map_answered = portmap_open(&s->map, s->loop, false, nc.local[0].port, &nobody,
                                   on_mapped, s) != 0;
    s->begun = true;
    return 0;
}

static void send_check(struct netcheck_state *s)
{
    struct natcheck_request r;
    uint8_t buf[STUN_MESSAGE_MAX];
    while (natcheck_next(&s->check, clock_us(), &r)) {
        int n =
            stun_build_request(buf, sizeof(buf), r.txid, r.change_ip, r.change_port);
        if (n > 0)
            (void)!udp_send(s->sockets[r.sock], &r.to, buf, (size_t)n, (size_t)n);
    }
}

static void send_v6(struct netcheck_state *s)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    if (s->v6 == NULL || s->server_v6.family == ADDR_NONE || s->v6_answered)
        return;
    int n = stun_build_request(buf, sizeof(buf), s->v6_txid, false, false);
    if (n > 0)
        (void)!udp_send(s->v6, &s->server_v6, buf, (size_t)n, (size_t)n);
}

/* Requests filled up with PADDING (RFC 5780 section 7.6); the answers are as long. */
static void send_mtu(struct netcheck_state *s)
{
    uint8_t buf[2048];
    s->mtu_begun = true;
    s->mtu_ms = loop_now_ms(s->loop);
    for (int i = 0; i < MTU_COUNT; i++) {
        struct stun_message m = {.type = STUN_BINDING_REQUEST, .fingerprint = true};
        unsigned room = mtus[i] - IP_UDP_V4 - STUN_HEADER - STUN_ATTRIBUTES;
        m.padding_len = (uint16_t)(room / 4 * 4);
        randombytes_buf(s->mtu_txid[i], STUN_TXID_LEN);
        memcpy(m.txid, s->mtu_txid[i], STUN_TXID_LEN);
        int n = stun_build(buf, sizeof(buf), &m);
        for (int copy = 0; n > 0 && copy < 2; copy++)
            (void)!udp_send(s->sockets[1], &s->server_v4, buf, (size_t)n, (size_t)n);
    }
}

/* -------------------------------------------------------------------------- timing */

static void wait_for_broker(struct netcheck_state *s, uint64_t waited_ms)
{
    char why[sizeof(s->fault.what)];
    if (waited_ms > limit_ms(s)) {
        (void)fault_set(&s->fault, POSTERN_ERR_TIMEOUT,
                        "check this machine's network, and whether the broker's "
                        "program is stuck",
                        "the broker at %.100s:%u did not answer in time",
                        s->config->broker.host, s->config->broker.port);
        finish(s, s->fault.code);
    } else if (waited_ms > TELL_MS && !s->told) {
        s->told = true;
        uplink_describe_wait(s->uplink, why, sizeof(why));
        log_warn("waiting: %s", why);
    }
}

/* Answers that do not come are what most of it is about, and they are waited for. */
static void tell_checking(struct netcheck_state *s, uint64_t waited_ms)
{
    if (waited_ms <= TELL_MS || s->told_checking)
        return;
    s->told_checking = true;
    log_warn("waiting: what the network does with UDP, and whether the router maps "
             "ports, is being checked; some seconds more, %u at most",
             (limit_ms(s) - TELL_MS) / 1000);
}

static void on_tick(void *ctx)
{
    struct netcheck_state *s = ctx;
    uint64_t now = loop_now_ms(s->loop);
    if (!s->begun) {
        wait_for_broker(s, now - s->began_ms);
        return;
    }
    tell_checking(s, now - s->began_ms);
    send_check(s);
    if (now % 300 < TICK_MS)
        send_v6(s);
    bool answered = natcheck_result(&s->check)->udp == NATCHECK_YES;
    if (!s->mtu_begun && answered)
        send_mtu(s);
    bool mtu_done = !answered || s->mtu_ok[0] || now - s->mtu_ms > MTU_WAIT_MS;
    bool v6_done = s->v6 == NULL || s->server_v6.family == ADDR_NONE ||
                   s->v6_answered || now - s->began_ms > V6_WAIT_MS;
    if ((natcheck_done(&s->check) && mtu_done && v6_done && s->map_answered) ||
        now - s->began_ms > limit_ms(s)) {
        report(s);
        finish(s, 0);
    }
}

static void on_up(void *ctx)
{
    struct netcheck_state *s = ctx;
    if (!s->begun && begin(s) != 0) {
        (void)fault_set(&s->fault, POSTERN_ERR_IO, "check this machine's limits",
                        "no UDP socket could be opened");
        finish(s, s->fault.code);
    }
}

static void on_down(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal)
{
    struct netcheck_state *s = ctx;
    (void)retry_ms, (void)fatal;
    if (!s->begun) {
        s->fault = *why;
        finish(s, why->code);
    }
}

static void on_control(void *ctx, const Control *m)
{
    (void)ctx, (void)m;
}

static void on_stop(void *ctx, int signum)
{
    (void)signum;
    finish(ctx, 0);
}

int netcheck_run(const struct netcheck_config *c, struct fault *f)
{
    static const struct uplink_events events = {on_up, on_down, on_control};
    struct netcheck_state s = {.config = c};
    int rc = loop_open(&s.loop);
    if (rc != 0)
        return fault_lack(f, rc);
    if (net_init(&s.net, s.loop, c->key, NULL) != 0)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    struct uplink_config uc = {.net = &s.net,
                               .broker = c->broker,
                               .name = "netcheck",
                               .state = c->state,
                               .events = &events,
                               .ctx = &s};
    rc = uplink_open(&s.uplink, &uc);
    struct stop *stop = NULL;
    if (rc == 0)
        rc = stop_open(&stop, s.loop, on_stop, &s);
    if (rc == 0) {
        timer_init(&s.timer, s.loop, on_tick, &s);
        s.began_ms = loop_now_ms(s.loop);
        log_progress("asking the broker, and what the network does with UDP ...");
        timer_every(&s.timer, 0, TICK_MS);
        loop_run(s.loop);
        rc = s.result;
        timer_stop(&s.timer);
    }
    if (rc != 0)
        *f = s.fault;
    stop_close(stop);
    uplink_close(s.uplink);
    udp_close(s.sockets[0]);
    udp_close(s.sockets[1]);
    udp_close(s.v6);
    portmap_close(s.map);
    net_fini(&s.net);
    loop_run(s.loop);
    loop_close(s.loop);
    return rc;
}
