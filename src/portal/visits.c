/* Connections and flows by port, each an entry and a call; see visits.h. */
#include "portal/visits.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/linger.h"
#include "io/log.h"
#include "io/loop.h"
#include "portal/rooms.h"
#include "portal/visitor.h"

enum {
    UDP_IDLE_MS = 60000, /* a flow has no end of its own */
    AWAITED_MS = 30000,  /* a SYN comes again after 1, 3, 7 and 15 s */
};

int visit_new(struct visit **out, struct visits *vs, const struct addr *from,
              uint16_t port, bool udp, bool proven)
{
    uint64_t id, now = loop_now_ms(vs->rooms->loop);
    int rc = routes_open(vs->routes, from, port, udp, proven, now, &id);
    struct visit *v = rc == 0 ? calloc(1, sizeof(*v)) : NULL;
    if (rc == 0 && v == NULL) {
        (void)routes_close(vs->routes, id);
        rc = POSTERN_ERR_NOMEM;
    }
    if (rc != 0) {
        if (rc != POSTERN_ERR_AGAIN)
            log_debug("what came to port %u was refused: %s", port,
                      postern_strerror(rc));
        return rc;
    }
    struct route_entry *e = routes_entry(vs->routes, id);
    const struct route_grant *g = routes_grant_by_id(vs->routes, e->grant);
    const struct portal_host *h = host_by_number(vs->rooms->hosts, g->host);
    e->owner = v;
    v->of = vs;
    v->entry = id;
    v->from = *from;
    v->began_ms = now;
    v->proven = proven;
    list_push(&vs->all, &v->link);
    (void)snprintf(v->account, sizeof(v->account), "%s", g->account);
    (void)snprintf(v->object, sizeof(v->object), "%.60s on %.60s", g->service,
                   h != NULL ? h->name : "");
    *out = v;
    return 0;
}

struct visit *visit_find(const struct visits *vs, const struct addr *from,
                         uint16_t port, bool udp)
{
    const struct route_entry *e = routes_find(vs->routes, from, port, udp);
    return e != NULL ? e->owner : NULL;
}

/* Who only has the visitor's address may not push all else out of the log. */
static bool may_tell(const struct visit *v)
{
    return v->proven || minute_tell(&v->of->unproven, loop_now_ms(v->of->rooms->loop));
}

static void tell_opened(struct visit *v)
{
    if (v->told || !may_tell(v))
        return;
    v->told = true;
    visitor_audit(v->of->rooms->audit, "opened", v->account, &v->from, v->object,
                  "by port");
}

static void tell_refused(const struct visit *v, const char *reason)
{
    if (may_tell(v))
        visitor_audit(v->of->rooms->audit, "refused", v->account, &v->from, v->object,
                      reason);
}

void visit_call(struct visit *v, const struct call_config *c)
{
    const struct visits *vs = v->of;
    const struct route_entry *e = routes_entry(vs->routes, v->entry);
    const struct route_grant *g =
        e != NULL ? routes_grant_by_id(vs->routes, e->grant) : NULL;
    struct portal_host *h =
        g != NULL ? host_by_number(vs->rooms->hosts, g->host) : NULL;
    int rc = POSTERN_ERR_CLOSED;
    Visit visit;
    visitor_visit(&visit, v->account, &v->from);
    if (h != NULL && host_reach(h)) {
        struct call_config whole = *c;
        visit.by_name = g->by_name;
        whole.service = g->service;
        whole.visit = &visit;
        whole.ctx = v;
        rc = host_call(h, &v->call, &whole);
    } else {
        tell_refused(v, HOST_AWAY);
        if (c->fd >= 0)
            linger_break(c->fd);
    }
    if (rc != 0) {
        v->call = NULL;
        c->on_end(v, NULL);
    }
}

void visit_on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct visit *v = ctx;
    const struct visits *vs = v->of;
    if (code == STREAM_OK && routes_entry(vs->routes, v->entry) == NULL) {
        call_abort(c); /* what it was opened for is closed already */
    } else if (code == STREAM_OK) {
        (void)!routes_accepted(vs->routes, v->entry);
        v->open = true;
        if (v->gate == NULL) /* else when the visitor comes in */
            tell_opened(v);
    } else {
        tell_refused(v, reason);
    }
}

void visit_on_end(void *ctx, struct call *c)
{
    struct visit *v = ctx;
    const struct visits *vs = v->of;
    char detail[VISITOR_SUM_LEN];
    if (c != NULL)
        v->stats = call_stats(c);
    if (v->told)
        visitor_audit(vs->rooms->audit, "closed", v->account, &v->from, v->object,
                      visitor_sum(v->stats.to_peer_bytes, v->stats.from_peer_bytes,
                                  loop_now_ms(vs->rooms->loop) - v->began_ms, detail));
    (void)routes_close(vs->routes, v->entry);
    list_remove(&v->link);
    free(v);
}

int visit_prove(struct visit *v)
{
    int rc = routes_prove(v->of->routes, v->entry, loop_now_ms(v->of->rooms->loop));
    v->proven = rc == 0;
    if (v->proven && v->open)
        tell_opened(v);
    return rc;
}

void visit_touch(struct visit *v)
{
    (void)routes_touch(v->of->routes, v->entry, loop_now_ms(v->of->rooms->loop));
}

/* What moved bytes since the last time is not idle. */
static void touch_if_moved(struct visit *v)
{
    struct pump_stats st = v->call != NULL ? call_stats(v->call) : v->stats;
    if (st.to_peer_bytes == v->stats.to_peer_bytes &&
        st.from_peer_bytes == v->stats.from_peer_bytes)
        return;
    v->stats = st;
    visit_touch(v);
}

void visits_sweep(struct visits *vs, uint64_t idle_ms)
{
    uint64_t now = loop_now_ms(vs->rooms->loop);
    LIST_EACH (struct visit, v, &vs->all, link) {
        touch_if_moved(v);
        if (v->awaited && now - v->began_ms > AWAITED_MS && v->call != NULL)
            call_abort(v->call); /* who does not come when let in has lost interest */
    }
    (void)routes_expire(vs->routes, false, now, idle_ms);
    (void)routes_expire(vs->routes, true, now,
                        idle_ms < UDP_IDLE_MS ? idle_ms : UDP_IDLE_MS);
}
