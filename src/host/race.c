/* Staggered attempts at a service's targets; knows no stream and no client. */
#include "host/race.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/dial.h"
#include "io/loop.h"
#include "io/tcp.h"

enum { CONNECT_TIMEOUT_MS = 10000, REASON_LEN = 160 };

/* One target's attempt. */
struct leg {
    struct race *race;
    struct dial *dial;       /* NULL: not begun, or over */
    struct agent_call *call; /* instead, by an agent's host */
};

struct race {
    struct loop *loop;
    struct agent *agent;
    struct timer timer;
    struct service service;
    struct leg legs[SERVICE_TARGET_MAX];
    size_t next, failed;
    enum stream_code code; /* why the first one failed */
    char reason[REASON_LEN];
    const struct race_events *events;
    void *ctx;
};

static void cancel_legs(struct race *r, const struct leg *but)
{
    for (size_t i = 0; i < r->next; i++) {
        struct leg *l = &r->legs[i];
        if (l == but)
            continue;
        dial_cancel(l->dial);
        agent_call_free(l->call);
        l->dial = NULL;
        l->call = NULL;
    }
}

static void on_timer(void *ctx);

static void leg_failed(struct leg *l, enum stream_code code, const char *reason)
{
    struct race *r = l->race;
    if (l == &r->legs[0]) {
        r->code = code;
        (void)snprintf(r->reason, sizeof(r->reason), "%s", reason);
    }
    r->failed++;
    timer_start(&r->timer, 0); /* the next at once, or the end */
}

static void dial_failed(struct leg *l, int err)
{
    char reason[REASON_LEN];
    const struct race *r = l->race;
    const struct service_target *t = &r->service.targets[l - r->legs];
    enum stream_code code = err == POSTERN_ERR_REFUSED   ? STREAM_REFUSED
                            : err == POSTERN_ERR_TIMEOUT ? STREAM_TIMEOUT
                            : err == POSTERN_ERR_LIMIT   ? STREAM_LIMIT
                                                         : STREAM_UNREACHABLE;
    if (err == POSTERN_ERR_LIMIT)
        (void)snprintf(reason, sizeof(reason),
                       "the host has no descriptors left for %.60s; raise its limit of "
                       "open files",
                       r->service.name);
    else
        (void)snprintf(reason, sizeof(reason), "%.60s at %.60s:%u: %s", r->service.name,
                       t->host, t->port, postern_strerror(err));
    leg_failed(l, code, reason);
}

static void stop(struct race *r, const struct leg *but)
{
    timer_stop(&r->timer);
    cancel_legs(r, but);
}

static void on_dialed(void *ctx, int err, int fd)
{
    struct leg *l = ctx;
    l->dial = NULL;
    if (err != 0) {
        dial_failed(l, err);
        return;
    }
    tcp_no_delay(fd);
    stop(l->race, l);
    l->race->events->on_won(l->race->ctx, fd);
}

static void on_connected(void *ctx, struct pump *stream)
{
    struct leg *l = ctx;
    agent_call_free(l->call);
    l->call = NULL;
    stop(l->race, l);
    l->race->events->on_won_there(l->race->ctx, stream);
}

static void on_failed(void *ctx, enum stream_code code, const char *reason)
{
    struct leg *l = ctx;
    agent_call_free(l->call);
    l->call = NULL;
    leg_failed(l, code, reason);
}

static const struct agent_call_events call_events = {on_connected, on_failed};

static void ask_host(struct leg *l, const struct service_target *t)
{
    struct race *r = l->race;
    char reason[REASON_LEN];
    int rc = agent_call_start(&l->call, r->agent, t->by, t->host, &call_events, l);
    if (rc == 0)
        return;
    l->call = NULL;
    (void)snprintf(reason, sizeof(reason), "%.60s at %.30s: %s", r->service.name,
                   t->name,
                   rc == POSTERN_ERR_LIMIT ? "too many connections are being made"
                                           : "the host is not connected");
    leg_failed(l, rc == POSTERN_ERR_LIMIT ? STREAM_LIMIT : STREAM_UNREACHABLE, reason);
}

static void start_next(struct race *r)
{
    struct leg *l = &r->legs[r->next];
    const struct service_target *t = &r->service.targets[r->next++];
    l->race = r;
    timer_start(&r->timer, RACE_STAGGER_MS);
    if (t->by != 0) {
        ask_host(l, t);
        return;
    }
    int rc = dial_start_name(&l->dial, r->loop, t->host, t->port, CONNECT_TIMEOUT_MS,
                             on_dialed, l);
    if (rc != 0) {
        l->dial = NULL;
        dial_failed(l, rc);
    }
}

static void on_timer(void *ctx)
{
    struct race *r = ctx;
    if (r->failed == r->service.target_count)
        r->events->on_lost(r->ctx, r->code, r->reason);
    else if (r->next < r->service.target_count)
        start_next(r);
}

int race_start(struct race **out, struct loop *loop, struct agent *agent,
               const struct service *s, const struct race_events *events, void *ctx)
{
    if (s->target_count == 0 || (s->udp && s->targets[0].by == 0))
        return POSTERN_ERR_INVALID;
    struct race *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    r->loop = loop;
    r->agent = agent;
    r->service = *s;
    r->events = events;
    r->ctx = ctx;
    timer_init(&r->timer, loop, on_timer, r);
    start_next(r);
    *out = r;
    return 0;
}

void race_free(struct race *r)
{
    if (r == NULL)
        return;
    cancel_legs(r, NULL);
    timer_stop(&r->timer);
    free(r);
}
