/* Carries a meeting's inputs in, its actions to the engine, and its end to the ladder.
 */
#include "path/meet.h"

#include <stdlib.h>

/* A host that says ever again that it can do more makes nobody try without a pause. */
enum { HEED_MS = 2000 };

void meet_hold(struct meet *m)
{
    m->busy++;
}

void meet_release(struct meet *m)
{
    if (--m->busy == 0 && m->freed)
        free(m);
}

static void look(struct meet *m)
{
    struct loop *loop = meet_config(m)->net->loop;
    loop_refresh(loop);
    meeting_at(&m->meeting, loop_now_ms(loop),
               approach_rtt_hint_us(m->approach) / 1000);
}

static void perform(struct meet *m, enum meeting_action_type action)
{
    switch (action) {
    case MEETING_END:
        m->engine->end(m);
        break;
    case MEETING_FAILED:
        if (!m->engine->has_path(m))
            approach_failed(m->approach, m->meeting.kind, meeting_words(&m->meeting));
        break;
    case MEETING_GATHER:
        if (target_may_begin(m->approach))
            m->engine->gather(m);
        else
            meeting_refuse(&m->meeting, TARGET_ROUNDS_WORDS);
        break;
    case MEETING_PREPARE:
        m->engine->prepare(m);
        break;
    case MEETING_TELL:
        approach_offer_soon(m->approach);
        break;
    case MEETING_ALONE:
        m->engine->alone(m);
        break;
    case MEETING_STEP:
        m->engine->step(m, meeting_step_now(&m->meeting));
        break;
    case MEETING_LAST:
        m->engine->last(m);
        break;
    case MEETING_ACTION_COUNT:
        break;
    }
}

/* What the engine tells the machine meanwhile is seen by the loop that runs already. */
static void drive(struct meet *m)
{
    enum meeting_action_type action;
    if (m->driving)
        return;
    m->driving = true;
    look(m);
    while (!m->freed && meeting_next(&m->meeting, &action))
        perform(m, action);
    m->driving = false;
    if (m->freed)
        return;
    uint64_t now = loop_now_ms(meet_config(m)->net->loop);
    uint64_t at = m->helped ? now : meeting_due_ms(&m->meeting);
    if (at == UINT64_MAX)
        timer_stop(&m->timer);
    else
        timer_start(&m->timer, at > now ? at - now : 0);
}

void meet_enter(struct meet *m)
{
    meet_hold(m);
    look(m);
}

void meet_leave(struct meet *m)
{
    if (!m->freed)
        drive(m);
    meet_release(m);
}

static void on_timer(void *ctx)
{
    struct meet *m = ctx;
    meet_enter(m);
    if (m->helped) {
        m->helped = false;
        approach_on_heard(m->approach);
    }
    meet_leave(m);
}

/* What failed here, or was refused at the host, for want of it, is due. */
static void on_helper(void *ctx)
{
    struct meet *m = ctx;
    if (meet_config(m)->client) {
        m->helped = true;
        timer_start(&m->timer, 0);
    } else {
        m->regained++;
        approach_offer_soon(m->approach);
    }
}

void *meet_init(struct meet *m, struct approach *a, enum path_kind kind,
                const struct meet_engine *engine)
{
    if (m == NULL)
        return NULL;
    m->approach = a;
    m->engine = engine;
    const struct approach_config *c = approach_config_of(a);
    meeting_init(&m->meeting, kind, c->client, c->jit_window_ms);
    timer_init(&m->timer, c->net->loop, on_timer, m);
    helper_watch(&m->helper, on_helper, m);
    return m;
}

/* The host begins when the client's addresses of a new round arrive. */
void meet_start(void *k)
{
    struct meet *m = k;
    approach_started(m->approach, m->meeting.kind);
    if (!meet_config(m)->client)
        return;
    meet_enter(m);
    meeting_start(&m->meeting, uplink_is_up(meet_config(m)->uplink));
    meet_leave(m);
}

void meet_stop(void *k)
{
    struct meet *m = k;
    meet_enter(m);
    meeting_stop(&m->meeting);
    m->engine->drop(m, NULL);
    meet_leave(m);
}

void meet_free(void *k)
{
    struct meet *m = k;
    meet_hold(m);
    m->freed = true;
    m->engine->drop(m, NULL);
    m->engine->end(m);
    timer_stop(&m->timer);
    helper_unwatch(&m->helper);
    meet_release(m);
}

void meet_on_uplink(void *k, bool up)
{
    struct meet *m = k;
    if (!up)
        return;
    meet_enter(m);
    meeting_on_uplink(&m->meeting);
    meet_leave(m);
}

void meet_on_dead(void *k, struct path *p)
{
    struct meet *m = k;
    meet_hold(m);
    m->engine->drop(m, p);
    meet_release(m);
}

void meet_fill_offer(void *k, Offer *o)
{
    struct meet *m = k;
    struct meeting_address own[MEET_ADDRESSES_MAX];
    size_t n = meeting_tells(&m->meeting) ? m->engine->addresses(m, own) : 0;
    meeting_fill(&m->meeting, own, n, o);
    o->regained = m->regained > o->regained ? m->regained : o->regained;
}

static bool fits(void *ctx, const struct addr *a)
{
    return target_fits(ctx, a);
}

void meet_on_offer(void *k, const Offer *o, bool renewed)
{
    struct meet *m = k;
    (void)renewed;
    meet_enter(m);
    if (meet_config(m)->client && o->regained > m->regained) {
        uint64_t now_ms = loop_now_ms(meet_config(m)->net->loop);
        m->regained = o->regained;
        m->helped = m->helped || now_ms >= m->heed_ms; /* drive sets the timer */
        m->heed_ms = now_ms + HEED_MS;
    }
    meeting_on_offer(&m->meeting, o, fits, m->approach);
    meet_leave(m);
}
