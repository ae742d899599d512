/* The device's joints: candidates, signalling, paths, a session's packets. */
#include "agent.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "book.h"
#include "core/rng.h"

enum { GATHER_SENDS = 4, GATHER_RTO_US = 250000, DATA_EVERY_US = 40000 };
enum { STUN_REQUEST = 0x01, STUN_RESPONSE = 0x02 };
enum { SESSION_DATA = 0x41, SESSION_ACK, SESSION_PING, SESSION_PONG };

void agent_init(struct agent *a, struct world *w, const struct agent_link *link,
                bool client, uint64_t seed)
{
    memset(a, 0, sizeof(*a));
    a->client = client;
    a->name = client ? "client" : "host";
    a->w = w;
    a->link = link;
    a->seed = a->rng = seed;
    a->node[0] = a->node[1] = NODE_NONE;
    a->next_path_id = FIRST_PUNCH_PATH_ID;
    a->relay_at_us = UINT64_MAX;
    a->own.generation = 1;
}

void agent_attach(struct agent *a, unsigned sock, int node, uint16_t port)
{
    a->node[sock] = node;
    a->local[sock] = (struct addr){0};
    if (node == NODE_NONE)
        return;
    a->local[sock] = a->w->nodes[node].ip;
    a->local[sock].port = port;
}

static void add_own(struct agent *a, enum cand_type type, const struct addr *addr)
{
    for (unsigned i = 0; i < a->own.count; i++)
        if (addr_equal(&a->own.cands[i].addr, addr))
            return;
    if (a->own.count == AGENT_CANDS)
        return;
    a->own.cands[a->own.count].type = type;
    a->own.cands[a->own.count++].addr = *addr;
}

static void send_datagram(struct agent *a, unsigned sock, const struct addr *to,
                          const void *buf, size_t len)
{
    struct world_packet p = {.from = a->local[sock], .to = *to, .len = len};
    assert(len <= sizeof(p.buf));
    memcpy(p.buf, buf, len);
    if (a->node[sock] != NODE_NONE)
        world_send(a->w, a->node[sock], &p);
}

/* ---------------------------------------------------------------------- gathering */

static void gather_begin(struct agent *a)
{
    a->own.count = 0;
    a->own.complete = false;
    for (unsigned s = 0; s < 2; s++)
        if (a->node[s] != NODE_NONE)
            add_own(a, CAND_HOST, &a->local[s]);
    for (unsigned i = 0; a->liar && i < AGENT_LIES; i++)
        add_own(a, CAND_REFLEXIVE, &a->lies[i]);
    a->gather.running = a->node[0] != NODE_NONE;
    a->own.complete = !a->gather.running;
    a->gather.sends = 0;
    a->gather.due_us = a->w->now_us;
    a->gather.id = rng_next(&a->rng);
}

static void gather_turn(struct agent *a)
{
    if (!a->gather.running || a->w->now_us < a->gather.due_us)
        return;
    if (a->gather.sends == GATHER_SENDS) {
        a->gather.running = false;
        a->own.complete = true;
        a->hint.own_udp = PUNCH_UDP_BLOCKED;
        punch_set_hint(&a->punch, &a->hint);
        a->link->send_offer(a->link->ctx, !a->client, &a->own);
        return;
    }
    uint8_t buf[9] = {STUN_REQUEST};
    memcpy(buf + 1, &a->gather.id, 8);
    send_datagram(a, 0, &a->stun, buf, sizeof(buf));
    a->gather.due_us = a->w->now_us + ((uint64_t)GATHER_RTO_US << a->gather.sends++);
}

static void on_stun(struct agent *a, const struct world_packet *p)
{
    struct addr mapped;
    if (p->len != 9 + sizeof(mapped) || !a->gather.running ||
        memcmp(p->buf + 1, &a->gather.id, 8) != 0)
        return;
    memcpy(&mapped, p->buf + 9, sizeof(mapped));
    a->gather.running = false;
    a->own.complete = true;
    a->hint.own_udp = PUNCH_UDP_OK;
    punch_set_hint(&a->punch, &a->hint);
    add_own(a, CAND_REFLEXIVE, &mapped);
    a->link->send_offer(a->link->ctx, !a->client, &a->own);
}

/* ----------------------------------------------------------------------- punching */

static void take_candidates(struct agent *a)
{
    for (unsigned i = 0; a->have_peer && i < a->peer.count; i++)
        if (punch_add_remote(&a->punch, a->peer.cands[i].type,
                             &a->peer.cands[i].addr) == 0)
            book_allow(a, &a->peer.cands[i].addr);
    if (a->have_peer && a->peer.complete)
        punch_set_remote_complete(&a->punch);
}

static void add_sockets(struct agent *a)
{
    for (unsigned s = 0; s < 2; s++)
        if (a->node[s] != NODE_NONE)
            punch_add_socket(&a->punch, s, s == 0 ? ADDR_V4 : ADDR_V6);
}

/* Begins, or begins anew, and tells the other side. */
static void punch_begin(struct agent *a)
{
    uint64_t now = a->w->now_us;
    if (!a->punching) {
        a->punch_config.controlling = a->client;
        a->punch_config.seed = rng_next(&a->rng);
        a->punch_config.generation = a->own.generation;
        a->punch_config.peer_generation = a->have_peer ? a->peer.generation : 0;
        punch_init(&a->punch, &a->punch_config);
        punch_set_hint(&a->punch, &a->hint);
        add_sockets(a);
        punch_start(&a->punch, now);
        a->punching = true;
    } else {
        punch_restart(&a->punch, now);
        add_sockets(a);
        a->own.generation = punch_generation(&a->punch);
    }
    book_reset(a);
    take_candidates(a);
    gather_begin(a);
    a->link->send_offer(a->link->ctx, !a->client, &a->own);
}

void agent_on_offer(struct agent *a, const struct offer *o)
{
    if (a->have_peer && o->generation < a->peer.generation)
        return;
    a->peer = *o;
    a->have_peer = true;
    if (!a->punching) {
        if (!a->client)
            punch_begin(a);
        return;
    }
    if (punch_on_peer_generation(&a->punch, o->generation, a->w->now_us)) {
        if (a->punch.remote_count ==
            0) /* else the Offer only named what checks began */
            book_reset(a);
        liveness_suspect(
            &a->liveness); /* the peer moved: is the old way still there? */
        if (!a->client) {  /* its own mapping may be gone as well: look again */
            gather_begin(a);
            a->link->send_offer(a->link->ctx, true, &a->own);
        }
    }
    take_candidates(a);
}

bool agent_knows(const struct agent *a, unsigned sock, const struct addr *from)
{
    return a->punching && punch_known_remote(&a->punch, sock, from);
}

/* -------------------------------------------------------------------------- paths */

static int path_index(const struct agent *a, uint32_t id)
{
    for (int i = 0; i < AGENT_PATHS; i++)
        if (a->paths[i].id == id && id != LADDER_NO_PATH)
            return i;
    return -1;
}

/* The path id of a pair; a new one when it was not known. */
static uint32_t path_for(struct agent *a, const struct punch_pair *pair)
{
    unsigned oldest = 0;
    for (unsigned i = 0; i < AGENT_PATHS; i++) {
        if (a->paths[i].id != LADDER_NO_PATH && a->paths[i].sock == pair->sock &&
            addr_equal(&a->paths[i].remote, &pair->remote))
            return a->paths[i].id;
        if (a->paths[i].id != ladder_selected_path(&a->ladder) &&
            (a->paths[i].id < a->paths[oldest].id ||
             a->paths[oldest].id == ladder_selected_path(&a->ladder)))
            oldest = i;
    }
    if (a->paths[oldest].id != LADDER_NO_PATH)
        ladder_on_lost(&a->ladder, a->paths[oldest].id, "forgotten", a->w->now_us);
    a->paths[oldest].id = a->next_path_id++;
    a->paths[oldest].sock = pair->sock;
    a->paths[oldest].remote = pair->remote;
    return a->paths[oldest].id;
}

static void lose_path(struct agent *a, uint32_t id, const char *why)
{
    int i = path_index(a, id);
    if (i >= 0) {
        punch_on_dead(&a->punch, punch_find_pair(&a->punch, a->paths[i].sock,
                                                 &a->paths[i].remote));
        a->paths[i].id = LADDER_NO_PATH;
    }
    ladder_on_lost(&a->ladder, id, why, a->w->now_us);
}

/* The keepalive of the kind in use: a relay's NAT timeout is another one. */
static struct keepalive *alive(struct agent *a)
{
    return &a->keepalive[ladder_selected_kind(&a->ladder)];
}

static void send_on_path(struct agent *a, uint32_t id, uint8_t type)
{
    uint8_t buf[1] = {type};
    if (id == RELAY_PATH_ID)
        a->link->send_relayed(a->link->ctx, !a->client, buf, sizeof(buf));
    int i = path_index(a, id);
    if (i >= 0)
        send_datagram(a, a->paths[i].sock, &a->paths[i].remote, buf, sizeof(buf));
    liveness_on_sent(&a->liveness, a->w->now_us);
    keepalive_on_sent(alive(a), a->w->now_us);
}

static void select_path(struct agent *a, const struct ladder_action *act)
{
    uint64_t now = a->w->now_us;
    a->selects++;
    liveness_init(&a->liveness, now);
    liveness_set_streams(&a->liveness, now < a->active_until_us ? 1 : 0);
    keepalive_on_new_path(alive(a), now);
    if (act->kind == PATH_RELAY && a->relay_selected_us == 0)
        a->relay_selected_us = now;
    if (act->kind == PATH_UDP_PUNCH && a->direct_selected_us == 0)
        a->direct_selected_us = now;
    int i = path_index(a, act->path_id);
    if (act->kind == PATH_UDP_PUNCH && i < 0)
        a->link->violated(a->link->ctx, a->name, "selected a path that is not there");
    if (now < a->active_until_us)
        a->data_at_us = now; /* QUIC sends what was lost again at once */
}

static void ladder_turn(struct agent *a)
{
    struct ladder_action act;
    uint64_t now = a->w->now_us;
    while (ladder_next(&a->ladder, now, &act)) {
        if (act.type == LADDER_SELECT) {
            select_path(a, &act);
        } else if (act.type == LADDER_STOP) {
            continue;
        } else if (act.kind == PATH_UDP_PUNCH) {
            punch_begin(a);
            a->punch_start_us = now;
            ladder_on_started(&a->ladder, act.kind, now);
        } else {
            a->relay_start_us = now;
            if (a->relay_asked_us == 0)
                a->relay_asked_us = now;
            a->relay_at_us = now + a->link->relay_setup_us(a->link->ctx);
            ladder_on_started(&a->ladder, act.kind, now);
        }
    }
}

static void relay_turn(struct agent *a)
{
    if (a->w->now_us < a->relay_at_us)
        return;
    uint64_t rtt = a->relay_at_us - a->relay_start_us;
    a->relay_at_us = UINT64_MAX;
    a->relay_up = a->link->relay_works(a->link->ctx);
    if (a->relay_up)
        ladder_on_proven(&a->ladder, PATH_RELAY, RELAY_PATH_ID, (uint32_t)rtt,
                         a->w->now_us);
    else
        ladder_on_failed(&a->ladder, PATH_RELAY, "the broker is unreachable",
                         a->w->now_us);
}

void agent_on_relay_lost(struct agent *a)
{
    if (!a->relay_up)
        return;
    a->relay_up = false;
    lose_path(a, RELAY_PATH_ID, "the broker closed it");
}

/* What the checks found out, told to the ladder. */
static void report_punch(struct agent *a)
{
    const struct punch_pair *best = punch_best(&a->punch);
    if (best != NULL)
        ladder_on_proven(&a->ladder, PATH_UDP_PUNCH, path_for(a, best), best->rtt_us,
                         a->w->now_us);
    else if (punch_state(&a->punch) == PUNCH_FAILED)
        ladder_on_failed(&a->ladder, PATH_UDP_PUNCH, punch_reason(&a->punch),
                         a->w->now_us);
}

/* ------------------------------------------------------------------------ session */

void agent_set_active(struct agent *a, uint64_t until_us)
{
    a->active_until_us = until_us;
    a->data_at_us = a->w->now_us;
    liveness_set_streams(&a->liveness, 1);
}

static void on_session(struct agent *a, int sock, const struct addr *from, uint8_t type)
{
    uint8_t reply[1] = {type == SESSION_DATA ? SESSION_ACK : SESSION_PONG};
    if (!a->client) {
        if (sock < 0)
            a->link->send_relayed(a->link->ctx, true, reply, sizeof(reply));
        else if (agent_knows(a, (unsigned)sock, from))
            send_datagram(a, (unsigned)sock, from, reply, sizeof(reply));
        return;
    }
    uint32_t selected = ladder_selected_path(&a->ladder);
    int i = path_index(a, selected);
    bool on_path = sock < 0 ? selected == RELAY_PATH_ID
                            : i >= 0 && a->paths[i].sock == sock &&
                                  addr_equal(&a->paths[i].remote, from);
    if (!on_path)
        return;
    liveness_on_received(&a->liveness, a->w->now_us);
    keepalive_on_received(alive(a), a->w->now_us);
    if (type == SESSION_ACK) {
        liveness_on_activity(&a->liveness);
        a->data_answered++;
    }
}

static void session_turn(struct agent *a)
{
    uint64_t now = a->w->now_us;
    uint32_t path = ladder_selected_path(&a->ladder);
    if (path == LADDER_NO_PATH)
        return;
    if (now < a->active_until_us && now >= a->data_at_us) {
        a->data_at_us = now + DATA_EVERY_US;
        a->data_sent++;
        liveness_on_activity(&a->liveness);
        send_on_path(a, path, SESSION_DATA);
    }
    if (now >= a->active_until_us && a->liveness.streams > 0)
        liveness_set_streams(&a->liveness, 0);
    if (keepalive_due(alive(a), now))
        liveness_suspect(&a->liveness);
    switch (liveness_check(&a->liveness, now)) {
    case LIVENESS_FINE:
        break;
    case LIVENESS_PING:
        a->pings++;
        send_on_path(a, path, SESSION_PING);
        break;
    case LIVENESS_DEAD:
        keepalive_on_dead(alive(a));
        if (path == RELAY_PATH_ID)
            a->relay_up = false;
        lose_path(a, path, "no answer on it");
        break;
    }
}

/* ------------------------------------------------------------------------- events */

void agent_begin(struct agent *a, uint32_t allowed_mask)
{
    ladder_init(&a->ladder, allowed_mask, rng_next(&a->rng), a->w->now_us);
    liveness_init(&a->liveness, a->w->now_us);
    for (unsigned k = 0; k <= PATH_KIND_COUNT; k++)
        keepalive_init(&a->keepalive[k], true, 0, a->w->now_us);
}

void agent_on_relayed(struct agent *a, const uint8_t *buf, size_t len)
{
    if (len == 1)
        on_session(a, -1, NULL, buf[0]);
}

void agent_on_packet(struct agent *a, int node, const struct world_packet *p)
{
    unsigned sock = node == a->node[1] ? 1 : 0;
    if (node != a->node[sock] || p->to.port != a->local[sock].port)
        return; /* no socket there (any more) */
    if (a->punching) {
        book_on_arrival(a, sock, p);
        int taken =
            punch_on_packet(&a->punch, sock, &p->from, p->buf, p->len, a->w->now_us);
        book_check_arrival(a, sock, p, taken);
        if (taken == 1)
            return;
    }
    if (p->len > 0 && p->buf[0] == STUN_RESPONSE && addr_equal(&p->from, &a->stun))
        on_stun(a, p);
    else if (p->len == 1 && (p->buf[0] & 0x40) != 0)
        on_session(a, (int)sock, &p->from, p->buf[0]);
}

void agent_on_moved(struct agent *a)
{
    a->moved_us = a->w->now_us;
    if (a->client) {
        keepalive_init(&a->keepalive[PATH_UDP_PUNCH], true, 0, a->w->now_us);
        for (unsigned i = 0; i < AGENT_PATHS; i++)
            if (a->paths[i].id != LADDER_NO_PATH)
                lose_path(a, a->paths[i].id, "its address is gone");
        ladder_on_network_change(&a->ladder, a->w->now_us);
    } else if (a->punching) {
        punch_begin(a);
    }
}

static void turn_once(struct agent *a)
{
    struct punch_packet out;
    gather_turn(a);
    if (a->client) {
        relay_turn(a);
        ladder_turn(a);
    }
    while (a->punching && punch_next_packet(&a->punch, a->w->now_us, &out)) {
        book_on_departure(a, &out);
        send_datagram(a, out.sock, &out.to, out.buf, out.len);
    }
    if (a->punching && a->client)
        report_punch(a);
    if (a->client) {
        ladder_turn(a);
        session_turn(a);
        if (a->punching) /* the dead path may have a proven brother */
            report_punch(a);
        ladder_turn(a);
    }
}

void agent_turn(struct agent *a)
{
    /* One machine's action can make another one due; three rounds are enough. */
    for (int i = 0; i < 3 && (i == 0 || agent_deadline_us(a) <= a->w->now_us); i++)
        turn_once(a);
    book_check(a);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t agent_deadline_us(const struct agent *a)
{
    uint64_t at = a->gather.running ? a->gather.due_us : UINT64_MAX;
    if (a->punching)
        at = least(at, punch_deadline_us(&a->punch));
    if (!a->client)
        return at;
    at = least(at, least(a->relay_at_us, ladder_deadline_us(&a->ladder)));
    if (ladder_selected_path(&a->ladder) == LADDER_NO_PATH)
        return at;
    if (a->w->now_us < a->active_until_us)
        at = least(at, a->data_at_us);
    at = least(at, liveness_deadline_us(&a->liveness));
    return least(
        at, keepalive_deadline_us(&a->keepalive[ladder_selected_kind(&a->ladder)]));
}
