/*
 * Asks the broker's STUN how the NAT here maps and filters (RFC 5780; core/natcheck
 * decides), how large a packet gets through, and how far the broker is.
 */
#include "client/netcheck.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "client/netcheck_idle.h"
#include "core/natprofile.h"
#include "core/predict.h"
#include "core/stun.h"
#include "io/clock.h"
#include "io/egress.h"
#include "io/helper.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/portmap.h"
#include "io/resolve.h"
#include "io/stop.h"
#include "io/udp.h"
#include "path/tcp_port.h"
#include "path/uplink.h"
#include "path/uplink_words.h"

enum {
    TICK_MS = 10,
    TOTAL_MS = 12000,
    DEEP_MS = 140000,
    SOURCES_MAX = 8, /* addresses of this machine that are asked from */
    TELL_MS = 1000,  /* then a person is told what this waits for */
    MTU_WAIT_MS = 1500,
    V6_WAIT_MS = 1500,
    STUN_HEADER = 20,
    STUN_ATTRIBUTES = 32, /* PADDING's header, FINGERPRINT and the mark */
    IP_UDP_V4 = 28,
};

/* UDP payloads that fill these MTUs over IPv4. */
static const uint16_t mtus[] = {1500, 1492, 1480, 1420, 1400, 1280};
enum { MTU_COUNT = sizeof(mtus) / sizeof(mtus[0]) };

/* One address of this machine, and where the outside sees what starts from it. */
struct source {
    struct addr local, seen;
    struct udp *socket;
    uint8_t txid[STUN_TXID_LEN];
};

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
    struct addr map_external;
    struct source sources[SOURCES_MAX];
    size_t source_count;
    struct netcheck_idle *idle;
    struct resolve *nat64_asked;
    enum natcheck_answer nat64;
    unsigned asked4; /* requests over IPv4 that left this machine */
    uint8_t mtu_txid[MTU_COUNT][STUN_TXID_LEN], v6_txid[STUN_TXID_LEN];
    bool mtu_ok[MTU_COUNT];
    uint64_t began_ms, mtu_ms;
    int result;
    struct fault fault;
};

static unsigned limit_ms(const struct netcheck_state *s)
{
    unsigned usual = s->config->deep ? DEEP_MS : TOTAL_MS;
    return s->config->limit_ms != 0 ? s->config->limit_ms : usual;
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

/* What privileges would add here; behind a NAT a knock never arrives. */
static const char *privilege_words(const struct natprofile *p, char *buf, size_t cap)
{
    bool bare = p->found->mapping == NAT_MAPPING_NONE;
    (void)snprintf(
        buf, cap, "%s: %s",
        bare ? "udp-knock, tcp-knock and spoof need privileges, and tcp-punch "
               "knows more with them"
             : "tcp-punch knows more with privileges (udp-knock and spoof are "
               "of no use behind this NAT)",
        helper_missing());
    return buf;
}

/* The router was asked for a port, which goes back when this ends. */
static void on_mapped(void *ctx, const struct addr *external, const char *words)
{
    struct netcheck_state *s = ctx;
    s->map_answered = true;
    s->mapped = external != NULL;
    if (external != NULL)
        s->map_external = *external;
    (void)snprintf(s->map_words, sizeof(s->map_words), "%s", words);
}

/* A mapping at an address where nobody outside sees us leads nowhere. */
static enum natcheck_answer double_nat(const struct netcheck_state *s)
{
    const struct addr *seen = &natcheck_result(&s->check)->mapped[NATCHECK_MAPPING];
    struct addr own = s->check.config.local[NATCHECK_MAPPING];
    if (own.family == ADDR_V4 && own.ip[0] == 100 && (own.ip[1] & 0xc0) == 64)
        return NATCHECK_YES; /* RFC 6598: a carrier's */
    if (!s->mapped || seen->family != ADDR_V4 ||
        addr_scope_of(seen) != ADDR_SCOPE_GLOBAL)
        return NATCHECK_UNKNOWN;
    return addr_ip_equal(seen, &s->map_external) ? NATCHECK_NO : NATCHECK_YES;
}

static bool mapping_leads_here(const struct netcheck_state *s)
{
    return s->mapped && double_nat(s) != NATCHECK_YES;
}

static void report_mapping(const struct netcheck_state *s, struct event *e)
{
    char at[ADDR_TEXT_LEN], words[280];
    event_text(e, "port_mapping", mapping_leads_here(s) ? s->map_words : "no");
    event_text(e, "double_nat", yes_no(double_nat(s)));
    if (s->mapped && !mapping_leads_here(s)) {
        (void)snprintf(
            words, sizeof(words),
            "%s at the router leads nowhere: its outside is %s, which is not "
            "where the broker sees us; another NAT is beyond it",
            s->map_words, addr_format_ip(&s->map_external, at));
        event_text(e, "mapping_note", words);
    } else if (!s->mapped && s->map_words[0] != '\0') {
        event_text(e, "mapping_note", s->map_words);
    }
}

/* From which of this machine's addresses something comes through, and where it is seen.
 */
static void report_sources(const struct netcheck_state *s, struct event *e)
{
    char local[ADDR_TEXT_LEN], text[2 * ADDR_TEXT_LEN + 16];
    json_array_begin(&e->json, "uplinks");
    for (size_t i = 0; i < s->source_count; i++) {
        const struct source *from = &s->sources[i];
        char seen[ADDR_TEXT_LEN];
        (void)snprintf(
            text, sizeof(text), "%s %s%s", addr_format_ip(&from->local, local),
            from->seen.family != ADDR_NONE ? "as " : "no answer",
            from->seen.family != ADDR_NONE ? addr_format_ip(&from->seen, seen) : "");
        json_text(&e->json, NULL, text);
    }
    json_array_end(&e->json);
}

/* What was asked for, and what nobody can know from here. */
static void report_deep(const struct netcheck_state *s, struct event *e)
{
    unsigned lives = 0, dies = 0;
    char words[96] = "not known: the broker's STUN did not answer";
    if (s->idle == NULL)
        return;
    netcheck_idle_found(s->idle, &lives, &dies);
    if (dies > 0)
        (void)snprintf(words, sizeof(words),
                       "a silent mapping lives for %u s, not for %u", lives, dies);
    else if (lives > 0)
        (void)snprintf(words, sizeof(words),
                       "a silent mapping lives for %u s or longer", lives);
    event_text(e, "hairpin", yes_no(natcheck_result(&s->check)->hairpin));
    event_int(e, "idle_lives_s", lives);
    if (dies > 0)
        event_int(e, "idle_dies_s", dies);
    event_text(e, "idle", words);
    event_text(
        e, "not_tested",
        "filters of ports at which no broker answers, and limits or bans of many "
        "new flows: to try would be to cause them");
}

static const char *words_of(const struct netcheck_state *s, bool only_v6,
                            char buf[static NATCHECK_WORDS_LEN])
{
    const struct natcheck_result *r = natcheck_result(&s->check);
    if (only_v6)
        return "UDP works over IPv6 only: over IPv4 this network has no way to the "
               "broker, or blocks UDP there";
    if (r->udp == NATCHECK_NO && s->server_v4.family == ADDR_NONE)
        return "not tested: the broker names no STUN server of IPv4";
    if (r->udp == NATCHECK_NO && s->asked4 == 0)
        return "no request left this machine: it has no route to the broker over IPv4, "
               "or its own firewall refuses UDP";
    return natcheck_words(r, buf);
}

static void report_found(const struct netcheck_state *s, struct event *e)
{
    const struct natcheck_result *r = natcheck_result(&s->check);
    char words[NATCHECK_WORDS_LEN];
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
    /* The NAT's tests go over IPv4; what IPv6 answers is UDP as well. */
    bool only_v6 = r->udp != NATCHECK_YES && s->v6_answered;
    bool unasked = r->udp == NATCHECK_NO && s->asked4 == 0;
    event_text(e, "udp", only_v6 ? "yes" : unasked ? "unknown" : yes_no(r->udp));
    event_text(e, "mapping", nat_mapping_name(mapping));
    event_text(e, "filtering", nat_filtering_name(filtering));
    event_bool(e, "certain", certain);
    event_text(e, "port_preserved", yes_no(r->port_preserved));
    event_addr(e, "seen_as", &r->mapped[NATCHECK_MAPPING]);
    event_text(e, "ipv6",
               s->v6_answered                     ? "yes"
               : s->server_v6.family == ADDR_NONE ? "unknown"
                                                  : "no");
    event_text(e, "words", words_of(s, only_v6, words));
}

/* Three ports that lie together: a NAT that counts, or has few. */
static bool has_near_ports(const struct natcheck *n)
{
    uint16_t ports[NATCHECK_TEST_COUNT];
    size_t count = 0;
    for (unsigned t = 0; t < NATCHECK_TEST_HAIRPIN; t++)
        if (n->tests[t].mapped.port != 0)
            ports[count++] = n->tests[t].mapped.port;
    return count > 2 && predict_observe(ports, count).count > 0;
}

/* Where there is a second way out. */
static void report_way(const struct netcheck_state *s, struct event *e)
{
    struct fault words = {0};
    char text[sizeof(words.what) + sizeof(words.advice) + 2];
    if (detour_describe(uplink_broker_addr(s->uplink), &words) == DETOUR_NONE)
        return;
    (void)snprintf(text, sizeof(text), "%s%s%s", words.what,
                   words.advice[0] != '\0' ? "; " : "", words.advice);
    event_text(e, "second_way", text);
}

static void report(struct netcheck_state *s)
{
    struct event own = {0}, *e = s->config->found != NULL ? s->config->found : &own;
    const struct natcheck_result *r = natcheck_result(&s->check);
    struct natcheck_result judged = *r;
    char words[NATPROFILE_WORDS_LEN], more[NATCHECK_WORDS_LEN], place[300];
    unsigned mtu = found_mtu(s);
    if (r->udp == NATCHECK_NO && s->asked4 == 0)
        judged.udp = s->v6_answered ? NATCHECK_YES : NATCHECK_UNKNOWN;
    struct natprofile p = {.found = &judged,
                           .near_ports = has_near_ports(&s->check),
                           .low_ports = tcp_port_find_low() != 0,
                           .mapped = mapping_leads_here(s),
                           .carrier = double_nat(s) == NATCHECK_YES};
    event_begin(e, "netcheck");
    event_text(e, "profile", natprofile_words(&p, words));
    event_text(e, "ease", natprofile_ease_name(natprofile_ease(&p)));
    if (natprofile_needs(&p)[0] != '\0')
        event_text(e, "needs", natprofile_needs(&p));
    report_found(s, e);
    if (mtu != 0)
        event_int(e, "mtu", mtu);
    else
        json_text(&e->json, "mtu", NULL);
    event_rtt(e, "udp_rtt_ms", r->rtt_us);
    event_rtt(e, "broker_rtt_ms", uplink_rtt_us(s->uplink));
    (void)snprintf(place, sizeof(place), "%s:%u", s->config->broker.host,
                   s->config->broker.port);
    event_text(e, "broker", place);
    event_addr(e, "broker_at", uplink_broker_addr(s->uplink));
    report_way(s, e);
    event_int(e, "clock_skew_s", uplink_clock_skew_s(s->uplink));
    report_mapping(s, e);
    event_text(e, "nat64", yes_no(s->nat64));
    report_sources(s, e);
    report_deep(s, e);
    bool privileged = helper_can(PRIVILEGE_CAN_FILTER | PRIVILEGE_CAN_RAW);
    event_bool(e, "privileged", privileged);
    event_text(e, "more", privileged ? "" : privilege_words(&p, more, sizeof(more)));
    events_print(s->config->found != NULL ? NULL : s->config->out, e);
}

/* ----------------------------------------------------------------------------- UDP */

static bool is_of_source(struct netcheck_state *s, const struct udp *u,
                         const struct stun_message *m)
{
    for (size_t i = 0; i < s->source_count; i++) {
        struct source *from = &s->sources[i];
        if (u != from->socket)
            continue;
        if (stun_is_response_to(m, from->txid))
            from->seen = m->mapped;
        return true;
    }
    return false;
}

static void on_packets(void *ctx, struct udp *u, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct netcheck_state *s = ctx;
    struct stun_message m;
    (void)from;
    size_t n = len < segment_len ? len : segment_len;
    if (stun_parse(&m, buf, n) != 0)
        return;
    if (m.type == STUN_BINDING_REQUEST && u == s->sockets[0])
        (void)natcheck_on_hairpin(&s->check, m.txid);
    if (m.type != STUN_BINDING_SUCCESS || is_of_source(s, u, &m))
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

/* RFC 7050: a network that translates makes addresses of IPv6 for this name. */
static void on_nat64(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct netcheck_state *s = ctx;
    s->nat64_asked = NULL;
    s->nat64 = err == 0 && n > 0 ? NATCHECK_NO : NATCHECK_UNKNOWN;
    for (size_t i = 0; i < n; i++)
        if (addrs[i].family == ADDR_V6)
            s->nat64 = NATCHECK_YES;
}

static void open_sources(struct netcheck_state *s)
{
    struct addr own[SOURCES_MAX];
    size_t n = netmon_addresses(own, SOURCES_MAX, false);
    for (size_t i = 0; i < n; i++) {
        struct source *from = &s->sources[s->source_count];
        from->local = own[i];
        randombytes_buf(from->txid, sizeof(from->txid));
        if (udp_open(&from->socket, s->loop, &own[i], s->net.scratch, &udp_events, s) ==
            0)
            s->source_count++;
    }
}

/* The broker answers it whatever others ask in our address's name. */
static int make_request(const struct netcheck_state *s, uint8_t *buf, size_t cap,
                        const uint8_t txid[static STUN_TXID_LEN])
{
    return stun_build_marked_request(buf, cap, txid, uplink_proof(s->uplink));
}

static void send_sources(struct netcheck_state *s)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    for (size_t i = 0; i < s->source_count; i++) {
        struct source *from = &s->sources[i];
        const struct addr *to =
            from->local.family == ADDR_V4 ? &s->server_v4 : &s->server_v6;
        if (to->family == ADDR_NONE || from->seen.family != ADDR_NONE)
            continue;
        int n = make_request(s, buf, sizeof(buf), from->txid);
        if (n > 0)
            (void)!udp_send(from->socket, to, buf, (size_t)n, (size_t)n);
    }
}

static int begin(struct netcheck_state *s)
{
    struct addr any4 = {.family = ADDR_V4}, any6 = {.family = ADDR_V6};
    struct addr servers[UPLINK_STUN_MAX];
    struct natcheck_config nc = {.rtt_hint_us = uplink_rtt_us(s->uplink),
                                 .test_hairpin = s->config->deep};
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
    open_sources(s);
    if (resolve_start_apart(&s->nat64_asked, s->loop, "ipv4only.arpa", 1, on_nat64,
                            s) != 0)
        s->nat64_asked = NULL;
    if (s->config->deep && s->server_v4.family != ADDR_NONE)
        s->idle = netcheck_idle_new(&s->net, &s->server_v4, s->sockets[1], s->uplink);
    s->begun = true;
    return 0;
}

static void send_check(struct netcheck_state *s)
{
    struct natcheck_request r;
    uint8_t buf[STUN_MESSAGE_MAX];
    while (natcheck_next(&s->check, clock_us(), &r)) {
        struct stun_message m = {.type = STUN_BINDING_REQUEST,
                                 .change_ip = r.change_ip,
                                 .change_port = r.change_port,
                                 .has_mark = true,
                                 .fingerprint = true};
        memcpy(m.txid, r.txid, STUN_TXID_LEN);
        memcpy(m.mark, uplink_proof(s->uplink), STUN_MARK_LEN);
        int n = stun_build(buf, sizeof(buf), &m);
        if (n > 0 &&
            udp_send(s->sockets[r.sock], &r.to, buf, (size_t)n, (size_t)n) == 0)
            s->asked4++;
    }
}

static void send_v6(struct netcheck_state *s)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    if (s->v6 == NULL || s->server_v6.family == ADDR_NONE || s->v6_answered)
        return;
    int n = make_request(s, buf, sizeof(buf), s->v6_txid);
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
        struct stun_message m = {
            .type = STUN_BINDING_REQUEST, .has_mark = true, .fingerprint = true};
        unsigned room = mtus[i] - IP_UDP_V4 - STUN_HEADER - STUN_ATTRIBUTES;
        m.padding_len = (uint16_t)(room / 4 * 4);
        memcpy(m.mark, uplink_proof(s->uplink), STUN_MARK_LEN);
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
        uplink_describe_silence(s->uplink, &s->fault);
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
    if (now % 300 < TICK_MS) {
        send_v6(s);
        if (now - s->began_ms < V6_WAIT_MS)
            send_sources(s);
    }
    if (s->idle != NULL)
        netcheck_idle_tick(s->idle, now);
    bool answered = natcheck_result(&s->check)->udp == NATCHECK_YES;
    if (!s->mtu_begun && answered)
        send_mtu(s);
    bool mtu_done = !answered || s->mtu_ok[0] || now - s->mtu_ms > MTU_WAIT_MS;
    bool v6_done = s->v6 == NULL || s->server_v6.family == ADDR_NONE ||
                   s->v6_answered || now - s->began_ms > V6_WAIT_MS;
    bool idle_done = s->idle == NULL || netcheck_idle_done(s->idle);
    if ((natcheck_done(&s->check) && mtu_done && v6_done && s->map_answered &&
         idle_done) ||
        now - s->began_ms > limit_ms(s)) {
        report(s);
        finish(s, 0);
    }
}

static void on_up(void *ctx)
{
    struct netcheck_state *s = ctx;
    if (s->config->only_key) {
        finish(s, 0);
        return;
    }
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

/* What is asked begins after that: nothing has to be asked anew. */
static void on_detour(void *ctx)
{
    (void)ctx;
}

static void look_at_way(const struct netcheck_state *s, struct netcheck_way *way)
{
    static const struct addr none = {0};
    *way = (struct netcheck_way){.interface = egress_chosen()};
    way->state = detour_describe(
        s->uplink != NULL ? uplink_broker_addr(s->uplink) : &none, &way->words);
}

int netcheck_run(const struct netcheck_config *c, struct fault *f)
{
    static const struct uplink_events events = {on_up, on_down, on_control};
    struct netcheck_state s = {.config = c};
    int rc = loop_open(&s.loop);
    if (rc != 0)
        return fault_lack(f, rc);
    struct net_budget *budget = net_budget_new();
    net_budget_share(budget, c->state);
    if (net_init(&s.net, s.loop, c->key, budget) != 0)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    struct uplink_config uc = {.net = &s.net,
                               .broker = c->broker,
                               .name = "netcheck",
                               .state = c->state,
                               .events = &events,
                               .ctx = &s};
    struct detour *detour = NULL;
    if (detour_open(&detour, s.loop, budget, on_detour, &s) != 0)
        detour = NULL;
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
    if (c->way != NULL)
        look_at_way(&s, c->way);
    if (c->at != NULL)
        *c->at = rc == 0 && s.uplink != NULL ? *uplink_broker_addr(s.uplink)
                                             : (struct addr){0};
    stop_close(stop);
    uplink_close(s.uplink);
    detour_close(detour);
    udp_close(s.sockets[0]);
    udp_close(s.sockets[1]);
    udp_close(s.v6);
    for (size_t i = 0; i < s.source_count; i++)
        udp_close(s.sources[i].socket);
    netcheck_idle_free(s.idle);
    resolve_cancel(s.nat64_asked);
    portmap_close(s.map);
    net_fini(&s.net);
    loop_run(s.loop);
    loop_close(s.loop);
    net_budget_free(budget);
    return rc;
}
