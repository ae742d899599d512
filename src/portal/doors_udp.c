/* Flows of datagrams by port: one entry and one call for each client address and port.
 */
#include <stdlib.h>
#include <string.h>

#include "io/pktinfo.h"
#include "io/loop.h"
#include "portal/doors.h"

enum { DATAGRAM_MAX = 65535, DATAGRAMS_PER_EVENT = 64 };

static struct door *door_of(struct visit *v)
{
    for (struct door *d = v->portal->doors; d != NULL; d = d->next)
        if (d->udp && d->port == v->local.port &&
            (d->bound.family == v->local.family || d->bound.family == ADDR_V6))
            return d;
    return NULL;
}

static void on_datagram(void *ctx, struct call *c, const uint8_t *data, size_t len)
{
    struct visit *v = ctx;
    struct door *d = door_of(v);
    (void)c;
    if (d == NULL)
        return;
    (void)routes_touch(v->portal->routes, v->entry, loop_now_ms(v->portal->loop));
    pktinfo_send(d->fd, &d->bound, data, len, &v->from, &v->local);
}

static void on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct visit *v = ctx;
    visit_on_answer(ctx, c, code, reason);
    if (v->open)
        early_send(&v->early, v->call);
}

static void on_end(void *ctx, struct call *c)
{
    struct visit *v = ctx;
    early_drop(&v->early);
    visit_on_end(ctx, c);
}

static struct visit *flow_new(struct door *d, const struct addr *from,
                              const struct addr *local)
{
    struct portal *p = d->portal;
    uint64_t id;
    if (routes_open(p->routes, from, d->port, true, loop_now_ms(p->loop), &id) != 0)
        return NULL;
    struct route_entry *e = routes_entry(p->routes, id);
    struct visit *v = visit_new(p, e, from);
    if (v == NULL) {
        (void)routes_close(p->routes, id);
        return NULL;
    }
    v->local = *local;
    e->owner = v;
    struct call_config cc = {
        .fd = -1, .on_answer = on_answer, .on_datagram = on_datagram, .on_end = on_end};
    if (visit_call(v, &cc) != 0) {
        v->call = NULL;
        on_end(v, NULL);
    }
    e = routes_entry(p->routes, id); /* the call may have failed at once */
    return e != NULL ? e->owner : NULL;
}

static void take(struct door *d, const struct addr *from, const struct addr *local,
                 const uint8_t *data, size_t len)
{
    const struct route_entry *e = routes_find(d->portal->routes, from, d->port, true);
    struct visit *v = e != NULL ? e->owner : flow_new(d, from, local);
    if (v == NULL || v->call == NULL)
        return; /* a stranger's, or one that has just ended */
    (void)routes_touch(v->portal->routes, v->entry, loop_now_ms(v->portal->loop));
    if (v->open)
        (void)!call_send_datagram(v->call, data, len);
    else
        early_keep(&v->early, data, len);
}

void door_on_datagrams(void *ctx, int events)
{
    struct door *d = ctx;
    uint8_t buf[DATAGRAM_MAX];
    (void)events;
    for (int i = 0; i < DATAGRAMS_PER_EVENT; i++) {
        struct addr from, local;
        ssize_t n = pktinfo_recv(d->fd, &d->bound, buf, sizeof(buf), &from, &local);
        if (n < 0)
            return;
        if (from.family != ADDR_NONE)
            take(d, &from, &local, buf, (size_t)n);
    }
}
