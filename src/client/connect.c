/* Ties one local listener to one service. */
#include "client/connect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/forward.h"
#include "client/share.h"
#include "core/guess.h"
#include "io/lack.h"
#include "io/systemd.h"

enum { TARGETS_MAX = 16 };

/* One service, and where it is found here. */
struct target {
    struct connect_state *state;
    struct peer *peer;
    struct forward *forward;
    char host[64], service[64];
    struct addr local;
    const char *path;  /* of a socket file; NULL: there is none */
    int fd;            /* of systemd; 0: none */
    struct fault told; /* since the last session stood */
    bool local_given, started;
};

struct connect_state {
    struct client *client;
    struct calls *calls;
    const struct connect_config *what;
    struct target targets[TARGETS_MAX];
    size_t count;
    struct fault told; /* of the broker */
};

static void tell_ready(struct target *t)
{
    struct connect_state *s = t->state;
    struct event e;
    struct addr at;
    char place[ADDR_TEXT_LEN], what[160];
    forward_local(t->forward, &at);
    event_begin(&e, "ready");
    if (t->path != NULL)
        event_text(&e, "local", t->path);
    else
        event_text(&e, "local", addr_format(&at, place));
    event_text(&e, "peer", t->host);
    event_text(&e, "service", t->service);
    events_print(client_out(s->client), &e);
    (void)snprintf(what, sizeof(what), "'%.63s' of %.63s", t->service, t->host);
    if (t->path == NULL && t->fd == 0) /* systemd's is somebody's decision */
        forward_warn_open(&at, what);
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
    struct target *t = ctx;
    struct fault f;
    if (t->peer == NULL && client_peer(t->state->client, t->host, &t->peer, &f) != 0)
        t->peer = NULL;
    return t->peer;
}

static void on_wait(void *ctx, const char *why)
{
    client_tell_wait(((struct target *)ctx)->state->client, why);
}

static int listen_local(struct target *t, const ServiceInfo *info, struct fault *f)
{
    struct connect_state *s = t->state;
    struct forward_config fc = {.loop = client_loop(s->client),
                                .calls = s->calls,
                                .peer = t->peer,
                                .host = t->host,
                                .state = client_statedir(s->client),
                                .shares = client_shares(s->client),
                                .on_unshared = on_unshared,
                                .on_wait = on_wait,
                                .ctx = t,
                                .service = t->service,
                                .udp = info->udp,
                                .local = t->local,
                                .path = t->path,
                                .fd = t->fd,
                                .out = client_out(s->client)};
    if (t->local_given)
        return forward_open(&t->forward, &fc, f);
    fc.local = (struct addr){.family = ADDR_V4, .ip = {127, 0, 0, 1}};
    fc.local.port = (uint16_t)info->port;
    if (forward_open(&t->forward, &fc, f) == 0)
        return 0;
    fc.local.port = 0; /* taken or privileged: any free one will do */
    return forward_open(&t->forward, &fc, f);
}

static int tell_no_service(const struct target *t, const Services *m, struct fault *f)
{
    struct guess g;
    char advice[160];
    guess_begin(&g, t->service);
    for (pb_size_t i = 0; i < m->services_count; i++)
        guess_offer(&g, m->services[i].name);
    guess_advice(&g, advice, sizeof(advice), "see 'postern ls' for what it publishes");
    return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                     "%s publishes no service '%s' for this device", t->host,
                     t->service);
}

static void start(struct target *t, const Services *m)
{
    struct fault f = {0};
    const ServiceInfo *info = find_service(m, t->service);
    t->started = true;
    int rc = info == NULL ? tell_no_service(t, m, &f) : listen_local(t, info, &f);
    if (rc != 0)
        client_stop(t->state->client, rc, &f);
    else
        tell_ready(t);
}

static void on_services(void *ctx, struct peer *p, const Services *m)
{
    struct connect_state *s = ctx;
    for (size_t i = 0; i < s->count; i++)
        if (s->targets[i].peer == p && !s->targets[i].started)
            start(&s->targets[i], m);
}

/* The next fault of that host is news, and of its broker. */
static void forget_told(struct connect_state *s, const struct peer *p)
{
    s->told = (struct fault){0};
    for (size_t i = 0; i < s->count; i++)
        if (s->targets[i].peer == p)
            s->targets[i].told = (struct fault){0};
}

static void on_ready(void *ctx, struct peer *p)
{
    struct connect_state *s = ctx;
    forget_told(s, p);
    calls_on_ready(s->calls, p);
}

static void on_heard(void *ctx, struct peer *p, const char *what)
{
    (void)what;
    forget_told(ctx, p);
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct connect_state *s = ctx;
    struct fault *told = &s->told;
    if (fatal) {
        client_stop(s->client, f->code, f);
        return;
    }
    calls_on_fault(s->calls, p, f, fatal);
    client_stop_unless(s->client, f, false); /* with --wait */
    for (size_t i = s->count; i-- > 0 && p != NULL;)
        if (s->targets[i].peer == p)
            told = &s->targets[i].told;
    if (strcmp(told->what, f->what) == 0) /* once, however often it is tried again */
        return;
    *told = *f;
    client_tell_retried(s->client, f);
}

/*
 * Uses a running daemon's session for a TCP service that the book knows; false when
 * that cannot be, and a session of our own is needed: also where the daemon has none
 * (yet), so that what keeps it from the host is said, or ends this, as without it.
 */
static bool try_shared(struct target *t, struct fault *f, int *rc)
{
    struct client *c = t->state->client;
    struct book_host h;
    struct book_service list[BOOK_SERVICE_MAX];
    Services *known = calloc(1, sizeof(*known));
    bool shared = false;
    if (known != NULL && client_finds_up(c) &&
        book_find(client_book(c), t->host, &h, NULL) == 0 &&
        share_reaches(client_statedir(c), h.name)) {
        int n = book_services(client_book(c), h.key, list, BOOK_SERVICE_MAX);
        for (int i = 0; i < n; i++) {
            ServiceInfo *info = &known->services[known->services_count++];
            (void)snprintf(info->name, sizeof(info->name), "%.63s", list[i].name);
            info->port = list[i].port;
            info->udp = list[i].udp;
        }
        const ServiceInfo *info = find_service(known, t->service);
        shared = info != NULL && !info->udp;
        if (shared) {
            memcpy(t->host, h.name, sizeof(t->host));
            t->started = true;
            *rc = listen_local(t, info, f);
            if (*rc == 0) {
                share_print_paths(client_statedir(c), t->host, client_out(c));
                tell_ready(t);
            }
        }
    }
    free(known);
    return shared;
}

/* Where one is found here, and no HOST:SERVICE. */
static bool is_local(const char *word)
{
    struct addr a;
    char ip[ADDR_TEXT_LEN];
    const char *colon = strrchr(word, ':');
    (void)snprintf(ip, sizeof(ip), "%.*s", colon != NULL ? (int)(colon - word) : 0,
                   word);
    return colon == NULL || word[0] == '[' || strncmp(word, "unix:/", 6) == 0 ||
           strncmp(word, "unix:.", 6) == 0 || addr_parse_ip(&a, ip) == 0;
}

/* "localhost:2222" is no service of a host; NULL: it is something else. */
static const char *port_of_localhost(const char *word)
{
    const char *port = strncmp(word, "localhost:", 10) == 0 ? word + 10 : "";
    return port[0] != '\0' && port[strspn(port, "0123456789")] == '\0' ? port : NULL;
}

/* Behind a target "unix:x" is a socket's file, but for a host that is called unix. */
static bool is_place_of(const struct target *t, const char *word)
{
    return is_local(word) || port_of_localhost(word) != NULL ||
           (strncmp(word, "unix:", 5) == 0 && strcmp(t->host, "unix") != 0);
}

/* As `serve` takes it: 8000-8010. */
static bool is_range(const char *service)
{
    size_t from = strspn(service, "0123456789");
    const char *to = service + from + 1;
    return from > 0 && service[from] == '-' && *to != '\0' &&
           to[strspn(to, "0123456789")] == '\0';
}

static int parse_target(struct target *t, const char *word, struct fault *f)
{
    const char *colon = strchr(word, ':');
    size_t len = colon != NULL ? (size_t)(colon - word) : 0;
    if (is_local(word) || len == 0 || colon[1] == '\0' || len >= sizeof(t->host) ||
        strlen(colon + 1) >= sizeof(t->service))
        return fault_set(f, POSTERN_ERR_USAGE,
                         "write it as HOST:PORT or HOST:SERVICE, as in: postern "
                         "connect home:22",
                         "'%.100s' names no host and service", word);
    memcpy(t->host, word, len);
    (void)snprintf(t->service, sizeof(t->service), "%s", colon + 1);
    if (is_range(t->service))
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "name each, as in: postern connect home:8000 home:8001; or use "
            "'postern up', which has all of them",
            "a local port leads to one service, and '%.60s' is a range", t->service);
    return call_check_service(t->service, f);
}

static int local_fault(const char *local, struct fault *f)
{
    char advice[160] = "write it as 127.0.0.1:8080, [::1]:8080 or unix:./PATH";
    if (strchr(local, '/') != NULL)
        (void)snprintf(advice, sizeof(advice), "write a socket's file as unix:%.100s",
                       local);
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "'%.100s' is no local address and port", local);
}

static int parse_local(struct target *t, const char *local, struct fault *f)
{
    char text[ADDR_TEXT_LEN];
    const char *given = local, *port = port_of_localhost(local);
    t->local_given = true;
    if (port != NULL)
        local = port;
    if (strncmp(local, "unix:", 5) == 0) {
        t->path = local + 5;
        return t->path[0] != '\0'
                   ? 0
                   : fault_set(f, POSTERN_ERR_USAGE, "write it as unix:./PATH",
                               "'unix:' names no file for the socket");
    }
    if (strchr(local, ':') == NULL && strlen(local) < 6) {
        (void)snprintf(text, sizeof(text), "127.0.0.1:%s", local);
        local = text;
    }
    return addr_parse(&t->local, local) == 0 ? 0 : local_fault(given, f);
}

static int parse(struct connect_state *s, const struct connect_config *what,
                 struct fault *f)
{
    struct systemd_sockets given;
    int rc = 0;
    systemd_sockets_read(&given);
    for (size_t i = 0; i < what->count && rc == 0; i++) {
        struct target *t = &s->targets[s->count];
        if (s->count == TARGETS_MAX)
            return fault_set(f, POSTERN_ERR_USAGE, "run a second one for the others",
                             "one connect takes %d services", TARGETS_MAX);
        t->state = s;
        rc = parse_target(t, what->words[i], f);
        s->count++;
        if (rc == 0 && i + 1 < what->count && is_place_of(t, what->words[i + 1])) {
            rc = parse_local(t, what->words[++i], f);
        } else if (rc == 0) {
            int fd = systemd_sockets_take(&given, true, NULL);
            t->fd = fd > 0 ? fd : 0;
            t->local_given = fd > 0;
        }
    }
    return rc;
}

int connect_run(const struct client_config *c, const struct connect_config *what,
                struct fault *f)
{
    static const struct client_events events = {.standing = true,
                                                .on_ready = on_ready,
                                                .on_services = on_services,
                                                .on_fault = on_fault,
                                                .on_heard = on_heard,
                                                .on_sure = on_ready};
    struct connect_state *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    s->what = what;
    int rc = parse(s, what, f);
    if (rc == 0)
        rc = client_open(&s->client, c, &events, s, f);
    if (rc == 0 && (rc = calls_new(&s->calls, client_loop(s->client))) != 0)
        (void)fault_lack(f, rc);
    for (size_t i = 0; i < s->count && rc == 0; i++) {
        struct target *t = &s->targets[i];
        bool shared = c->paths == PATH_KINDS_DEFAULT && try_shared(t, f, &rc);
        if (rc == 0 && !shared)
            rc = client_peer(s->client, t->host, &t->peer, f);
    }
    if (rc == 0)
        rc = client_run(s->client, f);
    for (size_t i = 0; i < s->count; i++)
        forward_close(s->targets[i].forward);
    calls_free(s->calls);
    client_close(s->client);
    free(s);
    return rc;
}
