/*
 * `postern serve`: state, faces, readiness, reload, end. What a client may do is
 * decided in guest.c and outlet.c.
 */
#include "host/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/internal.h"
#include "host/lan.h"
#include "io/db.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/statedir.h"
#include "path/uplink_words.h"

void serve_stop(struct serve *s, int result)
{
    if (!s->stopping)
        s->result = result;
    s->stopping = true;
    loop_stop(s->loop);
}

/* ---------------------------------------------------------------------- the broker */

static void tell_ready(struct serve *s)
{
    struct event e;
    char key[KEY_TEXT_LEN];
    event_begin(&e, "ready");
    event_text(&e, "host", s->settings.name);
    event_text(&e, "key", key_format(s->key.pub, key));
    if (!s->config->for_programs)
        event_int(&e, "services", (int64_t)s->services.count);
    if (s->to_agent) {
        char place[LAN_PLACE_LEN];
        lan_place(&s->broker, place);
        event_text(&e, "via", place);
    }
    events_print(s->config->out, &e);
}

/* `why` NULL: it is back. With `fatal` it does not come back without somebody's doing.
 */
static void tell_away(struct serve *s, const struct fault *why, bool fatal)
{
    struct event e;
    event_begin(&e, s->to_agent ? "agent" : "broker");
    event_text(&e, "state", why == NULL ? "back" : "lost");
    if (why != NULL)
        event_text(&e, "reason", why->what);
    if (why != NULL && fatal)
        event_text(&e, "do", why->advice);
    events_print(s->config->out, &e);
}

static void tell_back(struct face *face)
{
    face->why = (struct news){0};
    if (!face->serve->ready || face->up || face->retired)
        return;
    face->up = true;
    tell_away(face->serve, NULL, false);
}

/* Once, and again when it has become another reason. */
static void tell_lost(struct face *face, const struct fault *why, bool fatal)
{
    struct serve *s = face->serve;
    if (face->retired || !news_tell(&face->why, why->what, loop_now_ms(s->loop)))
        return;
    face->up = false;
    if (s->ready)
        tell_away(s, why, fatal);
    else
        events_fault(s->config->out, why);
}

/* What the next start should know. Without room for it this one serves all the same. */
static int keep_settings(struct serve *s, const struct link *agent)
{
    int rc = roster_settings_set(s->roster, &s->settings, s->fault);
    if (rc == 0)
        rc = lan_agent_use(s->roster, agent, s->fault);
    if (rc != POSTERN_ERR_FULL && rc != POSTERN_ERR_PERM)
        return rc;
    log_warn("%s; the next start will not know what this one was told", s->fault->what);
    *s->fault = (struct fault){0};
    return 0;
}

static void warn_of_clock(int64_t skew_s)
{
    long long s = skew_s < 0 ? -skew_s : skew_s;
    if (s <= 3600)
        return;
    log_warn("this machine's clock is %lld %s %s the broker's; set it, or invites will "
             "expire at the wrong time",
             s < 2 * 86400 ? s / 3600 : s / 86400,
             s < 7200        ? "hour"
             : s < 2 * 86400 ? "hours"
                             : "days",
             skew_s > 0 ? "behind" : "ahead of");
}

static void on_up(void *ctx)
{
    struct face *face = ctx;
    struct serve *s = face->serve;
    int64_t skew = uplink_clock_skew_s(face->endpoint.uplink);
    if (!s->ready) {
        s->ready = true;
        if (keep_settings(s, s->to_agent ? &s->broker : NULL) != 0) {
            serve_stop(s, s->fault->code);
            return;
        }
        tell_ready(s);
        face->up = true;
        warn_of_clock(skew);
    }
    tell_back(face);
    host_portal_on_up(face);
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (g->face == face && !g->dead)
            guest_on_uplink(g, true);
}

static void on_down(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal)
{
    struct face *face = ctx;
    struct serve *s = face->serve;
    if (s->stopping)
        return;
    s->called.names_count = 0;
    /* Who took us in before will again: it is waited for. */
    if (!s->ready &&
        (!s->met_before || (s->to_agent && fatal) || why->code == POSTERN_ERR_USAGE)) {
        *s->fault = *why;
        serve_stop(s, why->code);
        return;
    }
    tell_lost(face, why, fatal);
    if (fatal) /* that was told as an error */
        timer_stop(&s->tell);
    log_info("%s; %s (next try in %u ms)", why->what, why->advice, retry_ms);
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (g->face == face && !g->dead)
            guest_on_uplink(g, false);
}

static void on_tell(void *ctx)
{
    struct serve *s = ctx;
    char why[sizeof(s->fault->what)];
    if (s->ready || s->stopping || !s->faces[0].open)
        return;
    uplink_describe_wait(s->faces[0].endpoint.uplink, why, sizeof(why));
    log_warn("waiting: %s", why);
}

static void on_control(void *ctx, const Control *m)
{
    struct face *face = ctx;
    if (m->which_body == Control_introduce_tag)
        guest_on_introduce(face, m);
    else
        guest_on_control(face, m);
}

const struct uplink_events serve_uplink_events = {on_up, on_down, on_control};

static void on_network(void *ctx, enum netmon_reason reason)
{
    struct serve *s = ctx;
    log_info("the network changed (%s)", netmon_reason_name(reason));
    for (size_t i = 0; i < FACES_MAX; i++)
        if (s->faces[i].open)
            uplink_kick(s->faces[i].endpoint.uplink);
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (!g->dead && reason != NETMON_ROUTES)
            guest_on_network_change(g);
}

/* ------------------------------------------------------------------ reload, revoke */

/* Nobody told us, or another list took the place of ours: who is on it no more goes. */
static void check_listed(struct serve *s)
{
    int64_t version = roster_version(s->roster);
    if (version == s->roster_version)
        return;
    s->roster_version = version;
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (!g->dead && g->member && !g->portal && !g->agent &&
            roster_client_find(s->roster, g->listed, NULL) == POSTERN_ERR_NOTFOUND)
            guest_close(g, REFUSE_REVOKED, "this device was removed by the host");
}

void serve_tell_services(struct serve *s)
{
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (!g->dead && g->member && session_is_open(g->session))
            guest_send_services(g);
    host_portal_on_services(s);
}

void serve_audit(struct serve *s, const char *what, const char *who, const char *from,
                 const char *object, const char *detail)
{
    struct audit_entry e = {.time_s = statedir_now_s()};
    (void)snprintf(e.what, sizeof(e.what), "%s", what);
    (void)snprintf(e.who, sizeof(e.who), "%s", who);
    (void)snprintf(e.from, sizeof(e.from), "%s", from);
    (void)snprintf(e.object, sizeof(e.object), "%s", object);
    (void)snprintf(e.detail, sizeof(e.detail), "%s", detail);
    audit_add(s->audit, &e);
}

static int read_settings(struct serve *s, struct roster_settings *out, struct fault *f)
{
    int rc = roster_check(s->roster, f);
    if (rc != 0)
        return rc;
    rc = roster_settings_get(s->roster, out);
    if (rc == POSTERN_ERR_NOTFOUND)
        return fault_set(f, rc, "run 'postern serve --broker LINK SERVICE...' again",
                         "what is published here stands in host.db no more");
    return roster_fault(s->roster, rc, f);
}

int serve_reload(struct serve *s, struct fault *f)
{
    struct roster_settings *fresh = malloc(sizeof(*fresh));
    struct service_list services = {0};
    struct event e;
    int rc = POSTERN_ERR_NOMEM;
    if (fresh == NULL)
        return fault_lack(f, rc);
    rc = read_settings(s, fresh, f);
    if (rc == 0)
        rc = service_list_parse_lines(
            &services, s->config->for_programs ? "" : fresh->services, f);
    if (rc == 0)
        rc = s->to_agent ? 0 : faces_renew(s, f);
    if (rc != 0)
        service_list_fini(&services);
    if (rc == 0) {
        service_list_carry(&services, &s->services);
        service_list_fini(&s->services);
        s->services = services;
        memcpy(s->settings.services, fresh->services, sizeof(fresh->services));
        s->settings.absent_s = fresh->absent_s;
        agent_renamed(s->agent);
        rc = access_check(s->access, f); /* the rest is taken up all the same */
        if (rc == 0 && s->certs != NULL)
            rc = certs_reload(s->certs, f);
        check_listed(s);
        host_portal_on_change(s);
        serve_tell_services(s);
    }
    if (rc == 0) {
        event_begin(&e, "reloaded");
        event_int(&e, "services", (int64_t)s->services.count);
        events_print(s->config->out, &e);
    }
    free(fresh);
    return rc;
}

unsigned serve_revoke(struct serve *s, const uint8_t key[static KEY_LEN])
{
    unsigned n = 0;
    for (struct guest *g = s->guests; g != NULL; g = g->next) {
        if (g->dead || memcmp(g->listed, key, KEY_LEN) != 0)
            continue;
        n += g->session != NULL && session_is_open(g->session);
        guest_close(g, REFUSE_REVOKED, "this device was removed by the host");
    }
    n += agent_forget(s->agent, key);
    guest_sweep_soon(s);
    return n;
}

/* The directory may have been put back from a copy, which nobody holds yet. */
static void keep_place(struct serve *s)
{
    bool moved;
    if (statedir_lock_keep(s->state, "serve", &s->lock, &moved, s->fault) != 0)
        serve_stop(s, s->fault->code);
    else if (moved)
        serve_control_renew(s->control);
}

static void on_sweep(void *ctx)
{
    struct serve *s = ctx;
    keep_place(s);
    faces_keep(s);
    check_listed(s);
    host_portal_sweep(s);
    guest_sweep(s, loop_now_ms(s->loop));
    spare_look_bytes(&s->spare, s->guest_count + s->outlets.count);
}

/* -------------------------------------------------------------------------------
 * settings */

static int load_services(struct serve *s, struct fault *f)
{
    const struct serve_config *c = s->config;
    if (c->for_programs)
        return 0; /* programs come and publish what they listen on */
    if (c->service_count == 0) {
        if (s->settings.services[0] == '\0' && c->agent != NULL)
            return 0; /* an agent may have none of its own */
        if (s->settings.services[0] == '\0')
            return fault_set(
                f, POSTERN_ERR_USAGE,
                "name at least one, for example: postern serve 22 web=8080",
                "no service is named and none was published here before");
        return service_list_parse_lines(&s->services, s->settings.services, f);
    }
    int rc = service_list_parse(&s->services, c->services, c->service_count, f);
    if (rc != 0)
        return rc == POSTERN_ERR_NOMEM ? rc : POSTERN_ERR_USAGE;
    size_t used = 0;
    for (size_t i = 0; i < c->service_count; i++) {
        int n =
            snprintf(s->settings.services + used, sizeof(s->settings.services) - used,
                     "%s%s", i > 0 ? "\n" : "", c->services[i]);
        if ((size_t)n >= sizeof(s->settings.services) - used)
            return fault_set(f, POSTERN_ERR_LIMIT, "name fewer",
                             "the list of services is too long");
        used += (size_t)n;
    }
    return 0;
}

static void default_name(char name[static ROSTER_NAME_LEN])
{
    char host[256] = "";
    if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
        (void)snprintf(host, sizeof(host), "host");
    host[strcspn(host, ".")] = '\0';
    (void)snprintf(name, ROSTER_NAME_LEN, "%.63s", host);
}

static int load_broker(struct serve *s, struct link *broker, bool known,
                       struct fault *f)
{
    const struct serve_config *c = s->config;
    s->met_before =
        known && (c->broker == NULL || strcmp(c->broker, s->settings.broker) == 0);
    if (c->broker != NULL)
        (void)snprintf(s->settings.broker, sizeof(s->settings.broker), "%.511s",
                       c->broker);
    if (s->settings.broker[0] == '\0')
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "use --broker LINK with the link that 'postern broker' printed",
            "no broker is given and none was used here before");
    int rc = c->broker != NULL ? link_parse_given(broker, s->settings.broker, f)
                               : link_parse(broker, s->settings.broker, f);
    if (rc != 0)
        return rc;
    if (broker->type != LINK_BROKER)
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "an invite is for 'postern join'; serve needs the broker's link",
            "this link is an invite, not a broker's");
    return 0;
}

static int load_settings(struct serve *s, struct link *broker, struct fault *f)
{
    const struct serve_config *c = s->config;
    int rc = roster_settings_get(s->roster, &s->settings);
    if (rc != 0 && rc != POSTERN_ERR_NOTFOUND)
        return roster_fault(s->roster, rc, f);
    s->to_agent = via_is_wanted(s);
    rc = s->to_agent ? via_load(s, broker, f) : load_broker(s, broker, rc == 0, f);
    if (rc != 0)
        return rc;
    if (c->name != NULL && strlen(c->name) >= ROSTER_NAME_LEN)
        return fault_set(f, POSTERN_ERR_USAGE, "use at most 63 characters",
                         "the name is too long");
    if (c->name != NULL)
        (void)snprintf(s->settings.name, sizeof(s->settings.name), "%s", c->name);
    if (s->settings.name[0] == '\0')
        default_name(s->settings.name);
    if (c->absent_s != 0)
        s->settings.absent_s = c->absent_s > 0 ? c->absent_s : 0;
    return load_services(s, f);
}

/* ------------------------------------------------------------------------- the run */

static void close_all(struct serve *s)
{
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        guest_close(g, 0, "the host stopped");
    while (s->guests != NULL)
        guest_free(s->guests);
    faces_close(s);
    agent_close(s->agent); /* after its clients' streams */
}

static int run_loop(struct serve *s, const struct statedir *state,
                    const struct link *broker, struct fault *f)
{
    char socket_path[STATEDIR_SOCKET_LEN];
    struct netmon *netmon = NULL;
    statedir_socket(state, "serve", socket_path);
    int rc = serve_control_open(&s->control, s, socket_path, f);
    if (rc == 0 && netmon_open(&netmon, s->loop, on_network, s) != 0)
        log_warn("changes of the network cannot be watched");
    s->broker = *broker;
    host_portal_open(s);
    if (rc == 0 && s->config->agent != NULL)
        rc = agent_open(&s->agent, s, s->config->agent, f);
    if (rc == 0 && !s->config->for_programs)
        rc = certs_open(&s->certs, s, f);
    if (rc == 0)
        rc = faces_open(s, broker, f);
    if (rc == 0) {
        absent_open(s);
        outlets_init(s);
        timer_init(&s->sweep, s->loop, on_sweep, s);
        timer_every(&s->sweep, SWEEP_MS, SWEEP_MS);
        timer_init(&s->tell, s->loop, on_tell, s);
        timer_start(&s->tell, TELL_MS);
        loop_run(s->loop);
        rc = s->result;
        timer_stop(&s->sweep);
        timer_stop(&s->tell);
    }
    close_all(s);
    certs_close(s->certs);
    host_portal_close(s);
    netmon_close(netmon);
    serve_control_close(s->control);
    loop_run(s->loop);
    return rc;
}

int serve_run(const struct serve_config *c, struct fault *f)
{
    struct statedir state;
    struct link broker;
    int rc = lack_check_start(HOST_FILES_MIN, f);
    if (rc != 0)
        return rc;
    struct serve *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    s->config = c;
    s->lock = -1;
    s->budget = net_budget_new();
    s->state = &state;
    s->fault = f;
    rc = statedir_open(&state, c->state, f);
    if (rc == 0)
        rc = statedir_lock(&state, "serve", &s->lock, f);
    if (rc == 0)
        rc = roster_open(&s->roster, state.path, f);
    if (rc == 0)
        rc = access_open(&s->access, state.path, f);
    if (rc == 0)
        rc = load_settings(s, &broker, f);
    if (rc == 0)
        rc = certs_settle(s->access, &s->services, c->tls, c->tls_count, c->tls_command,
                          f);
    if (rc == 0) {
        db_keep_copy(roster_db(s->roster));
        access_keep_copy(s->access);
        s->audit = audit_start(state.path);
        s->access_version = access_version(s->access);
        s->roster_version = roster_version(s->roster);
        rc = loop_open(&s->loop);
        rc = rc == 0 ? run_loop(s, &state, &broker, f) : fault_lack(f, rc);
        loop_close(s->loop);
    }
    service_list_fini(&s->services);
    audit_close(s->audit);
    access_close(s->access);
    roster_close(s->roster);
    if (s->lock >= 0)
        close(s->lock);
    free(s->budget);
    free(s);
    return rc;
}
