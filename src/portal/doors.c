/*
 * Services by port: listeners on the services' own ports, and a layer-4 router behind
 * them. Who may come in, and where that leads, is in the table (core/routes.h); here
 * are the sockets. A connection is handed on when the host's server has accepted, and
 * reset when it has not.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/linger.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/gate.h"
#include "io/helper.h"
#include "io/sock.h"
#include "portal/doors.h"

enum {
    BACKLOG = 128,
    STEP = 10000,
    STEPS = 6,       /* as many as there are below 65,536 */
    NEIGHBOURS = 64, /* with the port itself */
    UDP_IDLE_MS = 60000,
    AWAITED_MS = 30000
};

/* --------------------------------------------------------------------- connections */

struct visit *visit_new(struct portal *p, const struct route_entry *e,
                        const struct addr *from)
{
    const struct route_grant *g = routes_grant_by_id(p->routes, e->grant);
    struct portal_host *h = host_by_number(p, g->host);
    struct visit *v = h != NULL ? calloc(1, sizeof(*v)) : NULL;
    if (v == NULL)
        return NULL;
    v->portal = p;
    v->entry = e->id;
    v->from = *from;
    v->began_ms = loop_now_ms(p->loop);
    v->next = p->visits;
    v->at = &p->visits;
    if (v->next != NULL)
        v->next->at = &v->next;
    p->visits = v;
    (void)snprintf(v->account, sizeof(v->account), "%s", g->account);
    (void)snprintf(v->object, sizeof(v->object), "%.60s on %.60s", g->service, h->name);
    return v;
}

/* Starts the call; `v` lives until visit_on_end. */
int visit_call(struct visit *v, const struct call_config *cc)
{
    struct portal *p = v->portal;
    const struct route_entry *e = routes_entry(p->routes, v->entry);
    const struct route_grant *g =
        e != NULL ? routes_grant_by_id(p->routes, e->grant) : NULL;
    struct portal_host *h = g != NULL ? host_by_number(p, g->host) : NULL;
    struct peer *peer = h != NULL ? host_peer(h) : NULL;
    Visit visit;
    if (peer == NULL) {
        portal_audit(p, "refused", v->account, &v->from, v->object, HOST_AWAY);
        if (cc->fd >= 0)
            linger_break(cc->fd);
        return POSTERN_ERR_CLOSED;
    }
    portal_visit(&visit, v->account, &v->from);
    visit.by_name = g->by_name;
    struct call_config whole = *cc;
    whole.peer = peer;
    whole.service = g->service;
    whole.visit = &visit;
    whole.ctx = v;
    return call_start(&v->call, p->calls, &whole);
}

void visit_on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct visit *v = ctx;
    if (code == STREAM_OK && routes_entry(v->portal->routes, v->entry) == NULL) {
        call_abort(c); /* what it was opened for is closed already */
    } else if (code == STREAM_OK) {
        (void)!routes_accepted(v->portal->routes, v->entry);
        v->open = true;
        portal_audit(v->portal, "opened", v->account, &v->from, v->object, "by port");
    } else {
        portal_audit(v->portal, "refused", v->account, &v->from, v->object, reason);
    }
}

void visit_on_end(void *ctx, struct call *c)
{
    struct visit *v = ctx;
    struct portal *p = v->portal;
    char detail[96];
    if (c != NULL)
        v->stats = call_stats(c);
    if (v->open) {
        (void)snprintf(detail, sizeof(detail), "%llu bytes there, %llu back, %llu s",
                       (unsigned long long)v->stats.to_peer_bytes,
                       (unsigned long long)v->stats.from_peer_bytes,
                       (unsigned long long)(loop_now_ms(p->loop) - v->began_ms) / 1000);
        portal_audit(p, "closed", v->account, &v->from, v->object, detail);
    }
    (void)routes_close(p->routes, v->entry);
    *v->at = v->next;
    if (v->next != NULL)
        v->next->at = v->at;
    free(v);
}

/* One that the gate let in, as its host's server has accepted it. */
static bool attach_awaited(struct door *d, const struct addr *from, int fd)
{
    const struct route_entry *e = routes_find(d->portal->routes, from, d->port, false);
    struct visit *v = e != NULL ? e->owner : NULL;
    if (v == NULL || !v->awaited || v->call == NULL)
        return false;
    v->awaited = false;
    (void)!call_attach(v->call, fd);
    return true;
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct door *d = ctx;
    struct portal *p = d->portal;
    uint64_t id;
    if (from->family == ADDR_NONE) {
        linger_break(fd);
        return;
    }
    if (attach_awaited(d, from, fd))
        return;
    int rc = routes_open(p->routes, from, d->port, false, loop_now_ms(p->loop), &id);
    struct route_entry *e = rc == 0 ? routes_entry(p->routes, id) : NULL;
    struct visit *v = e != NULL ? visit_new(p, e, from) : NULL;
    if (v == NULL) {
        log_debug("a connection to port %u was refused: %s", d->port,
                  postern_strerror(rc));
        if (rc == 0)
            (void)routes_close(p->routes, id);
        linger_break(fd);
        return;
    }
    e->owner = v;
    struct call_config cc = {.fd = fd,
                             .answer_first = true,
                             .on_answer = visit_on_answer,
                             .on_end = visit_on_end};
    if (visit_call(v, &cc) != 0) {
        v->call = NULL;
        visit_on_end(v, NULL);
    }
}

/* ------------------------------------------------------------------------ the gate */

static void decide(struct visit *v, enum gate_verdict verdict)
{
    if (v->gate != NULL)
        gate_verdict(v->gate, v->syn, verdict);
    v->gate = NULL;
}

static void on_gated_answer(void *ctx, struct call *c, unsigned code,
                            const char *reason)
{
    struct visit *v = ctx;
    visit_on_answer(ctx, c, code, reason);
    v->awaited = v->open;
    decide(v, v->open ? GATE_ACCEPT : GATE_REFUSE);
}

static void on_gated_end(void *ctx, struct call *c)
{
    decide(ctx, GATE_REFUSE);
    visit_on_end(ctx, c);
}

/* The SYN before was dropped, as the host took longer than one is held. */
static bool comes_again(struct door *d, uint64_t syn, const struct addr *from)
{
    const struct route_entry *e = routes_find(d->portal->routes, from, d->port, false);
    struct visit *v = e != NULL ? e->owner : NULL;
    if (v == NULL || (v->gate != d->gate && !v->awaited))
        return false;
    if (v->awaited)
        gate_verdict(d->gate, syn, GATE_ACCEPT);
    else
        v->syn = syn;
    return true;
}

/* A client knocks: its host is asked before it is answered. */
static void on_syn(void *ctx, uint64_t syn, const struct addr *from)
{
    struct door *d = ctx;
    struct portal *p = d->portal;
    uint64_t id;
    if (comes_again(d, syn, from))
        return;
    int rc = routes_open(p->routes, from, d->port, false, loop_now_ms(p->loop), &id);
    struct route_entry *e = rc == 0 ? routes_entry(p->routes, id) : NULL;
    struct visit *v = e != NULL ? visit_new(p, e, from) : NULL;
    if (v == NULL) {
        log_debug("a SYN to port %u was refused: %s", d->port, postern_strerror(rc));
        if (rc == 0)
            (void)routes_close(p->routes, id);
        gate_verdict(d->gate, syn, GATE_REFUSE);
        return;
    }
    e->owner = v;
    v->gate = d->gate;
    v->syn = syn;
    struct call_config cc = {
        .fd = -1, .on_answer = on_gated_answer, .on_end = on_gated_end};
    if (visit_call(v, &cc) != 0) {
        v->call = NULL;
        on_gated_end(v, NULL);
    }
}

static void gate_forget(struct door *d)
{
    for (struct visit *v = d->portal->visits; v != NULL; v = v->next)
        if (v->gate == d->gate)
            v->gate = NULL;
    gate_close(d->gate);
    d->gate = NULL;
}

static void on_gate_lost(void *ctx)
{
    struct door *d = ctx;
    gate_forget(d);
    d->ungated = true;
    log_debug(
        "without the privileged helper connections to port %u are accepted before "
        "their host has answered",
        d->port);
}

void doors_on_route_end(void *ctx, const struct route_entry *e, enum route_end why)
{
    struct visit *v = e->owner;
    (void)ctx, (void)why;
    if (v != NULL && v->call != NULL)
        call_abort(v->call); /* visit_on_end follows */
}

/* ----------------------------------------------------------------------- listeners */

static void door_close(struct door *d)
{
    if (d->gate != NULL)
        gate_forget(d);
    *d->at = d->next;
    if (d->next != NULL)
        d->next->at = d->at;
    if (d->udp) {
        watch_close(&d->watch);
        close(d->fd);
    } else {
        acceptor_close(d->acceptor);
    }
    free(d);
}

static int bind_port(const struct addr *a, bool dual, bool udp)
{
    struct sock_options o = {.dual = dual, .tells_own = udp, .backlog = BACKLOG};
    int fd = udp ? sock_udp(a, &o) : sock_listen(a, &o);
    return fd >= 0 || fd == POSTERN_ERR_PERM || fd == POSTERN_ERR_LIMIT
               ? fd
               : POSTERN_ERR_INUSE;
}

static struct door *door_find(struct portal *p, uint16_t port, bool udp)
{
    for (struct door *d = p->doors; d != NULL; d = d->next)
        if (d->port == port && d->udp == udp)
            return d;
    return NULL;
}

/*
 * Before the port listens, and again where the gate was lost. A gate holds a port of
 * the whole machine: it stands only where the whole port is ours.
 */
static void open_gate(struct door *d)
{
    static const uint8_t any[16];
    struct fault f = {0};
    const struct door *other = door_find(d->portal, d->port, false);
    if (d->udp || memcmp(d->bound.ip, any, sizeof(any)) != 0 ||
        (other != NULL && other != d))
        return;
    int rc = gate_open(&d->gate, d->portal->loop, d->port, on_syn, on_gate_lost, d, &f);
    d->ungated = rc == POSTERN_ERR_PERM;
    if (rc != 0) {
        d->gate = NULL;
        log_debug("connections to port %u are accepted before their host has answered: "
                  "%s",
                  d->port, f.what);
    }
}

/* Owns `fd`. */
static int start_listening(struct door *d, int fd)
{
    struct portal *p = d->portal;
    if (!d->udp) {
        struct acceptor_config c = {.loop = p->loop,
                                    .fd = fd,
                                    .who = "the portal",
                                    .on_connection = on_connection,
                                    .ctx = d};
        return acceptor_open(&d->acceptor, &c);
    }
    d->fd = fd;
    int rc = watch_start(&d->watch, p->loop, fd, WATCH_READ, door_on_datagrams, d);
    if (rc != 0)
        close(fd);
    return rc;
}

static int open_at(struct portal *p, const struct addr *a, bool dual, bool udp)
{
    struct door *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    d->portal = p;
    d->bound = *a;
    d->port = a->port;
    d->udp = udp;
    open_gate(d);
    int fd = bind_port(a, dual, udp);
    int rc = fd < 0 ? fd : start_listening(d, fd);
    if (rc != 0) {
        gate_close(d->gate);
        free(d);
        return rc;
    }
    d->next = p->doors;
    d->at = &p->doors;
    if (d->next != NULL)
        d->next->at = &d->next;
    p->doors = d;
    return 0;
}

/* On every address where the broker itself listens, or on none. */
static int door_open(struct portal *p, uint16_t port, bool udp)
{
    struct addr a;
    bool dual;
    int rc = 0;
    if (door_find(p, port, udp) != NULL)
        return 0;
    for (size_t i = 0; rc == 0 && broker_bound(p->broker, i, &a, &dual); i++) {
        a.port = port;
        rc = open_at(p, &a, dual, udp);
    }
    return rc;
}

void doors_trim(struct portal *p)
{
    struct door *next;
    for (struct door *d = p->doors; d != NULL; d = next) {
        next = d->next;
        if (!routes_port_in_use(p->routes, d->port, d->udp))
            door_close(d);
    }
}

/* -------------------------------------------------------------------------- grants */

static int try_grant(struct portal *p, struct route_grant *g)
{
    int rc = door_open(p, g->port, g->udp);
    if (rc == 0)
        rc = routes_grant(p->routes, g, NULL);
    doors_trim(p);
    return rc;
}

/*
 * The `n`th port to try in place of `own`: 10,000 higher, 20,000 and so on, round to
 * 10,000 after the last, and then the neighbours of these. 0: there is none.
 */
static uint16_t candidate(uint16_t own, unsigned n)
{
    if (n == 0)
        return own;
    unsigned port = own + (n - 1) % STEPS * STEP + STEP + (n - 1) / STEPS;
    while (port > 65535)
        port -= STEPS * STEP;
    return (uint16_t)port;
}

/* Another's, so that a listener there would be for nothing? */
static bool is_held(const struct portal *p, const struct route_grant *want,
                    uint16_t port)
{
    const struct route_grant *g =
        routes_holder(p->routes, &want->client, port, want->udp);
    return g != NULL &&
           (g->host != want->host || strcmp(g->service, want->service) != 0 ||
            strcmp(g->account, want->account) != 0);
}

static int grant_near(struct portal *p, struct route_grant *g, uint16_t own_port)
{
    int rc = POSTERN_ERR_INUSE;
    for (unsigned n = 0; n <= STEPS * NEIGHBOURS; n++) {
        g->port = candidate(own_port, n);
        if (is_held(p, g, g->port))
            continue;
        rc = try_grant(p, g);
        if (rc != POSTERN_ERR_INUSE && rc != POSTERN_ERR_PERM)
            return rc;
    }
    return rc;
}

const struct route_grant *door_granted(struct portal *p, const struct login *l,
                                       const struct portal_host *h, const char *service)
{
    const struct route_grant *g;
    for (uint64_t after = 0; (g = routes_next_grant(p->routes, l->id, after)) != NULL;
         after = g->id)
        if (g->host == h->number && strcmp(g->service, service) == 0)
            return g;
    return NULL;
}

/* For both logs: what was opened, and why it is another port than the service's. */
static void note_chosen(struct portal *p, const struct login *l, struct portal_host *h,
                        const struct route_grant *g, uint16_t own_port, bool held)
{
    char detail[128], object[128];
    const char *why = "";
    if (held)
        why = ": another account or service has its own port at this address";
    else if (g->port != own_port)
        why = ": its own port is taken at the broker";
    (void)snprintf(detail, sizeof(detail), "%.30s, port %u%s", h->name, g->port, why);
    (void)snprintf(object, sizeof(object), "%.60s at port %u", g->service, g->port);
    portal_audit(p, "chosen", l->account, &l->client, g->service, detail);
    host_note(h, l->account, &l->client, "chosen", object);
}

int door_grant(struct portal *p, struct login *l, struct portal_host *h, int service,
               uint16_t *port, struct fault *f)
{
    const struct portal_service *s = &h->list->services[service];
    const struct route_grant *has = door_granted(p, l, h, s->name);
    struct route_grant g = {
        .login = l->id, .client = l->client, .udp = s->udp, .host = h->number};
    if (has != NULL) { /* a page that was sent twice ends nothing */
        *port = has->port;
        return 0;
    }
    (void)snprintf(g.service, sizeof(g.service), "%s", s->name);
    (void)snprintf(g.account, sizeof(g.account), "%s", l->account);
    g.by_name = s->tls && p->domain[0] != '\0' && !names_lead(p, l, h, service);
    bool held = is_held(p, &g, s->port);
    int rc = grant_near(p, &g, s->port);
    if (rc == POSTERN_ERR_LIMIT)
        return fault_set(f, rc, "close another first", "too many services are open");
    if (rc != 0)
        return fault_set(f, rc, "ask the broker's operator to free one",
                         "no port near %u can be had at the broker", s->port);
    *port = g.port;
    note_chosen(p, l, h, &g, s->port, held);
    return 0;
}

void door_move(struct portal *p, struct login *l)
{
    struct route_grant kept[ROUTES_GRANTS_LOGIN_MAX];
    size_t n = 0;
    const struct route_grant *g;
    for (uint64_t after = 0; n < ROUTES_GRANTS_LOGIN_MAX &&
                             (g = routes_next_grant(p->routes, l->id, after)) != NULL;
         after = g->id)
        kept[n++] = *g;
    (void)routes_give_up_login(p->routes, l->id);
    for (size_t i = 0; i < n; i++) {
        struct portal_host *h = host_by_number(p, kept[i].host);
        uint16_t before = kept[i].port;
        kept[i].client = l->client;
        bool held = is_held(p, &kept[i], before);
        if (h == NULL)
            continue;
        if (grant_near(p, &kept[i], before) != 0)
            portal_audit(p, "refused", l->account, &l->client, kept[i].service,
                         "no port for it can be had at the new address");
        else if (kept[i].port != before)
            note_chosen(p, l, h, &kept[i], before, held);
    }
    doors_trim(p);
}

/* --------------------------------------------------------------------- open, close */

/* A client that did not come when it was let in has lost interest. */
static bool is_overdue(const struct visit *v, uint64_t now)
{
    return v->awaited && now - v->began_ms > AWAITED_MS;
}

/* What moved bytes since the last time is not idle. */
static void touch(struct visit *v, uint64_t now)
{
    struct pump_stats st = v->call != NULL ? call_stats(v->call) : v->stats;
    if (st.to_peer_bytes == v->stats.to_peer_bytes &&
        st.from_peer_bytes == v->stats.from_peer_bytes)
        return;
    v->stats = st;
    (void)routes_touch(v->portal->routes, v->entry, now);
}

void doors_sweep(struct portal *p, uint64_t idle_ms)
{
    uint64_t now = loop_now_ms(p->loop);
    for (struct visit *v = p->visits; v != NULL; v = v->next)
        touch(v, now);
    for (struct visit *v = p->visits; v != NULL; v = v->next)
        if (is_overdue(v, now) && v->call != NULL)
            call_abort(v->call);
    for (struct door *d = p->doors; d != NULL; d = d->next)
        if (d->ungated && helper_can(PRIVILEGE_CAN_FILTER))
            open_gate(d);
    (void)routes_expire(p->routes, false, now, idle_ms);
    (void)routes_expire(p->routes, true, now,
                        idle_ms < UDP_IDLE_MS ? idle_ms : UDP_IDLE_MS);
}

void doors_close(struct portal *p)
{
    while (p->doors != NULL)
        door_close(p->doors);
}
