/*
 * udp-punch where a NAT gives each destination another port: when both sides know what
 * their NATs do and plain checks had their chance, mappings are opened and ports swept.
 * A socket that an authentic check reaches becomes one of the checks' own.
 */
#include "path/udp_punch.h"

#include <stdio.h>

#include "io/clock.h"
#include "io/log.h"

enum { PLAIN_FIRST_MS = 200 };

static size_t make(void *ctx, uint8_t *buf)
{
    struct udp_punch *u = ctx;
    return punch_make_probe(&u->punch, buf);
}

static void send_known(void *ctx, const struct addr *to, const uint8_t *buf, size_t len)
{
    struct udp_punch *u = ctx;
    if (u->sockets[0] != NULL)
        (void)!udp_send(u->sockets[0], to, buf, len, len);
}

static void arrived(void *ctx, struct udp *s, const struct addr *from,
                    const uint8_t *buf, size_t len)
{
    struct udp_punch *u = ctx;
    unsigned idx = REFLEXIVE_SOCKETS;
    while (idx < UDP_PUNCH_SOCKETS && u->sockets[idx] != NULL)
        idx++;
    if (idx == UDP_PUNCH_SOCKETS || !punch_is_authentic(&u->punch, buf, len))
        return;
    predict_release(u->predict, s);
    udp_set_user(s, &udp_punch_events, u);
    u->sockets[idx] = s;
    udp_local(s, &u->locals[idx]);
    punch_add_socket(&u->punch, idx, ADDR_V4);
    (void)punch_on_packet(&u->punch, idx, from, buf, len, clock_us());
    udp_punch_pump(u);
}

static bool may(void *ctx, const struct addr *to)
{
    struct udp_punch *u = ctx;
    return target_may_sweep(u->approach, to, 1);
}

static bool pace(void *ctx)
{
    struct udp_punch *u = ctx;
    return target_pace(u->approach);
}

static const struct predict_events events = {make, may, pace, send_known, arrived};

bool udp_predict_low_ports(struct udp_punch *u)
{
    if (reflexive_mapping(&u->reflexive) != NAT_MAPPING_ADDRESS_PORT_DEPENDENT)
        return false;
    if (!u->low_known) {
        u->low_known = true;
        u->low_ports = predict_low_ports(approach_config_of(u->approach)->net);
    }
    return u->low_ports && !u->low_failed;
}

/* What the outside has seen of our socket, and what the peer told of its own. */
static struct predict_near own_near(const struct udp_punch *u)
{
    uint16_t ports[REFLEXIVE_MAX];
    size_t n = 0;
    for (unsigned i = 0; i < u->reflexive.count; i++)
        if (u->reflexive.bindings[i].done &&
            u->reflexive.bindings[i].mapped.family == ADDR_V4)
            ports[n++] = u->reflexive.bindings[i].mapped.port;
    return predict_observe(ports, n);
}

static struct predict_near peer_near(const struct udp_punch *u)
{
    uint16_t ports[REFLEXIVE_MAX];
    size_t n = 0;
    for (pb_size_t i = 0; i < u->peer.candidates_count && n < REFLEXIVE_MAX; i++)
        if (u->peer.candidates[i].type == CAND_REFLEXIVE &&
            u->peer.candidates[i].ip.size == 4)
            ports[n++] = (uint16_t)u->peer.candidates[i].port;
    return predict_observe(ports, n);
}

/*
 * Where the peer is seen from outside, IPv4: without a NAT that is its own address. The
 * broker must say so too.
 */
static size_t find_targets(struct udp_punch *u,
                           struct addr out[static PREDICT_TARGETS_MAX])
{
    size_t n = 0;
    for (pb_size_t i = 0; i < u->peer.candidates_count && n < PREDICT_TARGETS_MAX;
         i++) {
        const Candidate *c = &u->peer.candidates[i];
        struct addr a;
        if (addr_from_bytes(&a, c->ip.bytes, c->ip.size, c->port) == 0 &&
            a.family == ADDR_V4 && target_may_be_swept(u->approach, &a))
            out[n++] = a;
    }
    return n;
}

static void say_why(struct udp_punch *u, const char *why)
{
    (void)snprintf(u->predict_why, sizeof(u->predict_why), "%s", why);
}

/*
 * True when prediction would help and this side can do its part; with the words when it
 * would help and may not begin (yet).
 */
static bool plans(struct udp_punch *u, struct predict_plan *plan,
                  struct addr targets[static PREDICT_TARGETS_MAX], size_t *n)
{
    const char *why = NULL;
    struct predict_side own = {reflexive_mapping(&u->reflexive),
                               udp_predict_low_ports(u), own_near(u)};
    struct predict_side peer = {(enum nat_mapping)u->peer.mapping, u->peer.low_ports,
                                peer_near(u)};
    if (own.mapping == NAT_MAPPING_UNKNOWN || peer.mapping == NAT_MAPPING_UNKNOWN ||
        u->peer_is_old) /* our Offer of this round brings the peer's */
        return false;
    u->predict_why[0] = '\0';
    if (!predict_plan(plan, &own, &peer, &why)) {
        u->predicted = true;
        if (why != NULL)
            say_why(u, why);
        return false;
    }
    u->predicted_low = own.low_ports && own.near.count == 0;
    *n = find_targets(u, targets);
    if (*n == 0)
        say_why(u, "the broker does not know the other side's address for its own");
    else if (!target_is_time_to_sweep(u->approach))
        say_why(u, "it begins when the relay carries the session");
    return u->predict_why[0] == '\0';
}

void udp_predict(struct udp_punch *u)
{
    struct predict_plan plan;
    struct addr targets[PREDICT_TARGETS_MAX];
    size_t n = 0;
    enum punch_state state = punch_state(&u->punch);
    if (u->predict != NULL && predict_is_refused(u->predict))
        say_why(u, "enough was sent to the other side's address lately");
    if (state == PUNCH_PROVEN && u->predict != NULL)
        udp_predict_end(u);
    if (u->predicted || !u->has_peer || state != PUNCH_CHECKING ||
        u->sockets[0] == NULL || !plans(u, &plan, targets, &n))
        return;
    u->predicted = true;
    const struct approach_config *c = approach_config_of(u->approach);
    unsigned delay = PLAIN_FIRST_MS + approach_rtt_hint_us(u->approach) / 1000;
    log_debug("udp-punch: predicting: %u mappings, %u ports", plan.sockets,
              plan.probes);
    if (predict_start(&u->predict, c->net, &plan, targets, n, delay, &events, u) != 0)
        u->predict = NULL;
}

void udp_predict_end(struct udp_punch *u)
{
    predict_stop(u->predict);
    u->predict = NULL;
}
