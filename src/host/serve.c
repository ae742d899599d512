/*
 * `postern serve`: state, keys, readiness, reload, end. What a client may do is
 * decided in clients.c and service_streams.c.
 */
#include "host/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/dns.h"
#include "core/span.h"
#include "host/access.h"
#include "host/agent.h"
#include "host/certs.h"
#include "host/clients.h"
#include "host/host.h"
#include "host/host_figures.h"
#include "host/lan.h"
#include "host/local_commands.h"
#include "host/service_streams.h"
#include "host/portal_answers.h"
#include "host/portal_list.h"
#include "host/portal_visits.h"
#include "host/via.h"
#include "io/audit.h"
#include "io/db.h"
#include "io/gateway.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/resolve.h"
#include "io/scrape.h"
#include "io/statedir.h"
#include "io/systemd.h"
#include "path/detour.h"
#include "path/net.h"
#include "path/net_sessions.h"
#include "path/uplink_words.h"

enum {
    HOST_FILES_MIN = 64, /* with fewer open files a host is no use */
    SWEEP_MS = 5000,
    GOODBYE_MS = 1000,   /* at the end: for what is under way to others */
    TELL_MS = 2500,      /* not ready yet: what it waits for is said */
    TELL_NAME_MS = 1000, /* the same, where only the resolver was asked yet */
};

struct serve {
    struct host host;
    const struct serve_config *config;
    struct detour *detour;
    int lock; /* of the state directory; -1: not held */
    struct local_commands *commands;
    struct portal_answers *answers;
    struct portal_list *portal_list;
    struct scrape *scrape;
    struct timer sweep;
    struct timer beat; /* for systemd */
    struct timer tell; /* until it is ready: says what it waits for */
    bool ready, stopping;
    bool tells; /* the next time it says whatever it waits for */
    char named_before[ROSTER_NAME_LEN]; /* as devices know it; "": none was */
    bool met_before; /* this broker took us in in an earlier run, or is waited for */
    int result;
    struct fault *fault; /* of the caller */
};

static struct serve *serve_of(struct host *h)
{
    return LIST_OWNER(h, struct serve, host);
}

static void stop(struct host *h, int result)
{
    struct serve *s = serve_of(h);
    if (!s->stopping)
        s->result = result;
    s->stopping = true;
    loop_stop(h->loop);
}

/* ---------------------------------------------------------------------- the broker */

/*
 * A host's name where it is joined is made of what it calls itself, once. Which one
 * each device came by is known to it alone. At an agent nobody joins.
 */
static void tell_names(const struct serve *s)
{
    char label[ROSTER_NAME_LEN];
    const char *name = s->host.settings.name;
    if (s->host.to_agent)
        return;
    dns_label(name, label, sizeof(label));
    bool renamed = s->named_before[0] != '\0' && strcmp(s->named_before, label) != 0 &&
                   roster_clients(s->host.roster, NULL, 0) > 0;
    if (renamed)
        log_warn("devices that join from now on reach this host as '%s', those that "
                 "joined before as it was called then",
                 label);
    else if (strcasecmp(label, name) != 0)
        log_warn("devices reach this host as '%s'", label);
}

static void tell_status(const struct serve *s, const char *lost)
{
    const char *name = s->host.settings.name;
    if (lost != NULL)
        systemd_status("publishing as %s; %s", name, lost);
    else
        systemd_status("publishing %zu services as %s", s->host.services.count, name);
}

static void tell_ready(struct serve *s)
{
    struct event e;
    char key[KEY_TEXT_LEN];
    event_begin(&e, "ready");
    event_text(&e, "host", s->host.settings.name);
    event_text(&e, "key", key_format(s->host.key.pub, key));
    if (!s->host.for_programs)
        event_int(&e, "services", (int64_t)s->host.services.count);
    if (s->host.to_agent) {
        char place[LAN_PLACE_LEN];
        lan_place(&s->host.broker, place);
        event_text(&e, "via", place);
    }
    events_print(s->host.out, &e);
    if (s->config->on_ready != NULL)
        s->config->on_ready(s->config->ctx, &s->host.services,
                            s->host.to_agent ? NULL : s->host.roster);
    systemd_ready("publishing");
    tell_status(s, NULL);
    tell_names(s);
}

/* `why` NULL: it is back. With `fatal` it does not come back without somebody's doing.
 */
static void tell_away(struct serve *s, const struct fault *why, bool fatal)
{
    struct event e;
    event_begin(&e, s->host.to_agent ? "agent" : "broker");
    event_text(&e, "state", why == NULL ? "back" : "lost");
    if (why != NULL)
        event_text(&e, "reason", why->what);
    if (why != NULL && (fatal || why->code == POSTERN_ERR_INUSE))
        event_text(&e, "do", why->advice);
    events_print(s->host.out, &e);
    tell_status(s, why != NULL ? why->what : NULL);
}

static void tell_back(struct presence *p)
{
    p->why = (struct news){0};
    if (!p->lost || p->retired) /* as a new key's first connection: no return */
        return;
    p->lost = false;
    tell_away(serve_of(p->host), NULL, false);
}

/* Once, and again when it has become another reason. */
static void tell_lost(struct presence *p, const struct fault *why, bool fatal)
{
    struct serve *s = serve_of(p->host);
    if (p->retired || !news_tell(&p->why, why->what, loop_now_ms(s->host.loop)))
        return;
    p->lost = s->ready;
    if (s->ready)
        tell_away(s, why, fatal);
    else {
        events_fault(s->host.out, why);
        systemd_ready("waits for its broker"); /* it may be long: it has started */
        systemd_status("waits: %s", why->what);
    }
}

/* What the next start should know. Without room for it this one serves all the same. */
static int keep_settings(struct serve *s, const struct link *agent)
{
    int rc = roster_settings_set(s->host.roster, &s->host.settings, s->fault);
    if (rc == 0)
        rc = lan_agent_use(s->host.roster, agent, s->fault);
    if (rc != POSTERN_ERR_FULL && rc != POSTERN_ERR_PERM)
        return rc;
    log_warn("%s; the next start will not know what this one was told", s->fault->what);
    *s->fault = (struct fault){0};
    return 0;
}

static void warn_of_clock(int64_t skew_s)
{
    char words[SPAN_CLOCKS_LEN];
    if (skew_s > 3600 || skew_s < -3600)
        log_warn("%s; set the wrong one, as invites end by this one",
                 span_clocks(skew_s, words));
}

static void on_up(void *ctx)
{
    struct presence *p = ctx;
    struct serve *s = serve_of(p->host);
    int64_t skew = uplink_clock_skew_s(p->endpoint.uplink);
    if (!s->ready) {
        s->ready = true;
        if (keep_settings(s, s->host.to_agent ? &s->host.broker : NULL) != 0) {
            stop(&s->host, s->fault->code);
            return;
        }
        tell_ready(s);
        warn_of_clock(skew);
    }
    tell_back(p);
    portal_list_on_up(s->portal_list, p);
    clients_on_uplink(s->host.clients, p, true);
}

static void on_down(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal)
{
    struct presence *p = ctx;
    struct serve *s = serve_of(p->host);
    if (s->stopping)
        return;
    s->host.called.names_count = 0;
    /* Who took us in before will again: it is waited for. */
    if (!s->ready && (!s->met_before || (s->host.to_agent && fatal) ||
                      why->code == POSTERN_ERR_USAGE)) {
        *s->fault = *why;
        stop(&s->host, why->code);
        return;
    }
    tell_lost(p, why, fatal);
    if (fatal) /* that was told as an error */
        timer_stop(&s->tell);
    log_info("%s; %s (next try in %u ms)", why->what, why->advice, retry_ms);
    clients_on_uplink(s->host.clients, p, false);
}

static void on_tell(void *ctx)
{
    struct serve *s = ctx;
    char why[sizeof(s->fault->what)];
    struct presence *p = presences_next(s->host.presences, NULL);
    if (s->ready || s->stopping || p == NULL)
        return;
    if (!s->tells && uplink_name(p->endpoint.uplink) != UPLINK_NAME_ASKED) {
        timer_start(&s->tell, TELL_MS - TELL_NAME_MS);
        s->tells = true;
        return;
    }
    uplink_describe_wait(p->endpoint.uplink, why, sizeof(why));
    log_warn("waiting: %s", why);
    systemd_ready("waits for its broker");
}

static void on_control(void *ctx, const Control *m)
{
    clients_on_control(ctx, m);
}

static void on_presence_end(struct presence *p)
{
    if (p->host->clients != NULL)
        clients_on_presence_end(p->host->clients, p);
}

static const struct presence_events presence_events = {
    {on_up, on_down, on_control, presence_familiar}, on_presence_end};

static void on_detour(void *ctx)
{
    struct serve *s = ctx;
    net_sessions_enter(s->host.budget);
    for (struct presence *p = presences_next(s->host.presences, NULL); p != NULL;
         p = presences_next(s->host.presences, p))
        uplink_kick(p->endpoint.uplink);
    if (s->host.clients != NULL)
        clients_on_network_change(s->host.clients);
}

static void on_network(void *ctx, enum netmon_reason reason)
{
    struct serve *s = ctx;
    log_info("the network changed (%s)", netmon_reason_name(reason));
    detour_on_network_change(s->detour);
    on_detour(s);
}

/* ------------------------------------------------------------------ reload, revoke */

static void on_services(struct host *h)
{
    if (h->clients == NULL)
        return; /* it ends */
    clients_send_services(h->clients);
    portal_list_on_services(serve_of(h)->portal_list);
}

static int on_question(struct host *h, struct pump *p, const Visit *v)
{
    return portal_answer(serve_of(h)->answers, p, v);
}

static int read_settings(struct host *h, struct roster_settings *out, struct fault *f)
{
    int rc = roster_check(h->roster, f);
    if (rc != 0)
        return rc;
    rc = roster_settings_get(h->roster, out);
    if (rc == POSTERN_ERR_NOTFOUND)
        return fault_set(f, rc, "run 'postern serve --broker LINK SERVICE...' again",
                         "what is published here stands in host.db no more");
    return roster_fault(h->roster, rc, f);
}

/* Of the host's own, those that the other list has not, or with NULL all. */
static void list_own(struct event *e, const char *name, const struct service_list *l,
                     const struct service_list *but, size_t room)
{
    bool begun = false;
    for (size_t i = 0; i < l->count && e->json.used + room < EVENT_TEXT_LEN; i++) {
        if (l->items[i].owner != NULL ||
            (but != NULL && service_list_has(but, l->items[i].name)))
            continue;
        if (!begun)
            json_array_begin(&e->json, name);
        begun = true;
        json_text(&e->json, NULL, l->items[i].name);
    }
    if (begun)
        json_array_end(&e->json);
}

static void describe_reload(struct event *e, const struct service_list *now,
                            const struct service_list *before)
{
    event_begin(e, "reloaded");
    event_int(e, "services", (int64_t)service_list_own(now));
    list_own(e, "published", now, NULL, EVENT_TEXT_LEN / 2);
    list_own(e, "withdrawn", before, now, 100);
}

/* Told here, and in `e` for who asked. */
static int reload(struct host *h, struct event *e, struct fault *f)
{
    bool renewed = false;
    struct roster_settings *fresh = malloc(sizeof(*fresh));
    struct service_list services = {0};
    struct event told;
    int rc = POSTERN_ERR_NOMEM;
    if (fresh == NULL)
        return fault_lack(f, rc);
    rc = read_settings(h, fresh, f);
    if (rc == 0)
        rc = service_list_parse_lines(&services, h->for_programs ? "" : fresh->services,
                                      f);
    if (rc == 0)
        rc = h->to_agent ? 0 : presences_renew(h->presences, &renewed, f);
    if (rc == 0 && renewed)
        clients_announce_key(h->clients);
    if (rc != 0)
        service_list_fini(&services);
    if (rc == 0) {
        describe_reload(e, &services, &h->services);
        describe_reload(&told, &services, &h->services);
        service_list_carry(&services, &h->services);
        service_list_fini(&h->services);
        h->services = services;
        memcpy(h->settings.services, fresh->services, sizeof(fresh->services));
        h->settings.absent_s = fresh->absent_s;
        agent_renamed(h->agent);
        rc = access_check(h->access, f); /* the rest is taken up all the same */
        if (rc == 0 && h->certs != NULL)
            rc = certs_reload(h->certs, f);
        clients_check(h->clients);
        portal_list_on_change(serve_of(h)->portal_list);
        on_services(h);
    }
    if (rc == 0)
        events_print(h->out, &told);
    free(fresh);
    return rc;
}

static int hangup(struct host *h, struct fault *f)
{
    struct event e;
    const struct serve_config *c = serve_of(h)->config;
    int rc = c->on_hangup != NULL ? c->on_hangup(c->ctx, f) : 0;
    return rc == 0 ? reload(h, &e, f) : rc;
}

static unsigned revoke_device(struct host *h, const uint8_t key[static KEY_LEN])
{
    return clients_revoke(h->clients, key) + agent_forget(h->agent, key);
}

static const struct host_events host_events = {on_services, on_question,   reload,
                                               hangup,      revoke_device, stop};

/* The directory may have been put back from a copy, which nobody holds yet. */
static void keep_place(struct serve *s)
{
    bool moved;
    if (statedir_lock_keep(s->host.state, "serve", &s->lock, &moved, s->fault) != 0)
        stop(&s->host, s->fault->code);
    else if (moved)
        local_commands_renew(s->commands);
}

static void on_sweep(void *ctx)
{
    struct serve *s = ctx;
    struct host *h = &s->host;
    keep_place(s);
    if (presences_keep(h->presences))
        clients_announce_key(h->clients);
    clients_check(h->clients);
    presences_tell_invites(h->presences);
    portal_list_sweep(s->portal_list);
    audit_look(h->audit);
    spare_look_bytes(&h->spare,
                     clients_count(h->clients) + service_streams_count(h->streams));
}

/* -------------------------------------------------------------------------------
 * settings */

static int load_services(struct serve *s, struct fault *f)
{
    const struct serve_config *c = s->config;
    if (c->for_programs)
        return 0; /* programs come and publish what they listen on */
    if (c->service_count == 0) {
        if (s->host.settings.services[0] == '\0' && c->agent != NULL)
            return 0; /* an agent may have none of its own */
        if (s->host.settings.services[0] == '\0')
            return fault_set(
                f, POSTERN_ERR_USAGE,
                "name at least one, for example: postern serve 22 web=8080",
                "no service is named and none was published here before");
        return service_list_parse_lines(&s->host.services, s->host.settings.services,
                                        f);
    }
    int rc = service_list_parse(&s->host.services, c->services, c->service_count, f);
    if (rc != 0)
        return rc == POSTERN_ERR_NOMEM ? rc : POSTERN_ERR_USAGE;
    size_t used = 0;
    for (size_t i = 0; i < c->service_count; i++) {
        int n = snprintf(s->host.settings.services + used,
                         sizeof(s->host.settings.services) - used, "%s%s",
                         i > 0 ? "\n" : "", c->services[i]);
        if ((size_t)n >= sizeof(s->host.settings.services) - used)
            return fault_set(f, POSTERN_ERR_LIMIT, "name fewer",
                             "the list of services is too long");
        used += (size_t)n;
    }
    return 0;
}

int serve_check_name(const char *name, struct fault *f)
{
    if (strlen(name) < ROSTER_NAME_LEN)
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE, "use at most 63 characters",
                     "the name is too long");
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
    /* A program runs meanwhile: its host waits like one that was taken in before. */
    s->met_before =
        c->for_programs || (known && (c->broker == NULL ||
                                      strcmp(c->broker, s->host.settings.broker) == 0));
    if (c->broker != NULL)
        (void)snprintf(s->host.settings.broker, sizeof(s->host.settings.broker),
                       "%.511s", c->broker);
    if (s->host.settings.broker[0] == '\0')
        return fault_set(
            f, POSTERN_ERR_USAGE,
            c->was_invite
                ? LINK_WAS_INVITE
                : "use --broker LINK with the link that 'postern broker' printed",
            "no broker is given and none was used here before");
    int rc = c->broker != NULL ? link_parse_given(broker, s->host.settings.broker, f)
                               : link_parse(broker, s->host.settings.broker, f);
    return rc == 0 ? link_check_broker(broker, f) : rc;
}

/* Whether the services go to an agent: said now, or in the last run. */
static bool uses_agent(const struct serve *s)
{
    char known[LINK_TEXT_LEN];
    const struct serve_config *c = s->config;
    return c->via != NULL || (c->broker == NULL && c->agent == NULL &&
                              lan_agent_find(s->host.roster, NULL, known) == 0);
}

static int load_settings(struct serve *s, struct link *broker, struct fault *f)
{
    const struct serve_config *c = s->config;
    int rc = roster_settings_get(s->host.roster, &s->host.settings);
    if (rc != 0 && rc != POSTERN_ERR_NOTFOUND)
        return roster_fault(s->host.roster, rc, f);
    s->host.to_agent = uses_agent(s);
    rc = s->host.to_agent ? via_load(s->host.roster, c->via, broker, &s->met_before, f)
                          : load_broker(s, broker, rc == 0, f);
    if (rc == 0 && s->host.to_agent)
        rc = via_check_tls(c->tls, c->tls_count, c->tls_command, f);
    if (rc != 0)
        return rc;
    if (c->name != NULL && (rc = serve_check_name(c->name, f)) != 0)
        return rc;
    if (s->host.settings.name[0] != '\0')
        dns_label(s->host.settings.name, s->named_before, sizeof(s->named_before));
    if (c->name != NULL)
        (void)snprintf(s->host.settings.name, sizeof(s->host.settings.name), "%s",
                       c->name);
    if (s->host.settings.name[0] == '\0')
        default_name(s->host.settings.name);
    if (c->absent_s != 0)
        s->host.settings.absent_s = c->absent_s > 0 ? c->absent_s : 0;
    return load_services(s, f);
}

/* ------------------------------------------------------------------------- the run */

static void add_metrics(void *ctx, struct metrics *m)
{
    host_figures_write(&((struct serve *)ctx)->host, m);
}

static const char *why_not_ready(void *ctx)
{
    const struct serve *s = ctx;
    const struct fault *why;
    for (struct presence *p = presences_next(s->host.presences, NULL); p != NULL;
         p = presences_next(s->host.presences, p)) {
        if (p->retired || uplink_is_up(p->endpoint.uplink))
            continue;
        why = uplink_fault(p->endpoint.uplink, NULL);
        return why != NULL ? why->what : "not at its broker yet";
    }
    return NULL;
}

static int open_scrape(struct serve *s, struct fault *f)
{
    struct scrape_config c = {.loop = s->host.loop,
                              .at = s->config->metrics,
                              .role = "serve",
                              .add = add_metrics,
                              .why_not_ready = why_not_ready,
                              .ctx = s};
    return c.at == NULL ? 0 : scrape_open(&s->scrape, &c, f);
}

static int open_parts(struct serve *s, struct fault *f)
{
    struct host *h = &s->host;
    int rc = 0;
    net_allow_descriptors();
    h->visits = portal_visits_new(h);
    h->streams = service_streams_new(h);
    h->clients = clients_new(h);
    s->answers = portal_answers_new(h);
    s->portal_list = portal_list_new(h);
    if (h->visits == NULL || h->streams == NULL || h->clients == NULL ||
        s->answers == NULL || s->portal_list == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    if (s->config->agent != NULL)
        rc = agent_open(&h->agent, h, s->config->agent, f);
    if (rc == 0 && !h->for_programs)
        rc = certs_open(&h->certs, h, f);
    if (rc == 0)
        rc = presences_open(h, &presence_events, f);
    return rc == 0 ? open_scrape(s, f) : rc;
}

static void close_parts(struct serve *s)
{
    struct host *h = &s->host;
    scrape_close(s->scrape);
    clients_close(h->clients);
    h->clients = NULL;
    presences_close(h->presences);
    agent_close(h->agent); /* after its clients' streams */
    certs_close(h->certs);
    portal_list_free(s->portal_list);
}

static int run_loop(struct serve *s, struct fault *f)
{
    char socket_path[STATEDIR_SOCKET_LEN];
    struct host *h = &s->host;
    struct netmon *netmon = NULL;
    statedir_socket(h->state, "serve", socket_path);
    int rc = local_commands_open(&s->commands, h, socket_path, f);
    if (rc == 0 && netmon_open(&netmon, h->loop, on_network, s) != 0)
        log_warn("changes of the network cannot be watched");
    if (rc == 0)
        rc = detour_open(&s->detour, h->loop, h->budget, on_detour, s);
    if (rc == 0)
        rc = open_parts(s, f);
    if (rc == 0) {
        timer_init(&s->sweep, h->loop, on_sweep, s);
        timer_every(&s->sweep, SWEEP_MS, SWEEP_MS);
        timer_init(&s->tell, h->loop, on_tell, s);
        timer_start(&s->tell, TELL_NAME_MS);
        systemd_watchdog_start(&s->beat, h->loop);
        loop_run(h->loop);
        systemd_stopping();
        rc = s->result;
        timer_stop(&s->beat);
        timer_stop(&s->sweep);
        timer_stop(&s->tell);
    }
    close_parts(s);
    netmon_close(netmon);
    detour_close(s->detour);
    local_commands_close(s->commands);
    if (!loop_finish(h->loop, GOODBYE_MS))
        log_warn("not waited for any longer: the router or the resolver, which has not "
                 "answered; a port mapping of this host ends by itself within %d s",
                 GATEWAY_LEASE_S);
    free(h->visits); /* after the streams that are told here of their end */
    free(h->streams);
    free(s->answers);
    return rc;
}

int serve_run(const struct serve_config *c, struct fault *f)
{
    struct statedir state;
    int rc = lack_check_start(HOST_FILES_MIN, f);
    if (rc != 0)
        return rc;
    struct serve *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    struct host *h = &s->host;
    *h = (struct host){.state = &state,
                       .out = c->out,
                       .budget = net_budget_new(),
                       .for_programs = c->for_programs,
                       .paths = c->paths,
                       .jit_window_ms = c->jit_window_ms,
                       .events = &host_events};
    s->config = c;
    s->lock = -1;
    s->fault = f;
    rc = statedir_open(&state, c->state, f);
    if (rc == 0)
        rc = statedir_lock(&state, "serve", &s->lock, f);
    if (rc == 0)
        net_budget_share(h->budget, state.path);
    if (rc == 0)
        rc = roster_open(&h->roster, state.path, f);
    if (rc == 0)
        rc = access_open(&h->access, state.path, f);
    if (rc == 0)
        rc = load_settings(s, &h->broker, f);
    if (rc == 0)
        rc = certs_settle(h->access, &h->services, c->tls, c->tls_count, c->tls_command,
                          f);
    if (rc == 0) {
        db_keep_copy(roster_db(h->roster));
        access_keep_copy(h->access);
        h->audit = audit_start(state.path);
        rc = loop_open(&h->loop);
        rc = rc == 0 ? run_loop(s, f) : fault_lack(f, rc);
        loop_close(h->loop);
    }
    service_list_fini(&h->services);
    audit_close(h->audit);
    access_close(h->access);
    roster_close(h->roster);
    if (s->lock >= 0)
        close(s->lock);
    net_budget_free(h->budget);
    free(s);
    return rc;
}
