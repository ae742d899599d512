/* Flows by port: datagrams of visitors to hosts and back; see udp_door.h. */
#include "portal/udp_door.h"

#include <stdlib.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/pktinfo.h"
#include "portal/rooms.h"

enum {
    DATAGRAM_MAX = 65535,
    DATAGRAMS_PER_EVENT = 64, /* then the other sockets get their turn */
};

struct udp_door {
    struct visits *visits;
    struct watch watch;
    int fd;
    struct addr bound;
};

static void on_datagram(void *ctx, struct call *c, const uint8_t *data, size_t len)
{
    struct visit *v = ctx;
    (void)c;
    if (v->door == NULL)
        return;
    visit_touch(v);
    v->answered = true;
    pktinfo_send(v->door->fd, &v->door->bound, data, len, &v->from, &v->local);
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

static void begin_flow(struct udp_door *d, const struct addr *from,
                       const struct addr *local, const uint8_t *data, size_t len)
{
    struct visit *v;
    if (visit_new(&v, d->visits, from, d->bound.port, true, false) != 0)
        return; /* a stranger's */
    v->door = d;
    v->local = *local;
    early_keep(&v->early, data, len);
    struct call_config cc = {
        .fd = -1, .on_answer = on_answer, .on_datagram = on_datagram, .on_end = on_end};
    visit_call(v, &cc);
}

static void take(struct udp_door *d, const struct addr *from, const struct addr *local,
                 const uint8_t *data, size_t len)
{
    struct visit *v = visit_find(d->visits, from, d->bound.port, true);
    if (v == NULL) {
        begin_flow(d, from, local, data, len);
        return;
    }
    visit_touch(v);
    if (v->answered && !v->proven)
        (void)visit_prove(v);
    if (v->open)
        (void)!call_send_datagram(v->call, data, len);
    else
        early_keep(&v->early, data, len);
}

static void on_datagrams(void *ctx, int events)
{
    struct udp_door *d = ctx;
    READ_INTO uint8_t buf[DATAGRAM_MAX];
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

int udp_door_open(struct udp_door **out, struct visits *visits, int fd,
                  const struct addr *bound)
{
    struct udp_door *d = calloc(1, sizeof(*d));
    int rc = POSTERN_ERR_NOMEM;
    if (d != NULL) {
        *d = (struct udp_door){.visits = visits, .fd = fd, .bound = *bound};
        rc = watch_start(&d->watch, visits->rooms->loop, fd, WATCH_READ, on_datagrams,
                         d);
    }
    if (rc != 0) {
        close(fd);
        free(d);
        return rc;
    }
    *out = d;
    return 0;
}

void udp_door_close(struct udp_door *d)
{
    if (d == NULL)
        return;
    LIST_EACH (struct visit, v, &d->visits->all, link)
        if (v->door == d)
            v->door = NULL;
    watch_close(&d->watch);
    close(d->fd);
    free(d);
}
