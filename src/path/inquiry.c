/* Who waits for brokers' answers, and until when. Knows neither broker nor words. */
#include "path/inquiry.h"

#include <stdlib.h>

enum { TICK_MS = 10, PATIENCE_MS = 1000 };

struct inquiry {
    struct list link;
    struct local_conn *conn;
    uint64_t until_ms;
};

static void inquiry_free(struct inquiry *i)
{
    list_remove(&i->link);
    free(i);
}

static void on_tick(void *ctx)
{
    struct inquiries *q = ctx;
    bool pending = q->events->pending(q->ctx);
    LIST_EACH_REMOVABLE (struct inquiry, i, next, &q->all, link) {
        if (pending && loop_now_ms(q->loop) < i->until_ms)
            continue;
        struct local_conn *c = i->conn;
        inquiry_free(i);
        q->events->answer(q->ctx, c);
    }
    if (list_empty(&q->all))
        timer_stop(&q->timer);
}

void inquiries_init(struct inquiries *q, struct loop *loop,
                    const struct inquiry_events *events, void *ctx)
{
    *q = (struct inquiries){.loop = loop, .events = events, .ctx = ctx};
    list_init(&q->all);
    timer_init(&q->timer, loop, on_tick, q);
}

void inquiries_add(struct inquiries *q, struct local_conn *c)
{
    struct inquiry *i = calloc(1, sizeof(*i));
    if (i == NULL) {
        q->events->answer(q->ctx, c);
        return;
    }
    q->events->ask(q->ctx);
    loop_refresh(q->loop);
    i->conn = c;
    i->until_ms = loop_now_ms(q->loop) + PATIENCE_MS;
    list_push(&q->all, &i->link);
    timer_every(&q->timer, 1, TICK_MS);
}

void inquiries_forget(struct inquiries *q, const struct local_conn *c)
{
    LIST_EACH_REMOVABLE (struct inquiry, i, next, &q->all, link)
        if (i->conn == c)
            inquiry_free(i);
}

void inquiries_fini(struct inquiries *q)
{
    if (q->loop == NULL)
        return;
    while (!list_empty(&q->all))
        inquiry_free(LIST_FIRST(&q->all, struct inquiry, link));
    timer_stop(&q->timer);
}
