/* Listeners, gates and grants by port; see doors.h. */
#include "portal/doors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/broker.h"
#include "io/acceptor.h"
#include "io/gate.h"
#include "io/helper.h"
#include "io/linger.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sock.h"
#include "portal/names.h"
#include "portal/rooms.h"
#include "portal/udp_door.h"
#include "portal/visitor.h"

enum {
    BACKLOG = 128,   /* while the loop does something else */
    STEP = 10000,    /* so that a person sees which port it stands for */
    STEPS = 6,       /* as many as there are below 65,536 */
    NEIGHBOURS = 64, /* with the port itself */
};

struct doors {
    const struct rooms *rooms;
    struct visits visits;
    struct list all; /* struct door */
};

/* A listener, or a UDP socket, on a port that somebody chose. */
struct door {
    struct list link;
    struct doors *of;
    struct acceptor *acceptor; /* TCP */
    struct udp_door *flows;    /* UDP */
    struct addr bound;
    struct gate *gate; /* holds SYNs until the host's server has accepted; or NULL */
    uint16_t port;
    bool udp;
    bool dual;    /* IPv4 comes to it as well */
    bool ungated; /* for want of a helper; doors_sweep looks for one */
};

/* --------------------------------------------------------------------- connections */

/* One that the gate let in, as its host's server has accepted it. */
static bool attach_awaited(struct door *d, const struct addr *from, int fd)
{
    struct visit *v = visit_find(&d->of->visits, from, d->port, false);
    if (v == NULL || !v->awaited || v->call == NULL)
        return false;
    v->awaited = false;
    if (visit_prove(v) == 0) {
        (void)!call_attach(v->call, fd);
    } else {
        linger_break(fd);
        call_abort(v->call);
    }
    return true;
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct door *d = ctx;
    if (from->family == ADDR_NONE) {
        linger_break(fd);
        return;
    }
    if (attach_awaited(d, from, fd))
        return;
    struct visit *v;
    if (visit_new(&v, &d->of->visits, from, d->port, false, true) != 0) {
        linger_break(fd);
        return;
    }
    struct call_config cc = {.fd = fd,
                             .answer_first = true,
                             .on_answer = visit_on_answer,
                             .on_end = visit_on_end};
    visit_call(v, &cc);
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
    struct visit *v = visit_find(&d->of->visits, from, d->port, false);
    if (v == NULL || (v->gate != d->gate && !v->awaited))
        return false;
    if (v->awaited)
        gate_verdict(d->gate, syn, GATE_ACCEPT);
    else
        v->syn = syn;
    return true;
}

/*
 * A client knocks: its host is asked before it is answered. Anybody can send SYNs in
 * another's name, so few wait like that: any further one is let on to the kernel, which
 * keeps nothing of it (SYN cookies), and the host is asked once the client has shown
 * that it is there.
 */
static void on_syn(void *ctx, uint64_t syn, const struct addr *from)
{
    struct door *d = ctx;
    if (comes_again(d, syn, from))
        return;
    struct visit *v;
    int rc = visit_new(&v, &d->of->visits, from, d->port, false, false);
    if (rc != 0) {
        gate_verdict(d->gate, syn, rc == POSTERN_ERR_AGAIN ? GATE_ACCEPT : GATE_REFUSE);
        return;
    }
    v->gate = d->gate;
    v->syn = syn;
    struct call_config cc = {
        .fd = -1, .on_answer = on_gated_answer, .on_end = on_gated_end};
    visit_call(v, &cc);
}

static void gate_forget(struct door *d)
{
    LIST_EACH (struct visit, v, &d->of->visits.all, link)
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

/* The table ended an entry. */
static void on_route_end(void *ctx, const struct route_entry *e, enum route_end why)
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
    list_remove(&d->link);
    udp_door_close(d->flows);
    acceptor_close(d->acceptor);
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

static struct door *door_find(const struct doors *ds, uint16_t port, bool udp)
{
    LIST_EACH (struct door, d, &ds->all, link)
        if (d->port == port && d->udp == udp)
            return d;
    return NULL;
}

/* Before the port listens, and again where the gate was lost. */
static void open_gate(struct door *d)
{
    struct fault f = {0};
    struct addr at = d->bound;
    if (d->udp)
        return;
    if (d->dual)
        at = (struct addr){.port = d->port};
    int rc = gate_open(&d->gate, d->of->rooms->loop, &at, on_syn, on_gate_lost, d, &f);
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
    struct acceptor_config c = {.loop = d->of->rooms->loop,
                                .fd = fd,
                                .who = "the portal",
                                .on_connection = on_connection,
                                .ctx = d};
    return d->udp ? udp_door_open(&d->flows, &d->of->visits, fd, &d->bound)
                  : acceptor_open(&d->acceptor, &c);
}

static int open_at(struct doors *ds, const struct addr *a, bool dual, bool udp)
{
    struct door *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    d->of = ds;
    d->bound = *a;
    d->port = a->port;
    d->dual = dual;
    d->udp = udp;
    open_gate(d);
    int fd = bind_port(a, dual, udp);
    int rc = fd < 0 ? fd : start_listening(d, fd);
    if (rc != 0) {
        gate_close(d->gate);
        free(d);
        return rc;
    }
    list_push(&ds->all, &d->link);
    return 0;
}

/* On every address where the broker itself listens, or on none. */
static int door_open(struct doors *ds, uint16_t port, bool udp)
{
    struct addr a;
    bool dual;
    int rc = 0;
    if (door_find(ds, port, udp) != NULL)
        return 0;
    for (size_t i = 0; rc == 0 && broker_bound(ds->rooms->broker, i, &a, &dual); i++) {
        a.port = port;
        rc = open_at(ds, &a, dual, udp);
    }
    return rc;
}

/* Closes listeners that no grant needs any more. */
static void trim(struct doors *ds)
{
    LIST_EACH_REMOVABLE (struct door, d, next, &ds->all, link)
        if (!routes_port_in_use(ds->visits.routes, d->port, d->udp))
            door_close(d);
}

/* -------------------------------------------------------------------------- grants */

static int try_grant(struct doors *ds, struct route_grant *g)
{
    int rc = door_open(ds, g->port, g->udp);
    if (rc == 0)
        rc = routes_grant(ds->visits.routes, g, NULL);
    trim(ds);
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
static bool is_held(const struct doors *ds, const struct route_grant *want,
                    uint16_t port)
{
    const struct route_grant *g =
        routes_holder(ds->visits.routes, &want->client, port, want->udp);
    return g != NULL &&
           (g->host != want->host || strcmp(g->service, want->service) != 0 ||
            strcmp(g->account, want->account) != 0);
}

static int grant_near(struct doors *ds, struct route_grant *g, uint16_t own_port)
{
    int rc = POSTERN_ERR_INUSE;
    for (unsigned n = 0; n <= STEPS * NEIGHBOURS; n++) {
        g->port = candidate(own_port, n);
        if (is_held(ds, g, g->port))
            continue;
        rc = try_grant(ds, g);
        if (rc != POSTERN_ERR_INUSE && rc != POSTERN_ERR_PERM)
            return rc;
    }
    return rc;
}

const struct route_grant *door_granted(const struct doors *ds, const struct login *l,
                                       const struct portal_host *h, const char *service)
{
    const struct route_grant *g;
    for (uint64_t after = 0;
         (g = routes_next_grant(ds->visits.routes, l->id, after)) != NULL;
         after = g->id)
        if (g->host == h->number && strcmp(g->service, service) == 0)
            return g;
    return NULL;
}

/* For both logs: what was opened, and why it is another port than the service's. */
static void note_chosen(struct doors *ds, const struct login *l, struct portal_host *h,
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
    visitor_audit(ds->rooms->audit, "chosen", l->account, &l->client, g->service,
                  detail);
    ask_note(ds->rooms->asks, h, l->account, &l->client, "chosen", object);
}

int door_grant(struct doors *ds, const struct login *l, struct portal_host *h,
               int service, struct fault *f)
{
    const struct portal_service *s = &h->list->services[service];
    struct route_grant g = {
        .login = l->id, .client = l->client, .udp = s->udp, .host = h->number};
    if (door_granted(ds, l, h, s->name) != NULL)
        return 0; /* a page that was sent twice ends nothing */
    (void)snprintf(g.service, sizeof(g.service), "%s", s->name);
    (void)snprintf(g.account, sizeof(g.account), "%s", l->account);
    g.by_name = s->tls && names_are_given(ds->rooms->names) &&
                !names_lead(ds->rooms->names, l, h, service);
    bool held = is_held(ds, &g, s->port);
    int rc = grant_near(ds, &g, s->port);
    if (rc == POSTERN_ERR_LIMIT)
        return fault_set(f, rc, "close another first", "too many services are open");
    if (rc != 0)
        return fault_set(f, rc, "ask the broker's operator to free one",
                         "no port near %u can be had at the broker", s->port);
    note_chosen(ds, l, h, &g, s->port, held);
    return 0;
}

void doors_move_login(struct doors *ds, const struct login *l)
{
    struct route_grant kept[ROUTES_GRANTS_LOGIN_MAX];
    size_t n = 0;
    const struct route_grant *g;
    for (uint64_t after = 0;
         n < ROUTES_GRANTS_LOGIN_MAX &&
         (g = routes_next_grant(ds->visits.routes, l->id, after)) != NULL;
         after = g->id)
        kept[n++] = *g;
    (void)routes_give_up_login(ds->visits.routes, l->id);
    for (size_t i = 0; i < n; i++) {
        struct portal_host *h = host_by_number(ds->rooms->hosts, kept[i].host);
        uint16_t before = kept[i].port;
        kept[i].client = l->client;
        bool held = is_held(ds, &kept[i], before);
        if (h == NULL)
            continue;
        if (grant_near(ds, &kept[i], before) != 0)
            visitor_audit(ds->rooms->audit, "refused", l->account, &l->client,
                          kept[i].service,
                          "no port for it can be had at the new address");
        else if (kept[i].port != before)
            note_chosen(ds, l, h, &kept[i], before, held);
    }
    trim(ds);
}

void door_give_up(struct doors *ds, const struct login *l, const struct portal_host *h,
                  const char *service)
{
    const struct route_grant *g = door_granted(ds, l, h, service);
    if (g != NULL)
        (void)routes_give_up(ds->visits.routes, g->id);
    trim(ds);
}

bool door_is_held(const struct doors *ds, const struct addr *client, uint16_t port,
                  bool udp)
{
    return routes_holder(ds->visits.routes, client, port, udp) != NULL;
}

static void check_login(struct doors *ds, const struct login *l)
{
    uint64_t after = 0;
    const struct route_grant *g;
    while ((g = routes_next_grant(ds->visits.routes, l->id, after)) != NULL) {
        const struct portal_host *h = host_by_number(ds->rooms->hosts, g->host);
        after = g->id;
        if (h == NULL || !login_may(l, h, host_service(h, g->service)))
            (void)routes_revoke(ds->visits.routes, g->id);
    }
}

void doors_check(struct doors *ds)
{
    const struct login *l = NULL;
    while ((l = logins_next(ds->rooms->logins, l)) != NULL)
        check_login(ds, l);
    trim(ds);
}

void doors_forget_host(struct doors *ds, uint32_t number)
{
    (void)routes_revoke_host(ds->visits.routes, number);
}

void doors_end_login(struct doors *ds, const struct login *l)
{
    (void)routes_give_up_login(ds->visits.routes, l->id);
    trim(ds);
}

bool doors_in_use(const struct doors *ds, const struct login *l)
{
    return routes_login_entries(ds->visits.routes, l->id) > 0;
}

/* --------------------------------------------------------------------- open, close */

int doors_new(struct doors **out, const struct rooms *rooms)
{
    uint8_t secret[ROUTES_SECRET_LEN];
    struct doors *ds = calloc(1, sizeof(*ds));
    if (ds == NULL)
        return POSTERN_ERR_NOMEM;
    ds->rooms = rooms;
    ds->visits.rooms = rooms;
    list_init(&ds->visits.all);
    list_init(&ds->all);
    randombytes_buf(secret, sizeof(secret));
    int rc = routes_new(&ds->visits.routes, secret, on_route_end, ds);
    if (rc != 0)
        free(ds);
    else
        *out = ds;
    return rc;
}

void doors_sweep(struct doors *ds, uint64_t idle_ms)
{
    visits_sweep(&ds->visits, idle_ms);
    LIST_EACH (struct door, d, &ds->all, link)
        if (d->ungated && helper_can(PRIVILEGE_CAN_FILTER))
            open_gate(d);
}

void doors_close(struct doors *ds)
{
    while (ds != NULL && !list_empty(&ds->all))
        door_close(LIST_FIRST(&ds->all, struct door, link));
}

void doors_free(struct doors *ds)
{
    if (ds == NULL)
        return;
    routes_free(ds->visits.routes);
    free(ds);
}
