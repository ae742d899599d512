/*
 * The client's daemon: a peer for each host in the book, a loopback address for each
 * host, a forward for each of its services, names for them, and a local socket through
 * which other commands use the same sessions.
 */
#include "client/up.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/client_words.h"
#include "client/forward.h"
#include "client/dns_server.h"
#include "client/up_figures.h"
#include "core/list.h"
#include "io/clock.h"
#include "io/lack.h"
#include "io/local.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/scrape.h"
#include "io/systemd.h"
#include "path/inquiry.h"
#include "path/uplink_words.h"

enum {
    BOOK_TICK_MS = 1000,
    WORD_TICKS = 2, /* who waits for a stream's end hears so often that we live */
    HOSTS_MAX = 256,
    PRIVILEGED = 1024,
    PORT_SHIFT = 10000,
    PORTS_TRIED = 64
};

struct door {
    struct list link;
    struct forward *forward;
    struct peer *peer;
    struct book_service service;
};

struct up {
    struct client *client;
    struct calls *calls;
    struct local_server *local;
    struct inquiries asking;
    struct dns_server *dns;
    struct naming *naming;
    struct scrape *scrape;
    struct up_figures figures;
    struct list doors;       /* the newest first */
    struct list openings;    /* struct opening */
    struct list waiters;     /* the same, answered: for its end */
    struct timer tick, beat; /* beat: for systemd */
    unsigned ticks;
    int64_t version;
    int lock;
    struct fault told; /* of the broker, since a session stood last */
};

/* One request to open a connection, or to hear what becomes of others. */
struct opening {
    struct list link; /* in `waiters` while it is to be told; else in `openings` */
    struct up *up;
    struct local_conn *conn; /* NULL once it went away */
    struct peer *peer;
    struct call *call; /* NULL: it only hears */
    bool until_end;
};

/* 127.80.x.y of a host: stable, as it comes from the key by which it was joined. */
static bool host_address(struct up *u, const char *name, struct addr *a)
{
    struct book_host h;
    struct fault f = {0};
    if (book_find(client_book(u->client), name, &h, &f) != 0 ||
        strcmp(h.name, name) != 0)
        return false;
    *a = (struct addr){.family = ADDR_V4, .ip = {127, 80, 0, 0}};
    a->ip[2] = (uint8_t)(1 + h.first_key[0] % 254); /* 127.80.0.x is ours */
    a->ip[3] = (uint8_t)(1 + h.first_key[1] % 254);
    return true;
}

/* ------------------------------------------------------------------------ services */

static void door_free(struct door *d)
{
    list_remove(&d->link);
    forward_close(d->forward);
    free(d);
}

static struct door *find_door(struct up *u, const struct peer *p,
                              const struct book_service *s)
{
    LIST_EACH (struct door, d, &u->doors, link)
        if (d->peer == p && d->service.port == s->port && d->service.udp == s->udp &&
            strcmp(d->service.name, s->name) == 0)
            return d;
    return NULL;
}

static void tell_service(struct up *u, const struct door *d)
{
    struct event e;
    struct addr at;
    forward_local(d->forward, &at);
    event_begin(&e, "service");
    event_text(&e, "host", peer_name(d->peer));
    event_text(&e, "name", d->service.name);
    event_int(&e, "port", d->service.port);
    event_text(&e, "protocol", d->service.udp ? "udp" : "tcp");
    event_addr(&e, "local", &at);
    events_print(client_out(u->client), &e);
}

/* The next port that none of the host's services has for its own; 0: there is none. */
static uint16_t port_after(uint16_t port, const struct book_service *list, size_t n,
                           bool udp)
{
    bool theirs = true;
    while (theirs && port != 0) {
        port++;
        theirs = false;
        for (size_t i = 0; i < n && !theirs; i++)
            theirs = list[i].port == port && list[i].udp == udp;
    }
    return port;
}

/* Its own port, higher where that needs a privilege, or the next that is free. */
static int open_near(struct door *d, struct forward_config *fc,
                     const struct book_service *list, size_t n, struct fault *f)
{
    int rc = forward_open(&d->forward, fc, f);
    if (rc == POSTERN_ERR_PERM && fc->local.port < PRIVILEGED) {
        fc->local.port = (uint16_t)(fc->local.port + PORT_SHIFT);
        rc = forward_open(&d->forward, fc, f);
    }
    for (int i = 0; i < PORTS_TRIED && rc == POSTERN_ERR_INUSE; i++) {
        fc->local.port = port_after(fc->local.port, list, n, fc->udp);
        if (fc->local.port == 0)
            break;
        rc = forward_open(&d->forward, fc, f);
    }
    if (rc == POSTERN_ERR_INUSE)
        rc = fault_set(f, rc, "end a program that listens there, and restart this one",
                       "no local port is free for %s of %s", fc->service, fc->host);
    return rc;
}

static void open_door(struct up *u, struct peer *p, const struct book_service *s,
                      const struct book_service *list, size_t n)
{
    struct fault f = {0};
    struct door *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return;
    struct forward_config fc = {.loop = client_loop(u->client),
                                .calls = u->calls,
                                .peer = p,
                                .host = peer_name(p),
                                .service = s->name,
                                .udp = s->udp,
                                .out = client_out(u->client)};
    if (!host_address(u, peer_name(p), &fc.local)) {
        free(d);
        return;
    }
    fc.local.port = s->port;
    int rc = open_near(d, &fc, list, n, &f);
    if (rc != 0) {
        log_fault(LOG_LEVEL_WARN, &f);
        free(d);
        return;
    }
    d->peer = p;
    d->service = *s;
    list_push_first(&u->doors, &d->link);
    tell_service(u, d);
}

static void set_services(struct up *u, struct peer *p, const struct book_service *list,
                         size_t n)
{
    LIST_EACH_REMOVABLE (struct door, d, next, &u->doors, link) {
        bool keep = d->peer != p;
        for (size_t i = 0; i < n && !keep; i++)
            keep = d == find_door(u, p, &list[i]);
        if (!keep)
            door_free(d);
    }
    for (size_t i = 0; i < n; i++)
        if (find_door(u, p, &list[i]) == NULL)
            open_door(u, p, &list[i], list, n);
}

static void on_services(void *ctx, struct peer *p, const Services *m)
{
    struct book_service list[BOOK_SERVICE_MAX];
    size_t n = client_services(m, list);
    set_services(ctx, p, list, n);
}

static void opening_free(struct opening *o)
{
    list_remove(&o->link);
    free(o);
}

/* ------------------------------------------------------------------------ the book */

/* This device has left the host. */
static void drop_host(struct up *u, struct peer *p)
{
    struct fault f;
    set_services(u, p, NULL, 0);
    calls_drop_peer(u->calls, p);
    (void)fault_set(&f, POSTERN_ERR_NOTFOUND,
                    "ask for an invite and run 'postern join LINK'",
                    "this device has left %s", peer_name(p));
    LIST_EACH_REMOVABLE (struct opening, o, next, &u->waiters, link) {
        if (o->peer != p)
            continue;
        local_conn_finish(o->conn, f.code, &f);
        opening_free(o);
    }
    client_drop(u->client, p);
}

static void drop_unless_known(void *ctx, struct peer *p)
{
    struct up *u = ctx;
    struct book_host h;
    if (book_find_key(client_book(u->client), peer_key(p), &h) == POSTERN_ERR_NOTFOUND)
        drop_host(u, p);
}

/* Every host has its name from the start, also one that was never reached. */
static void name_hosts(struct up *u, const struct book_host *hosts, size_t n)
{
    struct hosts_name *list = calloc(n + 1, sizeof(*list));
    size_t count = 0;
    if (list == NULL)
        return;
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(list[count].host, sizeof(list[count].host), "%s", hosts[i].name);
        count += host_address(u, hosts[i].name, &list[count].addr) ? 1 : 0;
    }
    naming_set(u->naming, list, count);
    free(list);
}

static void read_book(struct up *u)
{
    struct book *b = client_book(u->client);
    struct book_host *hosts = calloc(HOSTS_MAX, sizeof(*hosts));
    struct fault f = {0};
    if (hosts == NULL)
        return;
    int n = book_hosts(b, hosts, HOSTS_MAX);
    name_hosts(u, hosts, n < 0 ? 0 : n < HOSTS_MAX ? (size_t)n : HOSTS_MAX);
    for (int i = 0; i < n && i < HOSTS_MAX; i++) {
        struct book_service list[BOOK_SERVICE_MAX];
        struct peer *p;
        if (client_peer(u->client, hosts[i].name, &p, &f) != 0) {
            log_fault(LOG_LEVEL_WARN, &f);
            continue;
        }
        int count = book_services(b, hosts[i].key, list, BOOK_SERVICE_MAX);
        if (peer_services(p) == NULL && count > 0) /* what it showed last */
            set_services(u, p, list, (size_t)count);
    }
    if (n >= 0)
        client_each(u->client, drop_unless_known, u);
    free(hosts);
    u->version = book_version(b);
}

/* The directory may have been put back from a copy, which nobody holds yet. */
static void keep_place(struct up *u)
{
    struct fault f;
    bool moved;
    int rc = statedir_lock_keep(client_statedir(u->client), "up", &u->lock, &moved, &f);
    if (rc != 0)
        client_stop(u->client, rc, &f);
    else if (moved)
        local_server_renew(u->local);
}

/* To whom waits for an end: that we live, and `news` of the host `p`; or of none. */
static void tell_waiters(struct up *u, const struct peer *p, const char *news,
                         const char *advice)
{
    LocalReply r = LocalReply_init_zero;
    (void)snprintf(r.reason, sizeof(r.reason), "%s", news);
    (void)snprintf(r.advice, sizeof(r.advice), "%s", advice);
    LIST_EACH (struct opening, o, &u->waiters, link)
        if ((p == NULL || o->peer == p) && (p != NULL || local_conn_is_read(o->conn)))
            (void)!local_conn_reply(o->conn, &r);
}

static void on_tick(void *ctx)
{
    struct up *u = ctx;
    keep_place(u);
    naming_tick(u->naming);
    if (book_version(client_book(u->client)) != u->version)
        read_book(u);
    if (++u->ticks % WORD_TICKS == 0)
        tell_waiters(u, NULL, "", "");
}

static bool lookup(void *ctx, const char *host, struct addr *addr)
{
    return host_address(ctx, host, addr);
}

/* ---------------------------------------------------------------- the local socket */

static void wait_for_end(struct opening *o)
{
    list_remove(&o->link);
    list_push(&o->up->waiters, &o->link);
}

static void forget_waiter(struct opening *o)
{
    list_remove(&o->link);
    list_push(&o->up->openings, &o->link);
    o->conn = NULL;
}

static void on_open_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct opening *o = ctx;
    LocalReply r = LocalReply_init_zero;
    if (o->conn == NULL)
        return;
    r.code = code;
    r.last = !o->until_end || code != STREAM_OK;
    (void)snprintf(r.reason, sizeof(r.reason), "%s", reason);
    (void)snprintf(r.advice, sizeof(r.advice), "%s", call_advice(c));
    (void)!local_conn_reply(o->conn, &r);
    if (!r.last) {
        wait_for_end(o);
        return;
    }
    local_conn_close(o->conn);
    forget_waiter(o);
}

static void on_open_wait(void *ctx, struct call *c, const char *why)
{
    struct opening *o = ctx;
    LocalReply r = LocalReply_init_zero;
    (void)c;
    if (o->conn == NULL)
        return;
    r.waits = true;
    (void)snprintf(r.reason, sizeof(r.reason), "%s", why);
    (void)!local_conn_reply(o->conn, &r);
}

/* The last reply: how it ended, and what broke it where that is known here alone. */
static void on_open_end(void *ctx, struct call *c)
{
    struct opening *o = ctx;
    LocalReply r = LocalReply_init_zero;
    const struct fault *why = peer_why_none(o->peer);
    bool orderly = o->until_end && call_code(c) == 0;
    r.last = true;
    if (!orderly) {
        r.code = STREAM_UNREACHABLE;
        (void)snprintf(r.reason, sizeof(r.reason), "%s",
                       why != NULL ? why->what : "the connection was lost");
        (void)snprintf(r.advice, sizeof(r.advice), "%s",
                       why != NULL ? why->advice : "");
    }
    if (o->conn != NULL) {
        (void)!local_conn_reply(o->conn, &r);
        local_conn_close(o->conn);
        forget_waiter(o);
    }
    opening_free(o);
}

static struct opening *opening_new(struct up *u, struct local_conn *c, struct peer *p)
{
    struct opening *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return NULL;
    list_push(&u->openings, &o->link);
    o->up = u;
    o->conn = c;
    o->peer = p;
    local_conn_set_data(c, o);
    return o;
}

static void on_watch_request(struct up *u, struct local_conn *c,
                             const LocalRequest *req)
{
    struct fault f = {0};
    struct peer *p;
    int rc = client_peer(u->client, req->host, &p, &f);
    struct opening *o = rc == 0 ? opening_new(u, c, p) : NULL;
    if (o == NULL)
        local_conn_finish(c, rc != 0 ? rc : POSTERN_ERR_NOMEM, rc != 0 ? &f : NULL);
    else
        wait_for_end(o);
}

static void on_open_request(struct up *u, struct local_conn *c, const LocalRequest *req,
                            int fd)
{
    struct fault f = {0};
    struct peer *p;
    int rc = client_peer(u->client, req->host, &p, &f);
    struct opening *o = rc == 0 && fd >= 0 ? opening_new(u, c, p) : NULL;
    if (o == NULL) {
        if (fd >= 0)
            close(fd);
        if (rc == 0)
            rc = fault_set(&f, POSTERN_ERR_INVALID, "update the older program",
                           "the request came without its connection");
        local_conn_finish(c, rc, &f);
        return;
    }
    o->until_end = req->until_end;
    u->figures.calls++;
    struct call_config cc = {.peer = p,
                             .service = req->service,
                             .fd = fd,
                             .owned = true,
                             .brief = req->until_end,
                             .on_answer = on_open_answer,
                             .on_wait = on_open_wait,
                             .on_end = on_open_end,
                             .ctx = o};
    if (call_start(&o->call, u->calls, &cc) != 0) {
        local_conn_set_data(c, NULL);
        local_conn_finish(c, POSTERN_ERR_NOMEM, NULL);
        opening_free(o);
    }
}

struct status_walk {
    struct local_conn *conn;
    const char *host; /* "" is all */
};

/* What a fault says of `who`, whose name its words may begin with. */
static const char *without_name(const char *what, const char *who)
{
    size_t len = strlen(who);
    bool named = strncmp(what, who, len) == 0 && strncmp(what + len, ": ", 2) == 0;
    return what + (named ? len + 2 : 0);
}

/* What keeps the host away, in the short while before the silence is a fault, too. */
static void put_why_away(struct event *e, const struct peer *p, bool online)
{
    const struct fault *why = online ? NULL : peer_why_away(p);
    uint64_t since_us = peer_is_ready(p) ? session_silent_since_us(peer_session(p)) : 0;
    char silent[48];
    (void)snprintf(silent, sizeof(silent), "silent for %u s",
                   (unsigned)((clock_us() - since_us + 999999) / 1000000));
    if (why != NULL || online || !peer_is_ready(p)) {
        event_text(e, "reason",
                   why != NULL ? without_name(why->what, peer_name(p)) : NULL);
        event_text(e, "do", why != NULL ? why->advice : NULL);
    } else {
        event_text(e, "reason", since_us != 0 ? silent : "no path to it just now");
        event_text(e, "do", "other paths are tried: look again in some seconds");
    }
}

static void status_of(void *ctx, struct peer *p)
{
    struct status_walk *w = ctx;
    struct event e;
    char reason[LADDER_REASON_LEN];
    /* Without a path that answers what was measured last is no news of the host. */
    const struct path *path =
        peer_is_ready(p) && !peer_is_silent(p) ? peer_path(p) : NULL;
    bool online = path != NULL;
    if (w->host[0] != '\0' && strcmp(w->host, peer_name(p)) != 0)
        return;
    event_begin(&e, "host");
    event_text(&e, "name", peer_name(p));
    event_text(&e, "state", online ? "online" : "offline");
    put_why_away(&e, p, online);
    event_text(&e, "kind", path_kind_name(path != NULL ? path->kind : PATH_KIND_NONE));
    if (peer_why_relayed(p, reason) != PATH_KIND_NONE)
        event_text(&e, "why", reason);
    if (peer_is_ready(p)) {
        struct session *s = peer_session(p);
        event_rtt(&e, "rtt_ms", online ? session_rtt_us(s) : 0);
        event_int(&e, "streams", session_stream_count(s));
        event_int(&e, "sent_bytes", (int64_t)session_bytes_sent(s));
        event_int(&e, "received_bytes", (int64_t)session_bytes_received(s));
    }
    local_conn_say(w->conn, &e, false);
    if (path != NULL) {
        client_path_event(&e, p, path);
        local_conn_say(w->conn, &e, false);
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        if (path != NULL && path->kind == (enum path_kind)k)
            continue;
        client_rejected_event(&e, peer_name(p), (enum path_kind)k,
                              peer_reason(p, (enum path_kind)k, reason));
        local_conn_say(w->conn, &e, false);
    }
}

static void status_of_broker(void *ctx, const struct uplink *u)
{
    struct status_walk *w = ctx;
    struct event e;
    uplink_event(u, &e);
    local_conn_say(w->conn, &e, false);
}

static void reply_status(struct up *u, struct local_conn *c, const char *host)
{
    struct status_walk w = {.conn = c, .host = host};
    if (host[0] == '\0')
        client_each_broker(u->client, status_of_broker, &w);
    client_each(u->client, status_of, &w);
    local_conn_finish(c, 0, NULL);
}

static void ask_brokers(void *ctx)
{
    client_ask_brokers(((struct up *)ctx)->client);
}

static bool awaits_broker(void *ctx)
{
    return client_awaits_broker(((struct up *)ctx)->client);
}

static void answer_all(void *ctx, struct local_conn *c)
{
    reply_status(ctx, c, "");
}

static const struct inquiry_events inquiry_events = {ask_brokers, awaits_broker,
                                                     answer_all};

static void on_request(void *ctx, struct local_conn *c, const LocalRequest *req, int fd)
{
    struct up *u = ctx;
    if (req->op == LOCAL_OPEN) {
        on_open_request(u, c, req, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (req->op == LOCAL_WATCH) {
        on_watch_request(u, c, req);
        return;
    }
    struct fault f = {0};
    switch (req->op) {
    case LOCAL_STATUS:
        if (strcmp(req->arg, LOCAL_ARG_NOW) == 0)
            inquiries_add(&u->asking, c);
        else
            reply_status(u, c, req->host);
        break;
    case LOCAL_RELOAD:
        read_book(u);
        client_take_keys(u->client);
        if (req->host[0] != '\0' && client_renew(u->client, req->host, &f) != 0)
            log_fault(LOG_LEVEL_WARN, &f);
        local_conn_finish(c, 0, NULL);
        break;
    case LOCAL_STOP:
        local_conn_finish(c, 0, NULL);
        client_stop(u->client, 0, NULL);
        break;
    default:
        (void)fault_set(&f, POSTERN_ERR_INVALID, "update the older program",
                        "'postern up' does not know this request");
        local_conn_finish(c, f.code, &f);
    }
}

static void on_gone(void *ctx, struct local_conn *c)
{
    struct opening *o = local_conn_data(c);
    inquiries_forget(&((struct up *)ctx)->asking, c);
    if (o == NULL)
        return;
    forget_waiter(o);
    if (o->call == NULL)
        opening_free(o);
    else /* it died: what it had sent so far is no whole, or it waits for nothing */
        call_abort(o->call);
}

/* ------------------------------------------------------------------------- the run */

static void on_ready(void *ctx, struct peer *p)
{
    struct up *u = ctx;
    u->told = (struct fault){0};
    calls_on_ready(u->calls, p);
}

/* A host or broker that is away is no end for `up`: told once, tried again. */
static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct up *u = ctx;
    struct event e;
    u->figures.faults++;
    calls_on_fault(u->calls, p, f, fatal);
    if (p != NULL && peer_is_ready(p)) /* it stands, and is silent */
        tell_waiters(u, p, f->what, f->advice);
    if (p != NULL ? peer_fault_repeats(p) : strcmp(u->told.what, f->what) == 0)
        return;
    if (p == NULL)
        u->told = *f;
    const char *who = p != NULL ? peer_name(p) : "the broker";
    event_begin(&e, "left");
    event_text(&e, "peer", who);
    event_text(&e, "reason", without_name(f->what, who));
    event_text(&e, "do", f->advice);
    events_print(client_out(u->client), &e);
}

static void on_path(void *ctx, struct peer *p, const struct path *path,
                    uint64_t elapsed_us)
{
    (void)p;
    up_figures_note_path(&((struct up *)ctx)->figures, path->kind, elapsed_us);
}

static void on_heard(void *ctx, struct peer *p, const char *what)
{
    tell_waiters(ctx, p, what, "");
}

static void on_broker(void *ctx, const struct fault *lost)
{
    struct up *u = ctx;
    struct event e;
    if (lost != NULL) {
        on_fault(u, NULL, lost, false);
        return;
    }
    u->told = (struct fault){0};
    event_begin(&e, "broker");
    event_text(&e, "state", "back");
    events_print(client_out(u->client), &e);
}

static void tell_ready(struct up *u)
{
    struct event e;
    struct addr at = {0};
    event_begin(&e, "ready");
    if (u->dns != NULL) {
        dns_server_local(u->dns, &at);
        event_addr(&e, "dns", &at);
    }
    events_print(client_out(u->client), &e);
}

static void add_metrics(void *ctx, struct metrics *m)
{
    struct up *u = ctx;
    up_figures_write(&u->figures, u->client, m);
}

static const char *why_not_ready(void *ctx)
{
    return up_why_not_ready(((struct up *)ctx)->client);
}

static int open_scrape(struct up *u, const char *at, struct fault *f)
{
    struct scrape_config c = {.loop = client_loop(u->client),
                              .at = at,
                              .role = "up",
                              .add = add_metrics,
                              .why_not_ready = why_not_ready,
                              .ctx = u};
    return at == NULL ? 0 : scrape_open(&u->scrape, &c, f);
}

static int start(struct up *u, const char *metrics, struct fault *f)
{
    static const struct local_events local_events = {on_request, on_gone, true};
    char path[STATEDIR_SOCKET_LEN];
    int rc = statedir_lock(client_statedir(u->client), "up", &u->lock, f);
    if (rc != 0)
        return rc;
    if (calls_new(&u->calls, client_loop(u->client)) != 0)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    if ((rc = open_scrape(u, metrics, f)) != 0)
        return rc;
    statedir_socket(client_statedir(u->client), "up", path);
    rc = local_server_open_if_room(&u->local, client_loop(u->client), path,
                                   &local_events, u, f);
    if (rc != 0)
        return rc;
    if (dns_server_open(&u->dns, client_loop(u->client), lookup, u) != 0)
        log_warn("names are not answered: 127.80.0.53 is in use, ports 53 and 5353");
    timer_init(&u->tick, client_loop(u->client), on_tick, u);
    timer_every(&u->tick, BOOK_TICK_MS, BOOK_TICK_MS);
    struct naming_config nc = {.state = client_statedir(u->client),
                               .out = client_out(u->client),
                               .loop = client_loop(u->client)};
    if (u->dns != NULL)
        dns_server_local(u->dns, &nc.dns);
    rc = naming_start(u->naming, &nc, f);
    if (rc != 0)
        return rc;
    tell_ready(u);
    systemd_ready("keeps sessions to the hosts joined");
    systemd_watchdog_start(&u->beat, client_loop(u->client));
    naming_tell(u->naming);
    client_tell_empty(u->client);
    read_book(u);
    return 0;
}

int up_run(const struct client_config *c, enum naming_way names, const char *metrics,
           struct fault *f)
{
    static const struct client_events events = {.standing = true,
                                                .on_ready = on_ready,
                                                .on_services = on_services,
                                                .on_path = on_path,
                                                .on_fault = on_fault,
                                                .on_heard = on_heard,
                                                .on_sure = on_ready,
                                                .on_broker = on_broker};
    struct up u = {.lock = -1};
    list_init(&u.doors);
    list_init(&u.openings);
    list_init(&u.waiters);
    int rc = naming_new(&u.naming, names); /* first: the client gives privileges up */
    if (rc != 0)
        return fault_lack(f, rc);
    rc = client_open(&u.client, c, &events, &u, f);
    if (rc != 0) {
        naming_free(u.naming);
        return rc;
    }
    inquiries_init(&u.asking, client_loop(u.client), &inquiry_events, &u);
    rc = start(&u, metrics, f);
    if (rc == 0)
        rc = client_run(u.client, f);
    systemd_stopping();
    while (!list_empty(&u.doors))
        door_free(LIST_FIRST(&u.doors, struct door, link));
    scrape_close(u.scrape);
    naming_free(u.naming);
    dns_server_close(u.dns);
    inquiries_fini(&u.asking);
    local_server_close(u.local);
    calls_free(u.calls);
    while (!list_empty(&u.waiters))
        opening_free(LIST_FIRST(&u.waiters, struct opening, link));
    while (!list_empty(&u.openings))
        opening_free(LIST_FIRST(&u.openings, struct opening, link));
    timer_stop(&u.tick);
    timer_stop(&u.beat);
    client_close(u.client);
    if (u.lock >= 0)
        close(u.lock);
    return rc;
}
