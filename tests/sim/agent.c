/* The device's joints: candidates, signalling, paths, a session's packets. */
#include "agent.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "book.h"
#include "core/rng.h"

enum { GATHER_SENDS = 4, GATHER_RTO_US = 250000, DATA_EVERY_US = 40000 };
enum { STUN_REQUEST = 0x01, STUN_RESPONSE = 0x02 };
enum { SESSION_DATA = 0x41, SESSION_ACK };
enum { PROBE_BYTES = 10 }; /* as core/probe.h, but for the MAC and the zeroes */

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

/* ----------------------------------------------------------------------- gathering */

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

/* ------------------------------------------------------------------------ punching */

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
        if (a->client) /* the peer moved: is the old way still there? */
            paths_doubt(&a->net, true, a->w->now_us);
        if (!a->client) { /* its own mapping may be gone as well: look again */
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

/* --------------------------------------------------------------------------- paths */

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
        if (a->paths[i].id != paths_current(&a->net) &&
            (a->paths[i].id < a->paths[oldest].id ||
             a->paths[oldest].id == paths_current(&a->net)))
            oldest = i;
    }
    if (a->paths[oldest].id != LADDER_NO_PATH) {
        paths_remove(&a->net, a->paths[oldest].id, a->w->now_us);
        ladder_on_lost(&a->ladder, a->paths[oldest].id, "forgotten", a->w->now_us);
    }
    a->paths[oldest].id = a->next_path_id++;
    (void)!paths_add(&a->net, a->paths[oldest].id, false, a->w->now_us);
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
    paths_remove(&a->net, id, a->w->now_us);
    ladder_on_lost(&a->ladder, id, why, a->w->now_us);
}

static enum path_kind kind_in_use(const struct agent *a)
{
    uint32_t id = paths_current(&a->net);
    return id == PATHS_NONE      ? PATH_KIND_NONE
           : id == RELAY_PATH_ID ? PATH_RELAY
                                 : PATH_UDP_PUNCH;
}

/* The keepalive of the kind in use: a relay's NAT timeout is another one. */
static struct keepalive *alive(struct agent *a)
{
    return &a->keepalive[kind_in_use(a)];
}

static void send_on_path(struct agent *a, uint32_t id, const uint8_t *buf, size_t len)
{
    if (id == RELAY_PATH_ID)
        a->link->send_relayed(a->link->ctx, !a->client, buf, len);
    int i = path_index(a, id);
    if (i >= 0)
        send_datagram(a, a->paths[i].sock, &a->paths[i].remote, buf, len);
    keepalive_on_sent(alive(a), a->w->now_us);
}

static void send_probe(struct agent *a, uint32_t id, const struct path_probe *q)
{
    uint8_t buf[PROBE_BYTES] = {PROBE_FIRST_BYTE, q->flags};
    memcpy(buf + 2, &q->txn, 4);
    memcpy(buf + 6, &q->use, 4);
    a->pings++;
    send_on_path(a, id, buf, sizeof(buf));
}

static void on_moved_to(struct agent *a, uint32_t id)
{
    uint64_t now = a->w->now_us;
    a->selects++;
    keepalive_on_new_path(alive(a), now);
    if (id == RELAY_PATH_ID && a->relay_selected_us == 0)
        a->relay_selected_us = now;
    if (id != RELAY_PATH_ID && a->direct_selected_us == 0)
        a->direct_selected_us = now;
    if (id != RELAY_PATH_ID && path_index(a, id) < 0)
        a->link->violated(a->link->ctx, a->name, "selected a path that is not there");
    if (now < a->active_until_us)
        a->data_at_us = now; /* QUIC sends what was lost again at once */
}

/* The ladder's wish; the first path of all is used without proof. */
static void select_path(struct agent *a, const struct ladder_action *act)
{
    if (act->path_id == paths_current(&a->net) && a->selects == 0)
        on_moved_to(a, act->path_id);
    paths_want(&a->net, act->path_id, a->w->now_us);
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
    if (a->relay_up) {
        (void)!paths_add(&a->net, RELAY_PATH_ID, true, a->w->now_us);
        ladder_on_proven(&a->ladder, PATH_RELAY, RELAY_PATH_ID, (uint32_t)rtt,
                         a->w->now_us);
    } else {
        ladder_on_failed(&a->ladder, PATH_RELAY, "the broker is unreachable",
                         a->w->now_us);
    }
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

/* ------------------------------------------------------------------------- session */

void agent_set_active(struct agent *a, uint64_t until_us)
{
    a->active_until_us = until_us;
    a->data_at_us = a->w->now_us;
    paths_set_streams(&a->net, 1);
}

/* The host answers where it was asked. */
static void answer(struct agent *a, int sock, const struct addr *from,
                   const uint8_t *buf, size_t len)
{
    if (sock < 0)
        a->link->send_relayed(a->link->ctx, true, buf, len);
    else if (agent_knows(a, (unsigned)sock, from))
        send_datagram(a, (unsigned)sock, from, buf, len);
}

static void host_on_session(struct agent *a, int sock, const struct addr *from,
                            const uint8_t *buf, size_t len)
{
    uint8_t reply[PROBE_BYTES] = {SESSION_ACK};
    if (len == PROBE_BYTES && buf[0] == PROBE_FIRST_BYTE) {
        memcpy(reply, buf, PROBE_BYTES);
        reply[1] = (uint8_t)(reply[1] | PROBE_RESPONSE);
        answer(a, sock, from, reply, PROBE_BYTES);
    } else if (len == 1 && buf[0] == SESSION_DATA) {
        answer(a, sock, from, reply, 1);
    }
}

static uint32_t path_of(const struct agent *a, int sock, const struct addr *from)
{
    if (sock < 0)
        return RELAY_PATH_ID;
    for (int i = 0; i < AGENT_PATHS; i++)
        if (a->paths[i].id != LADDER_NO_PATH && a->paths[i].sock == sock &&
            addr_equal(&a->paths[i].remote, from))
            return a->paths[i].id;
    return PATHS_NONE;
}

static void on_session(struct agent *a, int sock, const struct addr *from,
                       const uint8_t *buf, size_t len)
{
    uint64_t now = a->w->now_us;
    if (!a->client) {
        host_on_session(a, sock, from, buf, len);
        return;
    }
    uint32_t id = path_of(a, sock, from);
    if (id == PATHS_NONE)
        return;
    if (id == paths_current(&a->net))
        keepalive_on_received(alive(a), now);
    if (buf[0] == PROBE_FIRST_BYTE && len == PROBE_BYTES) {
        struct path_probe q = {.flags = buf[1]};
        memcpy(&q.txn, buf + 2, 4);
        (void)paths_on_response(&a->net, id, &q, now);
    } else if (buf[0] == SESSION_ACK) {
        paths_on_received(&a->net, id, now);
        paths_on_progress(&a->net, now);
        paths_on_settled(&a->net);
        paths_on_activity(&a->net);
        a->data_answered++;
    }
}

static void steer_turn(struct agent *a)
{
    struct paths_action act;
    struct keepalive *used = alive(a);
    while (paths_next(&a->net, a->w->now_us, &act)) {
        switch (act.type) {
        case PATHS_SEND:
            send_probe(a, act.id, &act.probe);
            break;
        case PATHS_MOVE:
            keepalive_on_dead(used); /* learns where a keepalive was not answered */
            on_moved_to(a, act.id);
            used = alive(a);
            break;
        case PATHS_DEAD:
            if (act.id == paths_current(&a->net))
                keepalive_on_dead(used);
            if (act.id == RELAY_PATH_ID)
                a->relay_up = false;
            lose_path(a, act.id, "no answer on it");
            break;
        case PATHS_DOUBT:
        case PATHS_SUSPECT:
        case PATHS_SILENT:
        case PATHS_REVIVED:
        case PATHS_SHRINK:
            break;
        }
    }
}

static void session_turn(struct agent *a)
{
    uint64_t now = a->w->now_us;
    uint32_t path = paths_current(&a->net);
    if (now >= a->active_until_us && a->net.streams > 0)
        paths_set_streams(&a->net, 0);
    if (path != PATHS_NONE && now < a->active_until_us && now >= a->data_at_us) {
        uint8_t data = SESSION_DATA;
        a->data_at_us = now + DATA_EVERY_US;
        a->data_sent++;
        paths_on_activity(&a->net);
        paths_on_sent(&a->net, false, now);
        send_on_path(a, path, &data, 1);
    }
    if (path != PATHS_NONE && keepalive_due(alive(a), now))
        paths_ask(&a->net, now);
    steer_turn(a);
}

/* -------------------------------------------------------------------------- events */

void agent_begin(struct agent *a, uint32_t allowed_mask)
{
    ladder_init(&a->ladder, allowed_mask, rng_next(&a->rng), a->w->now_us);
    paths_init(&a->net, true, a->w->now_us);
    for (unsigned k = 0; k <= PATH_KIND_COUNT; k++)
        keepalive_init(&a->keepalive[k], true, 0, a->w->now_us);
}

void agent_on_relayed(struct agent *a, const uint8_t *buf, size_t len)
{
    if (len > 0)
        on_session(a, -1, NULL, buf, len);
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
    else if ((p->len == 1 && (p->buf[0] & 0x40) != 0) ||
             (p->len == PROBE_BYTES && p->buf[0] == PROBE_FIRST_BYTE))
        on_session(a, (int)sock, &p->from, p->buf, p->len);
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
        paths_doubt(&a->net, true, a->w->now_us);
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
    at = least(at, paths_deadline_us(&a->net));
    if (paths_current(&a->net) == PATHS_NONE)
        return at;
    if (a->w->now_us < a->active_until_us)
        at = least(at, a->data_at_us);
    return least(at, keepalive_deadline_us(&a->keepalive[kind_in_use(a)]));
}
