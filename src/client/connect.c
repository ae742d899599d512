/* Ties one local listener to one service. */
#include "client/connect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/forward.h"
#include "client/share.h"
#include "core/guess.h"
#include "io/lack.h"

struct connect_state {
    struct client *client;
    struct calls *calls;
    struct peer *peer;
    struct forward *forward;
    char host[64], service[64];
    struct addr local;
    const struct connect_config *what;
    struct fault told; /* since the last session stood */
    bool local_given, started;
    bool bounded; /* --wait, and no session yet */
};

static void tell_ready(struct connect_state *s)
{
    struct event e;
    struct addr at;
    forward_local(s->forward, &at);
    event_begin(&e, "ready");
    event_addr(&e, "local", &at);
    event_text(&e, "peer", s->host);
    event_text(&e, "service", s->service);
    events_print(client_out(s->client), &e);
    if (s->what->on_local != NULL)
        s->what->on_local(s->what->ctx, &at);
}

/* What stands before the slash of SERVICE/INSTANCE; the host knows the instances. */
static const ServiceInfo *find_service(const Services *m, const char *wanted)
{
    char port[8], name[64];
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(wanted, "/"), wanted);
    for (pb_size_t i = 0; i < m->services_count; i++)
        if (strcmp(m->services[i].name, name) == 0)
            return &m->services[i];
    for (pb_size_t i = 0; i < m->services_count; i++) {
        (void)snprintf(port, sizeof(port), "%u", m->services[i].port);
        if (strcmp(port, name) == 0)
            return &m->services[i];
    }
    return NULL;
}

/* The daemon went away: a session of our own from here on. */
static struct peer *on_unshared(void *ctx)
{
    struct connect_state *s = ctx;
    struct fault f;
    if (s->peer == NULL && client_peer(s->client, s->host, &s->peer, &f) != 0)
        s->peer = NULL;
    return s->peer;
}

static int listen_local(struct connect_state *s, const ServiceInfo *info,
                        struct fault *f)
{
    struct forward_config fc = {.loop = client_loop(s->client),
                                .calls = s->calls,
                                .peer = s->peer,
                                .host = s->host,
                                .state = client_statedir(s->client),
                                .shares = client_shares(s->client),
                                .on_unshared = on_unshared,
                                .ctx = s,
                                .service = s->service,
                                .udp = info->udp,
                                .local = s->local,
                                .out = client_out(s->client)};
    if (s->local_given)
        return forward_open(&s->forward, &fc, f);
    fc.local = (struct addr){.family = ADDR_V4, .ip = {127, 0, 0, 1}};
    fc.local.port = (uint16_t)info->port;
    if (forward_open(&s->forward, &fc, f) == 0)
        return 0;
    fc.local.port = 0; /* taken or privileged: any free one will do */
    return forward_open(&s->forward, &fc, f);
}

static int tell_no_service(const struct connect_state *s, const Services *m,
                           struct fault *f)
{
    struct guess g;
    char advice[160];
    guess_begin(&g, s->service);
    for (pb_size_t i = 0; i < m->services_count; i++)
        guess_offer(&g, m->services[i].name);
    guess_advice(&g, advice, sizeof(advice), "see 'postern ls' for what it publishes");
    return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                     "%s publishes no service '%s' for this device", s->host,
                     s->service);
}

static void on_services(void *ctx, struct peer *p, const Services *m)
{
    struct connect_state *s = ctx;
    struct fault f = {0};
    (void)p;
    if (s->started)
        return;
    s->started = true;
    const ServiceInfo *info = find_service(m, s->service);
    int rc;
    if (info == NULL)
        rc = tell_no_service(s, m, &f);
    else
        rc = listen_local(s, info, &f);
    if (rc != 0)
        client_stop(s->client, rc, &f);
    else
        tell_ready(s);
}

static void on_ready(void *ctx, struct peer *p)
{
    struct connect_state *s = ctx;
    s->bounded = false;
    s->told = (struct fault){0};
    calls_on_ready(s->calls, p);
}

/* The next silence is news. */
static void on_heard(void *ctx, struct peer *p, const char *what)
{
    struct connect_state *s = ctx;
    (void)p, (void)what;
    s->told = (struct fault){0};
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct connect_state *s = ctx;
    if (fatal) {
        client_stop(s->client, f->code, f);
        return;
    }
    calls_on_fault(s->calls, p, f, fatal);
    if (s->bounded) /* it ends when it has waited so long */
        client_stop_unless(s->client, f, false);
    if (strcmp(s->told.what, f->what) == 0) /* once, however often it is tried again */
        return;
    s->told = *f;
    events_fault(client_out(s->client), f);
    client_was_told(s->client, f->what);
}

/*
 * Uses a running daemon's session for a TCP service that the book knows; false when
 * that cannot be, and a session of our own is needed: also where something keeps the
 * daemon from the host, so that it is said, or ends this, as without it.
 */
static bool try_shared(struct connect_state *s, struct fault *f, int *rc)
{
    struct book_host h;
    struct book_service list[BOOK_SERVICE_MAX];
    Services *known = calloc(1, sizeof(*known));
    bool shared = false;
    if (known != NULL && client_finds_up(s->client) &&
        book_find(client_book(s->client), s->host, &h, NULL) == 0 &&
        share_reaches(client_statedir(s->client), h.name)) {
        int n = book_services(client_book(s->client), h.key, list, BOOK_SERVICE_MAX);
        for (int i = 0; i < n; i++) {
            ServiceInfo *info = &known->services[known->services_count++];
            (void)snprintf(info->name, sizeof(info->name), "%.63s", list[i].name);
            info->port = list[i].port;
            info->udp = list[i].udp;
        }
        const ServiceInfo *info = find_service(known, s->service);
        shared = info != NULL && !info->udp;
        if (shared) {
            memcpy(s->host, h.name, sizeof(s->host));
            s->started = true;
            *rc = listen_local(s, info, f);
            if (*rc == 0) {
                share_print_paths(client_statedir(s->client), s->host,
                                  client_out(s->client));
                tell_ready(s);
            }
        }
    }
    free(known);
    return shared;
}

static int parse_target(struct connect_state *s, const char *target, struct fault *f)
{
    const char *colon = strchr(target, ':');
    size_t len = colon != NULL ? (size_t)(colon - target) : 0;
    if (colon == NULL || len == 0 || colon[1] == '\0' || len >= sizeof(s->host) ||
        strlen(colon + 1) >= sizeof(s->service))
        return fault_set(f, POSTERN_ERR_USAGE, "write it as HOST:PORT or HOST:SERVICE",
                         "'%.100s' names no host and service", target);
    memcpy(s->host, target, len);
    (void)snprintf(s->service, sizeof(s->service), "%s", colon + 1);
    return call_check_service(s->service, f);
}

static int parse_local(struct connect_state *s, const char *local, struct fault *f)
{
    char text[ADDR_TEXT_LEN];
    if (local == NULL)
        return 0;
    s->local_given = true;
    if (strchr(local, ':') == NULL && strlen(local) < 6) {
        (void)snprintf(text, sizeof(text), "127.0.0.1:%s", local);
        local = text;
    }
    if (addr_parse(&s->local, local) != 0)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "write it as 127.0.0.1:8080 or [::1]:8080",
                         "'%.100s' is no local address and port", local);
    return 0;
}

int connect_run(const struct client_config *c, const struct connect_config *what,
                struct fault *f)
{
    static const struct client_events events = {.on_ready = on_ready,
                                                .on_services = on_services,
                                                .on_fault = on_fault,
                                                .on_heard = on_heard,
                                                .on_sure = on_ready};
    struct connect_state s = {.what = what, .bounded = c->wait_ms > 0};
    int rc = parse_target(&s, what->target, f);
    if (rc == 0)
        rc = parse_local(&s, what->local, f);
    if (rc == 0)
        rc = client_open(&s.client, c, &events, &s, f);
    if (rc != 0)
        return rc;
    rc = calls_new(&s.calls, client_loop(s.client));
    if (rc != 0)
        (void)fault_lack(f, rc);
    bool shared = rc == 0 && c->paths == PATH_KINDS_DEFAULT && try_shared(&s, f, &rc);
    if (rc == 0 && !shared)
        rc = client_peer(s.client, s.host, &s.peer, f);
    if (rc == 0)
        rc = client_run(s.client, f);
    forward_close(s.forward);
    calls_free(s.calls);
    client_close(s.client);
    return rc;
}
