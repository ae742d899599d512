/*
 * Meetings by UDP: one socket a family, checks (core/punch_wire.h) out in each step and
 * in at any time, and the paths that come of it. When what is done stands in
 * core/meeting. What the plans differ in stands here too: udp-knock, whose host has no
 * socket before it is knocked at; mapped, which asks a router; spoof, whose packets
 * come and go with the broker's address.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/punch_wire.h"
#include "io/clock.h"
#include "io/helper.h"
#include "io/log.h"
#include "io/netmon.h"
#include "io/portmap.h"
#include "io/udp.h"
#include "path/knock.h"
#include "path/meet.h"
#include "path/reflexive.h"

enum {
    WAYS_MAX = 3,
    SHOWN_MAX = 2, /* of our reflexive addresses */
    KNOCK_PORT_FIRST = 20000,
    KNOCK_PORT_COUNT = 40000,
    KNOCK_EVERY = 3, /* steps */
};

struct udp_meet;

struct udp_way {
    struct path base; /* first */
    struct udp_meet *owner;
    unsigned sock;
    struct addr from; /* of its packets: the remote's, or the broker's */
    bool proven;
};

struct udp_meet {
    struct meet base; /* first */
    struct udp *sockets[MEET_FAMILIES];
    struct udp *senders[MEET_FAMILIES]; /* spoof: what leaves goes here */
    struct reflexive reflexive;
    struct timer asking; /* while GATHERING */
    struct udp_way *ways[WAYS_MAX];
    uint8_t secret[8];               /* of the ids of checks */
    uint64_t sent_us[MEETING_TURNS]; /* of the latest turns */
    unsigned turn;  /* steps of this round, also when they begin anew */
    uint32_t knock; /* the helper's number of it, or 0 */
    uint16_t knock_port;
    struct portmap *portmap;
    struct addr mapped;
};

_Static_assert(MEETING_KNOCK_LEN == PRIVILEGE_KNOCK_ID_LEN, "a knock has one length");
_Static_assert((int)MEET_FAMILIES == (int)REFLEXIVE_SOCKETS, "a socket a family");

static struct udp_meet *of(struct meet *m)
{
    return (struct udp_meet *)m;
}

static const struct meeting_plan *plan_of(const struct udp_meet *u)
{
    return u->base.meeting.plan;
}

static unsigned sock_of(const struct addr *a)
{
    return a->family == ADDR_V6 ? 1 : 0;
}

static uint64_t now_ms(const struct udp_meet *u)
{
    struct loop *loop = meet_config(&u->base)->net->loop;
    loop_refresh(loop);
    return loop_now_ms(loop);
}

/* --------------------------------------------------------------------------- paths */

/* What leaves goes by it; NULL: none. */
static struct udp *socket_of(const struct udp_meet *u, unsigned sock)
{
    return plan_of(u)->spoofs ? u->senders[sock] : u->sockets[sock];
}

static int send_packet(struct udp_meet *u, unsigned sock, const struct addr *to,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct udp *s = socket_of(u, sock);
    return s != NULL ? udp_send(s, to, buf, len, segment_len) : POSTERN_ERR_CLOSED;
}

static int path_op_send(struct path *p, const uint8_t *buf, size_t len,
                        size_t segment_len)
{
    struct udp_way *w = (struct udp_way *)p;
    if (!target_may_carry(w->owner->base.approach, p, len, segment_len))
        return 0;
    int rc = send_packet(w->owner, w->sock, &p->remote, buf, len, segment_len);
    return rc == POSTERN_ERR_AGAIN || rc == POSTERN_ERR_CLOSED ? rc : 0;
}

static const struct path_ops way_ops = {path_op_send};

static struct udp_way *find_way(const struct udp_meet *u, unsigned sock,
                                const struct addr *from)
{
    for (int i = 0; i < WAYS_MAX; i++)
        if (u->ways[i] != NULL && u->ways[i]->sock == sock &&
            addr_equal(&u->ways[i]->from, from))
            return u->ways[i];
    return NULL;
}

static struct udp_way *make_way(struct udp_meet *u, unsigned sock,
                                const struct addr *from, const struct addr *remote)
{
    struct approach *a = u->base.approach;
    struct udp_way *w = find_way(u, sock, from);
    int slot = -1;
    for (int i = 0; i < WAYS_MAX && slot < 0; i++)
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
                            .kind = u->base.meeting.kind,
                            .id = approach_next_path_id(a),
                            .remote = *remote};
    udp_local_towards(u->sockets[sock], remote, &w->base.local);
    u->ways[slot] = w;
    approach_path_new(a, &w->base);
    return w;
}

static bool has_way(const struct udp_meet *u)
{
    for (int i = 0; i < WAYS_MAX; i++)
        if (u->ways[i] != NULL)
            return true;
    return false;
}

/* What only the peer's checks came by says nothing of ours. */
static bool has_path(const struct meet *m)
{
    const struct udp_meet *u = (const struct udp_meet *)m;
    for (int i = 0; i < WAYS_MAX; i++)
        if (u->ways[i] != NULL && u->ways[i]->proven)
            return true;
    return false;
}

/* Sockets stay as long as a path needs them. */
static void end(struct meet *m)
{
    struct udp_meet *u = of(m);
    timer_stop(&u->asking);
    if (has_way(u))
        return;
    for (int i = 0; i < MEET_FAMILIES; i++) {
        udp_close(u->sockets[i]);
        udp_close(u->senders[i]);
        u->sockets[i] = u->senders[i] = NULL;
    }
    portmap_close(u->portmap);
    u->portmap = NULL;
    u->mapped = (struct addr){0};
    knock_end(&u->knock, m->meeting.kind);
    u->knock_port = 0;
}

static void way_drop(struct udp_meet *u, int i, const char *why)
{
    struct udp_way *w = u->ways[i];
    u->ways[i] = NULL;
    if (why != NULL)
        approach_lost(u->base.approach, &w->base, why);
    approach_path_retire(u->base.approach, &w->base);
    free(w);
}

static void drop(struct meet *m, const struct path *p)
{
    struct udp_meet *u = of(m);
    for (int i = 0; i < WAYS_MAX; i++)
        if (u->ways[i] != NULL && (p == NULL || &u->ways[i]->base == p))
            way_drop(u, i, NULL);
    if (meeting_rests(&m->meeting))
        end(m);
}

/* -------------------------------------------------------------------------- checks */

static enum fate may_open(struct udp_meet *u, const struct udp *s,
                          const struct addr *to)
{
    struct addr local = {0};
    if (s != NULL)
        udp_local(s, &local);
    return target_may_open(u->base.approach, false, local.port, to, 1);
}

/* Towards an address that has proven nothing yet. */
static enum fate send_check(struct udp_meet *u, unsigned sock, const struct addr *to,
                            const struct punch_check *c)
{
    uint8_t buf[PUNCH_PACKET_MAX];
    size_t n = punch_check_encode(c, approach_check_key(u->base.approach), buf);
    enum fate fate = may_open(u, socket_of(u, sock), to);
    return fate != FATE_LEFT ? fate : fate_of(send_packet(u, sock, to, buf, n, n));
}

/* Where an address's ids begin: who hears those to one cannot answer for another. */
static uint64_t check_base(const struct udp_meet *u, const struct addr *to)
{
    uint8_t out[KEY_LEN];
    uint64_t base;
    key_hash(out, to->ip, addr_ip_len(to), u->secret, sizeof(u->secret));
    memcpy(&base, out, sizeof(base));
    return base;
}

static void check_peer(struct udp_meet *u, size_t i)
{
    struct meeting *m = &u->base.meeting;
    struct addr to = m->peers[i];
    uint64_t *sent_us = &u->sent_us[u->turn % MEETING_TURNS];
    struct punch_check c = {.controlling = m->client,
                            .generation = m->round,
                            .id = check_base(u, &to) + u->turn};
    if (!meeting_try(m, i))
        return;
    if (*sent_us == 0)
        *sent_us = clock_us();
    meeting_sent(m, i, send_check(u, sock_of(&to), &to, &c));
}

/* What sends to us is asked at once, while the steps last. */
static void add_peer(struct udp_meet *u, const struct addr *a)
{
    struct meeting *m = &u->base.meeting;
    if (meeting_add_peer(m, a) && m->phase == MEETING_MEETING)
        check_peer(u, m->peer_count - 1);
}

/* Where what comes from `from` is answered to; NULL: nowhere. */
static const struct addr *answer_to(struct udp_meet *u, unsigned sock,
                                    const struct addr *from)
{
    const struct meeting *m = &u->base.meeting;
    if (!plan_of(u)->spoofs)
        return from;
    for (size_t i = 0; i < m->peer_count; i++)
        if (sock_of(&m->peers[i]) == sock)
            return &m->peers[i];
    return NULL;
}

static void on_request(struct udp_meet *u, unsigned sock, const struct addr *from,
                       const struct punch_check *in)
{
    const struct addr *to = answer_to(u, sock, from);
    struct punch_check out = {.response = true,
                              .controlling = u->base.meeting.client,
                              .generation = u->base.meeting.round,
                              .id = in->id,
                              .seen = *from};
    if (to == NULL)
        return;
    struct addr remote = *to;
    (void)send_check(u, sock, &remote, &out);
    (void)make_way(u, sock, from, &remote);
    if (!u->base.freed && u->base.meeting.phase != MEETING_MET)
        add_peer(u, &remote);
}

/* The one whose check of some turns ago is answered; peer_count: none. */
static size_t peer_asked(const struct udp_meet *u, uint64_t id, uint64_t *ago)
{
    const struct meeting *m = &u->base.meeting;
    size_t i = 0;
    for (; i < m->peer_count; i++) {
        *ago = check_base(u, &m->peers[i]) + u->turn - id;
        if (*ago <= u->turn && *ago < MEETING_TURNS)
            break;
    }
    return i;
}

static void on_response(struct udp_meet *u, unsigned sock, const struct addr *from,
                        const struct punch_check *in)
{
    struct meeting *m = &u->base.meeting;
    const struct addr *to = answer_to(u, sock, from);
    uint64_t ago = 0;
    size_t i = peer_asked(u, in->id, &ago);
    if (to == NULL || i == m->peer_count)
        return;
    /* What was said to one address proves nothing of another. */
    bool answered = addr_ip_equal(&m->peers[i], to);
    struct udp_way *w = find_way(u, sock, from);
    if (answered && w != NULL)
        w->base.answered = true; /* also one that came second */
    if (!meeting_awaits_path(m))
        return;
    uint64_t sent_us = u->sent_us[(u->turn - ago) % MEETING_TURNS];
    w = make_way(u, sock, from, to);
    if (w == NULL || u->base.freed)
        return;
    w->base.answered = answered;
    if (answered)
        target_answered(u->base.approach, &w->base.remote);
    uint64_t rtt_us = clock_us() - sent_us;
    w->base.rtt_us = sent_us != 0 && rtt_us < UINT32_MAX ? (uint32_t)rtt_us : 0;
    w->proven = true;
    meeting_on_path(m);
    approach_proven(u->base.approach, &w->base);
}

static void on_check(struct udp_meet *u, unsigned sock, const struct addr *from,
                     const uint8_t *buf, size_t len)
{
    const struct meeting *m = &u->base.meeting;
    struct punch_check in;
    if (punch_check_decode(&in, approach_check_key(u->base.approach), buf, len) != 0 ||
        in.generation != m->round || in.controlling == m->client)
        return;
    if (in.response)
        on_response(u, sock, from, &in);
    else
        on_request(u, sock, from, &in);
}

static void ask(struct udp_meet *u);

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct udp_meet *u = ctx;
    unsigned sock = s == u->sockets[0] ? 0 : 1;
    size_t first = len < segment_len ? len : segment_len;
    struct udp_way *w = find_way(u, sock, from);
    if (w != NULL && path_is_session_packet(buf[0])) { /* the hot path */
        meet_hold(&u->base);
        path_deliver(&w->base, buf, len, segment_len);
        meet_release(&u->base);
        return;
    }
    meet_enter(&u->base);
    if (!stun_is_message(buf, first))
        on_check(u, sock, from, buf, first);
    else if (reflexive_on_packet(&u->reflexive, u->base.approach, sock, from, buf,
                                 first, u->sockets, now_ms(u)))
        ask(u);
    meet_leave(&u->base);
}

static void on_writable(void *ctx, struct udp *s)
{
    struct udp_meet *u = ctx;
    for (int i = 0; i < WAYS_MAX; i++)
        if (u->ways[i] != NULL &&
            (s == u->sockets[u->ways[i]->sock] || s == u->senders[u->ways[i]->sock]))
            path_writable(&u->ways[i]->base);
}

static const struct udp_events udp_events = {on_packets, on_writable};

/* ----------------------------------------------------------------------- gathering */

/* Opens our socket of that family, if it is not. */
static bool open_socket(struct udp_meet *u, unsigned sock, const struct addr *at)
{
    struct net *net = meet_config(&u->base)->net;
    if (u->sockets[sock] == NULL &&
        udp_open(&u->sockets[sock], net->loop, at, net->scratch, &udp_events, u) != 0)
        u->sockets[sock] = NULL;
    return u->sockets[sock] != NULL;
}

/* Asks where we are; what is slow to answer is not waited for. */
static void ask(struct udp_meet *u)
{
    uint64_t now = now_ms(u);
    if (u->base.meeting.phase != MEETING_GATHERING)
        return;
    reflexive_send(&u->reflexive, u->base.approach, u->sockets, now);
    uint64_t at = reflexive_deadline_ms(&u->reflexive);
    if (!reflexive_is_worth_waiting(&u->reflexive) || at == UINT64_MAX)
        meeting_gathered(&u->base.meeting, &(struct meeting_side){0});
    else
        timer_start(&u->asking, at > now ? at - now : 1);
}

static void on_asking(void *ctx)
{
    struct udp_meet *u = ctx;
    meet_enter(&u->base);
    ask(u);
    meet_leave(&u->base);
}

static void gather(struct meet *m)
{
    struct udp_meet *u = of(m);
    struct addr servers[UPLINK_STUN_MAX];
    for (int i = 0; i < WAYS_MAX; i++)
        if (u->ways[i] != NULL)
            way_drop(u, i, "it begins anew");
    end(m);
    u->reflexive.count = 0;
    randombytes_buf(u->secret, sizeof(u->secret));
    memset(u->sent_us, 0, sizeof(u->sent_us));
    u->turn = 0;
    if (plan_of(u)->knocks &&
        !m->meeting.client) { /* no socket before it is knocked at */
        meeting_gathered(&m->meeting, &(struct meeting_side){0});
        return;
    }
    for (unsigned i = 0; i < MEET_FAMILIES; i++) {
        struct addr any = {.family = i == 0 ? ADDR_V4 : ADDR_V6};
        (void)open_socket(u, i, &any);
    }
    size_t n = uplink_stun(meet_config(m)->uplink, servers);
    reflexive_begin(&u->reflexive, servers, n, false, u->sockets, now_ms(u));
    timer_start(&u->asking, 0);
}

static size_t add_reflexive(const struct udp_meet *u, bool shown,
                            struct meeting_address *out, size_t n)
{
    size_t max = n + SHOWN_MAX;
    for (unsigned i = 0; i < u->reflexive.count && n < max; i++)
        if (u->reflexive.bindings[i].done)
            out[n++] = (struct meeting_address){u->reflexive.bindings[i].mapped, shown};
    return n;
}

/* ----------------------------------------------------------------------- udp-knock */

/* Who was let in already needs it no more. */
static void on_filter_lost(struct udp_meet *u)
{
    meet_enter(&u->base);
    u->knock = 0;
    if (meeting_tells(&u->base.meeting) && !has_way(u) && u->sockets[0] == NULL &&
        u->sockets[1] == NULL)
        meeting_refuse(&u->base.meeting, helper_missing());
    meet_leave(&u->base);
}

static void on_knock(void *ctx, const struct addr *from)
{
    struct udp_meet *u = ctx;
    if (from == NULL) {
        on_filter_lost(u);
        return;
    }
    unsigned sock = sock_of(from);
    struct addr at = {.family = from->family, .port = u->knock_port};
    char text[ADDR_TEXT_LEN];
    log_debug("udp-knock: seen from %s", addr_format(from, text));
    meet_enter(&u->base);
    if (meeting_on_knock(&u->base.meeting, from) && open_socket(u, sock, &at) &&
        udp_connect(u->sockets[sock], from) == 0)
        check_peer(u, 0);
    meet_leave(&u->base);
}

/* Of a client: what its knocks may come from, so the ports do not matter. */
static size_t knock_addresses(const struct udp_meet *u, struct meeting_address *out)
{
    struct addr local[MEETING_PEERS_MAX];
    bool client = u->base.meeting.client;
    size_t n = client ? add_reflexive(u, false, out, 0) : 0;
    size_t count = netmon_candidates(local, MEETING_PEERS_MAX - n, false);
    for (size_t i = 0; i < count; i++) {
        local[i].port = client ? 1 : u->knock_port;
        out[n++] = (struct meeting_address){.addr = local[i]};
    }
    return n;
}

static void await_knock(struct udp_meet *u)
{
    struct meeting *m = &u->base.meeting;
    struct knock_terms t = {0};
    struct meeting_address own[MEET_ADDRESSES_MAX];
    char why[MEETING_WORDS_LEN];
    u->knock_port =
        (uint16_t)(KNOCK_PORT_FIRST + randombytes_uniform(KNOCK_PORT_COUNT));
    randombytes_buf(m->knock, sizeof(m->knock));
    t.port = u->knock_port;
    memcpy(t.id, m->knock, sizeof(t.id));
    t.own_count = knock_addresses(u, own);
    for (size_t i = 0; i < t.own_count; i++)
        t.own[i] = own[i].addr;
    t.peer_count = m->peer_count;
    memcpy(t.peers, m->peers, t.peer_count * sizeof(m->peers[0]));
    if (knock_begin(&t, &u->knock, why, sizeof(why), on_knock, u))
        meeting_ready(m);
    else
        meeting_refuse(m, why);
}

static void knock(struct udp_meet *u, size_t i)
{
    struct meeting *m = &u->base.meeting;
    struct udp *s = u->sockets[sock_of(&m->peers[i])];
    if (m->step % KNOCK_EVERY != 1 || !meeting_try(m, i))
        return;
    enum fate fate = may_open(u, s, &m->peers[i]);
    if (fate == FATE_LEFT)
        fate = fate_of(
            udp_send(s, &m->peers[i], m->knock, sizeof(m->knock), sizeof(m->knock)));
    meeting_sent(m, i, fate);
}

/* -------------------------------------------------------------------------- mapped */

/* The host's router answered. Without a mapping there is still the client's router. */
static void on_mapped(void *ctx, const struct addr *external, const char *words)
{
    struct udp_meet *u = ctx;
    struct meeting *m = &u->base.meeting;
    char text[ADDR_TEXT_LEN];
    log_debug("mapped: %s%s%s", external != NULL ? addr_format(external, text) : "",
              external != NULL ? " by " : "", words);
    char nowhere[MEETING_WORDS_LEN];
    if (m->phase != (m->client ? MEETING_WAITING : MEETING_PREPARING))
        return;
    meet_enter(&u->base);
    if (external != NULL &&
        !target_leads_here(u->base.approach, external, nowhere, sizeof(nowhere))) {
        external = NULL;
        words = nowhere;
    }
    if (external != NULL)
        u->mapped = *external;
    if (!m->client) {
        if (external == NULL)
            meeting_regret(m, words);
        meeting_ready(m);
    } else if (external != NULL) {
        meeting_found(m);
    } else {
        char reason[2 * MEETING_WORDS_LEN + 64];
        (void)snprintf(reason, sizeof(reason),
                       "no router gives a mapping. Here: %s. At the host: %s", words,
                       meeting_words(m));
        meeting_fail(m, reason);
    }
    meet_leave(&u->base);
}

static bool ask_router(struct udp_meet *u)
{
    struct addr local = {0};
    u->mapped = (struct addr){0};
    if (u->sockets[0] != NULL)
        udp_local(u->sockets[0], &local);
    return local.port != 0 &&
           portmap_open(&u->portmap, meet_config(&u->base)->net->loop, false,
                        local.port, &u->base.meeting.peer_seen, on_mapped, u) == 0;
}

static void alone(struct meet *m)
{
    if (!ask_router(of(m)))
        meeting_fail(&m->meeting, "no UDP socket could be opened here");
}

/* --------------------------------------------------------------------------- spoof */

/* Where the broker's answers reach us: what the other side sends to. */
static size_t spoof_addresses(const struct udp_meet *u, struct meeting_address *out)
{
    size_t n = 0;
    bool seen[MEET_FAMILIES] = {0};
    for (unsigned i = 0; i < u->reflexive.count; i++) {
        const struct binding *b = &u->reflexive.bindings[i];
        if (!b->done || seen[b->sock] || !netmon_owns(&b->mapped))
            continue;
        seen[b->sock] = true; /* of the first server only: its address is the one */
        out[n++] = (struct meeting_address){.addr = b->mapped};
    }
    return n;
}

static void find_unchanged(struct udp_meet *u)
{
    struct meeting_address own[MEET_ADDRESSES_MAX];
    bool translated = false;
    for (unsigned i = 0; i < u->reflexive.count; i++)
        translated = translated || u->reflexive.bindings[i].done;
    if (spoof_addresses(u, own) == 0)
        meeting_refuse(&u->base.meeting,
                       translated ? "a NAT on the way would change the source"
                                  : "the broker's STUN did not answer by UDP");
    else if (!helper_can(PRIVILEGE_CAN_RAW)) /* last: it helps where no NAT is only */
        meeting_refuse(&u->base.meeting, helper_missing());
    else
        meeting_ready(&u->base.meeting);
}

/* What leaves by it has the broker's address as source. */
static bool open_sender(struct udp_meet *u, const struct addr *to)
{
    struct net *net = meet_config(&u->base)->net;
    enum addr_family family = (enum addr_family)to->family;
    unsigned sock = sock_of(to);
    struct privilege_request q = {.op = PRIVILEGE_TRANSPARENT, .remote = *to};
    struct privilege_reply r;
    int fd = -1;
    if (u->senders[sock] != NULL)
        return true;
    for (unsigned i = 0; i < u->reflexive.count && q.local.family == ADDR_NONE; i++)
        if (u->reflexive.bindings[i].sock == sock && u->reflexive.bindings[i].done)
            q.local = u->reflexive.bindings[i].server;
    if (q.local.family == ADDR_NONE || helper_ask(&q, &r, &fd) != 0)
        return false;
    udp_prepare(fd, family);
    if (udp_adopt(&u->senders[sock], net->loop, fd, family, net->scratch, &udp_events,
                  u) != 0) {
        close(fd);
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------------- the engine */

static void prepare(struct meet *m)
{
    struct udp_meet *u = of(m);
    if (plan_of(u)->spoofs) {
        find_unchanged(u);
    } else if (m->meeting.client) {
        meeting_ready(&m->meeting);
    } else if (plan_of(u)->knocks) {
        await_knock(u);
    } else if (!ask_router(u)) {
        meeting_refuse(&m->meeting, "no UDP socket could be opened there");
    }
}

static size_t addresses(struct meet *m,
                        struct meeting_address out[static MEET_ADDRESSES_MAX])
{
    struct udp_meet *u = of(m);
    size_t n = 0;
    if (plan_of(u)->knocks)
        return knock_addresses(u, out);
    if (plan_of(u)->spoofs)
        return spoof_addresses(u, out);
    if (u->mapped.family != ADDR_NONE)
        out[n++] = (struct meeting_address){.addr = u->mapped};
    return add_reflexive(u, true, out, n);
}

static void step(struct meet *m, struct meeting_step s)
{
    struct udp_meet *u = of(m);
    (void)s;
    u->turn++;
    u->sent_us[u->turn % MEETING_TURNS] = 0;
    for (size_t i = 0; i < m->meeting.peer_count; i++) {
        const struct addr *to = &m->meeting.peers[i];
        if (u->sockets[sock_of(to)] == NULL ||
            (plan_of(u)->spoofs && !open_sender(u, to)))
            continue;
        if (plan_of(u)->knocks && m->meeting.client && !has_way(u))
            knock(u, i);
        else
            check_peer(u, i);
    }
}

/* Answers to the last checks are still heard. */
static void last(struct meet *m)
{
    (void)m;
}

static const struct meet_engine engine = {
    .gather = gather,
    .prepare = prepare,
    .alone = alone,
    .step = step,
    .last = last,
    .end = end,
    .addresses = addresses,
    .has_path = has_path,
    .drop = drop,
};

static void *make(struct approach *a, enum path_kind kind)
{
    struct udp_meet *u = calloc(1, sizeof(*u));
    if (u != NULL)
        timer_init(&u->asking, approach_config_of(a)->net->loop, on_asking, u);
    return meet_init(&u->base, a, kind, &engine);
}

const struct kind_ops udp_meet_engine = MEET_ENGINE(make);
