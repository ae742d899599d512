/* One struct, which the signals and the local connections have. */
#include "host/local_commands.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/agent.h"
#include "host/clients.h"
#include "io/lack.h"
#include "io/local.h"
#include "io/log.h"
#include "io/stop.h"
#include "path/inquiry.h"
#include "path/uplink_words.h"

struct local_commands {
    struct host *host;
    struct local_server *local;
    struct stop *stop;
    struct inquiries asking;
};

/* SIGHUP reads the settings again, but for the one that a closed terminal sends. */
static void on_stop(void *ctx, int signum)
{
    struct local_commands *c = ctx;
    struct fault f = {0};
    if (signum != SIGHUP || stop_terminal_closed(c->stop))
        c->host->events->stop(c->host, 0);
    else if (c->host->events->hangup(c->host, &f) != 0)
        events_fault(c->host->out, &f);
}

static bool reply_session(void *ctx, struct event *e, bool portal)
{
    (void)portal;
    local_conn_say(ctx, e, false);
    return true;
}

/* The newest key's speaks for this host. */
static struct uplink *own_uplink(const struct host *h)
{
    for (struct presence *p = presences_next(h->presences, NULL); p != NULL;
         p = presences_next(h->presences, p))
        if (!p->retired)
            return p->endpoint.uplink;
    return NULL;
}

static void ask_broker(void *ctx)
{
    struct uplink *u = own_uplink(((struct local_commands *)ctx)->host);
    if (u != NULL)
        uplink_ask(u);
}

static bool awaits_broker(void *ctx)
{
    const struct uplink *u = own_uplink(((struct local_commands *)ctx)->host);
    return u != NULL && uplink_is_awaited(u);
}

static void reply_status(const struct host *h, struct local_conn *c)
{
    const struct uplink *u = own_uplink(h);
    struct event e;
    if (u != NULL) {
        uplink_event(u, &e);
        local_conn_say(c, &e, false);
    }
    service_list_event(&e, &h->services, h->settings.name, NULL);
    local_conn_say(c, &e, false);
    (void)clients_each(h->clients, true, reply_session, c);
    if (h->agent != NULL)
        agent_status(h->agent, c);
    local_conn_finish(c, 0, NULL);
}

static void add_instances(struct event *e, const struct service *sv)
{
    json_array_begin(&e->json, "instances");
    for (size_t i = 0; i < sv->target_count; i++)
        if (sv->targets[i].name[0] != '\0' &&
            (i == 0 || strcmp(sv->targets[i].name, sv->targets[i - 1].name) != 0))
            json_text(&e->json, NULL, sv->targets[i].name);
    json_array_end(&e->json);
}

static void reply_services(struct host *h, struct local_conn *c)
{
    for (size_t i = 0; i < h->services.count; i++) {
        struct event e;
        const struct service *sv = &h->services.items[i];
        event_begin(&e, "service");
        event_text(&e, "host", h->settings.name);
        event_text(&e, "name", sv->name);
        event_int(&e, "port", sv->port);
        event_text(&e, "protocol", sv->udp ? "udp" : "tcp");
        add_instances(&e, sv);
        local_conn_say(c, &e, false);
    }
    local_conn_finish(c, 0, NULL);
}

static void on_revoke(struct host *h, struct local_conn *c, const LocalRequest *req)
{
    uint8_t key[KEY_LEN];
    struct fault f = {0};
    struct event e;
    if (key_parse(key, req->arg) != 0) {
        (void)fault_set(&f, POSTERN_ERR_INVALID, "use 'postern revoke'",
                        "not a device key");
        local_conn_finish(c, f.code, &f);
        return;
    }
    event_begin(&e, "revoked");
    event_int(&e, "sessions", h->events->revoke(h, key));
    event_bool(&e, "listed", roster_client_find(h->roster, key, NULL) == 0);
    local_conn_say(c, &e, true);
    local_conn_close(c);
}

static void on_reload(struct host *h, struct local_conn *c)
{
    struct fault f = {0};
    struct event e;
    int rc = h->events->reload(h, &e, &f);
    if (rc != 0) {
        local_conn_finish(c, rc, &f);
        return;
    }
    local_conn_say(c, &e, true);
    local_conn_close(c);
}

static void tell_published(struct host *h, const char *name, const struct service *sv,
                           const char *program)
{
    struct event e;
    service_event(&e, name, sv->name, sv->port, sv->udp);
    if (program != NULL && *program != '\0')
        event_text(&e, "program", program);
    events_print(h->out, &e);
}

/* Who sends asks for it under its name: with a number behind it nobody would find it.
 */
static int check_free(const struct host *h, const struct service *sv, struct fault *f)
{
    for (size_t i = 0; i < h->services.count; i++)
        if (strcmp(h->services.items[i].name, sv->name) == 0)
            return fault_set(f, POSTERN_ERR_INUSE, "end the other one first",
                             "this host publishes a service '%.60s' already", sv->name);
    return 0;
}

/* Published as long as the connection lasts: on_gone takes it away. */
static void on_publish(struct host *h, struct local_conn *c, const LocalRequest *req,
                       int taker)
{
    struct service sv;
    struct fault f = {0};
    struct event e;
    int rc = service_parse(&sv, req->service, &f);
    if (rc == 0)
        (void)snprintf(sv.audience, sizeof(sv.audience), "%s", req->host);
    if (rc == 0 && taker >= 0) {
        sv.taker = taker;
        rc = check_free(h, &sv, &f);
    }
    if (rc == 0 && service_list_add(&h->services, &sv, c) != 0)
        rc = fault_set(&f, POSTERN_ERR_LIMIT, "run a second host for the others",
                       "a host publishes at most %d services", SERVICE_MAX);
    if (rc != 0) {
        if (taker >= 0)
            (void)close(taker);
        local_conn_finish(c, rc, &f);
        return;
    }
    service_event(&e, "published", sv.name, sv.port, sv.udp);
    event_text(&e, "program", req->arg);
    if (!h->for_programs) /* else `postern run` says so itself */
        tell_published(h, "published", &sv, req->arg);
    h->events->on_services(h);
    local_conn_say(c, &e, true); /* its end is told by on_gone */
}

static void answer_status(void *ctx, struct local_conn *c)
{
    reply_status(((struct local_commands *)ctx)->host, c);
}

static const struct inquiry_events inquiry_events = {ask_broker, awaits_broker,
                                                     answer_status};

static void on_request(void *ctx, struct local_conn *c, const LocalRequest *req, int fd)
{
    struct local_commands *sc = ctx;
    struct fault f = {0};
    if (fd >= 0 && req->op != LOCAL_PUBLISH)
        close(fd);
    switch (req->op) {
    case LOCAL_STATUS:
        if (strcmp(req->arg, LOCAL_ARG_NOW) == 0)
            inquiries_add(&sc->asking, c);
        else
            reply_status(sc->host, c);
        break;
    case LOCAL_REVOKE:
        on_revoke(sc->host, c, req);
        break;
    case LOCAL_RELOAD:
        on_reload(sc->host, c);
        break;
    case LOCAL_LIST: /* an invite is about to name the key of the file, or was made */
        if (presences_keep(sc->host->presences))
            clients_announce_key(sc->host->clients);
        presences_tell_invites(sc->host->presences);
        reply_services(sc->host, c);
        break;
    case LOCAL_PUBLISH:
        on_publish(sc->host, c, req, fd);
        break;
    case LOCAL_STOP:
        local_conn_finish(c, 0, NULL);
        sc->host->events->stop(sc->host, 0);
        break;
    default:
        (void)fault_set(&f, POSTERN_ERR_INVALID, "update the older program",
                        "'postern serve' does not know this request");
        local_conn_finish(c, f.code, &f);
    }
}

static void on_gone(void *ctx, struct local_conn *c)
{
    struct local_commands *sc = ctx;
    struct host *h = sc->host;
    inquiries_forget(&sc->asking, c);
    for (size_t i = 0; i < h->services.count; i++)
        if (h->services.items[i].owner == c && !h->for_programs)
            tell_published(h, "withdrawn", &h->services.items[i], NULL);
    for (size_t i = 0; i < h->services.count; i++)
        if (h->services.items[i].owner == c && h->services.items[i].taker > 0)
            (void)close(h->services.items[i].taker);
    if (service_list_drop(&h->services, c))
        h->events->on_services(h);
}

static const struct local_events local_events = {on_request, on_gone};

int local_commands_open(struct local_commands **out, struct host *h,
                        const char *socket_path, struct fault *f)
{
    struct local_commands *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    c->host = h;
    inquiries_init(&c->asking, h->loop, &inquiry_events, c);
    int rc = stop_open(&c->stop, h->loop, on_stop, c);
    if (rc != 0)
        (void)fault_lack(f, rc);
    else
        rc = local_server_open_if_room(&c->local, h->loop, socket_path, &local_events,
                                       c, f);
    if (rc != 0) {
        local_commands_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void local_commands_renew(struct local_commands *c)
{
    local_server_renew(c->local);
}

void local_commands_close(struct local_commands *c)
{
    if (c == NULL)
        return;
    inquiries_fini(&c->asking);
    local_server_close(c->local);
    stop_close(c->stop);
    free(c);
}
