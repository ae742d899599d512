/* Many mappings and many probes, at a bounded rate. */
#include "path/prediction.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/budget.h"
#include "core/punch.h"
#include "core/waves.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "path/canary.h"
#include "path/net_sessions.h"

enum {
    TICK_MS = 5,
    PER_TICK = PREDICT_RATE * TICK_MS / 1000,
    LATE_TICKS = 8,       /* a tick that was late on a busy machine does as much */
    HOLD_TIMES = 4,       /* how often each mapping is opened or refreshed */
    HOLD_PAUSE_MS = 200,  /* between two times */
    SWEEP_DELAY_MS = 120, /* the mappings come first */
    SWEEP_TIMES = 2,
    DIAL_PATIENCE_MS = 1000, /* a wave waits for what else is being opened */
    LISTEN_MS = 1500,        /* for answers, after the last packet */
    BIND_TRIES = 8,
    SOCKETS_PERCENT = 35, /* of the process's descriptors, its other ones included */
};

struct predict {
    struct net *net;
    struct predict_plan plan;
    struct addr targets[PREDICT_TARGETS_MAX];
    size_t target_count;
    struct udp *sockets[PREDICT_BIRTHDAY_SOCKETS]; /* NULL: released */
    unsigned socket_count;
    unsigned hold_each, sweep_each; /* sessions of each: the first packets open them */
    unsigned held, swept;           /* packets of each that went out */
    uint64_t hold_at_ms, sweep_at_ms, over_at_ms, tick_at_ms, wave_at_ms, seed;
    struct opener opener;
    unsigned reserved; /* sessions that count already and are not open yet */
    struct waves waves;
    struct canary canary;
    unsigned asked;    /* sessions that were open then */
    uint64_t asked_us; /* the last time */
    unsigned sent;
    bool refused;
    struct timer timer;
    const struct predict_events *events;
    void *ctx;
    bool opening, cut, over, busy, stopped;
};

static uint64_t now_ms(const struct predict *p)
{
    loop_refresh(p->net->loop);
    return loop_now_ms(p->net->loop);
}

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct predict *p = ctx;
    size_t n = len < segment_len ? len : segment_len;
    p->busy = true;
    p->events->arrived(p->ctx, s, from, buf, n);
    p->busy = false;
    if (p->stopped)
        free(p);
}

static void on_writable(void *ctx, struct udp *s)
{
    (void)ctx, (void)s;
}

static const struct udp_events udp_events = {on_packets, on_writable};

static struct udp *open_socket(struct net *net, bool low,
                               const struct udp_events *events, void *ctx)
{
    struct udp *u = NULL;
    struct addr any = {.family = ADDR_V4};
    for (int i = 0; i < BIND_TRIES; i++) {
        if (low)
            any.port = (uint16_t)(PREDICT_LOW_BIND_FIRST +
                                  randombytes_uniform(PREDICT_LOW_BIND_COUNT));
        if (udp_open(&u, net->loop, &any, net->scratch, events, ctx) == 0)
            return u;
    }
    return NULL;
}

struct udp *predict_open_sample(struct net *net, const struct udp_events *events,
                                void *ctx)
{
    struct udp *u = open_socket(net, true, events, ctx);
    return u != NULL ? u : open_socket(net, false, events, ctx);
}

/* ---------------------------------------------------------------------------- time */

static unsigned hold_total(const struct predict *p)
{
    return p->hold_each * HOLD_TIMES;
}

static unsigned sweep_total(const struct predict *p)
{
    return p->sweep_each * SWEEP_TIMES;
}

static void count_sessions(struct predict *p)
{
    bool sweeps_all = p->plan.all_sockets; /* its sweep opens the mappings */
    if (p->plan.hold && !sweeps_all)
        p->hold_each = p->socket_count * (unsigned)p->target_count;
    if (p->plan.sweep)
        p->sweep_each = p->plan.probes * (sweeps_all ? p->socket_count : 1);
}

static unsigned unopened(const struct predict *p)
{
    return (p->held < p->hold_each ? p->hold_each - p->held : 0) +
           (p->swept < p->sweep_each ? p->sweep_each - p->swept : 0);
}

/* What is open is refreshed, and no more opened. */
static void open_no_more(struct predict *p)
{
    p->hold_each = p->held < p->hold_each ? p->held : p->hold_each;
    p->sweep_each = p->swept < p->sweep_each ? p->swept : p->sweep_each;
}

/* Nothing more goes out: what has come to be may still be answered. */
static bool is_silenced(const struct predict *p)
{
    return p->refused || p->waves.stage == WAVES_FULL || p->sent >= PREDICT_PACKETS_MAX;
}

/* It leaves the NAT, and what it did not use, to others. */
static void end_opening(struct predict *p)
{
    if (!p->opening)
        return;
    p->opening = false;
    p->net->predictions--;
    net_sessions_return(&p->opener, p->reserved);
    p->reserved = 0;
}

/* Who waits for a connection goes before a wave. */
static bool gives_way(struct predict *p, uint64_t now)
{
    if (p->waves.opened > 0)
        return false;
    if (p->wave_at_ms == 0)
        p->wave_at_ms = now;
    bool waits = !p->events->is_clear(p->ctx) && now - p->wave_at_ms < DIAL_PATIENCE_MS;
    if (!waits)
        p->wave_at_ms = 0;
    return waits;
}

/* One more session of our NAT's is opened now, and counts. */
static bool take_session(struct predict *p, uint64_t now)
{
    if (!waves_may_open(&p->waves) || gives_way(p, now))
        return false;
    if (p->reserved == 0) { /* as many as a wave has, since each time costs */
        unsigned room = waves_room(&p->waves), more = unopened(p);
        p->reserved = net_sessions_take(&p->opener, room < more ? room : more);
    }
    if (p->reserved == 0) {
        open_no_more(p);
        return false;
    }
    p->reserved--;
    waves_opened(&p->waves, now);
    return true;
}

static void send_from(struct predict *p, unsigned i, const struct addr *to,
                      const uint8_t *buf, size_t len)
{
    if (p->sockets[i] != NULL)
        (void)!udp_send(p->sockets[i], to, buf, len, len);
}

/* One packet of the holding; every socket to every target, then again after a pause. */
static void hold_one(struct predict *p)
{
    uint8_t buf[PUNCH_PACKET_MAX];
    unsigned i = p->held % p->hold_each;
    const struct addr *to = &p->targets[i / p->socket_count];
    size_t len = p->events->make(p->ctx, buf);
    if (p->events->may(p->ctx, to))
        send_from(p, i % p->socket_count, to, buf, len);
    else
        p->refused = true;
    p->held++;
    if (p->held % p->hold_each == 0)
        p->hold_at_ms = now_ms(p) + HOLD_PAUSE_MS;
}

static void sweep_one(struct predict *p)
{
    uint8_t buf[PUNCH_PACKET_MAX];
    struct addr to = p->targets[0];
    unsigned froms = p->plan.all_sockets ? p->socket_count : 1;
    unsigned i = p->swept % p->sweep_each; /* the second time costs no session */
    size_t len = p->events->make(p->ctx, buf);
    to.port = predict_port(&p->plan, i / froms, p->seed);
    if (!p->events->may(p->ctx, &to))
        p->refused = true;
    else if (p->plan.all_sockets)
        send_from(p, i % froms, &to, buf, len);
    else
        p->events->send(p->ctx, &to, buf, len);
    p->swept++;
}

/* False when nothing is due, or may go now. */
static bool send_one(struct predict *p, uint64_t now)
{
    bool holds = p->held < hold_total(p) && now >= p->hold_at_ms;
    bool sweeps = p->swept < sweep_total(p) && now >= p->sweep_at_ms;
    if ((!holds && !sweeps) || is_silenced(p) ||
        !budget_pace(&p->net->budget->packets, clock_us()))
        return false;
    bool is_new = holds ? p->held < p->hold_each : p->swept < p->sweep_each;
    if (is_new && !take_session(p, now))
        return false;
    if (holds)
        hold_one(p);
    else
        sweep_one(p);
    p->sent++;
    return true;
}

/* ---------------------------------------------------------------------- the canary */

static void send_canary(struct predict *p)
{
    uint8_t beside[STUN_MESSAGE_MAX];
    if (!p->events->may_ask(p->ctx, &p->canary.server)) {
        waves_spare(&p->waves);
        return;
    }
    if (p->canary.socket == NULL) {
        p->asked = net_sessions_open(&p->opener);
        (void)net_sessions_take(&p->opener, 1); /* its own */
    }
    p->asked_us = clock_us();
    size_t len = canary_send(&p->canary, p->net, beside);
    if (len > 0)
        p->events->send(p->ctx, &p->canary.server, beside, len);
}

/* Neither request was answered: it may be that nothing comes through any more. */
static void look_whether_cut(struct predict *p, uint64_t now)
{
    if (p->net->relay_heard_us > p->asked_us)
        waves_spare(&p->waves);
    unsigned n = waves_cut(&p->waves, now);
    if (n == 0)
        return;
    net_sessions_cut(&p->opener, n);
    p->cut = true;
    log_debug("udp-punch: this network cut us off after %u sessions in a second", n);
}

static void ask_canary(struct predict *p, uint64_t now)
{
    if (unopened(p) == 0)
        waves_end(&p->waves, now);
    if (waves_asks(&p->waves, now))
        send_canary(p);
    if (p->waves.stage == WAVES_FULL && p->canary.socket != NULL) {
        net_sessions_full(&p->opener);
        log_debug("udp-punch: this network takes only %u sessions of a prediction",
                  p->net->budget->opened.borne);
    }
    if (p->waves.stage == WAVES_UNKNOWN) {
        open_no_more(p);
        look_whether_cut(p, now);
    } else if (p->waves.stage != WAVES_ASKING)
        canary_close(&p->canary);
}

static void on_canary(void *ctx)
{
    struct predict *p = ctx;
    if (p->waves.stage == WAVES_ASKING)
        net_sessions_saw(&p->opener, p->asked);
    waves_spare(&p->waves);
    waves_on_answer(&p->waves, false);
}

bool predict_on_stun(struct predict *p, const uint8_t *buf, size_t len)
{
    if (p == NULL || !canary_is_beside(&p->canary, buf, len))
        return false;
    waves_spare(&p->waves);
    waves_on_answer(&p->waves, true);
    return true;
}

static void on_tick(void *ctx)
{
    struct predict *p = ctx;
    uint64_t now = now_ms(p), ticks = (now - p->tick_at_ms) / TICK_MS;
    unsigned most = PER_TICK * (unsigned)(ticks < 1            ? 1
                                          : ticks < LATE_TICKS ? ticks
                                                               : LATE_TICKS);
    bool left = true;
    p->tick_at_ms = now;
    ask_canary(p, now);
    for (unsigned i = 0; i < most && left; i++)
        left = send_one(p, now);
    ask_canary(p, now);
    if (unopened(p) == 0 || is_silenced(p))
        end_opening(p);
    left = !is_silenced(p) && (p->held < hold_total(p) || p->swept < sweep_total(p) ||
                               p->waves.stage == WAVES_ASKING);
    if (left)
        p->over_at_ms = now + LISTEN_MS;
    else if (now >= p->over_at_ms) {
        p->over = true;
        return;
    }
    timer_start(&p->timer, TICK_MS);
}

static void open_sockets(struct predict *p)
{
    struct net *net = p->net;
    while (p->socket_count < p->plan.sockets) {
        bool room = budget_has_mappings(&net->budget->packets, 1) &&
                    net_has_descriptors(net, SOCKETS_PERCENT, 0);
        struct udp *u =
            room ? open_socket(net, p->plan.low_bind, &udp_events, p) : NULL;
        if (u == NULL)
            break;                /* fewer mappings, smaller odds */
        udp_leave_count(u, true); /* take_session */
        p->sockets[p->socket_count++] = u;
        budget_open_mapping(&net->budget->packets);
    }
}

int predict_start(struct predict **out, struct net *net,
                  const struct predict_plan *plan, const struct predict_terms *terms,
                  const struct predict_events *events, void *ctx)
{
    size_t n = terms->target_count;
    struct predict *p = calloc(1, sizeof(*p));
    if (p == NULL || n == 0) {
        free(p);
        return n == 0 ? POSTERN_ERR_INVALID : POSTERN_ERR_NOMEM;
    }
    p->net = net;
    p->plan = *plan;
    p->events = events;
    p->ctx = ctx;
    p->opener = terms->opener;
    p->target_count = n < PREDICT_TARGETS_MAX ? n : PREDICT_TARGETS_MAX;
    memcpy(p->targets, terms->targets, p->target_count * sizeof(p->targets[0]));
    randombytes_buf(&p->seed, sizeof(p->seed));
    open_sockets(p);
    count_sessions(p);
    waves_init(&p->waves, terms->rtt_ms);
    canary_init(&p->canary, &terms->stun, terms->proof, on_canary, p);
    if (!plan->all_sockets && net_sessions_of_others(&p->opener) >= SESSIONS_LEAST)
        waves_ask_first(&p->waves, now_ms(p));
    p->tick_at_ms = p->hold_at_ms = now_ms(p) + terms->delay_ms;
    p->sweep_at_ms = p->hold_at_ms + (plan->all_sockets ? 0 : SWEEP_DELAY_MS);
    p->over_at_ms = p->sweep_at_ms + LISTEN_MS;
    timer_init(&p->timer, net->loop, on_tick, p);
    timer_start(&p->timer, terms->delay_ms);
    p->opening = true;
    net->predictions++;
    *out = p;
    return 0;
}

void predict_release(struct predict *p, struct udp *s)
{
    for (unsigned i = 0; i < p->socket_count; i++)
        if (p->sockets[i] == s) {
            p->sockets[i] = NULL;
            udp_leave_count(s, false);
            budget_close_mapping(&p->net->budget->packets);
        }
}

void predict_stop(struct predict *p)
{
    if (p == NULL || p->stopped)
        return;
    p->stopped = true;
    end_opening(p);
    for (unsigned i = 0; i < p->socket_count; i++) {
        if (p->sockets[i] == NULL)
            continue;
        udp_close(p->sockets[i]);
        budget_close_mapping(&p->net->budget->packets);
    }
    canary_close(&p->canary);
    timer_stop(&p->timer);
    if (!p->busy)
        free(p);
}

bool predict_is_refused(const struct predict *p)
{
    return p->refused;
}

bool predict_is_full(const struct predict *p)
{
    return p->waves.stage == WAVES_FULL;
}

bool predict_was_cut(const struct predict *p)
{
    return p->cut;
}

bool predict_is_over(const struct predict *p)
{
    return p->over;
}
