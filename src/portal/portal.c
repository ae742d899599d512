/*
 * The portal's thread: what comes from the broker's threads by mail, the connection to
 * the broker itself, and the sweep. What people see is in web.c and handlers.c.
 */
#include "portal/portal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/door.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/statedir.h"
#include "portal/internal.h"

void portal_audit(struct portal *p, const char *what, const char *who,
                  const struct addr *from, const char *object, const char *detail)
{
    struct audit_entry e = {.time_s = statedir_now_s()};
    char text[ADDR_TEXT_LEN] = "";
    if (from != NULL && from->port != 0)
        (void)addr_format(from, text);
    else if (from != NULL)
        (void)addr_format_ip(from, text);
    (void)snprintf(e.what, sizeof(e.what), "%s", what);
    (void)snprintf(e.who, sizeof(e.who), "%s", who != NULL ? who : "");
    (void)snprintf(e.from, sizeof(e.from), "%s", text);
    (void)snprintf(e.object, sizeof(e.object), "%s", object != NULL ? object : "");
    (void)snprintf(e.detail, sizeof(e.detail), "%s", detail != NULL ? detail : "");
    audit_add(p->audit, &e);
}

void portal_visit(Visit *v, const char *account, const struct addr *from)
{
    char text[ADDR_TEXT_LEN];
    *v = (Visit)Visit_init_zero;
    (void)snprintf(v->account, sizeof(v->account), "%s", account);
    (void)snprintf(v->visitor, sizeof(v->visitor), "%s", addr_format(from, text));
}

/* ------------------------------------------------------------ the broker's threads */

enum { ARRIVING_MAX = 256 }; /* connections, while the thread is busy */

static void on_tls(void *ctx, int fd, const char *server_name)
{
    struct portal *p = ctx;
    struct mail *m = NULL;
    if (atomic_load(&p->arriving) < ARRIVING_MAX)
        m = mail_new(MAIL_WEB, server_name, strlen(server_name) + 1);
    if (m == NULL) {
        door_say_busy(fd);
        return;
    }
    m->fd = fd;
    atomic_fetch_add(&p->arriving, 1);
    if (mailbox_post(p->mail, m) != 0) {
        atomic_fetch_sub(&p->arriving, 1);
        mail_free(m);
    }
}

static void on_host(void *ctx, const uint8_t host[static KEY_LEN], const Control *c)
{
    struct portal *p = ctx;
    uint8_t buf[PROTO_FRAME_MAX];
    int n = c != NULL ? proto_encode_control(buf, sizeof(buf), c) : 0;
    struct mail *m = n < 0 ? NULL : mail_new(MAIL_PORTAL, buf, (size_t)n);
    if (m == NULL)
        return;
    memcpy(m->from, host, KEY_LEN);
    if (mailbox_post(p->mail, m) != 0)
        mail_free(m);
}

static void stop(struct portal *p);

static void on_mail(void *ctx, struct mail *m)
{
    struct portal *p = ctx;
    if (m->type == MAIL_STOP) {
        stop(p);
    } else if (m->type == MAIL_WEB) {
        atomic_fetch_sub(&p->arriving, 1);
        if (!names_take(p, m->fd, (const char *)m->bytes))
            web_take(p, m->fd);
        m->fd = -1;
    } else if (m->type == MAIL_PORTAL && m->len == 0) {
        hosts_on_gone(p, m->from);
    } else if (m->type == MAIL_PORTAL) {
        Control *c = malloc(sizeof(*c));
        if (c != NULL && proto_decode_control(c, m->bytes, m->len) == 0)
            hosts_on_message(p, m->from, c);
        free(c);
    }
    mail_free(m);
}

/* --------------------------------------------------------------- as its own client */

static void on_up(void *ctx)
{
    hosts_on_uplink(ctx, true);
}

static void on_down(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal)
{
    (void)fatal;
    log_debug("the portal has lost its broker: %s (next try in %u ms)", why->what,
              retry_ms);
    hosts_on_uplink(ctx, false);
}

static void on_control(void *ctx, const Control *m)
{
    hosts_on_control(ctx, m);
}

static const struct uplink_events uplink_events = {on_up, on_down, on_control};

static int open_endpoint(struct portal *p)
{
    struct link l = {.type = LINK_BROKER};
    struct addr a;
    char ip[ADDR_TEXT_LEN];
    broker_local(p->broker, &a);
    (void)snprintf(l.host, sizeof(l.host), "%s", addr_format_ip(&a, ip));
    l.port = a.port;
    memcpy(l.broker_key, broker_key(p->broker)->pub, KEY_LEN);
    struct endpoint_config c = {.loop = p->loop,
                                .key = broker_key(p->broker),
                                .broker = &l,
                                .name = "portal",
                                .events = &uplink_events,
                                .ctx = p};
    int rc = endpoint_open(&p->endpoint, &c);
    p->endpoint_open = rc == 0;
    return rc;
}

/* ---------------------------------------------------------------------- the thread */

static void on_sweep(void *ctx)
{
    struct portal *p = ctx;
    uint32_t idle_s = p->config->idle_s;
    uint64_t idle_ms = (idle_s != 0 ? idle_s : PORTAL_IDLE_DEFAULT_S) * UINT64_C(1000);
    doors_sweep(p, idle_ms);
    names_sweep(p, idle_ms);
    logins_sweep(p);
    hosts_sweep(p);
    web_sweep(p);
}

/* On the thread; the loop then ends by itself. */
static void stop(struct portal *p)
{
    if (p->stopping)
        return;
    p->stopping = true;
    asks_close(p); /* requests wait for them */
    web_close(p);
    logins_close(p);
    doors_close(p);
    hosts_close(p); /* ends their calls */
    calls_free(p->calls);
    p->calls = NULL;
    if (p->endpoint_open)
        endpoint_close(&p->endpoint);
    p->endpoint_open = false;
    timer_stop(&p->sweep);
    timer_stop(&p->line);
    if (p->mail != NULL)
        mailbox_close(p->mail);
}

static void *run(void *arg)
{
    struct portal *p = arg;
    log_set_level(p->log_level);
    loop_run(p->loop);
    return NULL;
}

enum { DOMAIN_MAX = 120 }; /* a label of SERVICE--HOST goes in front: RFC 1035, 255 */

/* Letters, digits, hyphens and single dots, and no address. */
static bool is_domain(const char *name)
{
    struct addr a;
    size_t len = strlen(name);
    if (len == 0 || len > DOMAIN_MAX || addr_parse_ip(&a, name) == 0 ||
        strstr(name, "..") != NULL || name[0] == '.' || name[len - 1] == '.')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789-.") == len;
}

static int use_names(struct portal *p, struct fault *f)
{
    struct addr a;
    const char *name = p->config->domain;
    (void)snprintf(p->public_name, sizeof(p->public_name), "%s",
                   broker_public_name(p->broker));
    p->public_port = broker_port(p->broker);
    if (name == NULL && addr_parse_ip(&a, p->public_name) != 0)
        name = p->public_name;
    if (p->config->domain != NULL && !is_domain(p->config->domain))
        return fault_set(f, POSTERN_ERR_USAGE, "write it as services.example.org",
                         "'%.100s' is not a domain name", p->config->domain);
    (void)snprintf(p->domain, sizeof(p->domain), "%s", name != NULL ? name : "");
    return 0;
}

static int open_parts(struct portal *p, struct fault *f)
{
    uint8_t secret[ROUTES_SECRET_LEN];
    randombytes_buf(secret, sizeof(secret));
    randombytes_buf(p->secret, sizeof(p->secret));
    int rc = routes_new(&p->routes, secret, doors_on_route_end, p);
    if (rc == 0)
        rc = calls_new(&p->calls, p->loop);
    if (rc == 0)
        rc = logins_open(p);
    if (rc == 0)
        rc = open_endpoint(p);
    if (rc != 0)
        return fault_lack(f, rc);
    p->audit = audit_start(p->config->state_dir);
    return web_open(p, f);
}

static void stop_and_wait(void *ctx);

static int start(void *ctx, struct broker *b, struct fault *f)
{
    struct portal *p = ctx;
    p->broker = b;
    p->log_level = log_level();
    timer_init(&p->sweep, p->loop, on_sweep, p);
    timer_every(&p->sweep, SWEEP_MS, SWEEP_MS);
    int rc = use_names(p, f);
    if (rc == 0)
        rc = open_parts(p, f);
    if (rc == 0 && pthread_create(&p->thread, NULL, run, p) != 0)
        rc = fault_set(f, POSTERN_ERR_IO, "raise the limit of processes",
                       "cannot start a thread");
    p->running = rc == 0;
    if (rc != 0)
        stop_and_wait(p);
    return rc;
}

static void stop_and_wait(void *ctx)
{
    struct portal *p = ctx;
    struct mail *m = p->running ? mail_new(MAIL_STOP, NULL, 0) : NULL;
    if (m != NULL && mailbox_post(p->mail, m) == 0)
        (void)pthread_join(p->thread, NULL);
    else
        mail_free(m);
    p->running = false;
    stop(p); /* it never ran */
    loop_run(p->loop);
    audit_close(p->audit);
    routes_free(p->routes);
    p->audit = NULL;
    p->routes = NULL;
}

int portal_new(struct portal **out, const struct portal_config *c, struct fault *f)
{
    struct portal *p = calloc(1, sizeof(*p));
    if (p == NULL || sodium_init() < 0 || loop_open(&p->loop) != 0) {
        free(p);
        return fault_lack(f, POSTERN_ERR_NOMEM);
    }
    p->config = c;
    p->for_broker = (struct broker_portal){.ctx = p,
                                           .start = start,
                                           .stop = stop_and_wait,
                                           .on_tls = on_tls,
                                           .on_host = on_host};
    if (mailbox_open(&p->mail, p->loop, on_mail, p) != 0) {
        loop_close(p->loop);
        free(p);
        return fault_set(f, POSTERN_ERR_IO, "raise the limit of open files",
                         "cannot start an event loop");
    }
    *out = p;
    return 0;
}

const struct broker_portal *portal_for_broker(struct portal *p)
{
    return &p->for_broker;
}

const char *portal_url(const struct portal *p, char *buf, size_t cap)
{
    char port[8] = "";
    bool v6 = strchr(p->public_name, ':') != NULL;
    if (p->public_port != 443)
        (void)snprintf(port, sizeof(port), ":%u", p->public_port);
    (void)snprintf(buf, cap, "https://%s%s%s%s/", v6 ? "[" : "", p->public_name,
                   v6 ? "]" : "", port);
    return buf;
}

void portal_free(struct portal *p)
{
    if (p == NULL)
        return;
    if (!p->stopping && p->mail != NULL) {
        mailbox_close(p->mail); /* it was never started */
        loop_run(p->loop);
    }
    mailbox_free(p->mail);
    loop_close(p->loop);
    free(p);
}
