/*
 * The portal's thread: what comes from the broker's threads by mail, the connection to
 * the broker itself, the sweep; and what a room has to tell one that it does not know.
 * What people see is in web.c and handlers.c.
 */
#include "portal/portal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/door.h"
#include "broker/mailbox.h"
#include "io/audit.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "portal/doors.h"
#include "portal/handlers.h"
#include "portal/names.h"
#include "portal/passwords.h"
#include "portal/web.h"
#include "portal/web_tls.h"
#include "session/endpoint.h"

enum { SWEEP_MS = 5000 }; /* what ends by time may end so much later */

struct portal {
    struct broker_portal for_broker;
    pthread_t thread;
    struct timer sweep;
    struct mailbox *mail;
    enum log_level log_level;
    bool running, stopping;
    atomic_uint arriving; /* descriptors that are under way to the thread */
    struct endpoint endpoint;
    bool endpoint_open;
    struct devices devices;
    struct rooms rooms;
};

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

static void on_host(void *ctx, const uint8_t host[static KEY_LEN],
                    const struct addr *from, const Control *c)
{
    struct portal *p = ctx;
    uint8_t buf[PROTO_FRAME_MAX];
    int n = c != NULL ? proto_encode_control(buf, sizeof(buf), c) : 0;
    struct mail *m = n < 0 ? NULL : mail_new(MAIL_PORTAL, buf, (size_t)n);
    if (m == NULL)
        return;
    memcpy(m->from, host, KEY_LEN);
    if (from != NULL)
        m->remote = *from;
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
        if (!names_take(p->rooms.names, m->fd, (const char *)m->bytes))
            web_take(p->rooms.web, m->fd);
        m->fd = -1;
    } else if (m->type == MAIL_PORTAL && m->len == 0) {
        hosts_on_gone(p->rooms.hosts, m->from);
    } else if (m->type == MAIL_PORTAL) {
        Control *c = malloc(sizeof(*c));
        if (c != NULL && proto_decode_control(c, m->bytes, m->len) == 0)
            hosts_on_message(p->rooms.hosts, m->from, &m->remote, c);
        free(c);
    }
    mail_free(m);
}

/* --------------------------------------------------------------- as its own client */

static void on_up(void *ctx)
{
    struct portal *p = ctx;
    hosts_on_uplink(p->rooms.hosts, true);
}

static void on_down(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal)
{
    struct portal *p = ctx;
    (void)fatal;
    log_debug("the portal has lost its broker: %s (next try in %u ms)", why->what,
              retry_ms);
    hosts_on_uplink(p->rooms.hosts, false);
}

static void on_control(void *ctx, const Control *m)
{
    struct portal *p = ctx;
    hosts_on_control(p->rooms.hosts, m);
}

static const struct uplink_events uplink_events = {on_up, on_down, on_control};

static int open_endpoint(struct portal *p)
{
    struct link l = {.type = LINK_BROKER};
    struct addr a;
    char ip[ADDR_TEXT_LEN];
    broker_local(p->rooms.broker, &a);
    (void)snprintf(l.host, sizeof(l.host), "%s", addr_format_ip(&a, ip));
    l.port = a.port;
    memcpy(l.broker_key, broker_key(p->rooms.broker)->pub, KEY_LEN);
    struct endpoint_config c = {.loop = p->rooms.loop,
                                .key = broker_key(p->rooms.broker),
                                .broker = &l,
                                .name = "portal",
                                .events = &uplink_events,
                                .ctx = p};
    int rc = endpoint_open(&p->endpoint, &c);
    p->endpoint_open = rc == 0;
    return rc;
}

/* ------------------------------------------------------------ from room to room */

static void on_lists(const struct rooms *rs)
{
    doors_check(rs->doors);
    logins_check(rs->logins);
}

static void on_host_forgotten(const struct rooms *rs, uint32_t number)
{
    doors_forget_host(rs->doors, number);
}

static bool is_login_used(const struct rooms *rs, const struct login *l)
{
    return doors_in_use(rs->doors, l) || names_in_use(rs->names, l);
}

static void on_login_end(const struct rooms *rs, const struct login *l)
{
    names_end_login(rs->names, l);
    doors_end_login(rs->doors, l);
}

static void on_login_move(const struct rooms *rs, const struct login *l)
{
    doors_move_login(rs->doors, l);
}

static void on_renew(const struct rooms *rs)
{
    passwords_clear_line(rs->passwords);
}

static const struct rooms_events rooms_events = {
    .on_lists = on_lists,
    .on_host_forgotten = on_host_forgotten,
    .on_login_end = on_login_end,
    .on_login_move = on_login_move,
    .is_login_used = is_login_used,
    .on_request = handle_request,
    .on_renew = on_renew,
};

static int open_rooms(struct portal *p, struct fault *f)
{
    struct rooms *rs = &p->rooms;
    devices_init(&p->devices, broker_key(rs->broker));
    rs->devices = &p->devices;
    rs->endpoint = &p->endpoint;
    rs->events = &rooms_events;
    rs->audit = audit_start(rs->config->state_dir);
    int rc = hosts_new(&rs->hosts, rs);
    if (rc == 0)
        rc = asks_new(&rs->asks, rs->loop, rs->hosts);
    if (rc == 0)
        rc = logins_new(&rs->logins, rs, broker_key(rs->broker));
    if (rc == 0)
        rc = passwords_new(&rs->passwords, rs);
    if (rc == 0)
        rc = names_new(&rs->names, rs);
    if (rc == 0)
        rc = doors_new(&rs->doors, rs);
    if (rc == 0)
        rc = open_endpoint(p);
    return rc == 0 ? web_new(&rs->web, rs, f) : fault_lack(f, rc);
}

/*
 * Nothing is asked, answered or begun any more. In the order in which requests depend
 * on them: answers, passwords, the requests themselves; and the hosts after all that
 * calls them.
 */
static void close_rooms(struct rooms *rs)
{
    asks_close(rs->asks);
    passwords_close(rs->passwords);
    web_close(rs->web);
    doors_close(rs->doors);
    hosts_free(rs->hosts); /* ends their calls */
    rs->hosts = NULL;
}

/* When the loop has ended, and with it what was under way. */
static void free_rooms(struct rooms *rs)
{
    web_free(rs->web);
    doors_free(rs->doors);
    names_free(rs->names);
    passwords_free(rs->passwords);
    logins_free(rs->logins);
    asks_free(rs->asks);
    audit_close(rs->audit);
}

/* ---------------------------------------------------------------------- the thread */

static void on_sweep(void *ctx)
{
    struct portal *p = ctx;
    uint32_t idle_s = p->rooms.config->idle_s;
    uint64_t idle_ms = (idle_s != 0 ? idle_s : PORTAL_IDLE_DEFAULT_S) * UINT64_C(1000);
    doors_sweep(p->rooms.doors, idle_ms);
    names_sweep(p->rooms.names, idle_ms);
    logins_sweep(p->rooms.logins);
    hosts_sweep(p->rooms.hosts);
    web_sweep(p->rooms.web);
}

/* On the thread; the loop then ends by itself. */
static void stop(struct portal *p)
{
    if (p->stopping)
        return;
    p->stopping = true;
    close_rooms(&p->rooms);
    if (p->endpoint_open)
        endpoint_close(&p->endpoint);
    p->endpoint_open = false;
    timer_stop(&p->sweep);
    if (p->mail != NULL)
        mailbox_close(p->mail);
}

static void *run(void *arg)
{
    struct portal *p = arg;
    log_set_level(p->log_level);
    loop_run(p->rooms.loop);
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
    const char *name = p->rooms.config->domain;
    (void)snprintf(p->rooms.place.name, sizeof(p->rooms.place.name), "%s",
                   broker_public_name(p->rooms.broker));
    p->rooms.place.port = broker_port(p->rooms.broker);
    if (name == NULL && addr_parse_ip(&a, p->rooms.place.name) != 0)
        name = p->rooms.place.name;
    if (p->rooms.config->domain != NULL && !is_domain(p->rooms.config->domain))
        return fault_set(f, POSTERN_ERR_USAGE, "write it as services.example.org",
                         "'%.100s' is not a domain name", p->rooms.config->domain);
    (void)snprintf(p->rooms.place.domain, sizeof(p->rooms.place.domain), "%s",
                   name != NULL ? name : "");
    return 0;
}

static void stop_and_wait(void *ctx);

static int start(void *ctx, struct broker *b, struct fault *f)
{
    struct portal *p = ctx;
    p->rooms.broker = b;
    p->log_level = log_level();
    timer_init(&p->sweep, p->rooms.loop, on_sweep, p);
    timer_every(&p->sweep, SWEEP_MS, SWEEP_MS);
    int rc = use_names(p, f);
    if (rc == 0)
        rc = open_rooms(p, f);
    if (rc == 0 && pthread_create(&p->thread, NULL, run, p) != 0)
        rc = fault_set(f, POSTERN_ERR_IO,
                       "raise the limit of processes (ulimit -u), or of the address "
                       "space (ulimit -v)",
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
    loop_run(p->rooms.loop);
    free_rooms(&p->rooms);
}

int portal_new(struct portal **out, const struct portal_config *c, struct fault *f)
{
    struct portal *p = calloc(1, sizeof(*p));
    if (p == NULL || sodium_init() < 0 || loop_open(&p->rooms.loop) != 0) {
        free(p);
        return fault_lack(f, POSTERN_ERR_NOMEM);
    }
    p->rooms.config = c;
    p->for_broker = (struct broker_portal){.ctx = p,
                                           .start = start,
                                           .stop = stop_and_wait,
                                           .on_tls = on_tls,
                                           .on_host = on_host};
    if (mailbox_open(&p->mail, p->rooms.loop, on_mail, p) != 0) {
        loop_close(p->rooms.loop);
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
    bool v6 = strchr(p->rooms.place.name, ':') != NULL;
    if (p->rooms.place.port != 443)
        (void)snprintf(port, sizeof(port), ":%u", p->rooms.place.port);
    (void)snprintf(buf, cap, "https://%s%s%s%s/", v6 ? "[" : "", p->rooms.place.name,
                   v6 ? "]" : "", port);
    return buf;
}

bool portal_fingerprint(const struct portal *p, char out[static PORTAL_FINGERPRINT_LEN])
{
    return web_own_fingerprint(&p->rooms, out);
}

void portal_free(struct portal *p)
{
    if (p == NULL)
        return;
    if (!p->stopping && p->mail != NULL) {
        mailbox_close(p->mail); /* it was never started */
        loop_run(p->rooms.loop);
    }
    mailbox_free(p->mail);
    loop_close(p->rooms.loop);
    free(p);
}
