/* A meeting by UDP: rounds in time, checks out and in, and the paths that come of it.
 */
#include "path/udp_meet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/punch_wire.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"

enum {
    PEER_WAIT_MS = 8000,
    LAST_ANSWERS_MS = 1000, /* after the last turn */
};

static void on_timer(void *ctx);

static uint64_t now_ms(const struct udp_meet *u)
{
    loop_refresh(udp_meet_config(u)->net->loop);
    return loop_now_ms(udp_meet_config(u)->net->loop);
}

static void leave(struct udp_meet *u)
{
    u->busy = false;
    if (u->freed)
        free(u);
}

/* --------------------------------------------------------------------------- paths */

static int send_packet(struct udp_meet *u, unsigned sock, const struct addr *to,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct udp *s = u->plan->from_broker ? u->senders[sock] : u->sockets[sock];
    return s != NULL ? udp_send(s, to, buf, len, segment_len) : POSTERN_ERR_CLOSED;
}

/* Towards an address that has proven nothing yet. */
static void send_check(struct udp_meet *u, unsigned sock, const struct addr *to,
                       const uint8_t *buf, size_t len)
{
    if (target_may_send(u->approach, to, 1))
        (void)!send_packet(u, sock, to, buf, len, len);
}

static int path_op_send(struct path *p, const uint8_t *buf, size_t len,
                        size_t segment_len)
{
    struct udp_way *w = (struct udp_way *)p;
    int rc = send_packet(w->owner, w->sock, &p->remote, buf, len, segment_len);
    return rc == POSTERN_ERR_AGAIN || rc == POSTERN_ERR_CLOSED ? rc : 0;
}

static const struct path_ops way_ops = {path_op_send};

static struct udp_way *find_way(const struct udp_meet *u, unsigned sock,
                                const struct addr *from)
{
    for (int i = 0; i < UDP_MEET_WAYS_MAX; i++)
        if (u->ways[i] != NULL && u->ways[i]->sock == sock &&
            addr_equal(&u->ways[i]->from, from))
            return u->ways[i];
    return NULL;
}

static struct udp_way *make_way(struct udp_meet *u, unsigned sock,
                                const struct addr *from, const struct addr *remote)
{
    struct udp_way *w = find_way(u, sock, from);
    int slot = -1;
    for (int i = 0; i < UDP_MEET_WAYS_MAX && slot < 0; i++)
        if (u->ways[i] == NULL)
            slot = i;
    if (w != NULL || slot < 0)
        return w;
    w = calloc(1, sizeof(*w));
    if (w == NULL)
        return NULL;
    w->owner = u;
    w->sock = sock;
    w->from = *from;
    w->base = (struct path){.ops = &way_ops,
                            .kind = u->plan->kind,
                            .id = approach_next_path_id(u->approach),
                            .remote = *remote};
    udp_local_towards(u->sockets[sock], remote, &w->base.local);
    u->ways[slot] = w;
    approach_path_new(u->approach, &w->base);
    return w;
}

static void way_drop(struct udp_meet *u, int i, const char *why)
{
    struct udp_way *w = u->ways[i];
    u->ways[i] = NULL;
    if (why != NULL)
        approach_lost(u->approach, &w->base, why);
    approach_path_retire(u->approach, &w->base);
    free(w);
}

bool udp_meet_has_way(const struct udp_meet *u)
{
    for (int i = 0; i < UDP_MEET_WAYS_MAX; i++)
        if (u->ways[i] != NULL)
            return true;
    return false;
}

/* -------------------------------------------------------------------------- rounds */

static void release(struct udp_meet *u)
{
    for (int i = 0; i < UDP_MEET_SOCKETS; i++) {
        udp_close(u->sockets[i]);
        udp_close(u->senders[i]);
        u->sockets[i] = u->senders[i] = NULL;
    }
    if (u->plan->end != NULL)
        u->plan->end(u);
}

/* The meeting is over; sockets stay as long as a path needs them. */
static void rest(struct udp_meet *u)
{
    u->phase = UDP_MEET_IDLE;
    timer_stop(&u->timer);
    if (!udp_meet_has_way(u))
        release(u);
}

void udp_meet_fail(struct udp_meet *u, const char *reason)
{
    bool stands = udp_meet_has_way(u) && u->proven;
    rest(u);
    if (!stands)
        approach_failed(u->approach, u->plan->kind, reason);
}

void udp_meet_refuse(struct udp_meet *u, const char *reason)
{
    if (reason != u->refused)
        (void)snprintf(u->refused, sizeof(u->refused), "%s", reason);
    if (!udp_meet_config(u)->client)
        approach_offer_soon(u->approach);
    udp_meet_fail(u, u->refused);
}

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len);
static void on_writable(void *ctx, struct udp *s);
static const struct udp_events udp_events = {on_packets, on_writable};

bool udp_meet_open(struct udp_meet *u, unsigned sock, const struct addr *at)
{
    struct net *net = udp_meet_config(u)->net;
    if (u->sockets[sock] == NULL &&
        udp_open(&u->sockets[sock], net->loop, at, net->scratch, &udp_events, u) != 0)
        u->sockets[sock] = NULL;
    return u->sockets[sock] != NULL;
}

int udp_meet_adopt(struct udp_meet *u, unsigned sock, int fd)
{
    struct net *net = udp_meet_config(u)->net;
    udp_prepare(fd, sock == 1 ? ADDR_V6 : ADDR_V4);
    return udp_adopt(&u->senders[sock], net->loop, fd, sock == 1 ? ADDR_V6 : ADDR_V4,
                     net->scratch, &udp_events, u);
}

bool udp_meet_waits(const struct udp_meet *u)
{
    return u->plan->host_waits && !udp_meet_config(u)->client;
}

void udp_meet_go(struct udp_meet *u)
{
    u->phase = UDP_MEET_MEETING;
    u->turn = 0;
    memset(u->sent_us, 0, sizeof(u->sent_us));
    timer_start(&u->timer, 0);
}

/* Both sides know each other's addresses. */
void udp_meet_begin(struct udp_meet *u)
{
    if (u->phase == UDP_MEET_WAITING && u->peer_round == u->round)
        udp_meet_go(u);
}

void udp_meet_ready(struct udp_meet *u)
{
    u->preparing = false;
    if (u->phase != UDP_MEET_GATHERING)
        return;
    u->phase = UDP_MEET_WAITING;
    timer_start(&u->timer, PEER_WAIT_MS);
    approach_offer_soon(u->approach);
    udp_meet_begin(u);
}

/* What STUN could tell it has told. */
static void gathered(struct udp_meet *u)
{
    if (u->gathered)
        return;
    u->gathered = true;
    timer_stop(&u->timer);
    u->preparing = true;
    if (u->plan->prepare(u) && !u->freed && u->preparing)
        udp_meet_ready(u);
}

/* Asks where we are; what is slow to answer is not waited for. */
static void pump_gathering(struct udp_meet *u)
{
    uint64_t now = now_ms(u);
    reflexive_send(&u->reflexive, u->approach, u->sockets, now);
    uint64_t at = reflexive_deadline_ms(&u->reflexive);
    if (u->reflexive.count == 0 || !reflexive_waits(&u->reflexive) || at == UINT64_MAX)
        gathered(u);
    else
        timer_start(&u->timer, at > now ? at - now : 1);
}

void udp_meet_begin_round(struct udp_meet *u)
{
    struct addr servers[UPLINK_STUN_MAX];
    for (int i = 0; i < UDP_MEET_WAYS_MAX; i++)
        if (u->ways[i] != NULL)
            way_drop(u, i, "it begins anew");
    rest(u);
    u->phase = UDP_MEET_GATHERING;
    u->refused[0] = '\0';
    u->gathered = u->proven = false;
    u->reflexive.count = 0;
    randombytes_buf(&u->check_base, sizeof(u->check_base));
    if (udp_meet_waits(u)) {
        gathered(u);
        return;
    }
    for (unsigned i = 0; i < UDP_MEET_SOCKETS; i++) {
        struct addr any = {.family = i == 0 ? ADDR_V4 : ADDR_V6};
        (void)udp_meet_open(u, i, &any);
    }
    size_t n = uplink_stun(udp_meet_config(u)->uplink, servers);
    reflexive_begin(&u->reflexive, servers, n, u->sockets, now_ms(u));
    timer_start(&u->timer, 0);
}

/* -------------------------------------------------------------------------- checks */

void udp_meet_check(struct udp_meet *u, const struct addr *to)
{
    uint8_t buf[PUNCH_PACKET_MAX];
    unsigned sock = to->family == ADDR_V6 ? 1 : 0;
    struct punch_check c = {.controlling = udp_meet_config(u)->client,
                            .generation = u->round,
                            .id = u->check_base + u->turn};
    size_t n = punch_check_encode(&c, approach_check_key(u->approach), buf);
    if (u->turn < UDP_MEET_TURNS && u->sent_us[u->turn] == 0)
        u->sent_us[u->turn] = clock_us(); /* a late address is asked before its turn */
    send_check(u, sock, to, buf, n);
}

void udp_meet_add_peer(struct udp_meet *u, const struct addr *a)
{
    for (size_t i = 0; i < u->peer_count; i++)
        if (addr_equal(&u->peers[i], a))
            return;
    if (u->peer_count < UDP_MEET_PEERS_MAX)
        u->peers[u->peer_count++] = *a;
    if (u->phase == UDP_MEET_MEETING)
        udp_meet_check(u, a);
}

/* Where what comes from `from` is answered to; NULL: nowhere. */
static const struct addr *answer_to(struct udp_meet *u, unsigned sock,
                                    const struct addr *from)
{
    if (!u->plan->from_broker)
        return from;
    for (size_t i = 0; i < u->peer_count; i++)
        if ((u->peers[i].family == ADDR_V6) == (sock == 1))
            return &u->peers[i];
    return NULL;
}

static void on_request(struct udp_meet *u, unsigned sock, const struct addr *from,
                       const struct punch_check *in)
{
    uint8_t buf[PUNCH_PACKET_MAX];
    const struct addr *to = answer_to(u, sock, from);
    struct punch_check out = {.response = true,
                              .controlling = udp_meet_config(u)->client,
                              .generation = u->round,
                              .id = in->id,
                              .seen = *from};
    if (to == NULL)
        return;
    struct addr remote = *to;
    size_t n = punch_check_encode(&out, approach_check_key(u->approach), buf);
    send_check(u, sock, &remote, buf, n);
    (void)make_way(u, sock, from, &remote);
    if (!u->freed && !u->proven)
        udp_meet_add_peer(u, &remote);
}

static void on_response(struct udp_meet *u, unsigned sock, const struct addr *from,
                        const struct punch_check *in)
{
    const struct addr *to = answer_to(u, sock, from);
    uint64_t turn = in->id - u->check_base;
    if (to == NULL || u->proven || turn > u->turn || turn >= UDP_MEET_TURNS)
        return;
    struct udp_way *w = make_way(u, sock, from, to);
    if (w == NULL || u->freed)
        return;
    target_answered(u->approach, to);
    uint64_t rtt_us = clock_us() - u->sent_us[turn];
    bool known = u->sent_us[turn] != 0 && rtt_us < UINT32_MAX;
    w->base.rtt_us = known ? (uint32_t)rtt_us : 0;
    u->proven = true;
    if (udp_meet_config(u)->client)
        rest(u);
    approach_proven(u->approach, &w->base);
}

static void on_check(struct udp_meet *u, unsigned sock, const struct addr *from,
                     const uint8_t *buf, size_t len)
{
    struct punch_check in;
    if (punch_check_decode(&in, approach_check_key(u->approach), buf, len) != 0 ||
        in.generation != u->round || in.controlling == udp_meet_config(u)->client)
        return;
    if (in.response)
        on_response(u, sock, from, &in);
    else
        on_request(u, sock, from, &in);
}

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct udp_meet *u = ctx;
    unsigned sock = s == u->sockets[0] ? 0 : 1;
    size_t first = len < segment_len ? len : segment_len;
    struct udp_way *w = find_way(u, sock, from);
    u->busy = true;
    if (w != NULL && path_is_session_packet(buf[0])) { /* the hot path */
        path_deliver(&w->base, buf, len, segment_len);
    } else if (stun_is_message(buf, first)) {
        if (reflexive_on_packet(&u->reflexive, u->approach, sock, from, buf, first,
                                u->sockets, now_ms(u)) &&
            u->phase == UDP_MEET_GATHERING && !u->gathered)
            pump_gathering(u);
    } else {
        on_check(u, sock, from, buf, first);
    }
    leave(u);
}

static void on_writable(void *ctx, struct udp *s)
{
    struct udp_meet *u = ctx;
    for (int i = 0; i < UDP_MEET_WAYS_MAX; i++)
        if (u->ways[i] != NULL &&
            (s == u->sockets[u->ways[i]->sock] || s == u->senders[u->ways[i]->sock]))
            path_writable(&u->ways[i]->base);
}

/* ---------------------------------------------------------------------------- time */

static void run_turn(struct udp_meet *u)
{
    if (u->turn >= UDP_MEET_TURNS) {
        char reason[120];
        (void)snprintf(reason, sizeof(reason),
                       "no answer: %u packets to each of %zu addresses", u->turn,
                       u->peer_count);
        udp_meet_fail(u, reason);
        return;
    }
    if (u->plan->turn != NULL)
        u->plan->turn(u);
    else
        for (size_t i = 0; i < u->peer_count; i++)
            udp_meet_check(u, &u->peers[i]);
    u->turn++;
    timer_start(&u->timer, u->turn < UDP_MEET_TURNS ? (uint64_t)UDP_MEET_TURN_MS
                                                    : LAST_ANSWERS_MS);
}

static void on_timer(void *ctx)
{
    struct udp_meet *u = ctx;
    u->busy = true;
    switch (u->phase) {
    case UDP_MEET_GATHERING:
        if (!u->gathered)
            pump_gathering(u);
        break;
    case UDP_MEET_WAITING:
        udp_meet_fail(u, "the other side told no address");
        break;
    case UDP_MEET_MEETING:
        if (u->proven)
            rest(u);
        else
            run_turn(u);
        break;
    case UDP_MEET_IDLE:
        break;
    }
    leave(u);
}

/* ------------------------------------------------------------------------ the kind */

void *udp_meet_new(struct approach *a, const void *plan)
{
    struct udp_meet *u = calloc(1, sizeof(*u));
    if (u == NULL)
        return NULL;
    u->approach = a;
    u->plan = plan;
    timer_init(&u->timer, udp_meet_config(u)->net->loop, on_timer, u);
    return u;
}

void udp_meet_start(void *k)
{
    struct udp_meet *u = k;
    approach_started(u->approach, u->plan->kind);
    if (!udp_meet_config(u)->client)
        return; /* begins with the client's addresses of a new round */
    u->round++;
    u->peer_count = 0;
    u->waits_for_uplink = !uplink_is_up(udp_meet_config(u)->uplink);
    if (!u->waits_for_uplink)
        udp_meet_begin_round(u);
}

/* A cold start: nobody could say yet where we are seen. */
void udp_meet_on_uplink(void *k, bool up)
{
    struct udp_meet *u = k;
    if (!up || !u->waits_for_uplink)
        return;
    u->waits_for_uplink = false;
    udp_meet_begin_round(u);
}

void udp_meet_stop(void *k)
{
    struct udp_meet *u = k;
    u->waits_for_uplink = false;
    for (int i = 0; i < UDP_MEET_WAYS_MAX; i++)
        if (u->ways[i] != NULL)
            way_drop(u, i, NULL);
    rest(u);
}

void udp_meet_free(void *k)
{
    struct udp_meet *u = k;
    for (int i = 0; i < UDP_MEET_WAYS_MAX; i++)
        free(u->ways[i]);
    release(u);
    u->phase = UDP_MEET_IDLE;
    timer_stop(&u->timer);
    u->freed = true;
    if (!u->busy)
        free(u);
}

void udp_meet_on_dead(void *k, struct path *p)
{
    struct udp_meet *u = k;
    for (int i = 0; i < UDP_MEET_WAYS_MAX; i++)
        if (u->ways[i] != NULL && &u->ways[i]->base == p)
            way_drop(u, i, NULL);
    if (u->phase == UDP_MEET_IDLE)
        rest(u);
}
