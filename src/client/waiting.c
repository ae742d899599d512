/* See waiting.h. */
#include "client/waiting.h"

#include <stdio.h>
#include <string.h>

#include "core/patience.h"
#include "io/log.h"

enum {
    TELL_MS = 5000, /* whoever waits for a first session is told why */
    TELL_SOON_MS = 2000,
    TELL_BROKER_MS = 2000,
    TELL_NAME_MS = 1000,  /* nobody was asked yet but the resolver */
    TELL_KNOWN_MS = 1000, /* when the broker has said that it may take longer */
    REMIND_MS = 30000,    /* the same is said again */
    REMIND_LATER_MS = 5 * 60000,
    OTHER_MS = 5000, /* between two causes of those who wait in turn */
};

static void look(const struct waiting *w, struct waiting_view *v)
{
    *v = (struct waiting_view){0};
    w->events->look(w->ctx, v);
}

static uint64_t left_until_ms(const struct waiting *w, uint64_t ends_ms)
{
    uint64_t now_ms = loop_now_ms(w->loop);
    return ends_ms > now_ms ? ends_ms - now_ms : 0;
}

/* ------------------------------------------------------------------------- how long */

static unsigned grace_ms(const struct waiting_view *v, const struct fault *f)
{
    return patience_ms(f->code, v->broker_is_up    ? PATIENCE_BROKER_UP
                                : v->broker_was_up ? PATIENCE_BROKER_LOST
                                                   : PATIENCE_BROKER_UNSEEN);
}

/* Somebody said how long he waits for a first session, or it is no standing command. */
static bool is_bounded(const struct waiting *w)
{
    return !w->standing || (w->wait_ms > 0 && !w->stood);
}

/*
 * When it is given up for that, on the loop's clock. A short patience counts from when
 * there was a broker to ask, since a host that lost it too had no time before; and
 * somebody may have said how long he waits for who is away.
 */
static uint64_t ends_ms(const struct waiting *w, const struct fault *f)
{
    struct waiting_view v;
    look(w, &v);
    unsigned grace = grace_ms(&v, f);
    bool away = grace > 0 ||
                f->code == POSTERN_ERR_PROTO; /* a login page in the broker's place */
    uint64_t from_ms = grace < PATIENCE_LONG_MS ? w->asks_ms : w->began_ms;
    uint64_t ends = from_ms + grace, wait_ms = w->began_ms + w->wait_ms;
    uint64_t settled_ms = loop_now_ms(w->loop) + v.settles_ms;
    if (f->code == POSTERN_ERR_UNREACHABLE && settled_ms > ends)
        ends = settled_ms;
    return away && w->wait_ms > 0 ? wait_ms : ends; /* shorter than usual, too */
}

/* Goes on until then at most, and says soon what for. */
static void wait_until(struct waiting *w, const struct fault *f, uint64_t ends)
{
    uint64_t left_ms = left_until_ms(w, ends), in_all_ms = ends - w->began_ms;
    if (left_ms == 0) {
        w->events->on_over(w->ctx, f);
        return;
    }
    if (timer_is_active(&w->tell) && strcmp(w->fault.what, f->what) != 0)
        timer_every(&w->tell, TELL_KNOWN_MS, TELL_MS);
    w->fault = *f;
    bool sooner = w->end_ms > 0 && w->end_ms < in_all_ms;
    w->in_all_s = (unsigned)((sooner ? w->end_ms : in_all_ms) / 1000);
    timer_start(&w->patience, left_ms);
}

/* What has come meanwhile, and answers, is not given up for what was said before. */
static void on_patience(void *ctx)
{
    struct waiting *w = ctx;
    struct waiting_view v;
    uint64_t left_ms = left_until_ms(w, w->began_ms + PATIENCE_LONG_MS);
    look(w, &v);
    if (v.answered && left_ms > 0)
        timer_start(&w->patience, left_ms);
    else
        w->events->on_over(w->ctx, &w->fault);
}

/* As long as somebody wished to wait, also where nothing is known to be wrong yet. */
static void on_end(void *ctx)
{
    struct waiting *w = ctx;
    struct waiting_view v;
    struct fault f = {0};
    char why[sizeof(f.what)];
    uint64_t left_ms = left_until_ms(w, w->began_ms + PATIENCE_LONG_MS);
    look(w, &v);
    if (!v.waits)
        return;
    if (v.answered && left_ms > 0) {
        timer_start(&w->end, left_ms);
        return;
    }
    if (timer_is_active(&w->patience)) {
        f = w->fault;
    } else {
        w->events->describe(w->ctx, why, sizeof(why));
        (void)fault_set(&f, POSTERN_ERR_TIMEOUT,
                        "wait for longer (--wait=TIME), or see 'postern doctor'", "%s",
                        why);
    }
    w->events->on_over(w->ctx, &f);
}

void waiting_on_fault(struct waiting *w, const struct fault *f, bool fatal)
{
    if (fatal || is_bounded(w))
        wait_until(w, f, fatal ? 0 : ends_ms(w, f));
}

bool waiting_on_flaps(struct waiting *w, const struct fault *f)
{
    if (!timer_is_active(&w->tell) || !is_bounded(w))
        return false;
    wait_until(w, f, w->began_ms + PATIENCE_LONG_MS);
    return true;
}

bool waiting_is_over(struct waiting *w, const struct fault *f, bool fatal)
{
    return fatal || left_until_ms(w, ends_ms(w, f)) == 0;
}

/* Once and again, in measure. */
void waiting_on_broker(struct waiting *w)
{
    timer_stop(&w->patience);
    if (left_until_ms(w, w->began_ms + PATIENCE_LONG_MS) > 0)
        w->asks_ms = loop_now_ms(w->loop);
}

void waiting_on_session(struct waiting *w)
{
    timer_stop(&w->end);
    timer_stop(&w->patience);
    timer_stop(&w->tell);
    w->stood = true;
}

/* --------------------------------------------------------------------- what is told */

/* What the first session waits for, in words. */
static void describe(const struct waiting *w, const struct waiting_view *v, char *why,
                     size_t cap)
{
    bool silent = w->fault.code == POSTERN_ERR_TIMEOUT && v->asks;
    if (!timer_is_active(&w->patience))
        w->events->describe(w->ctx, why, cap);
    else if (silent || w->fault.code == POSTERN_ERR_LIMIT)
        (void)snprintf(why, cap, "%.250s; for %u s at most", w->fault.what,
                       w->in_all_s);
    else
        (void)snprintf(why, cap, "%s", w->fault.what);
}

/* A broker that is silent, and what is known, is told of sooner than a mere wait. */
static bool is_early(const struct waiting *w, const struct waiting_view *v)
{
    unsigned least_ms = v->names   ? TELL_NAME_MS
                        : !v->asks ? TELL_BROKER_MS
                        : w->soon  ? TELL_SOON_MS
                                   : TELL_MS;
    return !timer_is_active(&w->patience) &&
           loop_now_ms(w->loop) - w->began_ms < least_ms;
}

/* The same as before: that it goes on is said again, for the first minutes often. */
static bool is_due(const struct waiting *w, uint64_t now_ms)
{
    bool late = now_ms - w->began_ms > REMIND_LATER_MS;
    return w->events->reminds(w->ctx) &&
           now_ms - w->told_ms >= (late ? REMIND_LATER_MS : REMIND_MS);
}

static void on_tell(void *ctx)
{
    struct waiting *w = ctx;
    struct waiting_view v;
    char why[sizeof(w->told)];
    uint64_t now_ms = loop_now_ms(w->loop), began_ms = w->began_ms;
    look(w, &v);
    if (v.waits && is_early(w, &v) && now_ms - began_ms < TELL_BROKER_MS)
        timer_every(&w->tell, began_ms + TELL_BROKER_MS - now_ms, TELL_BROKER_MS);
    if (!v.waits || is_early(w, &v))
        return;
    describe(w, &v, why, sizeof(why));
    if (strcmp(why, w->told) != 0)
        log_warn("waiting: %s", why);
    else if (is_due(w, now_ms))
        log_warn("waiting for %u s now: %s; " ADVICE_RETRIED,
                 (unsigned)((now_ms - w->began_ms) / 1000), why);
    else
        return;
    memcpy(w->told, why, sizeof(why));
    w->told_ms = now_ms;
}

void waiting_tell(struct waiting *w)
{
    timer_every(&w->tell, TELL_NAME_MS, TELL_BROKER_MS);
}

void waiting_was_told(struct waiting *w, const char *what)
{
    (void)snprintf(w->told, sizeof(w->told), "%s", what);
    w->told_ms = loop_now_ms(w->loop);
}

void waiting_again(struct waiting *w, const char *what)
{
    if (!timer_is_active(&w->tell)) {
        w->began_ms = loop_now_ms(w->loop);
        timer_every(&w->tell, TELL_MS, TELL_MS);
    }
    waiting_was_told(w, what);
}

/* Behind what was told there may be an advice. */
bool waiting_takes(struct waiting *w, const char *why)
{
    size_t len = strlen(w->told);
    bool same = len > 0 && strncmp(why, w->told, len) == 0;
    if (w->told_ms != 0 &&
        loop_now_ms(w->loop) - w->told_ms < (same ? REMIND_MS : OTHER_MS))
        return false;
    waiting_was_told(w, why);
    return true;
}

/* ----------------------------------------------------------------------- life cycle */

void waiting_init(struct waiting *w)
{
    w->began_ms = w->asks_ms = loop_now_ms(w->loop);
    timer_init(&w->patience, w->loop, on_patience, w);
    timer_init(&w->end, w->loop, on_end, w);
    if (w->wait_ms > 0)
        timer_start(&w->end, w->wait_ms);
    timer_init(&w->tell, w->loop, on_tell, w);
}

void waiting_fini(struct waiting *w)
{
    waiting_on_session(w);
}

void waiting_begin_anew(struct waiting *w)
{
    w->began_ms = w->asks_ms = loop_now_ms(w->loop);
    if (w->wait_ms > 0)
        timer_start(&w->end, w->wait_ms);
    if (timer_is_active(&w->tell))
        waiting_tell(w);
}
