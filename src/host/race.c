/* Staggered attempts at a service's targets; knows no stream and no client. */
#include "host/race.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/taker.h"
#include "io/dial.h"
#include "io/loop.h"
#include "io/tcp.h"
#include "session/pump.h"

enum {
    CONNECT_TIMEOUT_MS = 10000,
    ANSWER_MS = 15000, /* after the last has begun: a host may dial as long as we */
    REASON_LEN = 160
};

/* One target's attempt. */
struct leg {
    struct race *race;
    struct dial *dial;   /* NULL: not begun, or over */
    struct pump *stream; /* instead, to an agent's host, which has not answered */
};

struct race {
    struct loop *loop;
    struct agent *agent;
    struct timer timer;
    struct service service;
    struct leg legs[SERVICE_TARGET_MAX];
    size_t next, failed;
    int given;             /* our end of what was handed over; -1: none */
    uint64_t late_ms;      /* then nobody will answer any more */
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
        if (l->stream != NULL)
            pump_drop(l->stream);
        l->dial = NULL;
        l->stream = NULL;
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

/* Of a socket that is a file, whose program makes it, and leaves it when it dies. */
static const char *file_words(int err)
{
    return err == POSTERN_ERR_NOTFOUND  ? "there is no such file; its program makes it"
           : err == POSTERN_ERR_REFUSED ? "no program listens at it"
           : err == POSTERN_ERR_PERM    ? "the host's user may not use it"
                                        : postern_strerror(err);
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
    else if (t->host[0] == '/')
        (void)snprintf(reason, sizeof(reason), "%.40s at %.70s: %s", r->service.name,
                       t->host, file_words(err));
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

/* What a host of the LAN answers. */
static void on_reply(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    struct leg *l = ctx;
    StreamReply r = StreamReply_init_zero;
    bool good = proto_decode(StreamReply_fields, &r, msg, len) == 0;
    l->stream = NULL;
    if (good && r.code == STREAM_OK) {
        stop(l->race, l);
        l->race->events->on_won_there(l->race->ctx, p);
        return;
    }
    pump_drop(p);
    leg_failed(l, good && r.code <= STREAM_LIMIT ? r.code : STREAM_UNREACHABLE,
               good ? r.reason : "the host's answer was malformed");
}

static void on_end(void *ctx, struct pump *p, uint64_t code)
{
    struct leg *l = ctx;
    (void)p, (void)code;
    l->stream = NULL;
    leg_failed(l, STREAM_UNREACHABLE, "the connection to the service's host broke");
}

static const struct pump_events stream_events = {on_reply, NULL, on_end};

static void ask_host(struct leg *l, const struct service_target *t)
{
    struct race *r = l->race;
    char reason[REASON_LEN];
    int rc = agent_open_stream(&l->stream, r->agent, t->by, t->host, &stream_events, l);
    if (rc == 0)
        return;
    l->stream = NULL;
    (void)snprintf(reason, sizeof(reason), "%.60s at %.30s: %s", r->service.name,
                   t->name,
                   rc == POSTERN_ERR_LIMIT ? "too many connections are being made"
                                           : "the host is not connected");
    leg_failed(l, rc == POSTERN_ERR_LIMIT ? STREAM_LIMIT : STREAM_UNREACHABLE, reason);
}

/* A program that takes them by itself is told at once; there is nothing to wait for. */
static void hand_over(struct race *r, const char *who)
{
    char reason[REASON_LEN];
    r->given = taker_give(r->service.taker, who);
    r->next = r->service.target_count = 1;
    r->legs[0].race = r;
    timer_start(&r->timer, 0);
    if (r->given >= 0)
        return;
    (void)snprintf(reason, sizeof(reason), "%.60s takes no more connections now",
                   r->service.name);
    leg_failed(&r->legs[0], STREAM_LIMIT, reason);
}

static void start_next(struct race *r)
{
    struct leg *l = &r->legs[r->next];
    const struct service_target *t = &r->service.targets[r->next++];
    l->race = r;
    timer_start(&r->timer, RACE_STAGGER_MS);
    r->late_ms = loop_now_ms(r->loop) + ANSWER_MS;
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
    uint64_t now = loop_now_ms(r->loop);
    int given = r->given;
    r->given = -1;
    if (given >= 0)
        r->events->on_won(r->ctx, given);
    else if (r->failed == r->service.target_count)
        r->events->on_lost(r->ctx, r->code, r->reason);
    else if (r->next < r->service.target_count)
        start_next(r);
    else if (now < r->late_ms)
        timer_start(&r->timer, r->late_ms - now);
    else
        r->events->on_lost(r->ctx, STREAM_TIMEOUT, "the service's host did not answer");
}

int race_start(struct race **out, struct loop *loop, struct agent *agent,
               const struct service *s, const char *who,
               const struct race_events *events, void *ctx)
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
    r->given = -1;
    timer_init(&r->timer, loop, on_timer, r);
    if (r->service.taker > 0)
        hand_over(r, who);
    else
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
    if (r->given >= 0)
        (void)close(r->given);
    free(r);
}
