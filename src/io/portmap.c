/* The worker's turns: map, wait, map again; at the end unmap. */
#include "io/portmap.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/gateway.h"
#include "io/work.h"

enum { RENEW_MS = GATEWAY_LEASE_S * 500 };

struct portmap {
    struct loop *loop;
    struct timer timer;
    struct gateway_mapping mapping;
    portmap_cb cb; /* NULL once it ran */
    void *ctx;
    bool working, closed;
};

static void map(void *ctx)
{
    struct portmap *p = ctx;
    if (!p->mapping.unwanted) /* it may have waited for a thread */
        gateway_map(&p->mapping);
}

static void unmap(void *ctx)
{
    struct portmap *p = ctx;
    gateway_unmap(&p->mapping);
}

/* Nobody wants it any more: taken back, if there is something. */
static void end(struct portmap *p)
{
    if (p->mapping.by == GATEWAY_NONE || work_start(p->loop, unmap, free, p) != 0)
        free(p);
}

static void mapped(void *ctx)
{
    struct portmap *p = ctx;
    portmap_cb cb = p->cb;
    p->working = false;
    if (p->closed) {
        end(p);
        return;
    }
    timer_start(&p->timer, RENEW_MS);
    p->cb = NULL;
    if (cb == NULL)
        return;
    bool good = p->mapping.by != GATEWAY_NONE;
    struct addr external = p->mapping.external;
    cb(p->ctx, good ? &external : NULL,
       good ? gateway_protocol_name(p->mapping.by) : p->mapping.reason);
}

static void on_timer(void *ctx)
{
    struct portmap *p = ctx;
    if (!p->working)
        p->working = work_start(p->loop, map, mapped, p) == 0;
}

int portmap_open(struct portmap **out, struct loop *loop, bool tcp, uint16_t port,
                 const struct addr *peer, portmap_cb cb, void *ctx)
{
    struct portmap *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return POSTERN_ERR_NOMEM;
    p->mapping.port = port;
    p->mapping.tcp = tcp;
    p->mapping.peer = *peer;
    randombytes_buf(p->mapping.nonce, sizeof(p->mapping.nonce));
    p->cb = cb;
    p->ctx = ctx;
    p->loop = loop;
    timer_init(&p->timer, loop, on_timer, p);
    if (work_start(loop, map, mapped, p) != 0) {
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
    p->closed = p->mapping.unwanted = true;
    timer_stop(&p->timer);
    if (!p->working)
        end(p);
}
