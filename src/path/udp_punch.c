/*
 * udp-punch: both sides send authenticated checks to each other's candidate addresses
 * at the same time, so that each NAT or firewall takes the other's packets for answers
 * (RFC 8445, RFC 5128 section 3.3). core/punch decides; this file owns the sockets,
 * asks the broker's STUN for the reflexive address, and makes paths of proven pairs.
 *
 * The sockets exist only while checks run or a path is in use, and never answer a
 * packet that is not an authentic check.
 *
 * One machine over one private struct: rounds, sockets, paths and prediction change one
 * another. What the peer told of itself is read in path/peer_offer.c, how we are seen
 * in path/reflexive.c, and mappings are opened in path/prediction.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/budget.h"
#include "core/punch.h"
#include "core/state.h"
#include "core/stun.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/udp.h"
#include "path/kind.h"
#include "path/offer.h"
#include "path/peer_offer.h"
#include "path/prediction.h"
#include "path/reflexive.h"

/* Two of our own, IPv4 and IPv6, and one that shows more of our NAT; the others are
 * mappings that prediction found. */
enum {
    SOCKETS_MAX = PUNCH_MAX_SOCKETS,
    ADOPTED_FIRST = REFLEXIVE_SAMPLE + 1,
    PATHS_MAX = 8,
    IDLE_MS = 1000, /* a path that is silent so long makes way for another */
    PLAIN_FIRST_MS = 200,
    SAMPLE_TRIES = 3, /* then it counts for nothing */
    BINDINGS_FRESH_MS = 3000,
    PREDICTION_LOOK_MS = 500, /* whether it is over */
    GRANT_LOOK_MS = 10,       /* whether the broker has answered */
    PRESUME_MS = 1000,        /* and three round trips, of checks in vain */
};

/*
 * A round: begun by the ladder, or by the peer's newer Offer.
 *
 *   RESTING --- start ---> CHECKING --- proven, or failed while a path is used --->
 * TOLD ^                       |  ^                                                  |
 *      +--- failed, or stop ---+  +--- start, the peer's new round, a pair died -----+
 */
enum stage { RESTING, CHECKING, TOLD };

// clang-format off
static const uint8_t stage_next[] = {
    [RESTING]  = 1u << CHECKING,
    [CHECKING] = 1u << TOLD | 1u << RESTING,
    [TOLD]     = 1u << CHECKING | 1u << RESTING,
};
// clang-format on

/* What a round does about symmetric NATs, once. */
enum prediction { PREDICT_OPEN, PREDICT_LOW /* from ports below 1024 */, PREDICT_DONE };

/* Whether we may bind ports below 1024 and our NAT leaves them there, which a third
 * socket asks once it is seen to change ports; FAILED: not in this round, since the one
 * before came to nothing with them. */
enum low_ports { LOW_UNKNOWN, LOW_ASKED, LOW_NONE, LOW_MAY, LOW_FAILED };

/* OLD: no Offer came since this round began, and its ports may be gone. */
enum peer { PEER_UNKNOWN, PEER_OLD, PEER_KNOWN };

struct udp_punch;
struct udp_path {
    struct path base; /* first */
    struct udp_punch *owner;
    unsigned sock;
    uint64_t heard_ms; /* or made */
};

struct udp_punch {
    struct approach *approach;
    enum stage stage;
    struct punch *punch; /* NULL while RESTING */
    struct udp *sockets[SOCKETS_MAX];
    struct addr locals[SOCKETS_MAX]; /* bound: the port of host candidates */
    struct udp_path *paths[PATHS_MAX];
    struct path *used; /* what the session uses, ours or another's */
    struct reflexive reflexive;
    uint64_t bindings_ms; /* when it was begun */
    enum peer peer;
    struct peer_offer told; /* the newest, for a new round */
    uint32_t generation;    /* of the round before */
    struct predict *predict;
    enum prediction prediction;
    uint64_t presume_ms; /* when doubtful mappings become hard ones; 0: not known yet */
    enum low_ports low;
    bool binds_low;     /* we may bind them, whatever becomes of them in our NAT */
    unsigned predicted; /* packets of this round's */
    uint64_t wait_ms; /* until our NAT is to be asked for more; 0: it was not refused */
    char predict_why[112]; /* why prediction was not tried though it was needed */
    struct timer timer;
    bool busy, freed;
    bool spent; /* refused before a prediction, which the peer is told */
};

static void pump(struct udp_punch *u);

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
    if (!target_may_carry(up->owner->approach, p, len, segment_len))
        return 0;
    int rc = udp_send(s, &p->remote, buf, len, segment_len);
    return rc == POSTERN_ERR_AGAIN ? rc : 0;
}

static const struct path_ops udp_path_ops = {path_op_send};

static struct udp_path *find_path(struct udp_punch *u, unsigned sock,
                                  const struct addr *remote)
{
    for (int i = 0; i < PATHS_MAX; i++)
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

/* A free place, or that of who was silent longest; -1: none for `idle_ms`. The one in
 * use stays. */
static int find_slot(struct udp_punch *u, uint64_t idle_ms)
{
    int slot = -1;
    for (int i = 0; i < PATHS_MAX; i++) {
        const struct udp_path *p = u->paths[i];
        if (p == NULL)
            return i;
        if (&p->base != u->used && (slot < 0 || p->heard_ms < u->paths[slot]->heard_ms))
            slot = i;
    }
    return slot >= 0 && now_ms(u) >= u->paths[slot]->heard_ms + idle_ms ? slot : -1;
}

/*
 * In place of one that is idle, where all places are taken. (If one that lives made
 * way, its next packet would take the place of another, and so on without end, each
 * with a census of the session's.)
 */
static struct udp_path *make_path(struct udp_punch *u, unsigned sock,
                                  const struct addr *remote, uint64_t idle_ms)
{
    int slot = find_slot(u, idle_ms);
    if (slot < 0)
        return NULL;
    if (u->paths[slot] != NULL)
        retire(u, slot);
    struct udp_path *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->owner = u;
    p->sock = sock;
    p->heard_ms = now_ms(u);
    p->base = (struct path){.ops = &udp_path_ops,
                            .kind = PATH_UDP_PUNCH,
                            .id = approach_next_path_id(u->approach),
                            .local = u->locals[sock],
                            .remote = *remote,
                            .answered = punch_is_proven(u->punch, sock, remote)};
    udp_local_towards(u->sockets[sock], remote, &p->base.local);
    u->paths[slot] = p;
    approach_path_new(u->approach, &p->base);
    return p;
}

/* --------------------------------------------------------------- reflexive address */

static void sample_close(struct udp_punch *u)
{
    udp_close(u->sockets[REFLEXIVE_SAMPLE]);
    u->sockets[REFLEXIVE_SAMPLE] = NULL;
}

static void bindings_begin(struct udp_punch *u)
{
    struct addr servers[UPLINK_STUN_MAX];
    size_t n = uplink_stun(approach_config_of(u->approach)->uplink, servers);
    u->bindings_ms = now_ms(u);
    reflexive_begin(&u->reflexive, servers, n, true, u->sockets, u->bindings_ms);
    sample_close(u);
    if (u->low == LOW_ASKED)
        u->low = LOW_UNKNOWN;
}

static const struct udp_events udp_events;

/* A NAT that changes ports may leave the low ones among few: then they are foreseen.
 * And three of its ports tell one that counts or has few from one that draws, of which
 * two lie together by chance too often. */
static void ask_sample(struct udp_punch *u)
{
    struct net *net = approach_config_of(u->approach)->net;
    if (u->low != LOW_UNKNOWN ||
        !reflexive_is_changed(&u->reflexive, u->locals[0].port))
        return;
    u->low = LOW_NONE;
    u->sockets[REFLEXIVE_SAMPLE] = predict_open_sample(net, &udp_events, u);
    if (u->sockets[REFLEXIVE_SAMPLE] == NULL)
        return;
    udp_local(u->sockets[REFLEXIVE_SAMPLE], &u->locals[REFLEXIVE_SAMPLE]);
    if (reflexive_ask_sample(&u->reflexive, u->sockets, now_ms(u)))
        u->low = LOW_ASKED;
    else
        sample_close(u);
}

static void look_at_sample(struct udp_punch *u)
{
    const struct binding *b = reflexive_sample(&u->reflexive);
    if (u->low != LOW_ASKED || b == NULL)
        return;
    bool over = b->tries >= SAMPLE_TRIES && now_ms(u) >= b->due_ms;
    if (!b->done && !over)
        return;
    bool low = u->locals[REFLEXIVE_SAMPLE].port < PREDICT_PORT_MIN;
    u->binds_low = low;
    u->low = low && b->done && predict_is_low(b->mapped.port) ? LOW_MAY : LOW_NONE;
    sample_close(u);
    approach_offer_soon(u->approach);
}

/* What is told and planned on: once it is known whether with low ports or without. */
static enum nat_mapping own_mapping(const struct udp_punch *u)
{
    enum nat_mapping m = reflexive_mapping(&u->reflexive);
    bool asks = u->low == LOW_UNKNOWN || u->low == LOW_ASKED;
    return predict_is_symmetric(m) && asks ? NAT_MAPPING_UNKNOWN : m;
}

/* One that keeps ports goes through even if it gives each address its own. */
static bool own_doubtful(const struct udp_punch *u)
{
    return own_mapping(u) == NAT_MAPPING_ENDPOINT_INDEPENDENT &&
           reflexive_is_one_sided(&u->reflexive) &&
           reflexive_is_changed(&u->reflexive, u->locals[0].port);
}

static void update_hint(struct udp_punch *u)
{
    struct punch_hint h = {.own_mapping = reflexive_mapping(&u->reflexive),
                           .own_udp = reflexive_udp(&u->reflexive),
                           .own_asked = reflexive_asked(&u->reflexive)};
    if (u->peer != PEER_UNKNOWN) {
        h.peer_mapping = (enum nat_mapping)u->told.mapping;
        h.peer_filtering = (enum nat_filtering)u->told.filtering;
        h.peer_udp = peer_offer_udp(&u->told);
        h.peer_told = u->told.count > 0;
    }
    punch_set_hint(u->punch, &h);
}

static void add_peer_candidates(struct udp_punch *u);

static void on_stun(struct udp_punch *u, unsigned sock, const struct addr *from,
                    const uint8_t *buf, size_t len)
{
    if (sock == 0 && predict_on_stun(u->predict, buf, len))
        return;
    if (!reflexive_on_packet(&u->reflexive, u->approach, sock, from, buf, len,
                             u->sockets, now_ms(u)))
        return;
    add_peer_candidates(u); /* we may be seen where the peer is */
    ask_sample(u);
    update_hint(u);
    approach_offer_soon(u->approach);
}

/* ------------------------------------------------------------------------- packets */

static unsigned index_of(const struct udp_punch *u, const struct udp *s)
{
    unsigned i = 0;
    while (i + 1 < SOCKETS_MAX && u->sockets[i] != s)
        i++;
    return i;
}

/* The pair is proven: what came was an answer to what we sent there. */
static void note_answer(struct udp_punch *u, unsigned sock, const struct addr *from)
{
    struct udp_path *p = find_path(u, sock, from);
    if (!punch_is_proven(u->punch, sock, from))
        return;
    target_answered(u->approach, from);
    if (p != NULL)
        p->base.answered = true;
}

static void dispose(struct udp_punch *u)
{
    free(u->punch);
    free(u);
}

static void rest(struct udp_punch *u);

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct udp_punch *u = ctx;
    unsigned sock = index_of(u, s);
    size_t first = len < segment_len ? len : segment_len;
    struct udp_path *p = find_path(u, sock, from);
    u->busy = true;
    if (p != NULL && path_is_session_packet(buf[0])) { /* the hot path */
        p->heard_ms = loop_now_ms(approach_config_of(u->approach)->net->loop);
        path_deliver(&p->base, buf, len, segment_len);
    } else if (stun_is_message(buf, first)) {
        on_stun(u, sock, from, buf, first);
        pump(u);
    } else {
        bool check = false;
        for (size_t at = 0; at < len; at += segment_len) {
            size_t n = len - at < segment_len ? len - at : segment_len;
            check |=
                punch_on_packet(u->punch, sock, from, buf + at, n, clock_us()) == 1;
        }
        if (check) {
            note_answer(u, sock, from);
            pump(u);
        } else if (path_is_session_packet(buf[0]) &&
                   punch_known_remote(u->punch, sock, from)) {
            (void)make_path(u, sock, from, IDLE_MS);
            p = find_path(u, sock, from); /* who was told of it may have ended us */
            if (p != NULL)
                path_deliver(&p->base, buf, len, segment_len);
        }
    }
    u->busy = false;
    if (u->freed)
        dispose(u);
    else if (u->stage == RESTING)
        rest(u);
}

static void on_writable(void *ctx, struct udp *s)
{
    struct udp_punch *u = ctx;
    unsigned sock = index_of(u, s);
    for (int i = 0; i < PATHS_MAX; i++)
        if (u->paths[i] != NULL && u->paths[i]->sock == sock)
            path_writable(&u->paths[i]->base);
}

static const struct udp_events udp_events = {on_packets, on_writable};

/* ---------------------------------------------------------------------- prediction
 *
 * Where a NAT gives each destination another port: when both sides know what their NATs
 * do and plain checks had their chance, mappings are opened and ports swept. A socket
 * that an authentic check reaches becomes one of the checks' own.
 */

static size_t make(void *ctx, uint8_t *buf)
{
    struct udp_punch *u = ctx;
    return punch_make_probe(u->punch, buf);
}

static void send_known(void *ctx, const struct addr *to, const uint8_t *buf, size_t len)
{
    struct udp_punch *u = ctx;
    if (u->sockets[0] == NULL)
        return;
    udp_leave_count(u->sockets[0], true); /* prediction does */
    (void)!udp_send(u->sockets[0], to, buf, len, len);
    udp_leave_count(u->sockets[0], false);
}

static void arrived(void *ctx, struct udp *s, const struct addr *from,
                    const uint8_t *buf, size_t len)
{
    struct udp_punch *u = ctx;
    unsigned idx = ADOPTED_FIRST;
    while (idx < SOCKETS_MAX && u->sockets[idx] != NULL)
        idx++;
    if (idx == SOCKETS_MAX || !punch_is_authentic(u->punch, buf, len))
        return;
    predict_release(u->predict, s);
    udp_set_user(s, &udp_events, u);
    u->sockets[idx] = s;
    udp_local(s, &u->locals[idx]);
    punch_adopt_socket(u->punch, idx, ADDR_V4);
    (void)punch_on_packet(u->punch, idx, from, buf, len, clock_us());
    pump(u);
}

static bool may(void *ctx, const struct addr *to)
{
    struct udp_punch *u = ctx;
    bool yes = target_may_sweep(u->approach, to, 1);
    u->predicted += yes;
    return yes;
}

static bool may_ask(void *ctx, const struct addr *server)
{
    struct udp_punch *u = ctx;
    return target_may_ask(u->approach, server, 2);
}

static bool is_clear(void *ctx)
{
    struct udp_punch *u = ctx;
    const struct approach_config *c = approach_config_of(u->approach);
    return uplink_is_up(c->uplink) && !uplink_is_awaited(c->uplink) &&
           c->net->relay_dials == 0;
}

static const struct predict_events predict_events = {make,     may,        may_ask,
                                                     is_clear, send_known, arrived};

static bool may_use_low_ports(const struct udp_punch *u)
{
    return predict_is_symmetric(own_mapping(u)) && u->low == LOW_MAY;
}

/* What the outside has seen of our socket. */
static struct predict_near own_near(const struct udp_punch *u)
{
    uint16_t ports[REFLEXIVE_MAX];
    size_t n = reflexive_ports(&u->reflexive, ports);
    return predict_observe(ports, u->low == LOW_MAY ? 0 : n);
}

static void say_why(struct udp_punch *u, const char *why)
{
    (void)snprintf(u->predict_why, sizeof(u->predict_why), "%s", why);
}

/* This side's NAT is not to be asked for more. */
static void say_sessions(struct udp_punch *u)
{
    struct opener opener = target_opener(u->approach);
    u->wait_ms = net_sessions_words(&opener, u->predict_why, sizeof(u->predict_why));
}

/* Both sides wait about as long: since each knows what the other's NAT seems to be. */
static bool is_time_to_presume(struct udp_punch *u)
{
    uint64_t now = now_ms(u);
    if (u->presume_ms == 0)
        u->presume_ms =
            now + PRESUME_MS + 3ull * approach_rtt_hint_us(u->approach) / 1000;
    return now >= u->presume_ms;
}

/*
 * True when prediction would help and this side can do its part; with the words when it
 * would help and may not begin (yet).
 */
static bool plans(struct udp_punch *u, struct predict_plan *plan, bool *low,
                  struct predict_terms *terms)
{
    const struct net *net = approach_config_of(u->approach)->net;
    const char *why = NULL;
    struct predict_side own = {own_mapping(u), may_use_low_ports(u), own_near(u),
                               own_doubtful(u)};
    struct predict_side peer = peer_offer_side(&u->told);
    if (own.mapping == NAT_MAPPING_UNKNOWN || peer.mapping == NAT_MAPPING_UNKNOWN ||
        u->peer == PEER_OLD) /* our Offer of this round brings the peer's */
        return false;
    u->predict_why[0] = '\0';
    u->wait_ms = 0;
    if (predict_presume(&own, &peer) && !is_time_to_presume(u))
        return false;
    if (!predict_plan(plan, &own, &peer, &why)) {
        u->prediction = PREDICT_DONE;
        if (why != NULL)
            say_why(u,
                    u->binds_low && !own.low_ports && own.near.count == 0
                        ? "this side's NAT changes ports below 1024, too, which would "
                          "help if it kept them"
                        : why);
        return false;
    }
    *low = own.low_ports && own.near.count == 0;
    terms->opener = target_opener(u->approach);
    terms->target_count = peer_offer_targets(&u->told, u->approach, terms->targets);
    if (terms->target_count > 0 && !u->told.spent && !target_is_brief(u->approach) &&
        target_has_lived(u->approach)) /* as early as may be */
        uplink_want_sessions(approach_config_of(u->approach)->uplink, &terms->opener,
                             predict_sessions(plan));
    if (terms->target_count == 0)
        say_why(u, "the broker does not know the other side's address for its own");
    else if (!target_is_time_to_sweep(u->approach))
        say_why(u, "it begins when the relay carries the session");
    else if (!target_has_lived(u->approach)) {
        say_why(u, "this device's other programs have tried many ports just now");
        u->prediction = PREDICT_DONE; /* the next round, that both begin together */
    } else if (!budget_has_mappings(&net->budget->packets, plan->sockets))
        say_why(u, "it waits for those of other connections");
    else if (u->told.spent)
        say_why(u, "enough ports were tried from the other side for this minute");
    else if (net_sessions_wait(&terms->opener))
        say_why(u, "it waits for the broker's word");
    else if (!net_sessions_are_enough(&terms->opener, predict_sessions(plan)))
        say_sessions(u);
    return u->predict_why[0] == '\0';
}

static void predict_end(struct udp_punch *u)
{
    predict_stop(u->predict);
    u->predict = NULL;
    uplink_return_sessions(approach_config_of(u->approach)->uplink);
}

static void predict(struct udp_punch *u)
{
    struct predict_plan plan;
    struct predict_terms terms;
    bool low = false;
    enum punch_state state = punch_state(u->punch);
    if (u->predict != NULL && predict_is_refused(u->predict))
        say_why(u, "enough was sent to the other side's address lately");
    if (u->predict != NULL &&
        (predict_is_full(u->predict) || predict_was_cut(u->predict)))
        say_sessions(u);
    if (u->predict != NULL && u->told.spent && state != PUNCH_PROVEN) {
        predict_end(u); /* nobody would meet what it opens */
        u->prediction = PREDICT_OPEN;
    }
    if (state == PUNCH_PROVEN)
        predict_end(u);
    if (u->prediction != PREDICT_OPEN || u->peer == PEER_UNKNOWN ||
        state != PUNCH_CHECKING || u->sockets[0] == NULL ||
        !plans(u, &plan, &low, &terms))
        return;
    u->prediction = low ? PREDICT_LOW : PREDICT_DONE;
    const struct approach_config *c = approach_config_of(u->approach);
    terms.delay_ms = PLAIN_FIRST_MS + approach_rtt_hint_us(u->approach) / 1000;
    terms.rtt_ms = uplink_rtt_us(c->uplink) / 1000;
    terms.stun = *reflexive_server(&u->reflexive); /* by which our mapping is known */
    log_debug("udp-punch: predicting: %u mappings, %u ports", plan.sockets,
              plan.probes);
    memcpy(terms.proof, uplink_proof(c->uplink), sizeof(terms.proof));
    if (predict_start(&u->predict, c->net, &plan, &terms, &predict_events, u) != 0)
        u->predict = NULL;
}

/* -------------------------------------------------------------------------- rounds */

static void sockets_close(struct udp_punch *u)
{
    for (int i = 0; i < PATHS_MAX; i++)
        if (u->paths[i] != NULL)
            retire(u, i);
    predict_end(u);
    for (int i = 0; i < SOCKETS_MAX; i++) {
        udp_close(u->sockets[i]);
        u->sockets[i] = NULL;
    }
}

/* Mappings of a round that is over, but those in use. */
static void drop_adopted(struct udp_punch *u)
{
    for (unsigned s = ADOPTED_FIRST; s < SOCKETS_MAX; s++) {
        bool in_use = false;
        for (int i = 0; i < PATHS_MAX; i++)
            in_use = in_use || (u->paths[i] != NULL && u->paths[i]->sock == s &&
                                &u->paths[i]->base == u->used);
        if (in_use || u->sockets[s] == NULL)
            continue;
        for (int i = 0; i < PATHS_MAX; i++)
            if (u->paths[i] != NULL && u->paths[i]->sock == s)
                retire(u, i);
        udp_close(u->sockets[s]);
        u->sockets[s] = NULL;
        punch_remove_socket(u->punch, s);
    }
}

/* No round: its state is given back, but where a packet of it is looked at just now. */
static void rest(struct udp_punch *u)
{
    STATE_GO(stage_next, u->stage, RESTING);
    timer_stop(&u->timer);
    sockets_close(u);
    if (!u->busy) {
        free(u->punch);
        u->punch = NULL;
    }
}

static int sockets_open(struct udp_punch *u)
{
    struct net *net = approach_config_of(u->approach)->net;
    for (unsigned i = 0; i < REFLEXIVE_SOCKETS; i++) {
        struct addr any = {.family = i == 0 ? ADDR_V4 : ADDR_V6};
        if (u->sockets[i] == NULL && udp_open(&u->sockets[i], net->loop, &any,
                                              net->scratch, &udp_events, u) != 0)
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
        punch_allow_loopback(u->punch);
    if (u->peer != PEER_UNKNOWN)
        peer_offer_add(&u->told, u->approach, u->punch);
}

static void checks_init(struct udp_punch *u)
{
    struct punch_config pc = {.controlling = approach_config_of(u->approach)->client,
                              .allow_loopback = loopback_peer(u),
                              .rtt_hint_us = approach_rtt_hint_us(u->approach),
                              .generation = u->generation + 1,
                              .peer_generation =
                                  u->peer != PEER_UNKNOWN ? u->told.generation : 0};
    memcpy(pc.key, approach_check_key(u->approach), PUNCH_KEY_LEN);
    randombytes_buf(&pc.seed, sizeof(pc.seed));
    punch_init(u->punch, &pc);
}

static void start(void *k)
{
    struct udp_punch *u = k;
    uint64_t now = clock_us();
    bool may = u->stage != RESTING || target_may_begin(u->approach);
    if (u->punch == NULL && may)
        u->punch = malloc(sizeof(*u->punch));
    if (u->punch == NULL || sockets_open(u) != 0) {
        approach_failed(u->approach, PATH_UDP_PUNCH,
                        !may               ? TARGET_ROUNDS_WORDS
                        : u->punch == NULL ? "out of memory"
                                           : "no UDP socket could be opened here");
        return;
    }
    if (u->stage == RESTING)
        checks_init(u);
    else
        punch_restart(u->punch, now);
    STATE_GO(stage_next, u->stage, CHECKING);
    if (u->peer == PEER_KNOWN && u->generation != 0)
        u->peer = PEER_OLD;
    predict_end(u); /* of a round that this one cuts short */
    drop_adopted(u);
    u->prediction = PREDICT_OPEN;
    u->presume_ms = 0;
    u->wait_ms = 0;
    u->predicted = 0;
    if (u->low != LOW_FAILED)
        u->low = LOW_UNKNOWN;
    u->generation = punch_generation(u->punch);
    for (unsigned i = 0; i < REFLEXIVE_SOCKETS; i++)
        if (u->sockets[i] != NULL)
            punch_add_socket(u->punch, i, i == 0 ? ADDR_V4 : ADDR_V6);
    add_peer_candidates(u);
    bindings_begin(u);
    punch_start(u->punch, now);
    approach_started(u->approach, PATH_UDP_PUNCH);
    approach_offer_soon(u->approach);
    pump(u);
}

static void stop(void *k)
{
    struct udp_punch *u = k;
    rest(u);
}

/* What the checks have come to, and what was done beside them. */
static void failed_words(struct udp_punch *u, char *buf, size_t cap)
{
    char predicted[80] = "";
    if (u->predicted > 0)
        (void)snprintf(predicted, sizeof(predicted),
                       "; nor to %u packets at ports that its NAT may give",
                       u->predicted);
    (void)snprintf(buf, cap, "%s%s%s%s", punch_reason(u->punch), predicted,
                   u->predict_why[0] != '\0' ? "; prediction: " : "", u->predict_why);
}

/* Its sweep is not over, as on a machine that does much else. */
static bool predicts(const struct udp_punch *u)
{
    return u->predict != NULL && !predict_is_over(u->predict);
}

/* What a round before this one proved goes with its sockets: nothing hears it. */
static void lose_paths(struct udp_punch *u, const char *reason)
{
    for (int i = 0; i < PATHS_MAX; i++)
        if (u->paths[i] != NULL)
            approach_lost(u->approach, &u->paths[i]->base, reason);
}

/* Tells what the checks have come to. */
static void report(struct udp_punch *u)
{
    const struct punch_pair *best = punch_best(u->punch);
    if (best != NULL) {
        struct udp_path *p = find_path(u, best->sock, &best->remote);
        if (p == NULL)
            p = make_path(u, best->sock, &best->remote, 0);
        if (p == NULL)
            return;
        if (u->stage != TOLD || p->base.rtt_us != best->rtt_us) {
            p->base.rtt_us = best->rtt_us;
            STATE_GO(stage_next, u->stage, TOLD);
            approach_proven(u->approach, &p->base);
        }
        return;
    }
    if (punch_state(u->punch) == PUNCH_FAILED && u->stage != TOLD && !predicts(u)) {
        STATE_GO(stage_next, u->stage, TOLD);
        if (u->prediction == PREDICT_LOW &&
            !predict_is_symmetric((enum nat_mapping)u->told.mapping))
            u->low = LOW_FAILED;
        else if (u->low == LOW_FAILED)
            u->low = LOW_UNKNOWN;
        char reason[PUNCH_REASON_LEN + sizeof(u->predict_why) + 96];
        update_hint(u);
        failed_words(u, reason, sizeof(reason));
        predict_end(u);
        bool in_use = false;
        for (int i = 0; i < PATHS_MAX; i++)
            in_use = in_use || (u->paths[i] != NULL && &u->paths[i]->base == u->used);
        if (!in_use) {
            lose_paths(u, reason);
            rest(u);
        }
        if (u->wait_ms != 0)
            approach_busy(u->approach, PATH_UDP_PUNCH, reason, u->wait_ms);
        else
            approach_failed(u->approach, PATH_UDP_PUNCH, reason);
    }
}

static void send_one(struct udp_punch *u, const struct punch_packet *pkt)
{
    if (u->sockets[pkt->sock] == NULL)
        return;
    enum fate fate =
        target_may_open(u->approach, false, u->locals[pkt->sock].port, &pkt->to, 1);
    if (fate == FATE_LEFT)
        fate = fate_of(
            udp_send(u->sockets[pkt->sock], &pkt->to, pkt->buf, pkt->len, pkt->len));
    punch_on_sent(u->punch, pkt, fate);
}

/* Prediction would begin, but for the broker's answer. */
static bool awaits_grant(const struct udp_punch *u)
{
    struct opener o = target_opener(u->approach);
    return u->stage == CHECKING && u->prediction == PREDICT_OPEN &&
           net_sessions_wait(&o);
}

/* So that the peer opens nothing that we do not look for, and has it for others. */
static void tell_spent(struct udp_punch *u)
{
    bool unable = u->wait_ms != 0 || target_is_brief(u->approach);
    bool spent = u->predict == NULL && unable;
    if (spent != u->spent)
        approach_offer_soon(u->approach);
    u->spent = spent;
}

/* Sends what is due, reports, and sets the next wake-up. */
static void pump(struct udp_punch *u)
{
    struct punch_packet pkt;
    if (u->stage == RESTING || u->freed)
        return;
    look_at_sample(u);
    reflexive_send(&u->reflexive, u->approach, u->sockets, now_ms(u));
    while (punch_next_packet(u->punch, clock_us(), &pkt))
        send_one(u, &pkt);
    report(u);
    if (u->stage == RESTING || u->freed)
        return;
    predict(u);
    tell_spent(u);
    uint64_t now_us = clock_us(), at_us = punch_deadline_us(u->punch);
    uint64_t now = now_ms(u), at = reflexive_deadline_ms(&u->reflexive);
    if (at_us != UINT64_MAX) {
        uint64_t ms = now + (at_us > now_us ? (at_us - now_us + 999) / 1000 : 0);
        at = ms < at ? ms : at;
    }
    if (u->stage == CHECKING && predicts(u) && at > now + PREDICTION_LOOK_MS)
        at = now + PREDICTION_LOOK_MS;
    if (awaits_grant(u) && at > now + GRANT_LOOK_MS)
        at = now + GRANT_LOOK_MS;
    if (at == UINT64_MAX)
        timer_stop(&u->timer);
    else
        timer_start(&u->timer, at > now ? at - now : 1);
}

static void on_timer(void *ctx)
{
    pump(ctx);
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
    for (int i = 0; i < PATHS_MAX; i++) {
        free(u->paths[i]);
        u->paths[i] = NULL;
    }
    predict_end(u);
    for (int i = 0; i < SOCKETS_MAX; i++)
        udp_close(u->sockets[i]);
    timer_stop(&u->timer);
    u->stage = RESTING;
    u->freed = true;
    if (!u->busy)
        dispose(u);
}

static void fill_offer(void *k, Offer *o)
{
    struct udp_punch *u = k;
    struct addr own[10];
    if (u->stage == RESTING)
        return;
    o->generation = punch_generation(u->punch);
    o->mapping = own_mapping(u);
    o->low_ports = may_use_low_ports(u);
    o->doubtful = own_doubtful(u);
    o->spent = u->spent;
    size_t n = netmon_candidates(own, 10, loopback_peer(u));
    for (size_t i = 0; i < n; i++) {
        unsigned sock = own[i].family == ADDR_V6 ? 1 : 0;
        own[i].port = u->locals[sock].port;
        if (u->sockets[sock] != NULL)
            offer_add(o, CAND_HOST, &own[i]);
    }
    for (unsigned i = 0; i < u->reflexive.count; i++) {
        const struct binding *b = &u->reflexive.bindings[i];
        bool sample = b->sock == REFLEXIVE_SAMPLE;
        if (b->done && !offer_has(o, &b->mapped))
            offer_add(o, sample ? CAND_SAMPLE : CAND_REFLEXIVE, &b->mapped);
    }
    o->complete = !reflexive_waits(&u->reflexive);
}

/* While a round runs. */
static void hear(struct udp_punch *u, bool renewed)
{
    if (punch_on_peer_generation(u->punch, u->told.generation, clock_us()) && renewed) {
        if (u->stage == TOLD)
            STATE_GO(stage_next, u->stage, CHECKING);
        u->prediction = PREDICT_OPEN;
        u->presume_ms = 0;
        predict_end(u); /* it aims at ports that the peer has left */
        drop_adopted(u);
        /* The NAT may have changed with the network, but not where the peer answers
         * the round that we have just begun. */
        if (now_ms(u) - u->bindings_ms > BINDINGS_FRESH_MS || u->reflexive.count == 0)
            bindings_begin(u);
        approach_offer_soon(u->approach);
    }
    add_peer_candidates(u);
    update_hint(u);
    pump(u);
}

static void on_offer(void *k, const Offer *o, bool renewed)
{
    struct udp_punch *u = k;
    peer_offer_keep(&u->told, o);
    u->peer = PEER_KNOWN;
    if (u->stage != RESTING) {
        hear(u, renewed);
    } else if (renewed) {
        start(u); /* the peer begins a new round: so do we */
        u->peer = PEER_KNOWN;
    }
}

/*
 * A round that began before the broker was reached knows no STUN server yet. Another
 * begins where there is a new connection to it and no session that could tell: what
 * broke the one before (a NAT that forgot) gave our sockets other ports too, and what
 * the peer said meanwhile was lost with it.
 */
static void on_uplink(void *k, bool up)
{
    struct udp_punch *u = k;
    bool asked = u->reflexive.count > 0;
    if (!up || u->stage == RESTING || (asked && approach_is_established(u->approach)))
        return;
    if (asked) {
        start(u);
        return;
    }
    bindings_begin(u);
    approach_offer_soon(u->approach); /* loopback is an address worth telling now */
    pump(u);
}

/* Prediction waited for it. */
static void on_established(void *k)
{
    struct udp_punch *u = k;
    if (u->stage != RESTING)
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
    for (int i = 0; i < PATHS_MAX; i++) {
        if (u->paths[i] == NULL || &u->paths[i]->base != p)
            continue;
        if (u->stage != RESTING)
            punch_on_dead(u->punch,
                          punch_find_pair(u->punch, u->paths[i]->sock, &p->remote));
        retire(u, i);
    }
    if (u->stage == TOLD)
        STATE_GO(stage_next, u->stage, CHECKING); /* another pair may be proven */
    pump(u);
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
