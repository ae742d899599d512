/*
 * The portal's HTTP server: TLS is io/tlspipe's; libmicrohttpd runs on the portal's
 * loop. See web.h.
 */
#include "portal/web.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/http_head.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sock.h"
#include "io/sockaddr.h"
#include "io/spare.h"
#include "io/statedir.h"
#include "io/tcp.h"
#include "io/tls.h"
#include "io/tlspipe.h"
#include "portal/portal_config.h"
#include "portal/web_conns.h"
#include "portal/web_tls.h"

#define COOKIE "__Host-postern"
#define CONTENT_POLICY                                                                 \
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "        \
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

#define REFUSAL                                                                        \
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 39\r\n"   \
    "Connection: close\r\n\r\nThis request is not well-formed HTTP.\r\n"

enum {
    ENDING_MAX = 256, /* connections that were ended, beside WEB_CONNS_MAX others */
    TIMEOUT_S = 30,
    CLOSING_MS = 500, /* for the last bytes of connections that are under way */
    CONNECTION_MEMORY_BYTES = 48 * 1024,
};

struct web {
    const struct rooms *rooms;
    uint8_t secret[32]; /* of the forms that nobody logged in sends */
    struct server *server;
};

/*
 * What begins anew with another certificate. The one before lives on, without its
 * daemon, until its connections have had their last bytes.
 */
struct server {
    struct web *web;
    struct MHD_Daemon *daemon;
    struct watch watch;
    struct timer timer;   /* the daemon's next turn */
    struct timer closing; /* runs in the last step but one */
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    uint64_t version;
    struct list requests;
    struct web_conns conns;
    struct list pipes; /* struct web_pipe */
    struct spare spare;
    bool ends;
};

/*
 * A connection's TLS, between its browser and libmicrohttpd, which speaks plain HTTP:
 * its own TLS turns without end while a handshake waits for the other side.
 */
struct web_pipe {
    struct list link;
    struct server *server;
    struct tlspipe *pipe;
    int plain; /* the other end: libmicrohttpd's */
    struct http_head head;
};

/* ---------------------------------------------------------------------- the answer */

/* The token of a form that nobody logged in sends: of its address and this hour. */
static void anonymous_csrf(const struct request *r, unsigned hours_ago,
                           char text[static PAGE_CSRF_LEN])
{
    struct {
        char label[8];
        int64_t hour;
        uint8_t family, ip[16];
    } in;
    uint8_t hash[32];
    memset(&in, 0, sizeof(in));
    memcpy(in.label, "login  ", sizeof(in.label));
    in.hour = statedir_now_s() / 3600 - hours_ago;
    in.family = r->client.family;
    memcpy(in.ip, r->client.ip, r->client.family == ADDR_V6 ? 8 : 16);
    key_hash(hash, &in, sizeof(in), r->web->secret, sizeof(r->web->secret));
    base32_encode(hash, 20, text);
}

struct login *request_login(const struct request *r)
{
    return r->login != 0 ? login_by_id(r->rooms->logins, r->login) : NULL;
}

void request_state(struct request *r, struct page_login_state *s)
{
    const struct login *l = request_login(r);
    *s = (struct page_login_state){.broker = r->rooms->place.name};
    if (l != NULL) {
        s->account = l->account;
        s->csrf = l->csrf;
        return;
    }
    anonymous_csrf(r, 0, r->fields.csrf);
    s->csrf = r->fields.csrf;
}

void request_answer(struct request *r, unsigned status)
{
    r->answered = true;
    r->status = status;
    if (r->parked) {
        r->parked = false;
        MHD_resume_connection(r->http);
        if (r->web->server != NULL)
            timer_start(&r->web->server->timer, 0);
    }
}

void request_redirect(struct request *r, const char *path)
{
    (void)snprintf(r->location, sizeof(r->location), "%s", path);
    request_answer(r, MHD_HTTP_SEE_OTHER);
}

void request_message(struct request *r, unsigned status, const char *title,
                     const char *text)
{
    struct message_view v = {.title = title, .text = text};
    request_state(r, &v.state);
    page_message(&r->html, &v);
    request_answer(r, status);
}

void request_park(struct request *r)
{
    r->parked = true; /* suspended when the handler returns */
}

static const char *header(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->http, MHD_HEADER_KIND, name);
}

static void add_headers(const struct request *r, struct MHD_Response *a)
{
    static const char *const always[][2] = {
        {"Content-Security-Policy", CONTENT_POLICY},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
    };
    char seconds[16];
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        (void)MHD_add_response_header(a, always[i][0], always[i][1]);
    (void)MHD_add_response_header(a, "Content-Type", r->type);
    (void)MHD_add_response_header(a, "Cache-Control",
                                  r->file != NULL ? "max-age=600" : "no-store");
    if (r->rooms->config->certificate != NULL) /* a browser must trust it first */
        (void)MHD_add_response_header(a, "Strict-Transport-Security",
                                      "max-age=31536000");
    if (header(r, "Transfer-Encoding") != NULL) /* what follows was not looked at */
        (void)MHD_add_response_header(a, "Connection", "close");
    if (r->location[0] != '\0')
        (void)MHD_add_response_header(a, "Location", r->location);
    if (r->cookie[0] != '\0')
        (void)MHD_add_response_header(a, "Set-Cookie", r->cookie);
    if (r->device_cookie[0] != '\0')
        (void)MHD_add_response_header(a, "Set-Cookie", r->device_cookie);
    (void)snprintf(seconds, sizeof(seconds), "%u", r->retry_s);
    if (r->retry_s > 0)
        (void)MHD_add_response_header(a, "Retry-After", seconds);
}

static enum MHD_Result queue(struct request *r)
{
    struct MHD_Response *a;
    union {
        const char *read;
        void *base;
    } text;
    if (r->html.failed)
        r->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    if (r->file != NULL) {
        text.read = r->file->text;
        a = MHD_create_response_from_buffer(r->file->len, text.base,
                                            MHD_RESPMEM_PERSISTENT);
        r->type = r->file->type;
    } else {
        text.read = r->html.text != NULL && !r->html.failed ? r->html.text : "";
        a = MHD_create_response_from_buffer(strlen(text.read), text.base,
                                            MHD_RESPMEM_MUST_COPY);
    }
    if (a == NULL)
        return MHD_NO;
    add_headers(r, a);
    enum MHD_Result rc = MHD_queue_response(r->http, r->status, a);
    MHD_destroy_response(a);
    return rc;
}

/* --------------------------------------------------------------------- the request */

static struct request *request_new(struct server *s, struct MHD_Connection *http,
                                   const char *url, const char *method)
{
    struct request *r = calloc(1, sizeof(*r));
    const union MHD_ConnectionInfo *who =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (r == NULL)
        return NULL;
    r->web = s->web;
    r->rooms = s->web->rooms;
    r->http = http;
    r->type = "text/html; charset=utf-8";
    r->post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    if (!r->post && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0 &&
        strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        r->problem = MHD_HTTP_METHOD_NOT_ALLOWED;
    if (who == NULL || sockaddr_to_addr(&r->client, who->client_addr) != 0)
        r->problem = MHD_HTTP_BAD_REQUEST;
    if (strncmp(url, "/i/", 3) == 0) /* what follows is a secret: no page's business */
        url = "/i";
    if (r->problem == 0 && form_split_path(&r->path, url, strlen(url)) != 0)
        r->problem = MHD_HTTP_NOT_FOUND;
    list_push(&s->requests, &r->link);
    return r;
}

static void on_completed(void *ctx, struct MHD_Connection *http, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct request *r = *state;
    struct server *s = ctx;
    if (r == NULL)
        return;
    if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        web_conns_answered(&s->conns, http, request_login(r) != NULL);
    list_remove(&r->link);
    html_fini(&r->html);
    if (r->body != NULL)
        sodium_memzero(r->body, r->body_len);
    free(r->body);
    sodium_memzero(&r->fields, sizeof(r->fields));
    free(r);
    *state = NULL;
}

static void take_body(struct request *r, const char *data, size_t len)
{
    if (!r->post || r->body_len + len > FORM_BODY_MAX) {
        r->problem = MHD_HTTP_CONTENT_TOO_LARGE;
        return;
    }
    char *grown = realloc(r->body, r->body_len + len + 1);
    if (grown == NULL) {
        r->problem = MHD_HTTP_SERVICE_UNAVAILABLE;
        return;
    }
    memcpy(grown + r->body_len, data, len);
    r->body = grown;
    r->body_len += len;
}

static void take_fields(struct request *r)
{
    struct fields *s = &r->fields;
#define FIELD(x)                                                                       \
    {                                                                                  \
        .name = #x, .value = s->x, .cap = sizeof(s->x)                                 \
    }
    struct form_field list[] = {
        FIELD(csrf),   FIELD(name),     FIELD(password), FIELD(code),
        FIELD(step),   FIELD(next),     FIELD(host),     FIELD(service),
        FIELD(device), FIELD(services), FIELD(expires),
    };
#undef FIELD
    if (form_parse(r->body != NULL ? r->body : "", r->body_len, list,
                   sizeof(list) / sizeof(list[0])) != 0)
        r->problem = MHD_HTTP_BAD_REQUEST;
}

static bool csrf_fits(struct request *r)
{
    char text[PAGE_CSRF_LEN];
    const struct login *l = request_login(r);
    const char *is = r->fields.csrf;
    if (l != NULL)
        return strlen(is) == strlen(l->csrf) &&
               sodium_memcmp(is, l->csrf, strlen(is)) == 0;
    for (unsigned ago = 0; ago < 2; ago++) {
        anonymous_csrf(r, ago, text);
        if (strlen(is) == strlen(text) && sodium_memcmp(is, text, strlen(is)) == 0)
            return true;
    }
    return false;
}

/* Another site's page may make a browser send a form, but not with these. */
static bool is_own_form(struct request *r)
{
    const char *origin = header(r, "Origin"), *host = header(r, "Host");
    if (origin != NULL &&
        (host == NULL || !form_same_origin(origin, strlen(origin), host, strlen(host))))
        return false;
    return csrf_fits(r);
}

const char *request_cookies(const struct request *r)
{
    return header(r, "Cookie");
}

static void find_login(struct request *r)
{
    char token[LOGIN_TOKEN_TEXT_LEN];
    const char *cookies = request_cookies(r);
    if (cookies == NULL ||
        form_cookie(cookies, strlen(cookies), COOKIE, token, sizeof(token)) != 0)
        return;
    struct login *l = login_by_cookie(r->rooms->logins, token);
    sodium_memzero(token, sizeof(token));
    if (l == NULL)
        return;
    r->login = l->id;
    login_seen(r->rooms->logins, l, &r->client);
}

static void begin(struct request *r)
{
    static const struct {
        unsigned status;
        const char *title, *text;
    } problems[] = {
        {MHD_HTTP_NOT_FOUND, "Not found", "There is no such page here."},
        {MHD_HTTP_METHOD_NOT_ALLOWED, "Not possible", "This page cannot do that."},
        {MHD_HTTP_CONTENT_TOO_LARGE, "Too much", "The form that was sent is too long."},
        {MHD_HTTP_BAD_REQUEST, "Not understood",
         "The form that was sent has something in it that cannot be right."},
        {MHD_HTTP_SERVICE_UNAVAILABLE, "Busy", "Try again in a moment."},
    };
    if (r->problem == 0)
        find_login(r);
    if (r->problem == 0 && r->post)
        take_fields(r);
    for (size_t i = 0; i < sizeof(problems) / sizeof(problems[0]); i++) {
        if (r->problem == problems[i].status) {
            request_message(r, r->problem, problems[i].title, problems[i].text);
            return;
        }
    }
    if (r->post && !is_own_form(r))
        request_message(r, MHD_HTTP_FORBIDDEN, "This form is too old",
                        "Go back, load the page again, and send it once more.");
    else
        r->rooms->events->on_request(r);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *http,
                                  const char *url, const char *method,
                                  const char *version, const char *data,
                                  size_t *data_len, void **state)
{
    struct request *r = *state;
    (void)version;
    if (r == NULL) {
        *state = request_new(ctx, http, url, method);
        return *state != NULL ? MHD_YES : MHD_NO;
    }
    if (*data_len > 0) {
        take_body(r, data, *data_len);
        *data_len = 0;
        return MHD_YES;
    }
    if (!r->answered)
        begin(r);
    if (r->answered)
        return queue(r);
    if (!r->parked)
        return MHD_NO;
    MHD_suspend_connection(http);
    return MHD_YES;
}

/* ---------------------------------------------------------------------- the daemon */

static void turn(struct server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (s->daemon == NULL)
        return;
    s->conns.now_ms = loop_now_ms(s->web->rooms->loop);
    (void)MHD_run(s->daemon);
    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        timer_start(&s->timer, ms > 0 ? ms : 1);
}

static void on_ready(void *ctx, int events)
{
    (void)events;
    turn(ctx);
}

static void on_timer(void *ctx)
{
    turn(ctx);
}

static void on_log(void *ctx, const char *format, va_list args)
{
    char line[256];
    (void)ctx;
    (void)vsnprintf(line, sizeof(line), format, args);
    line[strcspn(line, "\n")] = '\0';
    log_debug("portal: %s", line);
}

static int daemon_start(struct server *s, struct fault *f)
{
    const struct rooms *rs = s->web->rooms;
    s->version = web_certificate_version(rs);
    int rc = web_credentials(rs, &s->credentials, f);
    if (rc != 0)
        return rc;
    if (gnutls_priority_init(&s->priority, TLS_WEB_PRIORITY, NULL) != 0)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    // clang-format off
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_request, s,
        MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, web_conns_notify, &s->conns,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)WEB_CONNS_MAX + ENDING_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_END);
    // clang-format on
    if (s->daemon == NULL)
        return fault_set(f, POSTERN_ERR_IO, "free some memory and descriptors",
                         "the portal's pages cannot start");
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL ||
        watch_start(&s->watch, rs->loop, info->epoll_fd, WATCH_READ, on_ready, s) != 0)
        return fault_set(f, POSTERN_ERR_IO, "raise the limit of open files",
                         "the portal cannot start");
    return 0;
}

static void answer_parked(struct server *s)
{
    LIST_EACH (struct request, r, &s->requests, link)
        if (r->parked)
            request_message(r, MHD_HTTP_SERVICE_UNAVAILABLE, "Stopping",
                            "The broker is stopping.");
    if (s->daemon != NULL)
        (void)MHD_run(s->daemon);
}

/* The last step of closing. */
static void finish(struct server *s)
{
    s->ends = false;
    while (!list_empty(&s->pipes)) {
        struct web_pipe *wp = LIST_FIRST(&s->pipes, struct web_pipe, link);
        list_remove(&wp->link);
        tlspipe_break(wp->pipe);
        free(wp);
    }
    watch_close(&s->watch);
    timer_stop(&s->timer);
    timer_stop(&s->closing);
    if (s->credentials != NULL)
        gnutls_certificate_free_credentials(s->credentials);
    if (s->priority != NULL)
        gnutls_priority_deinit(s->priority);
    free(s);
}

static void on_closing(void *ctx)
{
    finish(ctx);
}

/* libmicrohttpd never sees the end of a head that may mean two things. */
static size_t look(void *ctx, const uint8_t *data, size_t len)
{
    struct web_pipe *wp = ctx;
    size_t passed = http_head_pass(&wp->head, data, len);
    if (passed < len && wp->head.fault != NULL)
        log_debug("portal: a request was refused: %s", wp->head.fault);
    return passed;
}

static void on_pipe_end(void *ctx, bool broken)
{
    struct web_pipe *wp = ctx;
    struct server *s = wp->server;
    (void)broken;
    list_remove(&wp->link);
    free(wp);
    if (s->ends && list_empty(&s->pipes))
        finish(s);
}

/* A handshake that nobody goes on with does not see that its other end is gone. */
static void on_conn_end(void *ctx, int fd)
{
    struct server *s = ctx;
    LIST_EACH (struct web_pipe, wp, &s->pipes, link) {
        if (wp->plain != fd)
            continue;
        list_remove(&wp->link);
        tlspipe_break(wp->pipe);
        free(wp);
        return;
    }
}

static bool is_known(void *ctx, const struct addr *from)
{
    const struct server *s = ctx;
    return logins_at(s->web->rooms->logins, from);
}

static int server_start(struct web *w, struct fault *f)
{
    struct server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    s->web = w;
    web_conns_init(&s->conns);
    s->conns.on_end = on_conn_end;
    s->conns.is_known = is_known;
    s->conns.ctx = s;
    list_init(&s->pipes);
    list_init(&s->requests);
    timer_init(&s->timer, w->rooms->loop, on_timer, s);
    timer_init(&s->closing, w->rooms->loop, on_closing, s);
    timer_start(&s->timer, 1000);
    w->server = s;
    return daemon_start(s, f);
}

void web_close(struct web *w)
{
    struct server *s = w != NULL ? w->server : NULL;
    if (s == NULL)
        return;
    watch_close(&s->watch);
    answer_parked(s);
    if (s->daemon != NULL)
        MHD_stop_daemon(s->daemon); /* the pipes' plain ends are closed with it */
    s->daemon = NULL;
    w->server = NULL;
    if (list_empty(&s->pipes)) {
        finish(s);
        return;
    }
    s->ends = true;
    timer_start(&s->closing, CLOSING_MS);
}

/* New certificate files are taken up; logins stay, connections begin anew. */
static void renew(struct web *w)
{
    struct fault f = {0};
    struct server *s = w->server;
    w->rooms->events->on_renew(w->rooms);
    LIST_EACH (struct request, r, &s->requests, link)
        if (r->parked)
            return; /* next time */
    gnutls_certificate_credentials_t usable;
    if (web_credentials(w->rooms, &usable, &f) != 0) { /* the old one stays */
        s->version = web_certificate_version(w->rooms);
        log_error("%s; %s", f.what, f.advice);
        return;
    }
    gnutls_certificate_free_credentials(usable);
    web_close(w);
    if (server_start(w, &f) != 0)
        log_error("%s; %s", f.what, f.advice);
    else
        log_info("the portal uses its new certificate");
}

void web_sweep(struct web *w)
{
    struct server *s = w->server;
    if (s == NULL)
        return;
    s->conns.now_ms = loop_now_ms(w->rooms->loop);
    web_conns_sweep(&s->conns);
    spare_look(&s->spare, web_conns_unproven(&s->conns));
    turn(s);
    if (web_certificate_version(w->rooms) != s->version)
        renew(w);
}

int web_new(struct web **out, const struct rooms *rooms, struct fault *f)
{
    struct web *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    w->rooms = rooms;
    randombytes_buf(w->secret, sizeof(w->secret));
    int rc = server_start(w, f);
    if (rc != 0) {
        web_close(w);
        free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void web_free(struct web *w)
{
    free(w);
}

/* Returns the plain end, or -1; takes `fd`. */
static int start_tls(struct server *s, int fd)
{
    int pair[2];
    spare_count(&s->spare);
    tcp_give_up_after(fd, TIMEOUT_S * 1000); /* with who asks and does not read */
    struct web_pipe *wp = calloc(1, sizeof(*wp));
    if (wp == NULL || sock_pair(pair) != 0) {
        free(wp);
        close(fd);
        return -1;
    }
    struct tlspipe_join j = {.config = {.loop = s->web->rooms->loop,
                                        .protocol = "http/1.1",
                                        .web = true,
                                        .credentials = s->credentials,
                                        .priority = s->priority},
                             .fd = fd,
                             .plain = pair[0],
                             .whole = true,
                             .look = look,
                             .refusal = REFUSAL,
                             .on_end = on_pipe_end,
                             .ctx = wp};
    if (tlspipe_join(&wp->pipe, &j) != 0) {
        free(wp);
        close(pair[1]);
        return -1;
    }
    http_head_init(&wp->head);
    wp->server = s;
    wp->plain = pair[1];
    list_push(&s->pipes, &wp->link);
    return pair[1];
}

void web_take(struct web *w, int fd)
{
    struct sockaddr_storage ss; /* as the web library wants it */
    struct server *s = w->server;
    struct addr from;
    if (s == NULL || s->daemon == NULL || sock_remote(fd, &from) != 0) {
        close(fd);
        return;
    }
    s->conns.now_ms = loop_now_ms(w->rooms->loop);
    web_conns_make_room(&s->conns, &from);
    int plain = start_tls(s, fd);
    socklen_t len = sockaddr_from_addr(&ss, &from);
    if (plain >= 0) /* it owns the descriptor from here, also when it refuses */
        (void)MHD_add_connection(s->daemon, plain, (struct sockaddr *)&ss, len);
    timer_start(&s->timer, 0); /* of many, once */
}
