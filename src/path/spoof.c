/*
 * spoof: where firewalls do not translate, each side sends with the broker's address
 * and port as source, which the other's firewall has let in since that side asked the
 * broker where it is (firewalled-pair-central-station, figure 2). Off unless both sides
 * switch it on: docs/SECURITY.md says where it is legitimate.
 */
#include <unistd.h>

#include "io/helper.h"
#include "io/netmon.h"
#include "path/udp_meet.h"

/* Where the broker's answers reach us: what the other side sends to. */
static size_t own_addresses(struct udp_meet *u,
                            struct udp_meet_address out[static UDP_MEET_PEERS_MAX])
{
    size_t n = 0;
    bool seen[UDP_MEET_SOCKETS] = {0};
    for (unsigned i = 0; i < u->reflexive.count; i++) {
        const struct binding *b = &u->reflexive.bindings[i];
        if (!b->done || seen[b->sock] || !netmon_owns(&b->mapped))
            continue;
        seen[b->sock] = true; /* of the first server only: its address is the one */
        out[n++] = (struct udp_meet_address){.addr = b->mapped};
    }
    return n;
}

static bool prepare(struct udp_meet *u)
{
    struct udp_meet_address own[UDP_MEET_PEERS_MAX];
    bool translated = false;
    for (unsigned i = 0; i < u->reflexive.count; i++)
        translated = translated || u->reflexive.bindings[i].done;
    if (!helper_can(PRIVILEGE_CAN_RAW)) {
        udp_meet_refuse(u, helper_missing());
        return false;
    }
    if (own_addresses(u, own) == 0) {
        udp_meet_refuse(u, translated ? "a NAT on the way would change the source"
                                      : "the broker does not answer by UDP");
        return false;
    }
    return true;
}

static bool open_sender(struct udp_meet *u, unsigned sock, const struct addr *to)
{
    struct privilege_request q = {.op = PRIVILEGE_TRANSPARENT, .remote = *to};
    struct privilege_reply r;
    int fd = -1;
    for (unsigned i = 0; i < u->reflexive.count; i++) {
        const struct binding *b = &u->reflexive.bindings[i];
        if (b->sock != sock || !b->done)
            continue;
        q.local = b->server;
        break;
    }
    if (q.local.family == ADDR_NONE || helper_ask(&q, &r, &fd) != 0)
        return false;
    if (udp_meet_adopt(u, sock, fd) != 0) {
        close(fd);
        return false;
    }
    return true;
}

static void turn(struct udp_meet *u)
{
    for (size_t i = 0; i < u->peer_count; i++) {
        unsigned sock = u->peers[i].family == ADDR_V6 ? 1 : 0;
        if (u->sockets[sock] != NULL &&
            (u->senders[sock] != NULL || open_sender(u, sock, &u->peers[i])))
            udp_meet_check(u, &u->peers[i]);
    }
}

static const struct udp_meet_plan plan = {
    .kind = PATH_SPOOF,
    .prepare = prepare,
    .addresses = own_addresses,
    .turn = turn,
    .from_broker = true,
};

const struct kind_ops spoof_kind = UDP_MEET_KIND(plan);
