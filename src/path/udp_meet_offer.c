/* What the two sides of a meeting by UDP tell each other. */
#include <stdio.h>
#include <string.h>

#include "path/udp_meet.h"

void udp_meet_fill_offer(void *k, Offer *o)
{
    struct udp_meet *u = k;
    struct udp_meet_address own[UDP_MEET_PEERS_MAX];
    const pb_size_t max = sizeof(o->meets) / sizeof(o->meets[0]);
    bool told = u->phase == UDP_MEET_WAITING || u->phase == UDP_MEET_MEETING;
    bool refuses = u->refused[0] != '\0' && !udp_meet_config(u)->client;
    if ((!told && !refuses) || o->meets_count == max)
        return;
    Meet *out = &o->meets[o->meets_count++];
    (void)snprintf(out->kind, sizeof(out->kind), "%s", path_kind_name(u->plan->kind));
    if (!udp_meet_config(u)->client)
        (void)snprintf(out->refused, sizeof(out->refused), "%s", u->refused);
    out->round = u->round;
    if (!told)
        return;
    if (udp_meet_waits(u)) {
        out->knock.size = sizeof(u->knock_id);
        memcpy(out->knock.bytes, u->knock_id, sizeof(u->knock_id));
    }
    size_t n = u->plan->addresses(u, own);
    const size_t room = sizeof(out->candidates) / sizeof(out->candidates[0]);
    for (size_t i = 0; i < n && i < room; i++) {
        Candidate *c = &out->candidates[out->candidates_count++];
        c->type = own[i].shown ? CAND_REFLEXIVE : CAND_HOST;
        c->port = own[i].addr.port;
        c->ip.size = (pb_size_t)addr_ip_len(&own[i].addr);
        memcpy(c->ip.bytes, own[i].addr.ip, c->ip.size);
    }
}

/* Only addresses that somebody may be asked to send to. */
static void take_peers(struct udp_meet *u, const Meet *in)
{
    for (pb_size_t i = 0; i < in->candidates_count; i++) {
        const Candidate *c = &in->candidates[i];
        struct addr a;
        if (addr_from_bytes(&a, c->ip.bytes, c->ip.size, c->port) != 0 ||
            (addr_scope_of(&a) != ADDR_SCOPE_GLOBAL &&
             addr_scope_of(&a) != ADDR_SCOPE_PRIVATE))
            continue;
        if (c->type != CAND_REFLEXIVE && target_fits(u->approach, &a))
            udp_meet_add_peer(u, &a);
        else if (a.family == ADDR_V4 && u->peer_seen.family == ADDR_NONE)
            u->peer_seen = a;
    }
}

static void new_peer(struct udp_meet *u, const Meet *in)
{
    u->peer_round = in->round;
    u->peer_count = 0;
    u->peer_seen = (struct addr){0};
    take_peers(u, in);
}

static void host_cannot(struct udp_meet *u, const Meet *in)
{
    char reason[200];
    (void)snprintf(reason, sizeof(reason), "the host cannot: %s", in->refused);
    udp_meet_fail(u, reason);
}

static void on_host_offer(struct udp_meet *u, const Meet *in)
{
    if (in->round != u->round)
        return;
    if (u->peer_round == u->round) {
        if (in->refused[0] != '\0' && u->phase == UDP_MEET_MEETING)
            host_cannot(u, in); /* any more */
        return;
    }
    new_peer(u, in);
    if (in->knock.size == sizeof(u->knock_id))
        memcpy(u->knock_id, in->knock.bytes, sizeof(u->knock_id));
    if (u->peer_count > 0 || (in->refused[0] == '\0' && u->plan->alone == NULL)) {
        udp_meet_begin(u);
    } else if (u->plan->alone != NULL && u->phase == UDP_MEET_WAITING) {
        u->plan->alone(u, in->refused);
    } else {
        host_cannot(u, in);
    }
}

static void on_client_offer(struct udp_meet *u, const Meet *in)
{
    size_t before = u->peer_count;
    if (in->round > u->round) {
        u->round = in->round;
        new_peer(u, in);
        udp_meet_begin_round(u);
    } else if (in->round == u->round && !u->plan->host_waits) {
        take_peers(u, in);
        if (u->peer_count > before && u->phase != UDP_MEET_GATHERING && !u->proven)
            udp_meet_go(u); /* they came late: at most UDP_MEET_PEERS_MAX times */
    }
}

void udp_meet_on_offer(void *k, const Offer *o, bool renewed)
{
    struct udp_meet *u = k;
    (void)renewed;
    for (pb_size_t i = 0; i < o->meets_count; i++) {
        const Meet *in = &o->meets[i];
        if (strcmp(in->kind, path_kind_name(u->plan->kind)) != 0)
            continue;
        if (udp_meet_config(u)->client)
            on_host_offer(u, in);
        else
            on_client_offer(u, in);
        return;
    }
}
