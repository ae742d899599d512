/*
 * What the owner of a host may see and do: devices, sessions, invites, revoking, the
 * host's audit log. All of it is asked of the host each time and decided there; nothing
 * is kept here but the last byte counts, for rates.
 */
#include "portal/handlers.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "io/loop.h"
#include "portal/web.h"

enum {
    SESSIONS_MAX = 64,
    DEVICES_MAX = 256,
    LOG_MAX = 100,
    ASK_MS = 4000, /* a page waits so long for its host, and then says so */
    LINE = 1100,
    RATE_MIN_MS = 1000, /* a page that is asked for at once has the rate before */
};

struct session_row {
    struct session_view view;
    char device[64], kind[24], remote[ADDR_TEXT_LEN];
};
struct device_row {
    struct device_view view;
    char name[64], key[KEY_TEXT_LEN], services[512];
};
struct log_row {
    struct log_view view;
    char time[32], what[64], who[64], from[64], object[128], detail[128];
};

struct owner_work {
    struct request *request;
    uint32_t host;
    char *sessions, *devices, *log; /* the answers; owned */
    char invite[LINK_TEXT_LEN];
    char problem[200];
    bool picture_only;
};

static void work_free(struct owner_work *w)
{
    free(w->sessions);
    free(w->devices);
    free(w->log);
    free(w);
}

/* ---------------------------------------------------------------- answers to views */

static void copy_text(const char *line, const char *name, char *buf, size_t cap)
{
    struct json_value v;
    buf[0] = '\0';
    if (json_find(&v, line, name) == 0 && v.type != JSON_NULL)
        json_value_words(&v, buf, cap);
}

static double number(const char *line, const char *name)
{
    char text[32];
    copy_text(line, name, text, sizeof(text));
    double v = strtod(text, NULL);
    return v >= 0 && v <= 1e15 ? v : 0; /* a host may say anything, also NaN */
}

/* Calls `each` with every line; `each` says whether there is room for more. */
static void each_line(const char *text, bool (*each)(void *ctx, const char *line),
                      void *ctx)
{
    char line[LINE];
    bool more = true;
    while (text != NULL && *text != '\0' && more) {
        size_t len = strcspn(text, "\n");
        if (len > 0 && len < sizeof(line)) {
            memcpy(line, text, len);
            line[len] = '\0';
            more = each(ctx, line);
        }
        text += len + (text[len] == '\n');
    }
}

/* Bytes a second since the page was last asked for. */
static double rate_of(struct portal_host *h, uint64_t now, const char *device,
                      const char *remote, double bytes)
{
    struct host_rate *oldest = &h->rates[0], *s = NULL;
    char name[HOST_RATE_NAME_LEN];
    (void)snprintf(name, sizeof(name), "%.60s %.60s", device, remote);
    for (size_t i = 0; i < HOST_RATES_MAX && s == NULL; i++) {
        if (strcmp(h->rates[i].name, name) == 0)
            s = &h->rates[i];
        else if (h->rates[i].at_ms < oldest->at_ms)
            oldest = &h->rates[i];
    }
    if (s == NULL || bytes < s->bytes) {
        s = s == NULL ? oldest : s;
        *s = (struct host_rate){.bytes = bytes, .at_ms = now};
        (void)snprintf(s->name, sizeof(s->name), "%s", name);
        return 0;
    }
    if (now - s->at_ms >= RATE_MIN_MS) {
        s->rate = (bytes - s->bytes) * 1000 / (double)(now - s->at_ms);
        s->bytes = bytes;
        s->at_ms = now;
    }
    return s->rate;
}

struct session_fill {
    struct portal_host *host;
    uint64_t now_ms;
    struct session_row *rows;
    struct session_view *views;
    size_t count;
};

static bool add_session(void *ctx, const char *line)
{
    struct session_fill *f = ctx;
    struct session_row *s = &f->rows[f->count];
    copy_text(line, "peer", s->device, sizeof(s->device));
    copy_text(line, "kind", s->kind, sizeof(s->kind));
    copy_text(line, "remote", s->remote, sizeof(s->remote));
    double bytes = number(line, "sent_bytes") + number(line, "received_bytes");
    double streams = number(line, "streams");
    f->views[f->count++] = (struct session_view){
        .device = s->device,
        .kind = s->kind,
        .remote = s->remote,
        .rtt_ms = number(line, "rtt_ms"),
        .rate_bytes_s = rate_of(f->host, f->now_ms, s->device, s->remote, bytes),
        .streams = (unsigned)(streams < UINT16_MAX ? streams : UINT16_MAX)};
    return f->count < SESSIONS_MAX;
}

struct device_fill {
    struct device_row *rows;
    struct device_view *views;
    size_t count;
};

static bool add_device(void *ctx, const char *line)
{
    struct device_fill *f = ctx;
    struct device_row *d = &f->rows[f->count];
    char connected[8];
    copy_text(line, "name", d->name, sizeof(d->name));
    copy_text(line, "key", d->key, sizeof(d->key));
    copy_text(line, "services", d->services, sizeof(d->services));
    copy_text(line, "connected", connected, sizeof(connected));
    f->views[f->count++] =
        (struct device_view){.name = d->name,
                             .key = d->key,
                             .services = d->services,
                             .connected = strcmp(connected, "true") == 0};
    return f->count < DEVICES_MAX;
}

struct log_fill {
    struct log_row *rows;
    struct log_view *views;
    size_t count;
};

/* "2026-11-21T11:22:01Z" as a column headed UTC has it, which may wrap at its blank. */
static void plain_time(char *text)
{
    if (strlen(text) == 20 && text[10] == 'T' && text[19] == 'Z') {
        text[10] = ' ';
        text[19] = '\0';
    }
}

static bool add_log(void *ctx, const char *line)
{
    struct log_fill *f = ctx;
    struct log_row *l = &f->rows[f->count];
    copy_text(line, "time", l->time, sizeof(l->time));
    plain_time(l->time);
    copy_text(line, "what", l->what, sizeof(l->what));
    copy_text(line, "who", l->who, sizeof(l->who));
    copy_text(line, "from", l->from, sizeof(l->from));
    copy_text(line, "object", l->object, sizeof(l->object));
    copy_text(line, "detail", l->detail, sizeof(l->detail));
    f->views[f->count++] = (struct log_view){.time = l->time,
                                             .what = l->what,
                                             .who = l->who,
                                             .from = l->from,
                                             .object = l->object,
                                             .detail = l->detail};
    return f->count < LOG_MAX;
}

/* Everything a page is made of, in one block. */
struct sheet {
    struct session_row session_rows[SESSIONS_MAX];
    struct session_view sessions[SESSIONS_MAX];
    struct device_row device_rows[DEVICES_MAX];
    struct device_view devices[DEVICES_MAX];
    struct log_row log_rows[LOG_MAX];
    struct log_view log[LOG_MAX];
};

static void show(struct owner_work *w)
{
    struct request *r = w->request;
    struct portal_host *h = host_by_number(r->rooms->hosts, w->host);
    struct sheet *sh = calloc(1, sizeof(*sh));
    char key[KEY_TEXT_LEN];
    if (h == NULL || sh == NULL || request_login(r) == NULL) {
        free(sh);
        work_free(w);
        request_redirect(r, "/login");
        return;
    }
    struct session_fill sessions = {h, loop_now_ms(r->rooms->loop), sh->session_rows,
                                    sh->sessions, 0};
    struct device_fill devices = {sh->device_rows, sh->devices, 0};
    struct log_fill log = {sh->log_rows, sh->log, 0};
    each_line(w->sessions, add_session, &sessions);
    each_line(w->devices, add_device, &devices);
    each_line(w->log, add_log, &log);
    struct owner_view v = {
        .host = {.name = h->name, .key = key_format(h->key, key), .online = h->online},
        .sessions = sh->sessions,
        .session_count = sessions.count,
        .devices = sh->devices,
        .device_count = devices.count,
        .log = sh->log,
        .log_count = log.count,
        .invite_link = w->invite[0] != '\0' ? w->invite : NULL};
    request_state(r, &v.state);
    v.state.problem = w->problem[0] != '\0' ? w->problem : NULL;
    if (w->picture_only) {
        page_picture(&r->html, &v);
    } else {
        page_owner(&r->html, &v);
    }
    free(sh);
    unsigned status = w->problem[0] != '\0' ? MHD_HTTP_BAD_GATEWAY : MHD_HTTP_OK;
    work_free(w);
    request_answer(r, status);
}

/* -------------------------------------------------------------------------- asking */

static void on_part(struct owner_work *w, char **part, unsigned code,
                    const char *reason, const char *text)
{
    if (code == 0)
        *part = strdup(text);
    else
        (void)snprintf(w->problem, sizeof(w->problem), "The host says: %.160s", reason);
    if (--w->request->pending == 0)
        show(w);
}

static void on_sessions(void *ctx, unsigned code, const char *reason, const char *text)
{
    struct owner_work *w = ctx;
    on_part(w, &w->sessions, code, reason, text);
}

static void on_devices(void *ctx, unsigned code, const char *reason, const char *text)
{
    struct owner_work *w = ctx;
    on_part(w, &w->devices, code, reason, text);
}

static void on_log(void *ctx, unsigned code, const char *reason, const char *text)
{
    struct owner_work *w = ctx;
    on_part(w, &w->log, code, reason, text);
}

static void ask(struct owner_work *w, struct portal_host *h, enum portal_ask what,
                const char *arg, ask_cb cb)
{
    struct request *r = w->request;
    const struct login *l = request_login(r);
    if (l != NULL && ask_start(r->rooms->asks, h, l->account, &r->client, what, arg,
                               ASK_MS, cb, w) == 0)
        r->pending++;
}

static void ask_all(struct owner_work *w)
{
    struct request *r = w->request;
    struct portal_host *h = host_by_number(r->rooms->hosts, w->host);
    if (h != NULL && h->online) {
        ask(w, h, PORTAL_ASK_SESSIONS, "", on_sessions);
        if (!w->picture_only)
            ask(w, h, PORTAL_ASK_DEVICES, "", on_devices);
        if (!w->picture_only)
            ask(w, h, PORTAL_ASK_LOG, "", on_log);
    }
    if (r->pending > 0)
        request_park(r);
    else
        show(w);
}

static void on_invited(void *ctx, unsigned code, const char *reason, const char *text)
{
    struct owner_work *w = ctx;
    char line[LINE];
    w->request->pending--;
    (void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(text, "\n"), text);
    if (code == 0)
        copy_text(line, "link", w->invite, sizeof(w->invite));
    if (w->invite[0] == '\0')
        (void)snprintf(w->problem, sizeof(w->problem), "The host says: %.160s",
                       code != 0 ? reason : "no invite was made");
    ask_all(w);
}

static void on_revoked(void *ctx, unsigned code, const char *reason, const char *text)
{
    struct owner_work *w = ctx;
    (void)text;
    w->request->pending--;
    if (code != 0)
        (void)snprintf(w->problem, sizeof(w->problem), "The host says: %.160s", reason);
    ask_all(w);
}

/* The host that the path names and this login owns; else it has answered. */
static struct portal_host *owned_host(struct request *r)
{
    uint8_t key[KEY_LEN];
    const struct login *l = request_login(r);
    struct portal_host *h = key_parse(key, r->path.segments[1]) == 0
                                ? host_by_key(r->rooms->hosts, key)
                                : NULL;
    const struct portal_account *a =
        h != NULL && l != NULL ? login_account(l, h) : NULL;
    if (a != NULL && a->owner)
        return h;
    request_message(r, MHD_HTTP_NOT_FOUND, "Not found",
                    "There is no such host for this account.");
    return NULL;
}

void handle_owner(struct request *r)
{
    const char *verb = r->path.count == 3 ? r->path.segments[2] : "";
    struct portal_host *h = owned_host(r);
    if (h == NULL)
        return;
    struct owner_work *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        request_message(r, MHD_HTTP_SERVICE_UNAVAILABLE, "Busy",
                        "Try again in a moment.");
        return;
    }
    w->request = r;
    w->host = h->number;
    w->picture_only = strcmp(verb, "picture") == 0;
    if (!r->post && (verb[0] == '\0' || w->picture_only)) {
        ask_all(w);
    } else if (r->post && strcmp(verb, "invite") == 0) {
        char arg[256];
        (void)snprintf(arg, sizeof(arg), "%.15s %.199s",
                       r->fields.expires[0] != '\0' ? r->fields.expires : "3600",
                       r->fields.services);
        ask(w, h, PORTAL_ASK_INVITE, arg, on_invited);
    } else if (r->post && strcmp(verb, "revoke") == 0) {
        ask(w, h, PORTAL_ASK_REVOKE, r->fields.device, on_revoked);
    } else {
        work_free(w);
        request_message(r, MHD_HTTP_NOT_FOUND, "Not found",
                        "There is no such page here.");
        return;
    }
    if (r->answered || r->parked)
        return;
    if (r->pending > 0) {
        request_park(r);
        return;
    }
    (void)snprintf(w->problem, sizeof(w->problem), "The host cannot be asked now.");
    show(w);
}
