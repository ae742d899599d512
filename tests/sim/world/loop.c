/* io/loop.h over the world's scheduler: the second implementation. */
#include "io/loop.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>

#include "house.h"
#include "io/clock.h"
#include "loop_sim.h"

enum { NS_PER_US = 1000 };

struct loop_poll {
    struct vwait wait; /* first */
    struct loop *loop;
    struct list entry;  /* of all */
    struct list queued; /* of those that may be ready */
    int events;         /* asked for */
    bool background;
    watch_cb cb;
    void *ctx;
};

struct loop_async {
    struct loop *loop;
    struct list entry, called;
    bool background;
    loop_cb cb;
    void *ctx;
};

struct loop {
    struct machine *machine;
    unsigned group;
    struct task *sleeper; /* who waits in it */
    uint64_t now_ms;
    struct agenda timers, fine;
    struct list polls, queue, asyncs, called;
    unsigned jobs; /* of work.c */
    bool stopped;
    loop_cb on_session;
    void *on_session_ctx;
};

int loop_open(struct loop **out)
{
    struct loop *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return POSTERN_ERR_NOMEM;
    assert(machine_now() != NULL);
    l->machine = machine_now();
    l->machine->loops++;
    l->group = group_now();
    (*group_loops(l->group))++;
    list_init(&l->polls);
    list_init(&l->queue);
    list_init(&l->asyncs);
    list_init(&l->called);
    loop_refresh(l);
    *out = l;
    return 0;
}

void loop_close(struct loop *l)
{
    if (l == NULL)
        return;
    assert(list_empty(&l->polls));  /* a watch was not closed */
    assert(list_empty(&l->asyncs)); /* a wake was not closed */
    assert(l->timers.first == NULL && l->fine.first == NULL);
    assert(l->jobs == 0);
    l->machine->loops--;
    (*group_loops(l->group))--;
    free(l);
}

static void rouse(struct loop *l)
{
    if (l->sleeper != NULL)
        task_wake(l->sleeper);
}

struct machine *loop_machine(struct loop *l)
{
    return l->machine;
}

void loop_job_begins(struct loop *l)
{
    l->jobs++;
}

void loop_job_ended(struct loop *l)
{
    l->jobs--;
}

/* ------------------------------------------------------------------------- turning */

static bool is_alive(const struct loop *l)
{
    if (l->timers.first != NULL || l->jobs > 0)
        return true;
    for (struct list *e = l->polls.next; e != &l->polls; e = e->next) {
        const struct loop_poll *p = LIST_OWNER(e, struct loop_poll, entry);
        if (p->events != 0 && !p->background)
            return true;
    }
    for (struct list *e = l->asyncs.next; e != &l->asyncs; e = e->next)
        if (!LIST_OWNER(e, struct loop_async, entry)->background)
            return true;
    return false;
}

static bool call_timers(struct loop *l)
{
    uint64_t before = l->timers.entered;
    bool any = false;
    struct agenda_entry *e;
    while ((e = agenda_take(&l->timers, l->now_ms, before)) != NULL) {
        struct timer *t = (struct timer *)(void *)e;
        any = true;
        if (t->every_ms > 0)
            agenda_enter(&l->timers, e, l->now_ms + t->every_ms);
        t->cb(t->ctx);
    }
    return any;
}

static bool call_fine(struct loop *l)
{
    uint64_t before = l->fine.entered, now = clock_ns();
    bool any = false;
    struct agenda_entry *e;
    while ((e = agenda_take(&l->fine, now, before)) != NULL) {
        struct timer *t = (struct timer *)(void *)e;
        any = true;
        t->cb(t->ctx);
    }
    return any;
}

static int ready_of(const struct loop_poll *p)
{
    int is = file_ready(p->wait.file), all = is & POLLERR;
    int events = ((is & (POLLIN | POLLHUP)) != 0 || all ? WATCH_READ : 0) |
                 ((is & (POLLOUT | POLLHUP)) != 0 || all ? WATCH_WRITE : 0) |
                 ((is & (POLLRDHUP | POLLHUP)) != 0 || all ? WATCH_HANGUP : 0) |
                 ((is & POLLHUP) != 0 || all ? WATCH_END : 0);
    return events & p->events;
}

static void queue(struct loop_poll *p)
{
    if (list_empty(&p->queued))
        list_push(&p->loop->queue, &p->queued);
    rouse(p->loop);
}

static bool call_polls(struct loop *l)
{
    struct list now;
    bool any = false;
    list_init(&now);
    while (!list_empty(&l->queue)) {
        struct list *e = l->queue.next;
        list_remove(e);
        list_push(&now, e);
    }
    while (!list_empty(&now)) {
        struct loop_poll *p = LIST_OWNER(now.next, struct loop_poll, queued);
        int events = ready_of(p);
        list_remove(&p->queued);
        if (events == 0)
            continue;
        list_push(&l->queue, &p->queued); /* looked at again: as long as it holds */
        any = true;
        p->cb(p->ctx, events);
    }
    return any;
}

static bool call_asyncs(struct loop *l)
{
    bool any = false;
    struct list now;
    list_init(&now);
    while (!list_empty(&l->called)) {
        struct list *e = l->called.next;
        list_remove(e);
        list_push(&now, e);
    }
    while (!list_empty(&now)) {
        struct loop_async *a = LIST_OWNER(now.next, struct loop_async, called);
        list_remove(&a->called);
        any = true;
        a->cb(a->ctx);
    }
    return any;
}

static bool call_all(struct loop *l)
{
    loop_refresh(l);
    bool any = call_timers(l);
    any = call_fine(l) || any;
    any = call_asyncs(l) || any;
    return call_polls(l) || any;
}

static bool has_ready(const struct loop *l)
{
    for (struct list *e = l->queue.next; e != &l->queue; e = e->next)
        if (ready_of(LIST_OWNER(e, struct loop_poll, queued)) != 0)
            return true;
    return !list_empty(&l->called);
}

static uint64_t next_us(const struct loop *l)
{
    uint64_t at = UINT64_MAX;
    if (l->timers.first != NULL && l->timers.first->due < UINT64_MAX / 1000)
        at = l->timers.first->due * 1000;
    if (l->fine.first != NULL) {
        uint64_t fine = l->fine.first->due / NS_PER_US + 1;
        at = fine < at ? fine : at;
    }
    return at;
}

/* Until something is due; TURN_US at least. */
static void sleep_till_due(struct loop *l)
{
    uint64_t soon = house_now_us(house_now()) + TURN_US, at = next_us(l);
    l->sleeper = NULL; /* not to be woken before that */
    do
        task_sleep(soon);
    while (house_now_us(house_now()) < soon);
    if (has_ready(l) || at <= soon)
        return;
    l->sleeper = task_now();
    task_sleep(at);
    l->sleeper = NULL;
}

void loop_run(struct loop *l)
{
    loop_refresh(l);
    while (!l->stopped && is_alive(l)) {
        (void)call_all(l);
        if (!l->stopped && is_alive(l))
            sleep_till_due(l);
    }
    l->stopped = false;
}

bool loop_finish(struct loop *l, uint64_t ms)
{
    (void)ms; /* jobs end by themselves here */
    loop_run(l);
    return true;
}

void loop_turn(struct loop *l)
{
    while (!l->stopped && is_alive(l) && !call_all(l))
        sleep_till_due(l);
    l->stopped = false;
}

void loop_poll(struct loop *l)
{
    (void)call_all(l);
}

void loop_stop(struct loop *l)
{
    l->stopped = true;
    rouse(l);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

void loop_refresh(struct loop *l)
{
    l->now_ms = clock_us() / 1000;
}

/* -------------------------------------------------------------------------- timers */

void timer_init(struct timer *t, struct loop *l, loop_cb cb, void *ctx)
{
    *t = (struct timer){.loop = l, .cb = cb, .ctx = ctx};
}

void timer_every(struct timer *t, uint64_t first_ms, uint64_t every_ms)
{
    struct loop *l = t->loop;
    timer_stop(t);
    t->every_ms = every_ms;
    agenda_enter(&l->timers, &t->entry,
                 first_ms < UINT64_MAX - l->now_ms ? l->now_ms + first_ms : UINT64_MAX);
}

void timer_start(struct timer *t, uint64_t ms)
{
    timer_every(t, ms, 0);
}

void timer_at_ns(struct timer *t, uint64_t at_ns)
{
    timer_stop(t);
    t->fine = true;
    agenda_enter(&t->loop->fine, &t->entry, at_ns);
}

void timer_stop(struct timer *t)
{
    if (!t->entry.entered)
        return;
    agenda_leave(t->fine ? &t->loop->fine : &t->loop->timers, &t->entry);
    t->fine = false;
}

bool timer_is_active(const struct timer *t)
{
    return t->entry.entered;
}

uint64_t timer_due_in_ms(const struct timer *t)
{
    uint64_t now = t->entry.entered ? t->loop->now_ms : 0;
    return t->entry.due > now ? t->entry.due - now : 0;
}

/* ------------------------------------------------------------------------- watches */

static void on_change(struct vwait *w, int edges)
{
    struct loop_poll *p = (struct loop_poll *)(void *)w;
    (void)edges;
    if (ready_of(p) != 0)
        queue(p);
}

int watch_open(struct watch *w, struct loop *l, int fd, watch_cb cb, void *ctx)
{
    struct vfile *f = file_of(fd);
    struct loop_poll *p = f != NULL ? calloc(1, sizeof(*p)) : NULL;
    if (p == NULL)
        return f == NULL ? POSTERN_ERR_IO : POSTERN_ERR_NOMEM;
    p->wait.cb = on_change;
    p->loop = l;
    p->cb = cb;
    p->ctx = ctx;
    list_init(&p->queued);
    list_push(&l->polls, &p->entry);
    file_wait(f, &p->wait);
    file_set_blocking(f, false); /* as libuv does */
    w->poll = p;
    return 0;
}

void watch_for(struct watch *w, int events)
{
    w->poll->events = events;
    if (ready_of(w->poll) != 0)
        queue(w->poll);
}

int watch_start(struct watch *w, struct loop *l, int fd, int events, watch_cb cb,
                void *ctx)
{
    int rc = watch_open(w, l, fd, cb, ctx);
    if (rc == 0)
        watch_for(w, events);
    return rc;
}

void watch_pass(struct watch *w, watch_cb cb, void *ctx)
{
    w->poll->cb = cb;
    w->poll->ctx = ctx;
}

void watch_close(struct watch *w)
{
    if (w->poll == NULL)
        return;
    list_remove(&w->poll->entry);
    list_remove(&w->poll->queued);
    file_wait_end(&w->poll->wait);
    free(w->poll);
    w->poll = NULL;
}

bool watch_is_open(const struct watch *w)
{
    return w->poll != NULL;
}

void watch_in_background(struct watch *w)
{
    w->poll->background = true;
}

/* --------------------------------------------------------------------------- wakes */

int wake_open(struct wake *w, struct loop *l, loop_cb cb, void *ctx)
{
    struct loop_async *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    *a = (struct loop_async){.loop = l, .cb = cb, .ctx = ctx};
    list_init(&a->called);
    list_push(&l->asyncs, &a->entry);
    w->async = a;
    return 0;
}

void wake_up(struct wake *w)
{
    struct loop_async *a = w->async;
    if (list_empty(&a->called))
        list_push(&a->loop->called, &a->called);
    rouse(a->loop);
}

void wake_close(struct wake *w)
{
    if (w->async == NULL)
        return;
    list_remove(&w->async->entry);
    list_remove(&w->async->called);
    free(w->async);
    w->async = NULL;
}

bool wake_is_open(const struct wake *w)
{
    return w->async != NULL;
}

void wake_in_background(struct wake *w)
{
    w->async->background = true;
}

void loop_on_session(struct loop *l, loop_cb cb, void *ctx)
{
    l->on_session = cb;
    l->on_session_ctx = ctx;
}

void loop_begin_session(struct loop *l, const struct addr *to)
{
    if (l->on_session != NULL && addr_scope_of(to) >= ADDR_SCOPE_PRIVATE)
        l->on_session(l->on_session_ctx);
}
