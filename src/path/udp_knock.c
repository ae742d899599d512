/*
 * udp-knock: the client sends one packet with a number to a closed port of the host,
 * whose packet filter knows it, reports it and drops it; the host sends back to the
 * port that it came from, through the mapping that the packet made in the client's NAT
 * (US20050238034). Until then no socket of the host exists.
 */
#include <string.h>

#include <sodium.h>

#include "io/log.h"
#include "io/netmon.h"
#include "path/knock.h"
#include "path/udp_meet.h"

enum { PORT_FIRST = 20000, PORT_COUNT = 40000, KNOCK_EVERY = 3 /* turns */ };

/* Who was let in already needs it no more. */
static void on_filter_lost(struct udp_meet *u)
{
    u->knock = 0;
    if ((u->phase == UDP_MEET_MEETING || u->phase == UDP_MEET_WAITING) &&
        !udp_meet_has_way(u) && u->sockets[0] == NULL && u->sockets[1] == NULL)
        udp_meet_refuse(u, helper_missing());
}

static void on_knock(void *ctx, const struct addr *from)
{
    struct udp_meet *u = ctx;
    if (from == NULL) {
        on_filter_lost(u);
        return;
    }
    unsigned sock = from->family == ADDR_V6 ? 1 : 0;
    struct addr at = {.family = from->family, .port = u->knock_port};
    char text[ADDR_TEXT_LEN];
    log_debug("udp-knock: seen from %s", addr_format(from, text));
    if ((u->phase != UDP_MEET_MEETING && u->phase != UDP_MEET_WAITING) ||
        !udp_meet_open(u, sock, &at))
        return;
    if (udp_connect(u->sockets[sock], from) != 0)
        return;
    u->peer_count = 0;
    udp_meet_add_peer(u, from);
}

/* Of a client: what its knocks may come from, so the ports do not matter. */
static size_t own_addresses(struct udp_meet *u,
                            struct udp_meet_address out[static UDP_MEET_PEERS_MAX])
{
    struct addr local[UDP_MEET_PEERS_MAX];
    bool client = udp_meet_config(u)->client;
    size_t n = 0;
    for (unsigned i = 0; client && i < u->reflexive.count && n < 2; i++)
        if (u->reflexive.bindings[i].done)
            out[n++].addr = u->reflexive.bindings[i].mapped;
    size_t count = netmon_addresses(local, UDP_MEET_PEERS_MAX - n, false);
    for (size_t i = 0; i < count; i++) {
        out[n].addr = local[i];
        out[n++].addr.port = client ? 1 : u->knock_port;
    }
    for (size_t i = 0; i < n; i++)
        out[i].shown = false;
    return n;
}

static bool prepare(struct udp_meet *u)
{
    struct knock_terms t = {0};
    struct udp_meet_address own[UDP_MEET_PEERS_MAX];
    if (udp_meet_config(u)->client)
        return true;
    u->knock_port = (uint16_t)(PORT_FIRST + randombytes_uniform(PORT_COUNT));
    randombytes_buf(u->knock_id, sizeof(u->knock_id));
    t.port = u->knock_port;
    memcpy(t.id, u->knock_id, sizeof(t.id));
    t.own_count = own_addresses(u, own);
    for (size_t i = 0; i < t.own_count; i++)
        t.own[i] = own[i].addr;
    t.peer_count = u->peer_count;
    memcpy(t.peers, u->peers, t.peer_count * sizeof(u->peers[0]));
    if (knock_begin(&t, &u->knock, u->refused, sizeof(u->refused), on_knock, u))
        return true;
    udp_meet_refuse(u, u->refused);
    return false;
}

static void turn(struct udp_meet *u)
{
    bool client = udp_meet_config(u)->client;
    for (size_t i = 0; i < u->peer_count; i++) {
        unsigned sock = u->peers[i].family == ADDR_V6 ? 1 : 0;
        if (u->sockets[sock] == NULL)
            continue;
        if (!client || udp_meet_has_way(u))
            udp_meet_check(u, &u->peers[i]);
        else if (u->turn % KNOCK_EVERY == 0 &&
                 target_may_send(u->approach, &u->peers[i], 1))
            (void)!udp_send(u->sockets[sock], &u->peers[i], u->knock_id,
                            sizeof(u->knock_id), sizeof(u->knock_id));
    }
}

static void end(struct udp_meet *u)
{
    knock_end(&u->knock, u->plan->kind);
    u->knock_port = 0;
}

static const struct udp_meet_plan plan = {
    .kind = PATH_UDP_KNOCK,
    .host_waits = true,
    .prepare = prepare,
    .addresses = own_addresses,
    .turn = turn,
    .end = end,
};

const struct kind_ops udp_knock_kind = UDP_MEET_KIND(plan);
