/* Many mappings and many probes, at a bounded rate. */
#include "path/prediction.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/budget.h"
#include "core/punch.h"
#include "io/loop.h"

enum {
    TICK_MS = 5,
    PER_TICK = PREDICT_RATE * TICK_MS / 1000,
    LATE_TICKS = 8,       /* a tick that was late on a busy machine does as much */
    HOLD_TIMES = 4,       /* how often each mapping is opened or refreshed */
    HOLD_PAUSE_MS = 200,  /* between two times */
    SWEEP_DELAY_MS = 120, /* the mappings come first */
    SWEEP_TIMES = 2,
    LISTEN_MS = 1500, /* for answers, after the last packet */
    BIND_TRIES = 8,
    SOCKETS_PERCENT = 35, /* of the process's descriptors, its other ones included */
};

struct predict {
    struct net *net;
    struct predict_plan plan;
    struct addr targets[PREDICT_TARGETS_MAX];
    size_t target_count;
    struct udp *sockets[PREDICT_BIRTHDAY_SOCKETS];
    unsigned socket_count;
    unsigned held, swept; /* packets of each that went out */
    uint64_t hold_at_ms, sweep_at_ms, over_at_ms, tick_at_ms, seed;
    unsigned sent;
    bool refused;
    struct timer timer;
    const struct predict_events *events;
    void *ctx;
    bool over, busy, stopped;
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
    bool sweeps_all = p->plan.all_sockets; /* its sweep opens the mappings */
    return p->plan.hold && !sweeps_all
               ? p->socket_count * (unsigned)p->target_count * HOLD_TIMES
               : 0;
}

static unsigned sweep_total(const struct predict *p)
{
    unsigned froms = p->plan.all_sockets ? p->socket_count : 1;
    return p->plan.sweep ? p->plan.probes * froms * SWEEP_TIMES : 0;
}

/* One packet of the holding; every socket to every target, then again after a pause. */
static void hold_one(struct predict *p)
{
    uint8_t buf[PUNCH_PACKET_MAX];
    unsigned each = p->socket_count * (unsigned)p->target_count;
    unsigned i = p->held % each;
    const struct addr *to = &p->targets[i / p->socket_count];
    size_t len = p->events->make(p->ctx, buf);
    if (p->events->may(p->ctx, to))
        (void)!udp_send(p->sockets[i % p->socket_count], to, buf, len, len);
    else
        p->refused = true;
    p->held++;
    if (p->held % each == 0)
        p->hold_at_ms = now_ms(p) + HOLD_PAUSE_MS;
}

static void sweep_one(struct predict *p)
{
    uint8_t buf[PUNCH_PACKET_MAX];
    struct addr to = p->targets[0];
    unsigned froms = p->plan.all_sockets ? p->socket_count : 1;
    unsigned i = p->swept / froms;
    bool all = p->plan.low_sweep || p->plan.near.count > 0;
    size_t len = p->events->make(p->ctx, buf);
    /* Of random ports others serve better than the same again. */
    to.port = predict_port(&p->plan, all ? i % p->plan.probes : i, p->seed);
    if (!p->events->may(p->ctx, &to))
        p->refused = true;
    else if (p->plan.all_sockets)
        (void)!udp_send(p->sockets[p->swept % froms], &to, buf, len, len);
    else
        p->events->send(p->ctx, &to, buf, len);
    p->swept++;
}

/* False when nothing is due, or may go now. */
static bool send_one(struct predict *p, uint64_t now)
{
    bool holds = p->held < hold_total(p) && now >= p->hold_at_ms;
    bool sweeps = p->swept < sweep_total(p) && now >= p->sweep_at_ms;
    if ((!holds && !sweeps) || p->refused || p->sent >= PREDICT_PACKETS_MAX ||
        !p->events->pace(p->ctx))
        return false;
    if (holds)
        hold_one(p);
    else
        sweep_one(p);
    p->sent++;
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
    for (unsigned i = 0; i < most && left; i++)
        left = send_one(p, now);
    left = p->sent < PREDICT_PACKETS_MAX && !p->refused &&
           (p->held < hold_total(p) || p->swept < sweep_total(p));
    if (left)
        p->over_at_ms = now + LISTEN_MS;
    else if (now >= p->over_at_ms) {
        p->over = true;
        return;
    }
    timer_start(&p->timer, TICK_MS);
}

int predict_start(struct predict **out, struct net *net,
                  const struct predict_plan *plan, const struct addr *targets, size_t n,
                  unsigned delay_ms, const struct predict_events *events, void *ctx)
{
    struct predict *p = calloc(1, sizeof(*p));
    if (p == NULL || n == 0) {
        free(p);
        return n == 0 ? POSTERN_ERR_INVALID : POSTERN_ERR_NOMEM;
    }
    p->net = net;
    p->plan = *plan;
    p->events = events;
    p->ctx = ctx;
    p->target_count = n < PREDICT_TARGETS_MAX ? n : PREDICT_TARGETS_MAX;
    memcpy(p->targets, targets, p->target_count * sizeof(*targets));
    randombytes_buf(&p->seed, sizeof(p->seed));
    while (p->socket_count < plan->sockets) {
        bool room = budget_has_mappings(net->budget, 1) &&
                    net_has_descriptors(net, SOCKETS_PERCENT, 0);
        struct udp *u = room ? open_socket(net, plan->low_bind, &udp_events, p) : NULL;
        if (u == NULL)
            break; /* fewer mappings, smaller odds */
        p->sockets[p->socket_count++] = u;
        budget_open_mapping(net->budget);
    }
    p->tick_at_ms = p->hold_at_ms = now_ms(p) + delay_ms;
    p->sweep_at_ms = p->hold_at_ms + (plan->all_sockets ? 0 : SWEEP_DELAY_MS);
    p->over_at_ms = p->sweep_at_ms + LISTEN_MS;
    timer_init(&p->timer, net->loop, on_tick, p);
    timer_start(&p->timer, delay_ms);
    *out = p;
    return 0;
}

void predict_release(struct predict *p, struct udp *s)
{
    for (unsigned i = 0; i < p->socket_count; i++)
        if (p->sockets[i] == s) {
            p->sockets[i] = p->sockets[--p->socket_count];
            budget_close_mapping(p->net->budget);
        }
}

void predict_stop(struct predict *p)
{
    if (p == NULL || p->stopped)
        return;
    p->stopped = true;
    for (; p->socket_count > 0; p->socket_count--) {
        udp_close(p->sockets[p->socket_count - 1]);
        budget_close_mapping(p->net->budget);
    }
    timer_stop(&p->timer);
    if (!p->busy)
        free(p);
}

bool predict_is_refused(const struct predict *p)
{
    return p->refused;
}

bool predict_is_over(const struct predict *p)
{
    return p->over;
}
