/* One answer a stream; what a service's says waits for probes of them all. */
#include "host/portal_answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "host/clients.h"
#include "host/invite.h"
#include "host/service_streams.h"
#include "host/portal_visits.h"
#include "host/race.h"
#include "io/audit.h"
#include "io/loop.h"
#include "io/resolve.h"
#include "io/statedir.h"

enum {
    ANSWER_MAX = 128 * 1024,
    DEADLINE_MS = 1500, /* what has not answered by then is down */
    ANSWERS_MAX = 16,   /* under way at once */
    LOG_MAX = 100,
};

enum seen { SERVICE_DOWN, SERVICE_UP, SERVICE_REFUSED };

/* Is a service there? It is tried as a visitor's connection would be. */
struct probe {
    struct answer *ask;
    enum seen *seen;
    struct race *race;
    struct resolve *resolve; /* of this machine's UDP */
};

struct portal_answers {
    struct host *host;
    unsigned count; /* that the portal waits for */
};

struct answer {
    struct portal_answers *all;
    struct host *host;
    struct pump *pump; /* NULL at the end */
    struct access_account account;
    char visitor[64];
    char *text; /* what is said so far; owned */
    size_t used;
    struct probe *probes; /* owned; while pending > 0 */
    size_t probe_count, pending;
    struct service *services; /* those probed, with the account's targets; owned */
    enum seen seen[SERVICE_MAX];
    size_t service_count;
    struct timer deadline;
    bool answered;
};

static void probes_end(struct answer *a)
{
    for (size_t i = 0; i < a->probe_count; i++) {
        race_free(a->probes[i].race);
        resolve_cancel(a->probes[i].resolve);
    }
    free(a->probes);
    a->probes = NULL;
    a->probe_count = a->pending = 0;
    timer_stop(&a->deadline);
}

static void answer_free(struct answer *a)
{
    if (!a->answered)
        a->all->count--;
    probes_end(a);
    free(a->services);
    if (a->text != NULL)
        sodium_memzero(a->text, a->used);
    free(a->text);
    free(a);
}

/* The answer stands: it is sent, and the stream ends. */
static void send_answer(struct answer *a)
{
    int err = stream_reply(a->pump, STREAM_OK, "", false);
    if (err == 0 && a->used > 0)
        err = pump_send_header(a->pump, (const uint8_t *)a->text, a->used);
    if (err == 0)
        pump_finish(a->pump);
    else
        pump_abort(a->pump, STREAM_LIMIT);
    a->answered = true;
    a->all->count--;
}

static void turn_down(struct answer *a, enum stream_code code, const char *reason)
{
    stream_refuse(a->pump, code, reason);
    a->answered = true;
    a->all->count--;
}

/* What does not fit is left out: an answer is a list, and long ones are cut. */
static void say(struct answer *a, struct event *e)
{
    const char *line = event_end(e);
    size_t len = strlen(line);
    if (a->text == NULL)
        a->text = malloc(ANSWER_MAX);
    if (a->text == NULL || a->used + len + 1 > ANSWER_MAX)
        return;
    memcpy(a->text + a->used, line, len);
    a->text[a->used + len] = '\n';
    a->used += len + 1;
}

/* ------------------------------------------------------------------------ services */

static void say_services(struct answer *a)
{
    for (size_t i = 0; i < a->service_count; i++) {
        const struct service *sv = &a->services[i];
        struct event e;
        event_begin(&e, "service");
        event_text(&e, "name", sv->name);
        event_int(&e, "port", sv->port);
        event_text(&e, "protocol", sv->udp ? "udp" : "tcp");
        event_bool(&e, "up", a->seen[i] == SERVICE_UP);
        event_bool(&e, "refused", a->seen[i] == SERVICE_REFUSED);
        say(a, &e);
    }
    probes_end(a);
    send_answer(a);
}

static void probe_done(struct probe *p, enum seen seen)
{
    struct answer *a = p->ask;
    *p->seen = seen;
    if (--a->pending == 0)
        say_services(a);
}

static void on_won(void *ctx, int fd)
{
    struct probe *p = ctx;
    close(fd);
    race_free(p->race);
    p->race = NULL;
    probe_done(p, SERVICE_UP);
}

static void on_won_there(void *ctx, struct pump *stream)
{
    struct probe *p = ctx;
    pump_drop(stream);
    race_free(p->race);
    p->race = NULL;
    probe_done(p, SERVICE_UP);
}

static void on_lost(void *ctx, enum stream_code code, const char *reason)
{
    struct probe *p = ctx;
    (void)reason;
    race_free(p->race);
    p->race = NULL;
    probe_done(p, code == STREAM_LIMIT     ? SERVICE_UP /* too busy to be tried */
                  : code == STREAM_REFUSED ? SERVICE_REFUSED
                                           : SERVICE_DOWN);
}

static const struct race_events race_events = {on_won, on_won_there, on_lost};

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct probe *p = ctx;
    (void)addrs;
    p->resolve = NULL;
    probe_done(p, err == 0 && n > 0 ? SERVICE_UP : SERVICE_DOWN);
}

static void on_deadline(void *ctx)
{
    struct answer *a = ctx;
    if (a != NULL && !a->answered)
        say_services(a);
}

static void probe_start(struct answer *a, size_t service)
{
    struct probe *p = &a->probes[service];
    struct host *h = a->host;
    const struct service *sv = &a->services[service];
    *p = (struct probe){.ask = a, .seen = &a->seen[service]};
    if (sv->taker > 0) { /* its program lives as long as it stands there */
        *p->seen = SERVICE_UP;
        return;
    }
    bool here = sv->udp && sv->targets[0].by == 0; /* more cannot be known */
    int err = here ? resolve_start(&p->resolve, h->loop, sv->targets[0].host,
                                   sv->targets[0].port, on_resolved, p)
                   : race_start(&p->race, h->loop, h->agent, sv, "", &race_events, p);
    if (err == 0)
        a->pending++;
    else
        *p = (struct probe){0};
}

/* Those of the account, each with the instances that it may use and no others. */
static void choose_services(struct answer *a)
{
    const struct service_list *l = &a->host->services;
    for (size_t i = 0; i < l->count; i++) {
        struct service *sv = &a->services[a->service_count];
        *sv = l->items[i];
        if (access_narrow(&a->account, sv, sv->name, statedir_now_s()))
            a->service_count++;
    }
}

static void ask_services(struct answer *a)
{
    struct host *h = a->host;
    a->services = calloc(SERVICE_MAX + 1, sizeof(*a->services));
    a->probes = calloc(SERVICE_MAX, sizeof(*a->probes));
    timer_init(&a->deadline, h->loop, on_deadline, a);
    if (a->services == NULL || a->probes == NULL) {
        turn_down(a, STREAM_LIMIT, "the host is out of memory");
        return;
    }
    choose_services(a);
    a->probe_count = a->service_count;
    for (size_t i = 0; i < a->service_count; i++)
        probe_start(a, i);
    if (a->pending == 0)
        say_services(a);
    else
        timer_start(&a->deadline, DEADLINE_MS);
}

/* ----------------------------------------------------------------- what owners see */

/* Of devices only: the session of the portal, which asks this, is none. */
static bool say_session(void *ctx, struct event *e, bool portal)
{
    if (!portal)
        say(ctx, e);
    return true;
}

static void ask_sessions(struct answer *a)
{
    (void)clients_each(a->host->clients, false, say_session, a);
    send_answer(a);
}

static void ask_devices(struct answer *a)
{
    struct roster_client *clients;
    int n = roster_clients_all(a->host->roster, &clients);
    for (int i = 0; i < n; i++) {
        char key[KEY_TEXT_LEN];
        struct event e;
        event_begin(&e, "client");
        event_text(&e, "name", clients[i].name);
        event_text(&e, "key", key_format(clients[i].key, key));
        event_int(&e, "added_s", clients[i].added_s);
        event_text(&e, "services", clients[i].allowed[0] ? clients[i].allowed : NULL);
        event_bool(&e, "connected",
                   clients_is_connected(a->host->clients, clients[i].key));
        say(a, &e);
    }
    free(clients);
    if (n < 0)
        turn_down(a, STREAM_LIMIT, "the host cannot read its list of devices");
    else
        send_answer(a);
}

static void ask_log(struct answer *a)
{
    struct audit_entry *entries = calloc(LOG_MAX, sizeof(*entries));
    int n = entries == NULL          ? POSTERN_ERR_NOMEM
            : a->host->audit == NULL ? 0
                                     : audit_list(a->host->audit, entries, LOG_MAX);
    for (int i = 0; i < n; i++) {
        struct event e;
        audit_event(&e, &entries[i]);
        say(a, &e);
    }
    free(entries);
    if (n < 0)
        turn_down(a, STREAM_LIMIT, "the host cannot read its log");
    else
        send_answer(a);
}

/* ------------------------------------------------------------------ what owners do */

/* "SECONDS" or "SECONDS SERVICE,...". */
static bool parse_invite(const char *arg, int64_t *life_s, const char **services)
{
    char *end = NULL;
    if (*arg < '0' || *arg > '9' || strspn(arg, "0123456789") > 9)
        return false;
    *life_s = strtoll(arg, &end, 10);
    *services = *end == ' ' ? end + 1 : end;
    return (*end == ' ' || *end == '\0') && *life_s > 0 && *life_s <= INVITE_LIFE_MAX_S;
}

static void ask_invite(struct answer *a, const char *arg)
{
    struct host *h = a->host;
    struct invite_config c = {.published = &h->services,
                              .broker = &h->broker,
                              .host_key = h->key.pub,
                              .uses = 1,
                              .now_s = statedir_now_s()};
    struct roster_invite in;
    struct audit_entry entry;
    struct link l;
    struct event e;
    char text[LINK_TEXT_LEN];
    struct fault f = {0};
    if (!parse_invite(arg, &c.life_s, &c.services)) {
        turn_down(a, STREAM_DENIED, "not a life in seconds and a list of services");
        return;
    }
    if (invite_make(h->roster, &c, &in, &l, &f) != 0) {
        turn_down(a, STREAM_DENIED, f.what);
        return;
    }
    invite_audit(&entry, &c, &in);
    audit_note(h->audit, "invite", a->account.name, a->visitor, entry.object,
               entry.detail);
    presences_tell_invites(h->presences);
    link_format(&l, text);
    invite_event(&e, &in, text);
    say(a, &e);
    sodium_memzero(&in, sizeof(in));
    sodium_memzero(&l, sizeof(l));
    sodium_memzero(text, sizeof(text));
    sodium_memzero(&e, sizeof(e));
    send_answer(a);
}

static void ask_revoke(struct answer *a, const char *arg)
{
    struct host *h = a->host;
    struct roster_client c;
    uint8_t key[KEY_LEN];
    char detail[AUDIT_TEXT_LEN * 2], text[KEY_TEXT_LEN];
    struct fault f = {0};
    struct event e;
    if (key_parse(key, arg) != 0) {
        turn_down(a, STREAM_DENIED, "not a device key");
        return;
    }
    if (roster_revoke_key(h->roster, key, &c, statedir_now_s(), &f) != 0) {
        turn_down(a, STREAM_DENIED, f.what);
        return;
    }
    unsigned sessions = h->events->revoke(h, key);
    (void)snprintf(detail, sizeof(detail), "key %s", key_format(key, text));
    audit_note(h->audit, "revoked", a->account.name, a->visitor, c.name, detail);
    event_begin(&e, "revoked");
    event_text(&e, "name", c.name);
    event_text(&e, "key", text);
    event_int(&e, "sessions", sessions);
    say(a, &e);
    send_answer(a);
}

/* What happened at the portal, for this host's log. */
static void ask_note(struct answer *a, const char *arg, uint32_t ago_s)
{
    char detail[80] = "at the portal";
    if (ago_s > 0)
        (void)snprintf(detail, sizeof(detail),
                       "at the portal, %u s before, while this host was away", ago_s);
    static const char *const known[] = {"login", "refused", "logout", "chosen"};
    size_t len = strcspn(arg, " ");
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i]) != len || memcmp(known[i], arg, len) != 0)
            continue;
        audit_note(a->host->audit, known[i], a->account.name, a->visitor,
                   arg[len] == ' ' ? arg + len + 1 : "", detail);
        send_answer(a);
        return;
    }
    turn_down(a, STREAM_NOTFOUND, "not a note that this host knows");
}

/* ------------------------------------------------------------------------- the ask */

static void on_no_header(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    (void)ctx, (void)p, (void)msg, (void)len; /* it came before the ask was made */
}

static void on_end(void *ctx, struct pump *p, uint64_t code)
{
    struct answer *a = ctx;
    (void)p, (void)code;
    a->pump = NULL;
    answer_free(a);
}

static const struct pump_events answer_events = {on_no_header, NULL, on_end};

static enum stream_code judge(struct answer *a, const Visit *v, const char **reason)
{
    if (v->ask > PORTAL_ASK_NOTE) {
        *reason = "this host does not know that question";
        return STREAM_NOTFOUND;
    }
    enum stream_code code = portal_account(a->host, v->account, &a->account, reason);
    bool open = v->ask == PORTAL_ASK_SERVICES || v->ask == PORTAL_ASK_NOTE;
    if (code == STREAM_OK && !open && !a->account.owner) {
        *reason = "the account is not an owner's";
        code = STREAM_DENIED;
    }
    return code;
}

struct portal_answers *portal_answers_new(struct host *h)
{
    struct portal_answers *all = calloc(1, sizeof(*all));
    if (all != NULL)
        all->host = h;
    return all;
}

int portal_answer(struct portal_answers *all, struct pump *pump, const Visit *v)
{
    const char *reason = "";
    if (all->count >= ANSWERS_MAX)
        return POSTERN_ERR_LIMIT;
    struct answer *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    all->count++;
    a->all = all;
    a->host = all->host;
    a->pump = pump;
    (void)snprintf(a->visitor, sizeof(a->visitor), "%s", v->visitor);
    pump_set_user(pump, &answer_events, a);
    enum stream_code code = judge(a, v, &reason);
    if (code != STREAM_OK) {
        bool note = v->ask == PORTAL_ASK_NOTE; /* the broker told of a login */
        audit_note(a->host->audit, "refused", v->account, v->visitor,
                   note ? "login" : "a question", reason);
        turn_down(a, code, reason);
        return 0;
    }
    switch ((enum portal_ask)v->ask) {
    case PORTAL_ASK_NONE: /* is no question: see service_streams.c */
    case PORTAL_ASK_SERVICES:
        ask_services(a);
        break;
    case PORTAL_ASK_NOTE:
        ask_note(a, v->arg, v->ago_s);
        break;
    case PORTAL_ASK_SESSIONS:
        ask_sessions(a);
        break;
    case PORTAL_ASK_DEVICES:
        ask_devices(a);
        break;
    case PORTAL_ASK_INVITE:
        ask_invite(a, v->arg);
        break;
    case PORTAL_ASK_REVOKE:
        ask_revoke(a, v->arg);
        break;
    case PORTAL_ASK_LOG:
        ask_log(a);
        break;
    }
    return 0;
}
