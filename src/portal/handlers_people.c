/*
 * What people may ask of the portal: log in, see their services, open and close them,
 * log out. Pages are made in page_*.c; what an owner may do is in handlers_owner.c.
 */
#include "portal/handlers.h"
#include "portal/portal_config.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/link.h"
#include "io/loop.h"
#include "portal/devices.h"
#include "portal/doors.h"
#include "portal/names.h"
#include "portal/passwords.h"
#include "portal/visitor.h"
#include "portal/web.h"

enum {
    SERVICES_SHOWN_MAX = 256,
    FRESH_MS = 5000, /* a page that is loaded again asks no host */
    ASK_MS = 3000,   /* a page waits so long for its hosts */
    RETRY_S = 5,     /* for who did not come to his turn */
};

/* --------------------------------------------------------------------------- login */

static void show_login(struct request *r, unsigned status, const char *problem,
                       const char *step)
{
    struct login_view v = {.ask_code = step != NULL, .step = step};
    char token[LOGIN_TOKEN_TEXT_LEN], next[sizeof(r->fields.next)];
    char name[sizeof(r->fields.name)];
    (void)snprintf(token, sizeof(token), "%s", step != NULL ? step : "");
    (void)snprintf(next, sizeof(next), "%s", r->fields.next);
    (void)snprintf(name, sizeof(name), "%s", r->fields.name);
    request_state(r, &v.state);
    v.state.problem = problem;
    v.name = name;
    v.next = form_local_path(next) ? next : NULL;
    if (step != NULL)
        v.step = token;
    page_login(&r->html, &v);
    request_answer(r, status);
}

static void show_wait(struct request *r, uint64_t wait_ms)
{
    char text[96];
    r->retry_s = (unsigned)(wait_ms / 1000 + 1);
    (void)snprintf(text, sizeof(text),
                   "Too many attempts failed. Wait %u second%s before the next.",
                   r->retry_s, r->retry_s == 1 ? "" : "s");
    show_login(r, MHD_HTTP_TOO_MANY_REQUESTS, text, NULL);
}

/* In line with others, it did not come to his turn. */
static void show_crowd(struct request *r)
{
    r->retry_s = RETRY_S;
    show_login(r, MHD_HTTP_TOO_MANY_REQUESTS,
               "Many others try to log in at this moment. Try again in a few seconds.",
               NULL);
}

static void welcome(struct request *r, const char *token)
{
    const char *next = r->fields.next;
    const struct login *l = login_by_cookie(r->rooms->logins, token);
    if (l != NULL)
        device_set_cookie(r->rooms->devices, r->rooms->logins, l, r->device_cookie);
    (void)snprintf(r->cookie, sizeof(r->cookie),
                   "__Host-postern=%s; Path=/; Secure; HttpOnly; SameSite=Strict",
                   token);
    request_redirect(r, form_local_path(next) ? next : "/");
}

static void on_login(void *ctx, enum login_result result, const char *token)
{
    struct request *r = ctx;
    if (result == LOGIN_OK)
        welcome(r, token);
    else if (result == LOGIN_CODE)
        show_login(r, MHD_HTTP_OK, NULL, token);
    else if (result == LOGIN_WRONG)
        show_login(r, MHD_HTTP_FORBIDDEN, "The name or the password is wrong.", NULL);
    else if (result == LOGIN_EXPIRED)
        show_login(r, MHD_HTTP_FORBIDDEN,
                   "This account has expired. Whoever gave it to you can prolong it.",
                   NULL);
    else if (result == LOGIN_WAIT)
        show_crowd(r);
    else
        show_login(r, MHD_HTTP_SERVICE_UNAVAILABLE,
                   "That did not work. Try again in a moment.", NULL);
}

static void get_login(struct request *r)
{
    /* libmicrohttpd keeps the query out of the path, decoded. */
    const char *next =
        MHD_lookup_connection_value(r->http, MHD_GET_ARGUMENT_KIND, "next");
    if (next != NULL && strlen(next) < sizeof(r->fields.next) && form_local_path(next))
        (void)snprintf(r->fields.next, sizeof(r->fields.next), "%s", next);
    if (request_login(r) != NULL)
        request_redirect(r, form_local_path(r->fields.next) ? r->fields.next : "/");
    else
        show_login(r, MHD_HTTP_OK, NULL, NULL);
}

static void get_join(struct request *r)
{
    const struct place *p = &r->rooms->place;
    struct page_login_state s;
    char at[sizeof(p->name) + 16];
    bool v6 = strchr(p->name, ':') != NULL;
    int n = snprintf(at, sizeof(at), v6 ? "[%s]" : "%s", p->name);
    if (p->port != LINK_DEFAULT_PORT)
        (void)snprintf(at + n, sizeof(at) - (size_t)n, ":%u", p->port);
    request_state(r, &s);
    page_join(&r->html, &s, at);
    request_answer(r, MHD_HTTP_OK);
}

static void post_code(struct request *r)
{
    char token[LOGIN_TOKEN_TEXT_LEN], step[LOGIN_TOKEN_TEXT_LEN];
    uint64_t wait_ms = 0;
    struct login_from from = {r->client, request_cookies(r)};
    (void)snprintf(step, sizeof(step), "%s", r->fields.step);
    switch (
        login_code(r->rooms->passwords, step, r->fields.code, &from, token, &wait_ms)) {
    case LOGIN_OK:
        welcome(r, token);
        break;
    case LOGIN_WRONG:
        show_login(r, MHD_HTTP_FORBIDDEN, "That code is wrong, or was used already.",
                   step);
        break;
    case LOGIN_WAIT:
        show_wait(r, wait_ms);
        break;
    default:
        show_login(r, MHD_HTTP_FORBIDDEN, "Begin again with name and password.", NULL);
    }
}

static void post_login(struct request *r)
{
    uint64_t wait_ms = 0;
    if (r->fields.step[0] != '\0') {
        post_code(r);
        return;
    }
    struct login_from from = {r->client, request_cookies(r)};
    int rc = login_begin(r->rooms->passwords, r->fields.name, r->fields.password, &from,
                         on_login, r, &wait_ms);
    if (rc == 0)
        request_park(r);
    else if (rc == POSTERN_ERR_AGAIN)
        show_wait(r, wait_ms);
    else
        on_login(r, LOGIN_FAILED, "");
}

static void post_logout(struct request *r)
{
    struct login *l = request_login(r);
    if (l != NULL)
        login_end(r->rooms->logins, l, "logged out");
    r->login = 0;
    (void)snprintf(r->cookie, sizeof(r->cookie),
                   "__Host-postern=; Path=/; Secure; HttpOnly; SameSite=Strict; "
                   "Max-Age=0");
    request_redirect(r, "/login");
}

/* ------------------------------------------------------------------------ services */

struct texts { /* that a view borrows */
    char host_key[KEY_TEXT_LEN];
    char url[400];
    char address[300];
    char port_note[120];
    char plain[400];
    char name_note[600];
};

/* Is there TLS, its host's or its own, as far as its port and name tell? */
static bool has_tls(const struct portal_service *s)
{
    return s->tls || s->port % 1000 == 443 || strncmp(s->name, "https", 5) == 0;
}

static void fill_state(const struct portal_host *h, const struct portal_account *a,
                       int number, struct service_view *v)
{
    bool known = (a->up_known >> number & 1) != 0;
    v->up = h->online && !a->silent && (!known || (a->up >> number & 1) != 0);
    if (!h->online)
        v->why_down = HOST_AWAY;
    else if (a->silent)
        v->why_down = "the host does not answer now";
    else if (!v->up)
        v->why_down = (a->refused >> number & 1) != 0
                          ? "the host is there, the service refuses connections"
                          : "the host is there, the service does not answer";
}

/* Its address, and why that is another port than the service's. */
static void fill_port(const struct rooms *rs, const struct portal_host *h,
                      const struct portal_service *s, const struct route_grant *g,
                      struct service_view *v, struct texts *t)
{
    bool v6 = strchr(rs->place.name, ':') != NULL;
    (void)snprintf(t->address, sizeof(t->address), "%s%s%s:%u", v6 ? "[" : "",
                   rs->place.name, v6 ? "]" : "", g->port);
    v->address = t->address;
    v->connections = g->entries;
    v->tls = g->by_name;
    /* Strict-Transport-Security (web.c) is of the broker's name, at every port. */
    if (rs->config->certificate != NULL && names_are_given(rs->names)) {
        (void)snprintf(t->plain, sizeof(t->plain), "%s--%s.%s:%u", s->label, h->label,
                       rs->place.domain, g->port);
        v->plain = t->plain;
    }
    if (g->port == v->port)
        return;
    if (door_is_held(rs->doors, &g->client, v->port, g->udp))
        (void)snprintf(t->port_note, sizeof(t->port_note),
                       "Port %u leads another account or service at your address "
                       "elsewhere. Yours is %u.",
                       v->port, g->port);
    else
        (void)snprintf(t->port_note, sizeof(t->port_note),
                       "Port %u could not be had when this was opened. Yours is %u.",
                       v->port, g->port);
    v->port_note = t->port_note;
}

/* By its name alone, or where that leads others too, by its name at its own port. */
static void fill_name(const struct rooms *rs, const struct login *l,
                      const struct portal_host *h, int number,
                      const struct route_grant *g, struct service_view *v,
                      struct texts *t)
{
    const struct portal_service *s = &h->list->services[number];
    char at[8] = "";
    uint16_t port = rs->place.port;
    if (!names_lead(rs->names, l, h, number)) {
        bool fits = g != NULL && g->by_name == s->tls;
        v->name_note =
            fits || g == NULL
                ? "Others who are logged in at your address may use this name "
                  "too, and it cannot tell you apart: it works with a port "
                  "of your own only."
                : "Others who are logged in at your address may use this name "
                  "too, and it cannot tell you apart: close the port and open "
                  "it again.";
        if (!fits)
            return;
        port = g->port;
    }
    if (port != 443)
        (void)snprintf(at, sizeof(at), ":%u", port);
    (void)snprintf(t->url, sizeof(t->url), "https://%s--%s.%s%s/", s->label, h->label,
                   rs->place.domain, at);
    v->url = t->url;
}

static void fill_service(struct request *r, const struct login *l,
                         const struct portal_host *h, int number,
                         struct service_view *v, struct texts *t)
{
    const struct rooms *rs = r->rooms;
    const struct portal_service *s = &h->list->services[number];
    const struct route_grant *g = door_granted(rs->doors, l, h, s->name);
    *v = (struct service_view){.host = h->name,
                               .host_key = key_format(h->key, t->host_key),
                               .name = s->name,
                               .title = s->title,
                               .port = s->port,
                               .udp = s->udp};
    fill_state(h, login_account(l, h), number, v);
    if (names_are_given(rs->names) && !s->udp && has_tls(s)) {
        fill_name(rs, l, h, number, g, v, t);
    } else if (names_are_given(rs->names) && !s->udp && s->open) {
        (void)snprintf(t->name_note, sizeof(t->name_note),
                       "It is public as https://%s--%s.%s/ if it speaks TLS itself, of "
                       "which nothing is known here; else by its port alone.",
                       s->label, h->label, rs->place.domain);
        v->name_note = t->name_note;
    }
    if (g != NULL)
        fill_port(rs, h, s, g, v, t);
}

static void show_home(struct request *r)
{
    const struct rooms *rs = r->rooms;
    const struct login *l = request_login(r);
    char client[ADDR_TEXT_LEN];
    char keys[LOGIN_HOSTS_MAX][KEY_TEXT_LEN];
    struct host_view owned[LOGIN_HOSTS_MAX];
    struct service_view *views = calloc(SERVICES_SHOWN_MAX, sizeof(*views));
    struct texts *texts = calloc(SERVICES_SHOWN_MAX, sizeof(*texts));
    struct home_view v = {.services = views, .owned = owned};
    if (l == NULL || views == NULL || texts == NULL) {
        free(views);
        free(texts);
        request_redirect(r, "/login");
        return;
    }
    for (size_t i = 0; i < l->host_count; i++) {
        struct portal_host *h;
        const struct portal_account *a = login_account_at(rs->logins, l, i, &h);
        if (a == NULL)
            continue;
        for (size_t s = 0; s < h->list->service_count; s++)
            if (login_may(l, h, (int)s) && v.service_count < SERVICES_SHOWN_MAX) {
                fill_service(r, l, h, (int)s, &views[v.service_count],
                             &texts[v.service_count]);
                v.service_count++;
            }
        if (a->owner) {
            owned[v.owned_count] =
                (struct host_view){.name = h->name,
                                   .key = key_format(h->key, keys[i]),
                                   .online = h->online};
            v.owned_count++;
        }
    }
    request_state(r, &v.state);
    v.state.problem = r->said[0] != '\0' ? r->said : NULL;
    v.client_address = addr_format_ip(&r->client, client);
    v.login_ends_minutes = (unsigned)(login_rest_ms(rs->logins, l) / 60000);
    page_home(&r->html, &v);
    free(views);
    free(texts);
    request_answer(r, r->said[0] != '\0' ? MHD_HTTP_CONFLICT : MHD_HTTP_OK);
}

struct status_ask {
    struct request *request;
    uint32_t host;
    char account[64];
};

static bool is_true(const char *line, const char *name)
{
    struct json_value v;
    return json_find(&v, line, name) == 0 && v.type == JSON_BOOL && v.at[0] == 't';
}

static void take_status(struct portal_host *h, struct portal_account *a,
                        const char *text)
{
    char line[512], name[ROUTES_SERVICE_LEN];
    struct json_value v;
    a->up = a->up_known = a->refused = 0;
    for (; *text != '\0'; text += text[0] == '\n') {
        size_t len = strcspn(text, "\n");
        if (len < sizeof(line)) {
            memcpy(line, text, len);
            line[len] = '\0';
            if (json_find(&v, line, "name") == 0) {
                json_value_words(&v, name, sizeof(name));
                int n = host_service(h, name);
                uint64_t bit = n >= 0 ? UINT64_C(1) << n : 0;
                a->up_known |= bit;
                a->up |= is_true(line, "up") ? bit : 0;
                a->refused |= is_true(line, "refused") ? bit : 0;
            }
        }
        text += len;
    }
}

static void on_status(void *ctx, unsigned code, const char *reason, const char *text)
{
    struct status_ask *ask = ctx;
    struct request *r = ask->request;
    struct portal_host *h = host_by_number(r->rooms->hosts, ask->host);
    struct portal_account *a = h != NULL ? host_account(h, ask->account) : NULL;
    (void)reason;
    if (a != NULL) {
        take_status(h, a, text);
        a->up_ms = loop_now_ms(r->rooms->loop);
        a->silent = code != 0;
    }
    free(ask);
    if (--r->pending == 0)
        show_home(r);
}

static void ask_status(struct request *r, const struct login *l, struct portal_host *h)
{
    struct status_ask *ask = calloc(1, sizeof(*ask));
    if (ask == NULL)
        return;
    ask->request = r;
    ask->host = h->number;
    (void)snprintf(ask->account, sizeof(ask->account), "%s", l->account);
    if (ask_start(r->rooms->asks, h, l->account, &r->client, PORTAL_ASK_SERVICES, "",
                  ASK_MS, on_status, ask) == 0)
        r->pending++;
    else
        free(ask);
}

static void get_home(struct request *r)
{
    const struct login *l = request_login(r);
    const struct rooms *rs = r->rooms;
    for (size_t i = 0; i < l->host_count; i++) {
        struct portal_host *h;
        const struct portal_account *a = login_account_at(rs->logins, l, i, &h);
        bool fresh = a != NULL && (a->up_known != 0 || a->silent) &&
                     loop_now_ms(rs->loop) - a->up_ms < FRESH_MS;
        if (a != NULL && h->online && !fresh)
            ask_status(r, l, h);
    }
    if (r->pending > 0)
        request_park(r);
    else
        show_home(r);
}

/* The host and service that a form names, if this login may use it. */
static struct portal_host *named(struct request *r, const struct login *l, int *service)
{
    uint8_t key[KEY_LEN];
    struct portal_host *h =
        key_parse(key, r->fields.host) == 0 ? host_by_key(r->rooms->hosts, key) : NULL;
    *service = h != NULL ? host_service(h, r->fields.service) : -1;
    return h != NULL && login_may(l, h, *service) ? h : NULL;
}

static void post_open(struct request *r)
{
    struct login *l = request_login(r);
    struct fault f = {0};
    int service;
    struct portal_host *h = named(r, l, &service);
    if (h == NULL) {
        request_message(r, MHD_HTTP_NOT_FOUND, "Not found",
                        "There is no such service for this account.");
        return;
    }
    if (door_grant(r->rooms->doors, l, h, service, &f) == 0) {
        request_redirect(r, "/");
        return;
    }
    (void)snprintf(r->said, sizeof(r->said), "%.100s: %.60s.", f.what, f.advice);
    show_home(r);
}

static void post_close(struct request *r)
{
    struct login *l = request_login(r);
    int service;
    struct portal_host *h = named(r, l, &service);
    if (h != NULL)
        door_give_up(r->rooms->doors, l, h, r->fields.service);
    request_redirect(r, "/");
}

/* ---------------------------------------------------------------------- which page */

struct page {
    const char *name; /* the only segment of the path; "" is / */
    bool post, login;
    void (*run)(struct request *r);
};

static const struct page pages[] = {
    {"", false, true, get_home},          {"login", false, false, get_login},
    {"join", false, false, get_join},     {"login", true, false, post_login},
    {"i", false, false, get_join}, /* an invite's link, opened in a browser */
    {"logout", true, false, post_logout}, {"open", true, true, post_open},
    {"close", true, true, post_close},
};

static void ask_to_log_in(struct request *r)
{
    char to[300];
    (void)snprintf(to, sizeof(to), "/login?next=/%s/%s", r->path.segments[0],
                   r->path.segments[1]); /* only "host" and a key are ever asked for */
    if (r->path.count == 0 || r->post)
        request_redirect(r, "/login");
    else if (r->path.count == 2)
        request_redirect(r, to);
    else
        request_redirect(r, "/login");
}

void handle_request(struct request *r)
{
    const char *first = r->path.count > 0 ? r->path.segments[0] : "";
    bool found = false;
    for (const struct page_file *f = page_files; r->path.count == 1 && f->path != NULL;
         f++) {
        if (strcmp(f->path + 1, first) == 0 && !r->post) {
            r->file = f;
            request_answer(r, MHD_HTTP_OK);
            return;
        }
    }
    if (r->path.count >= 2 && strcmp(first, "host") == 0) {
        if (request_login(r) == NULL)
            ask_to_log_in(r);
        else
            handle_owner(r);
        return;
    }
    for (size_t i = 0; r->path.count <= 1 && i < sizeof(pages) / sizeof(pages[0]);
         i++) {
        if (strcmp(pages[i].name, first) != 0)
            continue;
        found = true;
        if (pages[i].post != r->post)
            continue;
        if (pages[i].login && request_login(r) == NULL)
            ask_to_log_in(r);
        else
            pages[i].run(r);
        return;
    }
    request_message(r, found ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND,
                    found ? "Not possible" : "Not found",
                    found ? "This page cannot do that."
                          : "There is no such page here.");
}
