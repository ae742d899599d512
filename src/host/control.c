/* What reaches a running serve from its own machine: signals and the local socket. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/internal.h"
#include "host/lan.h"
#include "io/clock.h"
#include "io/lack.h"
#include "io/local.h"
#include "io/log.h"
#include "io/stop.h"
#include "path/uplink_words.h"

struct serve_control {
    struct serve *serve;
    struct local_server *local;
    struct stop *stop;
};

/* SIGHUP reads the settings again, but for the one that a closed terminal sends. */
static void on_stop(void *ctx, int signum)
{
    struct serve_control *c = ctx;
    struct fault f = {0};
    if (signum != SIGHUP || stop_terminal_closed(c->stop))
        serve_stop(c->serve, 0);
    else if (serve_reload(c->serve, &f) != 0)
        events_fault(c->serve->config->out, &f);
}

void guest_session_event(struct guest *g, struct event *e)
{
    struct path *p = session_path(g->session);
    event_begin(e, "session");
    event_text(e, "peer", g->name);
    event_text(e, "kind", path_kind_name(p != NULL ? p->kind : PATH_KIND_NONE));
    if (p != NULL) {
        event_addr(e, "local", &p->local);
        event_addr(e, "remote", &p->remote);
    }
    event_rtt(e, "rtt_ms", session_rtt_us(g->session));
    event_int(e, "streams", session_stream_count(g->session));
    event_int(e, "sent_bytes", (int64_t)session_bytes_sent(g->session));
    event_int(e, "received_bytes", (int64_t)session_bytes_received(g->session));
    event_int(e, "silent_s", (int64_t)(guest_silent_us(g, clock_us()) / 1000000));
}

/* Hosts of the LAN that are not there hold places and names all the same. */
static void reply_away(const struct serve *s, struct local_conn *c)
{
    struct lan_host hosts[LAN_HOSTS_MAX];
    size_t n = 0;
    if (lan_host_list(s->roster, hosts, &n) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        LocalReply r = LocalReply_init_zero;
        struct event e;
        if (agent_has(s->agent, hosts[i].key))
            continue;
        event_begin(&e, "lan-away");
        event_text(&e, "name", hosts[i].name);
        (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
        if (local_conn_reply(c, &r) != 0)
            return;
    }
}

static void reply_status(struct serve *s, struct local_conn *c)
{
    for (size_t i = 0; i < FACES_MAX; i++) {
        LocalReply r = LocalReply_init_zero;
        struct event e;
        if (!s->faces[i].open || s->faces[i].retired)
            continue;
        uplink_event(s->faces[i].endpoint.uplink, &e);
        (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
        if (local_conn_reply(c, &r) != 0)
            return;
    }
    for (struct guest *g = s->guests; g != NULL; g = g->next) {
        LocalReply r = LocalReply_init_zero;
        struct event e;
        if (g->dead || g->session == NULL)
            continue;
        guest_session_event(g, &e);
        (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
        if (local_conn_reply(c, &r) != 0)
            return;
    }
    agent_status(s->agent, c);
    if (s->agent != NULL)
        reply_away(s, c);
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

static void reply_services(struct serve *s, struct local_conn *c)
{
    for (size_t i = 0; i < s->services.count; i++) {
        LocalReply r = LocalReply_init_zero;
        struct event e;
        const struct service *sv = &s->services.items[i];
        event_begin(&e, "service");
        event_text(&e, "host", s->settings.name);
        event_text(&e, "name", sv->name);
        event_int(&e, "port", sv->port);
        event_text(&e, "protocol", sv->udp ? "udp" : "tcp");
        add_instances(&e, sv);
        (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
        if (local_conn_reply(c, &r) != 0)
            return;
    }
    local_conn_finish(c, 0, NULL);
}

static void on_revoke(struct serve *s, struct local_conn *c, const LocalRequest *req)
{
    uint8_t key[KEY_LEN];
    LocalReply r = LocalReply_init_zero;
    struct fault f = {0};
    struct event e;
    if (key_parse(key, req->arg) != 0) {
        (void)fault_set(&f, POSTERN_ERR_INVALID, "use 'postern revoke'",
                        "not a device key");
        local_conn_finish(c, f.code, &f);
        return;
    }
    event_begin(&e, "revoked");
    event_int(&e, "sessions", serve_revoke(s, key));
    event_bool(&e, "listed", roster_client_find(s->roster, key, NULL) == 0);
    (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
    r.last = true;
    (void)!local_conn_reply(c, &r);
    local_conn_close(c);
}

static void on_reload(struct serve *s, struct local_conn *c)
{
    LocalReply r = LocalReply_init_zero;
    struct fault f = {0};
    struct event e;
    int rc = serve_reload(s, &f);
    if (rc != 0) {
        local_conn_finish(c, rc, &f);
        return;
    }
    event_begin(&e, "reloaded");
    event_int(&e, "services", (int64_t)s->services.count);
    (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
    r.last = true;
    (void)!local_conn_reply(c, &r);
    local_conn_close(c);
}

static void tell_published(struct serve *s, const char *name, const struct service *sv,
                           const char *program)
{
    struct event e;
    event_begin(&e, name);
    event_text(&e, "service", sv->name);
    event_int(&e, "port", sv->port);
    event_bool(&e, "udp", sv->udp);
    if (program != NULL && *program != '\0')
        event_text(&e, "program", program);
    events_print(s->config->out, &e);
}

/* Published as long as the connection lasts: on_gone takes it away. */
static void on_publish(struct serve *s, struct local_conn *c, const LocalRequest *req)
{
    struct service sv;
    struct fault f = {0};
    LocalReply r = LocalReply_init_zero;
    struct event e;
    int rc = service_parse(&sv, req->service, &f);
    if (rc == 0)
        (void)snprintf(sv.audience, sizeof(sv.audience), "%s", req->host);
    if (rc == 0 && service_list_add(&s->services, &sv, c) != 0)
        rc = fault_set(&f, POSTERN_ERR_LIMIT, "run a second host for the others",
                       "a host publishes at most %d services", SERVICE_MAX);
    if (rc != 0) {
        local_conn_finish(c, rc, &f);
        return;
    }
    event_begin(&e, "published");
    event_text(&e, "service", sv.name);
    event_int(&e, "port", sv.port);
    event_bool(&e, "udp", sv.udp);
    event_text(&e, "program", req->arg);
    (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
    r.last = true;
    if (!s->config->for_programs) /* else `postern run` says so itself */
        tell_published(s, "published", &sv, req->arg);
    serve_tell_services(s);
    (void)!local_conn_reply(c, &r); /* its end is told by on_gone */
}

static void on_request(void *ctx, struct local_conn *c, const LocalRequest *req, int fd)
{
    struct serve_control *sc = ctx;
    struct fault f = {0};
    if (fd >= 0)
        close(fd);
    switch (req->op) {
    case LOCAL_STATUS:
        reply_status(sc->serve, c);
        break;
    case LOCAL_REVOKE:
        on_revoke(sc->serve, c, req);
        break;
    case LOCAL_RELOAD:
        on_reload(sc->serve, c);
        break;
    case LOCAL_LIST:
        faces_keep(sc->serve); /* an invite is about to name the key of the file */
        reply_services(sc->serve, c);
        break;
    case LOCAL_PUBLISH:
        on_publish(sc->serve, c, req);
        break;
    case LOCAL_STOP:
        local_conn_finish(c, 0, NULL);
        serve_stop(sc->serve, 0);
        break;
    default:
        (void)fault_set(&f, POSTERN_ERR_INVALID, "update the older program",
                        "'postern serve' does not know this request");
        local_conn_finish(c, f.code, &f);
    }
}

static void on_gone(void *ctx, struct local_conn *c)
{
    struct serve *s = ((struct serve_control *)ctx)->serve;
    for (size_t i = 0; i < s->services.count; i++)
        if (s->services.items[i].owner == c && !s->config->for_programs)
            tell_published(s, "withdrawn", &s->services.items[i], NULL);
    if (service_list_drop(&s->services, c))
        serve_tell_services(s);
}

static const struct local_events local_events = {on_request, on_gone};

int serve_control_open(struct serve_control **out, struct serve *s,
                       const char *socket_path, struct fault *f)
{
    struct serve_control *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    c->serve = s;
    int rc = stop_open(&c->stop, s->loop, on_stop, c);
    if (rc != 0)
        (void)fault_lack(f, rc);
    else
        rc = local_server_open_if_room(&c->local, s->loop, socket_path, &local_events,
                                       c, f);
    if (rc != 0) {
        serve_control_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void serve_control_renew(struct serve_control *c)
{
    local_server_renew(c->local);
}

void serve_control_close(struct serve_control *c)
{
    if (c == NULL)
        return;
    local_server_close(c->local);
    stop_close(c->stop);
    free(c);
}
