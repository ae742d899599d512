/*
 * Meetings by TCP: one local port, told as the outside sees it, and connections from
 * and to it. When what is done stands in core/meeting; which side opens, and how, in
 * the plan. Here are the sockets: attempts, the temporary port, the sweep, the arranged
 * connection, and what a host asks for before its port is told (a filter, a mapping).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/budget.h"
#include "core/predict.h"
#include "core/wire.h"
#include "io/acceptor.h"
#include "io/clock.h"
#include "io/helper.h"
#include "io/linger.h"
#include "io/log.h"
#include "io/portmap.h"
#include "io/sock.h"
#include "io/tcp.h"
#include "path/attempt.h"
#include "path/framed.h"
#include "path/knock.h"
#include "path/meet.h"
#include "path/tcp_port.h"
#include "path/tcp_waves.h"

enum {
    PLAIN_MAX = 16,  /* attempts under way, beside a sweep's */
    SWEEP_PORTS = 2, /* of ours, where both sides' NATs are symmetric */
    SWEEP_MAX = SWEEP_PORTS * PREDICT_LOW_COUNT,
    PATHS_MAX = 3,
    RETRY_MS = 60,       /* after a refusal: the other side was not ready yet */
    SYN_AGAIN_MS = 1000, /* the kernel repeats a SYN */
    ANSWERS_MAX = 6,
    ARRANGED_HOPS = 2,
    ARRANGED_PACKETS = 2, /* its SYN, and the RST when it is given up */
    STEP_SEQUENCE = 1 << 20,
    SWEEP_TICK_MS = 5,
};
_Static_assert((int)TCP_PORT_CANDIDATES_MAX <= (int)KNOCK_ADDRESSES_MAX &&
                   (int)TCP_PORT_CANDIDATES_MAX <= (int)MEET_ADDRESSES_MAX,
               "all of the port's addresses have room");

struct slot {
    struct attempt *attempt;
    bool told; /* the peer believes in options that it was told of */
};

struct tcp_meet {
    struct meet base; /* first */
    struct tcp_port *port;
    bool low_tried, low; /* the port is to be one that can be predicted; it is */
    struct meeting_step step;
    struct timer again;   /* within a step: what was refused, or is answered unseen */
    uint16_t second_port; /* that is swept from too, or 0 */
    unsigned opened[SWEEP_PORTS]; /* ports that were swept from each: sessions */
    unsigned at[SWEEP_PORTS];     /* the next of them, in this step */
    unsigned sweep_ports;         /* that are swept from in this step */
    struct tcp_waves *waves;      /* NULL: nothing was swept */
    struct timer sweeping;
    struct slot *slots; /* PLAIN_MAX, and SWEEP_MAX more where it sweeps */
    size_t slot_count;
    struct acceptor *listeners[MEET_FAMILIES];
    struct framed *paths[PATHS_MAX];
    struct privilege_request *arranged; /* to each peer; NULL: not in such a step */
    unsigned arranged_count, answers;
    bool called, knocked; /* in this step */
    bool strips; /* something on the way takes options out of SYNs: never arranged again
                  */
    uint32_t knock; /* the helper's number of it, or 0 */
    uint16_t knock_port;
    struct portmap *portmap;
    struct addr mapped;
};

static struct tcp_meet *of(struct meet *m)
{
    return (struct tcp_meet *)m;
}

/* -------------------------------------------------------------------- what is open */

static void attempts_drop(struct tcp_meet *t, bool also_connected)
{
    for (size_t i = 0; i < t->slot_count; i++) {
        struct attempt **a = &t->slots[i].attempt;
        if (*a == NULL || (!also_connected && attempt_is_connected(*a)))
            continue;
        attempt_free(*a);
        *a = NULL;
    }
}

/* One to `remote`; NULL: any. */
static bool is_under_way(const struct tcp_meet *t, const struct addr *remote)
{
    for (size_t i = 0; i < t->slot_count; i++)
        if (t->slots[i].attempt != NULL &&
            (remote == NULL || addr_equal(attempt_remote(t->slots[i].attempt), remote)))
            return true;
    return false;
}

static void listeners_close(struct tcp_meet *t)
{
    for (int i = 0; i < MEET_FAMILIES; i++) {
        acceptor_close(t->listeners[i]);
        t->listeners[i] = NULL;
    }
}

static bool has_path(const struct meet *m)
{
    const struct tcp_meet *t = (const struct tcp_meet *)m;
    for (int i = 0; i < PATHS_MAX; i++)
        if (t->paths[i] != NULL)
            return true;
    return false;
}

/* The filter and the mapping, which paths need too. */
static void give_back(struct tcp_meet *t)
{
    portmap_close(t->portmap);
    t->portmap = NULL;
    t->mapped = (struct addr){0};
    knock_end(&t->knock, t->base.meeting.kind);
    t->knock_port = 0;
}

static void end(struct meet *m)
{
    struct tcp_meet *t = of(m);
    timer_stop(&t->again);
    timer_stop(&t->sweeping);
    tcp_waves_close(t->waves);
    t->waves = NULL;
    attempts_drop(t, true);
    free(t->slots);
    free(t->arranged);
    t->slots = NULL;
    t->slot_count = 0;
    t->arranged = NULL;
    t->arranged_count = 0;
    listeners_close(t);
    tcp_port_close(t->port);
    t->port = NULL;
    memset(t->opened, 0, sizeof(t->opened));
    t->second_port = 0;
    if (!has_path(m))
        give_back(t);
}

static void path_drop(struct tcp_meet *t, int i, const char *why)
{
    struct framed *f = t->paths[i];
    t->paths[i] = NULL;
    if (why != NULL)
        approach_lost(t->base.approach, framed_path(f), why);
    approach_path_retire(t->base.approach, framed_path(f));
    framed_free(f);
    if (!has_path(&t->base) && meeting_rests(&t->base.meeting))
        give_back(t);
}

static void drop(struct meet *m, const struct path *p)
{
    struct tcp_meet *t = of(m);
    for (int i = 0; i < PATHS_MAX; i++)
        if (t->paths[i] != NULL && (p == NULL || framed_path(t->paths[i]) == p))
            path_drop(t, i, NULL);
}

static void last(struct meet *m)
{
    struct tcp_meet *t = of(m);
    timer_stop(&t->again);
    timer_stop(&t->sweeping);
    attempts_drop(t, false);
    listeners_close(t);
    if (!is_under_way(t, NULL))
        meeting_over(&m->meeting);
}

/* ------------------------------------------------------------------------ success */

static void on_broke(void *ctx, struct framed *f, const char *why)
{
    struct tcp_meet *t = ctx;
    meet_hold(&t->base);
    for (int i = 0; i < PATHS_MAX; i++)
        if (t->paths[i] == f)
            path_drop(t, i, why);
    meet_release(&t->base);
}

/*
 * A peer whose address went away says no goodbye: its old connections stand here until
 * the kernel misses it, and none of them may keep out the one by which it is back.
 */
static int path_slot(struct tcp_meet *t)
{
    int oldest = 0;
    for (int i = 0; i < PATHS_MAX; i++) {
        if (t->paths[i] == NULL)
            return i;
        if (framed_path(t->paths[i])->id < framed_path(t->paths[oldest])->id)
            oldest = i;
    }
    path_drop(t, oldest, "a newer one takes its place");
    return oldest;
}

static void add_path(struct tcp_meet *t, int fd)
{
    struct meet *m = &t->base;
    struct addr from;
    if (sock_remote(fd, &from) == 0)
        target_answered(m->approach, &from);
    int slot = path_slot(t);
    struct framed *f = NULL;
    if (m->freed || framed_new(&f, meet_config(m)->net, fd, m->meeting.kind,
                               approach_next_path_id(m->approach), on_broke, t) != 0) {
        close(fd);
        return;
    }
    t->paths[slot] = f;
    meeting_on_path(&m->meeting);
    approach_path_new(m->approach, framed_path(f));
    if (!m->freed)
        approach_proven(m->approach, framed_path(f));
}

/* ------------------------------------------------------------------------ attempts */

/* Whose machine stands at that address is not sure. */
static bool is_near(const struct addr *a)
{
    return addr_scope_of(a) != ADDR_SCOPE_GLOBAL;
}

static struct greeting_terms terms_of(const struct tcp_meet *t)
{
    struct greeting_terms terms = {.client = meet_config(&t->base)->client,
                                   .kind = t->base.meeting.kind};
    memcpy(terms.key, approach_check_key(t->base.approach), sizeof(terms.key));
    return terms;
}

static bool make_room(struct tcp_meet *t, size_t count)
{
    if (t->slot_count >= count)
        return true;
    struct slot *more = realloc(t->slots, count * sizeof(*more));
    if (more == NULL)
        return false;
    memset(more + t->slot_count, 0, (count - t->slot_count) * sizeof(*more));
    t->slots = more;
    t->slot_count = count;
    return true;
}

static struct attempt **free_slot(struct tcp_meet *t, bool told)
{
    for (size_t i = 0; i < t->slot_count && i < PLAIN_MAX; i++) {
        if (t->slots[i].attempt != NULL)
            continue;
        t->slots[i].told = told;
        return &t->slots[i].attempt;
    }
    return NULL;
}

/* What a connection has of options must be what the peer's socket was given: something
 * on the way may take some out of a SYN-ACK. */
static bool has_told_options(struct tcp_meet *t, int fd)
{
    uint32_t told = tcp_port_ways(t->port) & t->base.meeting.peer.ways & TCP_WAYS_FLAGS;
    uint32_t has = tcp_ways_of(fd) & TCP_WAYS_FLAGS;
    if (has != told)
        log_debug("arranged: SYNs lose options on the way: %#x of %#x", has, told);
    t->strips = t->strips || has != told;
    return has == told;
}

/* Takes it out of its slot; true when its peer was told options. */
static bool forget_attempt(struct tcp_meet *t, const struct attempt *a)
{
    size_t i = 0;
    while (i < t->slot_count && t->slots[i].attempt != a)
        i++;
    if (i == t->slot_count)
        return false;
    t->slots[i].attempt = NULL;
    return t->slots[i].told;
}

static bool in_arranged_step(const struct tcp_meet *t)
{
    return t->step.move == MEETING_ANSWER || t->step.move == MEETING_CALL;
}

static void on_attempt(void *ctx, struct attempt *a, int err, int fd)
{
    struct tcp_meet *t = ctx;
    struct meet *m = &t->base;
    meet_enter(m);
    bool told = forget_attempt(t, a);
    if (err == POSTERN_ERR_REFUSED)
        meeting_on_rejected(&m->meeting);
    if (err == 0 && told && !has_told_options(t, fd)) {
        close(fd);
        err = POSTERN_ERR_CLOSED;
    }
    if (err == 0)
        add_path(t, fd);
    else if (err == POSTERN_ERR_DENIED && m->meeting.plan->listens &&
             meeting_opens(&m->meeting))
        meeting_fail(
            &m->meeting,
            "the first message on the temporary port was wrong: it was closed");
    else if (m->meeting.phase == MEETING_MEETING && !in_arranged_step(t))
        timer_start(&t->again, RETRY_MS);
    else if (!is_under_way(t, NULL))
        meeting_over(&m->meeting);
    meet_leave(m);
}

/* The kernel repeats a SYN after a second. */
static unsigned syn_cost(const struct tcp_meet *t)
{
    return t->base.meeting.step_ms < SYN_AGAIN_MS ? 1 : 2;
}

/* A socket whose SYN will carry that number, or an error. */
static int sequenced_socket(const struct addr *local, uint32_t sequence)
{
    struct privilege_request q = {
        .op = PRIVILEGE_SEQUENCED, .local = *local, .sequence = sequence};
    struct privilege_reply r;
    int fd = -1;
    int rc = helper_ask(&q, &r, &fd);
    if (rc != 0)
        log_debug("a SYN of our own number: %s", r.reason);
    return rc == 0 ? fd : rc;
}

/*
 * Each step has its number: NATs that saw an arranged SYN take an ordinary one after it
 * for a new connection only when its number is higher (RFC 9293 section 3.4.2).
 */
static uint32_t step_sequence(const struct tcp_meet *t, uint32_t first)
{
    return first + t->step.number * STEP_SEQUENCE;
}

/* From the port that was told, or one of its own with the number that was asked for. */
static int connect_one(struct tcp_meet *t, struct attempt **slot, const struct addr *to,
                       unsigned hops)
{
    struct meet *m = &t->base;
    struct greeting_terms terms = terms_of(t);
    struct net *net = meet_config(m)->net;
    struct addr local;
    const struct meeting_plan *plan = m->meeting.plan;
    terms.near = is_near(to);
    terms.both_call = terms.near && !plan->listens && !plan->knocks;
    if (!tcp_port_local(t->port, (enum addr_family)to->family, &local))
        return POSTERN_ERR_UNREACHABLE;
    if (t->knock_port != 0)
        local.port = t->knock_port;
    bool knocks = plan->knocks && m->meeting.client;
    if (!knocks && (terms.near || !meeting_arranges(&m->meeting)))
        return attempt_connect(slot, net, &local, to, terms.both_call ? 0 : hops,
                               &terms, on_attempt, t);
    if (knocks)
        local.port = 0;
    int fd =
        sequenced_socket(&local, knocks ? m->meeting.peer.sequence
                                        : step_sequence(t, m->meeting.own.sequence));
    if (fd < 0)
        return fd;
    int rc = attempt_connect_on(slot, net, fd, to, hops, &terms, on_attempt, t);
    if (rc != 0)
        close(fd);
    return rc;
}

/* From which it is tried; 0: from one of its own. */
static uint16_t port_towards(const struct tcp_meet *t, const struct addr *to)
{
    const struct meeting *m = &t->base.meeting;
    struct addr local = {0};
    if (t->knock_port == 0 && m->plan->knocks && m->client)
        return 0;
    if (!tcp_port_local(t->port, (enum addr_family)to->family, &local))
        return 0;
    return t->knock_port != 0 ? t->knock_port : local.port;
}

/* `told`: in an arranged step the peer's socket has our options from what we told. */
static void connect_to(struct tcp_meet *t, size_t i, unsigned hops, bool told)
{
    struct meeting *meeting = &t->base.meeting;
    const struct addr *to = &meeting->peers[i];
    struct attempt **slot = free_slot(t, told);
    if (slot == NULL || is_under_way(t, to) || !meeting_try(meeting, i))
        return;
    enum fate fate =
        target_may_open(t->base.approach, true, port_towards(t, to), to, syn_cost(t));
    if (fate != FATE_LEFT) {
        meeting_sent(meeting, i, fate);
        return;
    }
    int rc = connect_one(t, slot, to, hops);
    if (rc != 0)
        *slot = NULL;
    meeting_sent(meeting, i, fate_of(rc));
}

static void connect_all(struct tcp_meet *t, unsigned hops)
{
    bool told = t->step.move == MEETING_CALL;
    for (size_t i = 0; i < t->base.meeting.peer_count; i++)
        if (!told || !is_near(&t->base.meeting.peers[i]))
            connect_to(t, i, hops, told);
}

/* No NAT is on the way to what is near: nothing is to be arranged with it, and nothing
 * to be waited for. */
static void connect_near(struct tcp_meet *t)
{
    for (size_t i = 0; i < t->base.meeting.peer_count; i++)
        if (is_near(&t->base.meeting.peers[i]))
            connect_to(t, i, 0, false);
}

/* ---------------------------------------------------- the sweep of a symmetric NAT */

/* Where UDP's, that goes first, is not under way: among its waves there is no room. */
static bool find_swept(struct tcp_meet *t, struct addr *to)
{
    const struct meeting *meeting = &t->base.meeting;
    for (size_t i = 0; i < meeting->peer_count; i++) {
        if (meeting->peers[i].family != ADDR_V4) /* the first is the reflexive one */
            continue;
        *to = meeting->peers[i];
        return meet_config(&t->base)->net->predictions == 0 &&
               target_is_time_to_sweep(t->base.approach) &&
               target_may_be_swept(t->base.approach, to);
    }
    return false;
}

/* Of the port that is swept from; the peer need not know the second: it tries all. */
static bool swept_from(struct tcp_meet *t, unsigned which, struct addr *local)
{
    if (!tcp_port_local(t->port, ADDR_V4, local))
        return false;
    if (which > 0 && t->second_port == 0)
        t->second_port = tcp_port_find_low();
    if (which > 0)
        local->port = t->second_port;
    return local->port != 0;
}

/* Towards every port that the peer's NAT may have drawn from its low ones, as far as
 * may go now. A later step sweeps from the same port: those sessions stand. */
static void sweep_from(struct tcp_meet *t, unsigned which, struct addr to)
{
    struct greeting_terms terms = terms_of(t);
    struct addr local;
    terms.counted = true; /* tcp_waves_opened */
    if (!swept_from(t, which, &local))
        return;
    for (; t->at[which] < PREDICT_LOW_COUNT; t->at[which]++) {
        unsigned i = t->at[which];
        bool is_new = i >= t->opened[which];
        struct attempt **slot =
            &t->slots[PLAIN_MAX + which * PREDICT_LOW_COUNT + i].attempt;
        to.port = (uint16_t)(PREDICT_LOW_FIRST + i);
        if (*slot != NULL || (which == 0 && is_under_way(t, &to)))
            continue;
        if (is_new && !tcp_waves_may_open(t->waves, PREDICT_LOW_COUNT - i))
            return;
        if (!target_may_sweep(t->base.approach, &to, syn_cost(t)))
            continue;
        if (is_new) {
            tcp_waves_opened(t->waves);
            t->opened[which] = i + 1;
        }
        if (attempt_connect(slot, meet_config(&t->base)->net, &local, &to, t->step.hops,
                            &terms, on_attempt, t) == 0)
            t->base.meeting.swept++;
        else
            *slot = NULL;
    }
}

static void on_sweep(void *ctx)
{
    struct tcp_meet *t = ctx;
    struct addr to;
    if (t->base.meeting.phase != MEETING_MEETING || t->sweep_ports == 0)
        return;
    timer_start(&t->sweeping, SWEEP_TICK_MS);
    if (!find_swept(t, &to))
        return;
    if (t->waves == NULL)
        t->waves = tcp_waves_open(t->base.approach);
    if (t->waves == NULL || !make_room(t, PLAIN_MAX + SWEEP_MAX))
        return;
    tcp_waves_ask(t->waves);
    if (tcp_waves_is_full(t->waves))
        return;
    for (unsigned i = 0; i < t->sweep_ports; i++)
        sweep_from(t, i, to);
}

/* From so many ports of ours, until the step ends. */
static void sweep(struct tcp_meet *t, unsigned ports)
{
    memset(t->at, 0, sizeof(t->at));
    t->sweep_ports = target_has_lived(t->base.approach) ? ports : 0;
    on_sweep(t);
}

/* -------------------------------------------------------------- the temporary port */

static bool is_expected(const struct meeting *meeting, const struct addr *from)
{
    for (size_t i = 0; i < meeting->peer_count; i++)
        if (addr_ip_equal(&meeting->peers[i], from))
            return true;
    return false;
}

/* It is for addresses that the peer named, and closed by the first other one. */
static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct tcp_meet *t = ctx;
    struct meet *m = &t->base;
    struct greeting_terms terms = terms_of(t);
    struct attempt **slot = free_slot(t, false);
    if (!is_expected(&m->meeting, from)) {
        linger_break(fd);
        if (m->meeting.plan->lasts)
            return;
        meeting_on_stranger(&m->meeting, from);
        listeners_close(t);
        return;
    }
    if (slot == NULL ||
        attempt_accepted(slot, meet_config(m)->net, fd, &terms, on_attempt, t) != 0) {
        if (slot != NULL)
            *slot = NULL;
        linger_break(fd);
    }
}

static void listen_on(struct tcp_meet *t)
{
    static const enum addr_family family_of[MEET_FAMILIES] = {ADDR_V4, ADDR_V6};
    const char *name = path_kind_name(t->base.meeting.kind);
    for (int i = 0; i < MEET_FAMILIES; i++) {
        struct addr local;
        if (!tcp_port_local(t->port, family_of[i], &local))
            continue;
        struct acceptor_config c = {.loop = meet_config(&t->base)->net->loop,
                                    .fd = tcp_bind(&local),
                                    .who = name,
                                    .on_connection = on_connection,
                                    .ctx = t};
        bool listens = c.fd >= 0 && tcp_listen(c.fd) == 0;
        if (!listens && c.fd >= 0)
            close(c.fd);
        if (!listens || acceptor_open(&t->listeners[i], &c) != 0)
            log_debug("%s: cannot listen", name);
    }
}

/* ---------------------------------------------- arranged: SYN, unseen SYN-ACK, ACK */

/* Our address on the way to `to`, with the port that was told. */
static bool local_towards(const struct tcp_meet *t, const struct addr *to,
                          struct addr *local)
{
    struct addr bound;
    if (!tcp_port_local(t->port, (enum addr_family)to->family, &bound) ||
        sock_source_for(to, local) != 0)
        return false;
    local->port = bound.port;
    return true;
}

/*
 * Each side told the other its first sequence number beforehand
 * (firewalled-pair-central-station, figures 5 and 6). Our SYN dies on the way and opens
 * our NAT; the other's SYN is swallowed by that NAT, where inbound SYNs are; we answer
 * it all the same, again and again for a while.
 */
static void arrange_one(struct tcp_meet *t, size_t i)
{
    struct meeting *meeting = &t->base.meeting;
    struct greeting_terms terms = terms_of(t);
    struct attempt **slot = free_slot(t, false);
    struct privilege_reply r;
    int fd = -1;
    struct privilege_request q = {.op = PRIVILEGE_ARRANGE,
                                  .remote = meeting->peers[i],
                                  .sequence = step_sequence(t, meeting->own.sequence),
                                  .peer_sequence =
                                      step_sequence(t, meeting->peer.sequence),
                                  .ways = tcp_port_ways(t->port),
                                  .peer_ways = meeting->peer.ways,
                                  .hops = ARRANGED_HOPS};
    if (slot == NULL || is_near(&meeting->peers[i]) ||
        !local_towards(t, &meeting->peers[i], &q.local) || !meeting_try(meeting, i) ||
        target_may_open(t->base.approach, true, q.local.port, &meeting->peers[i],
                        ARRANGED_PACKETS) != FATE_LEFT)
        return;
    if (helper_ask(&q, &r, &fd) != 0) {
        log_debug("arranged: %s", r.reason);
        return;
    }
    if (attempt_awaited(slot, meet_config(&t->base)->net, fd, &terms, on_attempt, t) !=
        0) {
        close(fd);
        *slot = NULL;
        return;
    }
    q.op = PRIVILEGE_ARRANGE_ANSWER;
    t->arranged[t->arranged_count++] = q;
}

static void arrange(struct tcp_meet *t)
{
    t->arranged_count = t->answers = 0;
    if (t->arranged == NULL)
        t->arranged = calloc(MEETING_PEERS_MAX, sizeof(*t->arranged));
    for (size_t i = 0; t->arranged != NULL && i < t->base.meeting.peer_count; i++)
        arrange_one(t, i);
}

/* Sends the SYN-ACKs again, often enough. */
static void answer_unseen(struct tcp_meet *t)
{
    struct privilege_reply r;
    for (unsigned i = 0; i < t->arranged_count; i++)
        if (target_may_send(t->base.approach, &t->arranged[i].remote, 1) &&
            helper_ask(&t->arranged[i], &r, NULL) != 0)
            log_debug("arranged: %s", r.reason);
    if (++t->answers < ANSWERS_MAX && t->arranged_count > 0)
        timer_start(&t->again, t->step.answer_ms);
}

/* --------------------------------------------------------------------------- steps */

static void on_again(void *ctx)
{
    struct tcp_meet *t = ctx;
    if (t->base.meeting.phase != MEETING_MEETING)
        return;
    switch (t->step.move) {
    case MEETING_ANSWER:
        answer_unseen(t);
        break;
    case MEETING_CALL:
        if (!t->called)
            connect_all(t, 0);
        t->called = true;
        break;
    case MEETING_OPEN:
    case MEETING_CONNECT:
        if (t->step.move == MEETING_CONNECT || !t->base.meeting.plan->lasts)
            connect_all(t, t->step.hops);
        break;
    case MEETING_AWAIT:
        if (t->knocked)
            connect_all(t, 0);
        break;
    default:
        break;
    }
}

static void step(struct meet *m, struct meeting_step s)
{
    struct tcp_meet *t = of(m);
    attempts_drop(t, false);
    timer_stop(&t->again);
    timer_stop(&t->sweeping);
    t->sweep_ports = 0;
    t->step = s;
    t->called = t->knocked = false;
    switch (s.move) {
    case MEETING_SWEEP:
        sweep(t, SWEEP_PORTS);
        break;
    case MEETING_ANSWER:
    case MEETING_CALL:
        connect_near(t);
        if (t->strips) { /* this side only keeps step */
            t->step.move = MEETING_KEEP_STEP;
            break;
        }
        if (s.move == MEETING_ANSWER)
            arrange(t);
        timer_start(&t->again, s.answer_ms);
        break;
    case MEETING_OPEN:
        if (!m->meeting.plan->lasts)
            connect_all(t, s.hops);
        if (s.sweeps)
            sweep(t, 1);
        if (m->meeting.plan->listens)
            listen_on(t);
        break;
    case MEETING_CONNECT:
        connect_all(t, 0);
        break;
    default: /* a knock comes by itself */
        break;
    }
}

/* ------------------------------------------------------------- before we are told */

static void on_port(void *ctx);

static void gathered(struct tcp_meet *t, bool symmetric, bool low)
{
    struct meet *m = &t->base;
    struct meeting_side own = {
        .symmetric = symmetric, .low = low, .ways = tcp_port_ways(t->port)};
    const struct meeting_plan *plan = m->meeting.plan;
    bool arranges = plan->predicts && !t->strips &&
                    helper_can(PRIVILEGE_CAN_FILTER | PRIVILEGE_CAN_RAW);
    if (arranges || plan->knocks)
        own.sequence = 1 + randombytes_uniform(UINT32_MAX - 1);
    meeting_gathered(&m->meeting, &own);
}

static void on_port(void *ctx)
{
    struct tcp_meet *t = ctx;
    struct meet *m = &t->base;
    meet_enter(m);
    bool symmetric =
        m->meeting.plan->predicts && (t->low_tried || tcp_port_is_changed(t->port));
    if (symmetric && !t->low_tried) {
        struct tcp_port *changed = t->port;
        t->low_tried = true;
        t->low = tcp_port_open(&t->port, m->approach, true, on_port, t) == 0;
        if (t->low) {
            tcp_port_close(changed);
            meet_leave(m);
            return; /* asks again, from a port that can be predicted */
        }
        t->port = changed;
    }
    /* A NAT that does not keep low ports low cannot be foreseen so. */
    gathered(t, symmetric, t->low && tcp_port_is_mapped_low(t->port));
    meet_leave(m);
}

static void gather(struct meet *m)
{
    struct tcp_meet *t = of(m);
    t->low_tried = t->low = false;
    if (m->meeting.plan->knocks && m->meeting.client &&
        !helper_can(PRIVILEGE_CAN_FILTER)) {
        meeting_fail(&m->meeting,
                     target_is_translated(m->approach)
                         ? "the host is behind a NAT, which keeps a knock from it"
                         : helper_missing());
        return;
    }
    if (!make_room(t, PLAIN_MAX) ||
        tcp_port_open(&t->port, m->approach, false, on_port, t) != 0) {
        t->port = NULL;
        meeting_fail(&m->meeting, "out of memory");
    }
}

/*
 * tcp-knock (US20050238034): the host's packet filter waits at a closed port for a SYN
 * from the client's address with the number that the host gave out; it is reported and
 * dropped, and the host connects to where it came from.
 */
static void on_knock(void *ctx, const struct addr *from)
{
    struct tcp_meet *t = ctx;
    char text[ADDR_TEXT_LEN];
    meet_enter(&t->base);
    if (from == NULL) {
        t->knock = 0;
        if (meeting_tells(&t->base.meeting) && !t->knocked)
            meeting_refuse(&t->base.meeting, helper_missing());
        meet_leave(&t->base);
        return;
    }
    log_debug("tcp-knock: seen from %s", addr_format(from, text));
    if (meeting_on_knock(&t->base.meeting, from)) {
        t->knocked = true;
        connect_all(t, 0);
    }
    meet_leave(&t->base);
}

/* A port that nothing here uses: the one of our addresses has a connection. */
static bool free_port(uint16_t *port)
{
    struct addr any = {.family = ADDR_V4}, bound;
    int fd = tcp_bind(&any);
    bool good = fd >= 0 && sock_local(fd, &bound) == 0;
    if (good)
        *port = bound.port;
    if (fd >= 0)
        close(fd);
    return good;
}

static void await_knock(struct tcp_meet *t)
{
    struct meeting *meeting = &t->base.meeting;
    struct tcp_candidate own[TCP_PORT_CANDIDATES_MAX];
    struct knock_terms terms = {.tcp = true};
    char why[MEETING_WORDS_LEN];
    size_t n = tcp_port_candidates(t->port, own);
    for (size_t i = 0; i < n && i < TCP_PORT_CANDIDATES_MAX; i++)
        terms.own[terms.own_count++] = own[i].addr;
    for (size_t i = 0; i < meeting->peer_count; i++)
        terms.peers[terms.peer_count++] = meeting->peers[i];
    give_back(t);
    if (!free_port(&terms.port)) {
        meeting_refuse(meeting, "no port there is free");
        return;
    }
    struct wire_writer w = wire_writer(terms.id, sizeof(terms.id));
    wire_put_u32(&w, meeting->own.sequence); /* its first bytes, as on the wire */
    if (!knock_begin(&terms, &t->knock, why, sizeof(why), on_knock, t)) {
        meeting_refuse(meeting, why);
        return;
    }
    t->knock_port = terms.port;
    meeting_ready(meeting);
}

static void on_mapped(void *ctx, const struct addr *external, const char *words)
{
    struct tcp_meet *t = ctx;
    char text[ADDR_TEXT_LEN];
    char nowhere[MEETING_WORDS_LEN];
    if (t->base.meeting.phase != MEETING_PREPARING)
        return;
    meet_enter(&t->base);
    if (external != NULL &&
        !target_leads_here(t->base.approach, external, nowhere, sizeof(nowhere))) {
        external = NULL;
        words = nowhere;
    }
    if (external == NULL) {
        meeting_refuse(&t->base.meeting, words);
    } else {
        log_debug("mapped-tcp: %s by %s", addr_format(external, text), words);
        t->mapped = *external;
        meeting_ready(&t->base.meeting);
    }
    meet_leave(&t->base);
}

static void ask_router(struct tcp_meet *t)
{
    struct meeting *meeting = &t->base.meeting;
    struct addr local, peer = {0};
    for (size_t i = 0; i < meeting->peer_count && peer.family == ADDR_NONE; i++)
        if (meeting->peers[i].family == ADDR_V4 &&
            addr_scope_of(&meeting->peers[i]) == ADDR_SCOPE_GLOBAL)
            peer = meeting->peers[i];
    if (!tcp_port_local(t->port, ADDR_V4, &local) ||
        portmap_open(&t->portmap, meet_config(&t->base)->net->loop, true, local.port,
                     &peer, on_mapped, t) != 0)
        meeting_refuse(meeting, "no TCP port could be opened there");
}

static void prepare(struct meet *m)
{
    struct tcp_candidate found[TCP_PORT_CANDIDATES_MAX];
    if (tcp_port_candidates(of(m)->port, found) == 0)
        meeting_refuse(&m->meeting, "no address there that TCP could reach");
    else if (m->meeting.plan->knocks && !m->meeting.client)
        await_knock(of(m));
    else if (m->meeting.plan->maps && !m->meeting.client)
        ask_router(of(m));
    else
        meeting_ready(&m->meeting);
}

static size_t addresses(struct meet *m,
                        struct meeting_address out[static MEET_ADDRESSES_MAX])
{
    struct tcp_meet *t = of(m);
    struct tcp_candidate found[TCP_PORT_CANDIDATES_MAX];
    size_t n = tcp_port_candidates(t->port, found);
    if (t->mapped.family != ADDR_NONE) {
        found[0].addr = t->mapped;
        n = 1;
    }
    for (size_t i = 0; i < n && i < TCP_PORT_CANDIDATES_MAX; i++) {
        out[i] = (struct meeting_address){.addr = found[i].addr};
        if (t->knock_port != 0)
            out[i].addr.port = t->knock_port;
    }
    return n;
}

static const struct meet_engine engine = {
    .gather = gather,
    .prepare = prepare,
    .step = step,
    .last = last,
    .end = end,
    .addresses = addresses,
    .has_path = has_path,
    .drop = drop,
};

static void *make(struct approach *a, enum path_kind kind)
{
    struct tcp_meet *t = calloc(1, sizeof(*t));
    if (t != NULL) {
        timer_init(&t->again, approach_config_of(a)->net->loop, on_again, t);
        timer_init(&t->sweeping, approach_config_of(a)->net->loop, on_sweep, t);
    }
    return meet_init(&t->base, a, kind, &engine);
}

const struct kind_ops tcp_meet_engine = MEET_ENGINE(make);
