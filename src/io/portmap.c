/* The worker's turns: map, wait, map again; at the end unmap. */
#include "io/portmap.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/gateway.h"
#include "io/loop_uv.h"

enum { RENEW_MS = GATEWAY_LEASE_S * 500 };

struct portmap {
    uv_work_t work;
    uv_timer_t *timer;
    struct gateway_mapping mapping;
    portmap_cb cb; /* NULL once it ran */
    void *ctx;
    bool working, closed;
};

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void map(uv_work_t *w)
{
    struct portmap *p = w->data;
    gateway_map(&p->mapping);
}

static void unmap(uv_work_t *w)
{
    struct portmap *p = w->data;
    gateway_unmap(&p->mapping);
}

static void gone(uv_work_t *w, int status)
{
    (void)status;
    free(w->data);
}

/* Nobody wants it any more: taken back, if there is something. */
static void end(struct portmap *p)
{
    if (p->mapping.by == GATEWAY_NONE ||
        uv_queue_work(p->work.loop, &p->work, unmap, gone) != 0)
        free(p);
}

static void on_timer(uv_timer_t *t);

static void mapped(uv_work_t *w, int status)
{
    struct portmap *p = w->data;
    portmap_cb cb = p->cb;
    p->working = false;
    if (p->closed) {
        end(p);
        return;
    }
    (void)uv_timer_start(p->timer, on_timer, RENEW_MS, 0);
    p->cb = NULL;
    if (cb == NULL)
        return;
    bool good = status == 0 && p->mapping.by != GATEWAY_NONE;
    struct addr external = p->mapping.external;
    cb(p->ctx, good ? &external : NULL,
       good ? gateway_protocol_name(p->mapping.by) : p->mapping.reason);
}

static void on_timer(uv_timer_t *t)
{
    struct portmap *p = t->data;
    if (p != NULL && !p->working)
        p->working = uv_queue_work(t->loop, &p->work, map, mapped) == 0;
}

int portmap_open(struct portmap **out, struct loop *loop, bool tcp, uint16_t port,
                 const struct addr *peer, portmap_cb cb, void *ctx)
{
    struct portmap *p = calloc(1, sizeof(*p));
    uv_timer_t *timer = malloc(sizeof(*timer));
    if (p == NULL || timer == NULL) {
        free(p);
        free(timer);
        return POSTERN_ERR_NOMEM;
    }
    p->mapping.port = port;
    p->mapping.tcp = tcp;
    p->mapping.peer = *peer;
    randombytes_buf(p->mapping.nonce, sizeof(p->mapping.nonce));
    p->cb = cb;
    p->ctx = ctx;
    p->timer = timer;
    p->work.data = p;
    (void)uv_timer_init(loop_uv(loop), timer);
    timer->data = p;
    if (uv_queue_work(loop_uv(loop), &p->work, map, mapped) != 0) {
        timer->data = NULL;
        uv_close((uv_handle_t *)timer, free_handle);
        free(p);
        return POSTERN_ERR_NOMEM;
    }
    p->working = true;
    *out = p;
    return 0;
}

void portmap_close(struct portmap *p)
{
    if (p == NULL)
        return;
    p->closed = true;
    p->timer->data = NULL;
    uv_close((uv_handle_t *)p->timer, free_handle);
    if (!p->working)
        end(p);
}
