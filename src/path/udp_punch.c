/*
 * udp-punch: both sides send authenticated checks to each other's candidate addresses
 * at the same time, so that each NAT or firewall takes the other's packets for answers
 * (RFC 8445, RFC 5128 section 3.3). core/punch decides; this file owns the sockets,
 * asks the broker's STUN for the reflexive address, and makes paths of proven pairs.
 *
 * The sockets exist only while checks run or a path is in use, and never answer a
 * packet that is not an authentic check.
 */
#include "path/udp_punch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/stun.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/udp.h"

static void on_timer(void *ctx);

static uint64_t now_ms(struct udp_punch *u)
{
    struct loop *loop = approach_config_of(u->approach)->net->loop;
    loop_refresh(loop);
    return loop_now_ms(loop);
}

/* --------------------------------------------------------------------------- paths */

static int path_op_send(struct path *p, const uint8_t *buf, size_t len,
                        size_t segment_len)
{
    struct udp_path *up = (struct udp_path *)p;
    struct udp *s = up->owner->sockets[up->sock];
    if (s == NULL)
        return POSTERN_ERR_CLOSED;
    int rc = udp_send(s, &p->remote, buf, len, segment_len);
    return rc == POSTERN_ERR_AGAIN ? rc : 0;
}

static const struct path_ops udp_path_ops = {path_op_send};

static struct udp_path *find_path(struct udp_punch *u, unsigned sock,
                                  const struct addr *remote)
{
    for (int i = 0; i < UDP_PUNCH_PATHS_MAX; i++)
        if (u->paths[i] != NULL && u->paths[i]->sock == sock &&
            addr_equal(&u->paths[i]->base.remote, remote))
            return u->paths[i];
    return NULL;
}

static void retire(struct udp_punch *u, int i)
{
    struct udp_path *p = u->paths[i];
    u->paths[i] = NULL;
    if (u->used == &p->base)
        u->used = NULL;
    approach_path_retire(u->approach, &p->base);
    free(p);
}

static struct udp_path *make_path(struct udp_punch *u, unsigned sock,
                                  const struct addr *remote)
{
    int slot = -1;
    for (int i = 0; i < UDP_PUNCH_PATHS_MAX && slot < 0; i++)
        if (u->paths[i] == NULL)
            slot = i;
    for (int i = 0; i < UDP_PUNCH_PATHS_MAX && slot < 0; i++) {
        if (&u->paths[i]->base != u->used) {
            retire(u, i);
            slot = i;
        }
    }
    struct udp_path *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->owner = u;
    p->sock = sock;
    p->base = (struct path){.ops = &udp_path_ops,
                            .kind = PATH_UDP_PUNCH,
                            .id = approach_next_path_id(u->approach),
                            .local = u->locals[sock],
                            .remote = *remote};
    udp_local_towards(u->sockets[sock], remote, &p->base.local);
    u->paths[slot] = p;
    approach_path_new(u->approach, &p->base);
    return p;
}

/* --------------------------------------------------------------- reflexive address */

static void bindings_begin(struct udp_punch *u)
{
    struct addr servers[UPLINK_STUN_MAX];
    size_t n = uplink_stun(approach_config_of(u->approach)->uplink, servers);
    reflexive_begin(&u->reflexive, servers, n, u->sockets, now_ms(u));
}

static void update_hint(struct udp_punch *u)
{
    struct punch_hint h = {.own_mapping = reflexive_mapping(&u->reflexive),
                           .own_udp = reflexive_udp(&u->reflexive)};
    if (u->has_peer) {
        h.peer_mapping = (enum nat_mapping)u->peer.mapping;
        h.peer_filtering = (enum nat_filtering)u->peer.filtering;
    }
    punch_set_hint(&u->punch, &h);
}

static void add_peer_candidates(struct udp_punch *u);

static void on_stun(struct udp_punch *u, unsigned sock, const struct addr *from,
                    const uint8_t *buf, size_t len)
{
    if (!reflexive_on_packet(&u->reflexive, u->approach, sock, from, buf, len,
                             u->sockets, now_ms(u)))
        return;
    add_peer_candidates(u); /* we may be seen where the peer is */
    update_hint(u);
    approach_offer_soon(u->approach);
}

/* ------------------------------------------------------------------------------
 * packets */

static unsigned index_of(const struct udp_punch *u, const struct udp *s)
{
    unsigned i = 0;
    while (i + 1 < UDP_PUNCH_SOCKETS && u->sockets[i] != s)
        i++;
    return i;
}

/* The pair is proven: what came was an answer to what we sent there. */
static void note_answer(struct udp_punch *u, unsigned sock, const struct addr *from)
{
    const struct punch_pair *pair =
        punch_pair_at(&u->punch, punch_find_pair(&u->punch, sock, from));
    if (pair != NULL && pair->proven)
        target_answered(u->approach, from);
}

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct udp_punch *u = ctx;
    unsigned sock = index_of(u, s);
    size_t first = len < segment_len ? len : segment_len;
    struct udp_path *p = find_path(u, sock, from);
    u->busy = true;
    if (p != NULL && path_is_session_packet(buf[0])) { /* the hot path */
        path_deliver(&p->base, buf, len, segment_len);
    } else if (stun_is_message(buf, first)) {
        on_stun(u, sock, from, buf, first);
        udp_punch_pump(u);
    } else {
        bool check = false;
        for (size_t at = 0; at < len; at += segment_len) {
            size_t n = len - at < segment_len ? len - at : segment_len;
            check |=
                punch_on_packet(&u->punch, sock, from, buf + at, n, clock_us()) == 1;
        }
        if (check) {
            note_answer(u, sock, from);
            udp_punch_pump(u);
        } else if (path_is_session_packet(buf[0]) &&
                   punch_known_remote(&u->punch, sock, from)) {
            p = make_path(u, sock, from);
            if (p != NULL)
                path_deliver(&p->base, buf, len, segment_len);
        }
    }
    u->busy = false;
    if (u->freed)
        free(u);
}

static void on_writable(void *ctx, struct udp *s)
{
    struct udp_punch *u = ctx;
    unsigned sock = index_of(u, s);
    for (int i = 0; i < UDP_PUNCH_PATHS_MAX; i++)
        if (u->paths[i] != NULL && u->paths[i]->sock == sock)
            path_writable(&u->paths[i]->base);
}

const struct udp_events udp_punch_events = {on_packets, on_writable};

/* -------------------------------------------------------------------------------
 * rounds */

static void sockets_close(struct udp_punch *u)
{
    for (int i = 0; i < UDP_PUNCH_PATHS_MAX; i++)
        if (u->paths[i] != NULL)
            retire(u, i);
    udp_predict_end(u);
    for (int i = 0; i < UDP_PUNCH_SOCKETS; i++) {
        udp_close(u->sockets[i]);
        u->sockets[i] = NULL;
    }
}

static int sockets_open(struct udp_punch *u)
{
    struct net *net = approach_config_of(u->approach)->net;
    for (unsigned i = 0; i < REFLEXIVE_SOCKETS; i++) {
        struct addr any = {.family = i == 0 ? ADDR_V4 : ADDR_V6};
        if (u->sockets[i] == NULL && udp_open(&u->sockets[i], net->loop, &any,
                                              net->scratch, &udp_punch_events, u) != 0)
            u->sockets[i] = NULL;
        if (u->sockets[i] != NULL)
            udp_local(u->sockets[i], &u->locals[i]);
    }
    return u->sockets[0] != NULL || u->sockets[1] != NULL ? 0 : POSTERN_ERR_IO;
}

static bool loopback_peer(const struct udp_punch *u)
{
    const struct addr *b = uplink_broker_addr(approach_config_of(u->approach)->uplink);
    return addr_scope_of(b) == ADDR_SCOPE_LOOPBACK;
}

static void add_peer_candidates(struct udp_punch *u)
{
    if (loopback_peer(u)) /* a cold start learns late where the broker is */
        punch_allow_loopback(&u->punch);
    for (pb_size_t i = 0; u->has_peer && i < u->peer.candidates_count; i++) {
        const Candidate *c = &u->peer.candidates[i];
        struct addr a;
        if (addr_from_bytes(&a, c->ip.bytes, c->ip.size, c->port) == 0 &&
            target_fits(u->approach, &a))
            (void)!punch_add_remote(&u->punch, (enum cand_type)c->type, &a);
    }
    if (u->has_peer && u->peer.complete)
        punch_set_remote_complete(&u->punch);
}

static void start(void *k)
{
    struct udp_punch *u = k;
    const struct approach_config *c = approach_config_of(u->approach);
    uint64_t now = clock_us();
    if (sockets_open(u) != 0) {
        approach_failed(u->approach, PATH_UDP_PUNCH,
                        "no UDP socket could be opened here");
        return;
    }
    if (u->running) {
        punch_restart(&u->punch, now);
    } else {
        struct punch_config pc = {.controlling = c->client,
                                  .allow_loopback = loopback_peer(u),
                                  .rtt_hint_us = approach_rtt_hint_us(u->approach),
                                  .generation = u->generation + 1,
                                  .peer_generation =
                                      u->has_peer ? u->peer.generation : 0};
        memcpy(pc.key, approach_check_key(u->approach), PUNCH_KEY_LEN);
        randombytes_buf(&pc.seed, sizeof(pc.seed));
        punch_init(&u->punch, &pc);
    }
    u->running = true;
    u->peer_is_old = u->generation != 0;
    udp_predict_end(u); /* of a round that this one cuts short */
    u->reported = u->predicted = u->predicted_low = false;
    u->generation = punch_generation(&u->punch);
    for (unsigned i = 0; i < REFLEXIVE_SOCKETS; i++)
        if (u->sockets[i] != NULL)
            punch_add_socket(&u->punch, i, i == 0 ? ADDR_V4 : ADDR_V6);
    add_peer_candidates(u);
    bindings_begin(u);
    punch_start(&u->punch, now);
    approach_started(u->approach, PATH_UDP_PUNCH);
    approach_offer_soon(u->approach);
    udp_punch_pump(u);
}

static void stop(void *k)
{
    struct udp_punch *u = k;
    u->running = false;
    timer_stop(&u->timer);
    sockets_close(u);
}

/* Tells what the checks have come to. */
static void report(struct udp_punch *u)
{
    const struct punch_pair *best = punch_best(&u->punch);
    if (best != NULL) {
        struct udp_path *p = find_path(u, best->sock, &best->remote);
        if (p == NULL)
            p = make_path(u, best->sock, &best->remote);
        if (p == NULL)
            return;
        if (!u->reported || p->base.rtt_us != best->rtt_us) {
            p->base.rtt_us = best->rtt_us;
            u->reported = true;
            approach_proven(u->approach, &p->base);
        }
        return;
    }
    if (punch_state(&u->punch) == PUNCH_FAILED && !u->reported) {
        u->reported = true;
        bool peer_symmetric = u->peer.mapping == NAT_MAPPING_ADDRESS_PORT_DEPENDENT ||
                              u->peer.mapping == NAT_MAPPING_ADDRESS_DEPENDENT;
        u->low_failed = u->predicted_low && !u->low_failed && !peer_symmetric;
        char reason[PUNCH_REASON_LEN];
        update_hint(u);
        (void)snprintf(reason, sizeof(reason), "%s%s%s", punch_reason(&u->punch),
                       u->predict_why[0] != '\0' ? "; prediction: " : "",
                       u->predict_why);
        bool in_use = false;
        for (int i = 0; i < UDP_PUNCH_PATHS_MAX; i++)
            in_use = in_use || (u->paths[i] != NULL && &u->paths[i]->base == u->used);
        if (!in_use) {
            u->running = false;
            sockets_close(u);
        }
        approach_failed(u->approach, PATH_UDP_PUNCH, reason);
    }
}

/* Sends what is due, reports, and sets the next wake-up. */
void udp_punch_pump(struct udp_punch *u)
{
    struct punch_packet pkt;
    if (!u->running || u->freed)
        return;
    reflexive_send(&u->reflexive, u->approach, u->sockets, now_ms(u));
    while (punch_next_packet(&u->punch, clock_us(), &pkt))
        if (u->sockets[pkt.sock] != NULL && target_may_send(u->approach, &pkt.to, 1))
            (void)!udp_send(u->sockets[pkt.sock], &pkt.to, pkt.buf, pkt.len, pkt.len);
    report(u);
    udp_predict(u);
    if (!u->running || u->freed)
        return;
    uint64_t now_us = clock_us(), at_us = punch_deadline_us(&u->punch);
    uint64_t now = now_ms(u), at = reflexive_deadline_ms(&u->reflexive);
    if (at_us != UINT64_MAX) {
        uint64_t ms = now + (at_us > now_us ? (at_us - now_us + 999) / 1000 : 0);
        at = ms < at ? ms : at;
    }
    if (at == UINT64_MAX)
        timer_stop(&u->timer);
    else
        timer_start(&u->timer, at > now ? at - now : 1);
}

static void on_timer(void *ctx)
{
    udp_punch_pump(ctx);
}

/* ------------------------------------------------------------------------ the kind */

static void *punch_kind_new(struct approach *a, enum path_kind kind)
{
    (void)kind;
    struct udp_punch *u = calloc(1, sizeof(*u));
    if (u == NULL)
        return NULL;
    u->approach = a;
    timer_init(&u->timer, approach_config_of(a)->net->loop, on_timer, u);
    return u;
}

static void punch_kind_free(void *k)
{
    struct udp_punch *u = k;
    for (int i = 0; i < UDP_PUNCH_PATHS_MAX; i++)
        free(u->paths[i]);
    udp_predict_end(u);
    for (int i = 0; i < UDP_PUNCH_SOCKETS; i++)
        udp_close(u->sockets[i]);
    u->running = false;
    timer_stop(&u->timer);
    u->freed = true;
    if (!u->busy)
        free(u);
}

static void offer_add(Offer *o, enum cand_type type, const struct addr *a)
{
    const pb_size_t max = sizeof(o->candidates) / sizeof(o->candidates[0]);
    if (o->candidates_count >= max)
        return;
    Candidate *c = &o->candidates[o->candidates_count++];
    c->type = type;
    c->port = a->port;
    c->ip.size = (pb_size_t)addr_ip_len(a);
    memcpy(c->ip.bytes, a->ip, c->ip.size);
}

static bool offer_has(const Offer *o, const struct addr *a)
{
    for (pb_size_t i = 0; i < o->candidates_count; i++) {
        const Candidate *c = &o->candidates[i];
        struct addr b;
        if (addr_from_bytes(&b, c->ip.bytes, c->ip.size, c->port) == 0 &&
            addr_equal(a, &b))
            return true;
    }
    return false;
}

static void fill_offer(void *k, Offer *o)
{
    struct udp_punch *u = k;
    struct addr own[10];
    if (!u->running)
        return;
    o->generation = punch_generation(&u->punch);
    o->mapping = reflexive_mapping(&u->reflexive);
    o->low_ports = udp_predict_low_ports(u);
    size_t n = netmon_addresses(own, 10, loopback_peer(u));
    for (size_t i = 0; i < n; i++) {
        unsigned sock = own[i].family == ADDR_V6 ? 1 : 0;
        own[i].port = u->locals[sock].port;
        if (u->sockets[sock] != NULL)
            offer_add(o, CAND_HOST, &own[i]);
    }
    for (unsigned i = 0; i < u->reflexive.count; i++) {
        const struct binding *b = &u->reflexive.bindings[i];
        if (b->done && !offer_has(o, &b->mapped))
            offer_add(o, CAND_REFLEXIVE, &b->mapped);
    }
    o->complete = !reflexive_waits(&u->reflexive);
}

static void on_offer(void *k, const Offer *o, bool renewed)
{
    struct udp_punch *u = k;
    u->peer = *o;
    u->has_peer = true;
    if (!u->running && renewed) {
        start(u); /* the peer begins a new round: so do we */
        u->peer_is_old = false;
        return;
    }
    u->peer_is_old = false;
    if (!u->running)
        return;
    if (punch_on_peer_generation(&u->punch, o->generation, clock_us()) && renewed) {
        u->reported = u->predicted = false;
        udp_predict_end(u); /* it aims at ports that the peer has left */
        bindings_begin(u);  /* the NAT may have changed with the network */
        approach_offer_soon(u->approach);
    }
    add_peer_candidates(u);
    update_hint(u);
    udp_punch_pump(u);
}

/* A round that began before the broker was reached knows no STUN server yet. */
static void on_uplink(void *k, bool up)
{
    struct udp_punch *u = k;
    if (!up || !u->running || u->reflexive.count > 0)
        return;
    bindings_begin(u);
    approach_offer_soon(u->approach); /* loopback is an address worth telling now */
    udp_punch_pump(u);
}

/* Prediction waited for it. */
static void on_established(void *k)
{
    struct udp_punch *u = k;
    if (u->running)
        timer_start(&u->timer, 0);
}

static void on_used(void *k, struct path *p)
{
    struct udp_punch *u = k;
    u->used = p;
}

static void on_dead(void *k, struct path *p)
{
    struct udp_punch *u = k;
    for (int i = 0; i < UDP_PUNCH_PATHS_MAX; i++) {
        if (u->paths[i] == NULL || &u->paths[i]->base != p)
            continue;
        if (u->running)
            punch_on_dead(&u->punch,
                          punch_find_pair(&u->punch, u->paths[i]->sock, &p->remote));
        retire(u, i);
    }
    u->reported = false; /* another pair may be proven */
    udp_punch_pump(u);
}

const struct kind_ops udp_punch_engine = {
    .new = punch_kind_new,
    .free = punch_kind_free,
    .start = start,
    .stop = stop,
    .fill_offer = fill_offer,
    .on_offer = on_offer,
    .on_uplink = on_uplink,
    .on_used = on_used,
    .on_dead = on_dead,
    .on_established = on_established,
};
