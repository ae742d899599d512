/*
 * Whether a network translates to IPv4 by the prefix that its DNS names (core/nat64.h):
 * the broker is asked by STUN at its IPv4 address under that prefix. Until it has said
 * that it sees an IPv4 address there, no address of a peer is put in under it: DNS that
 * lies would make us send to whom it likes. Keeps no result: io/nat64_way.h does.
 */
#include <sodium.h>
#include <string.h>

#include "core/budget.h"
#include "io/clock.h"
#include "io/nat64_way.h"
#include "path/uplink_internal.h"

enum { FIRST_MS = 250 }; /* doubles */

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct uplink *u = ctx;
    struct prefix_asker *p = &u->prefix;
    struct stun_message m;
    (void)s;
    if (stun_parse(&m, buf, len < segment_len ? len : segment_len) != 0)
        return;
    for (unsigned i = 0; i < p->tries; i++) {
        if (!addr_equal(from, &p->asked[i].to) ||
            !stun_is_response_to(&m, p->asked[i].txid))
            continue;
        nat64_way_prove(from, &m.mapped);
        if (!nat64_way_is_doubtful()) {
            uplink_prefix_stop(u);
            return;
        }
    }
}

static void on_writable(void *ctx, struct udp *s)
{
    (void)ctx, (void)s;
}

static const struct udp_events udp_events = {on_packets, on_writable};

/* The broker's IPv4 address, as this network may reach it. */
static bool next_target(const struct uplink *u, unsigned nth, struct addr *to)
{
    for (size_t i = 0; i < u->stun_count; i++)
        if (u->stun[i].family == ADDR_V4 && nat64_way_try(nth, &u->stun[i], to))
            return true;
    return false;
}

void uplink_on_prefix_timer(void *ctx)
{
    struct uplink *u = ctx;
    struct prefix_asker *p = &u->prefix;
    uint8_t buf[STUN_MESSAGE_MAX];
    struct addr to;
    if (p->tries == PREFIX_TRIES || u->state != UPLINK_UP || !nat64_way_is_doubtful() ||
        !next_target(u, p->tries, &to)) {
        uplink_prefix_stop(u);
        return;
    }
    timer_start(&p->timer, (uint64_t)FIRST_MS << p->tries);
    p->asked[p->tries].to = to;
    randombytes_buf(p->asked[p->tries].txid, STUN_TXID_LEN);
    int n =
        stun_build_request(buf, sizeof(buf), p->asked[p->tries++].txid, false, false);
    if (n > 0 && budget_take(&u->config.net->budget->packets, &to, BUDGET_UNPROVEN, 1,
                             clock_us()))
        (void)!udp_send(p->socket, &to, buf, (size_t)n, (size_t)n);
}

void uplink_prefix_ask(struct uplink *u)
{
    struct addr any = {.family = ADDR_V6};
    struct net *net = u->config.net;
    if (u->prefix.socket != NULL || u->state != UPLINK_UP || !nat64_way_is_doubtful() ||
        udp_open(&u->prefix.socket, net->loop, &any, net->scratch, &udp_events, u) != 0)
        return;
    uplink_on_prefix_timer(u);
}

void uplink_prefix_stop(struct uplink *u)
{
    timer_stop(&u->prefix.timer);
    udp_close(u->prefix.socket);
    u->prefix.socket = NULL;
    u->prefix.tries = 0;
}
