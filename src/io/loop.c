/*
 * The loop over libuv. All timers share one of libuv's, and the fine ones a timerfd,
 * which stands at the earliest or before: most timers are moved on and on and never
 * fire, and moving one later must cost nothing. A descriptor's uv_poll_t lives apart
 * from its watch, since libuv wants it for a while after it was closed.
 */
#include "io/loop.h"

#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/lack.h"
#include "io/loop_uv.h"

struct loop {
    uv_loop_t uv;
    uv_timer_t alarm;
    uv_idle_t soon;
    uint64_t alarm_ms; /* when it rings; 0: it is off */
    struct agenda timers;
    int fine_fd;
    struct watch fine_watch;
    uint64_t fine_ns; /* what the timerfd is set to; 0: nothing */
    struct agenda fine;
    bool has_pool;
    bool left;            /* given up with something under way */
    bool turning, called; /* in loop_turn; a timer was called in it */
    loop_cb on_session;
    void *on_session_ctx;
};

struct loop_poll {
    uv_poll_t uv; /* first */
    int events;   /* asked for, of libuv's */
    watch_cb cb;
    void *ctx;
};

struct loop_async {
    uv_async_t uv; /* first */
    loop_cb cb;
    void *ctx;
};

static void on_alarm(uv_timer_t *h);
static void on_soon(uv_idle_t *h);

/*
 * For what is due already an idle handle, which keeps the loop from sleeping: libuv
 * calls a timer of zero that starts itself again and again without a look at anything
 * else.
 */
static void set_alarm(struct loop *l)
{
    const struct agenda_entry *e = l->timers.first;
    uint64_t now = uv_now(&l->uv);
    if (e == NULL) {
        (void)uv_timer_stop(&l->alarm); /* an idle one must not keep the loop going */
        (void)uv_idle_stop(&l->soon);
        l->alarm_ms = 0;
    } else if (e->due <= now) {
        (void)uv_idle_start(&l->soon, on_soon);
    } else if (l->alarm_ms == 0 || e->due < l->alarm_ms) {
        (void)uv_timer_start(&l->alarm, on_alarm, e->due - now, 0);
        l->alarm_ms = e->due;
    }
}

static void call_due(struct loop *l)
{
    uint64_t before = l->timers.entered;
    struct agenda_entry *e;
    while ((e = agenda_take(&l->timers, uv_now(&l->uv), before)) != NULL) {
        struct timer *t = (struct timer *)(void *)e;
        l->called = true;
        if (t->every_ms > 0)
            agenda_enter(&l->timers, e, uv_now(&l->uv) + t->every_ms);
        t->cb(t->ctx);
    }
    (void)uv_idle_stop(&l->soon);
    set_alarm(l);
    if (l->turning && l->called)
        (void)uv_idle_start(&l->soon, on_soon); /* enough for this turn: no sleep */
}

static void on_alarm(uv_timer_t *h)
{
    struct loop *l = h->data;
    l->alarm_ms = 0;
    call_due(l);
}

static void on_soon(uv_idle_t *h)
{
    call_due(h->data);
}

static void set_fine(struct loop *l)
{
    const struct agenda_entry *e = l->fine.first;
    if (e == NULL || (l->fine_ns != 0 && l->fine_ns <= e->due))
        return; /* an earlier waking looks again */
    struct itimerspec at = {
        .it_value = {(time_t)(e->due / 1000000000), (long)(e->due % 1000000000)}};
    if (e->due == 0)
        at.it_value.tv_nsec = 1; /* zero would switch it off */
    (void)timerfd_settime(l->fine_fd, TFD_TIMER_ABSTIME, &at, NULL);
    l->fine_ns = e->due > 0 ? e->due : 1;
}

static void on_fine(void *ctx, int events)
{
    struct loop *l = ctx;
    uint64_t times, before = l->fine.entered, now = clock_ns();
    struct agenda_entry *e;
    (void)events;
    (void)!read(l->fine_fd, &times, sizeof(times));
    l->fine_ns = 0;
    while ((e = agenda_take(&l->fine, now, before)) != NULL) {
        struct timer *t = (struct timer *)(void *)e;
        t->cb(t->ctx);
    }
    set_fine(l);
}

bool loop_begin_pool(struct loop *l)
{
    l->has_pool = l->has_pool || !lack_of_threads();
    return l->has_pool;
}

int loop_open(struct loop **out)
{
    struct loop *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return POSTERN_ERR_NOMEM;
    if (uv_loop_init(&l->uv) != 0) {
        free(l);
        return POSTERN_ERR_LIMIT; /* descriptors */
    }
    (void)uv_timer_init(&l->uv, &l->alarm);
    (void)uv_idle_init(&l->uv, &l->soon);
    l->alarm.data = l->soon.data = l;
    l->fine_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int rc = l->fine_fd < 0
                 ? POSTERN_ERR_LIMIT
                 : watch_start(&l->fine_watch, l, l->fine_fd, WATCH_READ, on_fine, l);
    if (rc != 0) {
        loop_close(l);
        return rc;
    }
    watch_in_background(&l->fine_watch);
    *out = l;
    return 0;
}

static void on_late(uv_timer_t *h)
{
    uv_stop(h->loop);
}

bool loop_finish(struct loop *l, uint64_t ms)
{
    uv_timer_t late;
    (void)uv_timer_init(&l->uv, &late);
    uv_update_time(&l->uv);
    (void)uv_timer_start(&late, on_late, ms, 0);
    uv_unref((uv_handle_t *)&late);
    (void)uv_run(&l->uv, UV_RUN_DEFAULT);
    l->left = uv_loop_alive(&l->uv) != 0;
    uv_close((uv_handle_t *)&late, NULL);
    (void)uv_run(&l->uv, UV_RUN_NOWAIT);
    return !l->left;
}

void loop_close(struct loop *l)
{
    if (l == NULL || l->left)
        return;
    watch_close(&l->fine_watch);
    if (l->fine_fd >= 0)
        (void)close(l->fine_fd);
    uv_close((uv_handle_t *)&l->alarm, NULL);
    uv_close((uv_handle_t *)&l->soon, NULL);
    while (uv_loop_close(&l->uv) == UV_EBUSY)
        (void)uv_run(&l->uv, UV_RUN_ONCE);
    free(l);
}

void loop_run(struct loop *l)
{
    (void)uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_turn(struct loop *l)
{
    l->turning = true;
    l->called = false;
    (void)uv_run(&l->uv, UV_RUN_ONCE);
    l->turning = false;
    (void)uv_idle_stop(&l->soon);
    set_alarm(l);
}

void loop_poll(struct loop *l)
{
    (void)uv_run(&l->uv, UV_RUN_NOWAIT);
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return uv_now(&l->uv);
}

void loop_refresh(struct loop *l)
{
    uv_update_time(&l->uv);
}

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}

void timer_init(struct timer *t, struct loop *l, loop_cb cb, void *ctx)
{
    *t = (struct timer){.loop = l, .cb = cb, .ctx = ctx};
}

void timer_every(struct timer *t, uint64_t first_ms, uint64_t every_ms)
{
    struct loop *l = t->loop;
    uint64_t now = uv_now(&l->uv);
    timer_stop(t);
    t->every_ms = every_ms;
    agenda_enter(&l->timers, &t->entry,
                 first_ms < UINT64_MAX - now ? now + first_ms : UINT64_MAX);
    set_alarm(l);
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
    set_fine(t->loop);
}

void timer_stop(struct timer *t)
{
    if (!t->entry.entered)
        return;
    agenda_leave(t->fine ? &t->loop->fine : &t->loop->timers, &t->entry);
    t->fine = false;
    if (t->loop->timers.first == NULL)
        set_alarm(t->loop);
}

bool timer_is_active(const struct timer *t)
{
    return t->entry.entered;
}

uint64_t timer_due_in_ms(const struct timer *t)
{
    uint64_t now = t->entry.entered ? uv_now(&t->loop->uv) : 0;
    return t->entry.due > now ? t->entry.due - now : 0;
}

static void on_closed(uv_handle_t *h)
{
    free(h); /* the handle is the first member of each */
}

static void on_ready(uv_poll_t *h, int status, int events);

static int poll_arm(struct loop_poll *p)
{
    if (p->events == 0)
        return uv_poll_stop(&p->uv);
    return uv_poll_start(&p->uv, p->events, on_ready);
}

static void on_ready(uv_poll_t *h, int status, int events)
{
    struct loop_poll *p = (struct loop_poll *)(void *)h;
    if (status < 0) {
        /* libuv stops after an error, which for a datagram socket may be no more than
         * somebody's ICMP. The owner finds out by reading or writing. */
        events = p->events;
        if (poll_arm(p) != 0)
            return;
    }
    int what = (events & UV_READABLE ? WATCH_READ : 0) |
               (events & UV_WRITABLE ? WATCH_WRITE : 0) |
               (events & UV_DISCONNECT ? WATCH_HANGUP : 0) |
               (events & UV_PRIORITIZED ? WATCH_END : 0);
    if (what != 0)
        p->cb(p->ctx, what);
}

int watch_open(struct watch *w, struct loop *l, int fd, watch_cb cb, void *ctx)
{
    struct loop_poll *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return POSTERN_ERR_NOMEM;
    p->cb = cb;
    p->ctx = ctx;
    if (uv_poll_init(&l->uv, &p->uv, fd) != 0) {
        free(p); /* libuv has not taken it in */
        return POSTERN_ERR_IO;
    }
    w->poll = p;
    return 0;
}

void watch_for(struct watch *w, int events)
{
    int wanted = (events & WATCH_READ ? UV_READABLE : 0) |
                 (events & WATCH_WRITE ? UV_WRITABLE : 0) |
                 (events & WATCH_HANGUP ? UV_DISCONNECT : 0) |
                 (events & WATCH_END ? UV_PRIORITIZED : 0);
    if (w->poll == NULL || wanted == w->poll->events)
        return;
    w->poll->events = wanted;
    (void)poll_arm(w->poll); /* fails only for a handle that is being closed */
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
    (void)uv_poll_stop(&w->poll->uv);
    uv_close((uv_handle_t *)&w->poll->uv, on_closed);
    w->poll = NULL;
}

bool watch_is_open(const struct watch *w)
{
    return w->poll != NULL;
}

void watch_in_background(struct watch *w)
{
    uv_unref((uv_handle_t *)&w->poll->uv);
}

static void on_async(uv_async_t *h)
{
    struct loop_async *a = (struct loop_async *)(void *)h;
    a->cb(a->ctx);
}

int wake_open(struct wake *w, struct loop *l, loop_cb cb, void *ctx)
{
    struct loop_async *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    a->cb = cb;
    a->ctx = ctx;
    if (uv_async_init(&l->uv, &a->uv, on_async) != 0) {
        free(a);
        return POSTERN_ERR_LIMIT;
    }
    w->async = a;
    return 0;
}

void wake_up(struct wake *w)
{
    (void)uv_async_send(&w->async->uv);
}

void wake_close(struct wake *w)
{
    if (w->async == NULL)
        return;
    uv_close((uv_handle_t *)&w->async->uv, on_closed);
    w->async = NULL;
}

bool wake_is_open(const struct wake *w)
{
    return w->async != NULL;
}

void wake_in_background(struct wake *w)
{
    uv_unref((uv_handle_t *)&w->async->uv);
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
