/*
 * The hosts that opened something to people without a device: their lists, as they
 * send them, and the sessions to them. A list is the host's word about itself only, and
 * bounded. Passwords and pages are not known here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/dns.h"
#include "io/log.h"
#include "io/loop.h"
#include "portal/internal.h"

struct portal_host *host_by_number(struct portal *p, uint32_t number)
{
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next)
        if (h->number == number)
            return h;
    return NULL;
}

struct portal_host *host_by_key(struct portal *p, const uint8_t key[static KEY_LEN])
{
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next)
        if (memcmp(h->key, key, KEY_LEN) == 0)
            return h;
    return NULL;
}

struct portal_account *host_account(const struct portal_host *h, const char *name)
{
    for (size_t i = 0; h->list != NULL && i < h->list->account_count; i++)
        if (strcmp(h->list->accounts[i].name, name) == 0)
            return &h->list->accounts[i];
    return NULL;
}

int host_service(const struct portal_host *h, const char *name)
{
    for (size_t i = 0; h->list != NULL && i < h->list->service_count; i++)
        if (strcmp(h->list->services[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* ------------------------------------------------------------------------ sessions */

static void on_ready(void *ctx, struct peer *peer)
{
    struct portal_host *h = ctx;
    calls_on_ready(h->portal->calls, peer);
}

static void on_fault(void *ctx, struct peer *peer, const struct fault *f, bool fatal)
{
    struct portal_host *h = ctx;
    log_debug("no session to %s: %s", h->name, f->what);
    calls_on_fault(h->portal->calls, peer, f, fatal);
}

static const struct peer_events peer_events = {
    .on_ready = on_ready,
    .on_fault = on_fault,
};

struct peer *host_peer(struct portal_host *h)
{
    struct portal *p = h->portal;
    h->used_ms = loop_now_ms(p->loop);
    if (h->peer != NULL && (h->online || peer_is_ready(h->peer)))
        return h->peer;
    if (!h->online) /* nobody shall wait for it */
        return NULL;
    struct peer_config pc = {.endpoint = &p->endpoint,
                             .paths = 1u << PATH_RELAY,
                             .visiting = true,
                             .events = &peer_events,
                             .ctx = h};
    (void)snprintf(pc.name, sizeof(pc.name), "%s", h->name);
    memcpy(pc.key, h->key, KEY_LEN);
    if (peer_open(&h->peer, &pc) != 0)
        h->peer = NULL;
    return h->peer;
}

static void drop_peer(struct portal_host *h)
{
    if (h->peer == NULL)
        return;
    calls_drop_peer(h->portal->calls, h->peer);
    peer_close(h->peer);
    h->peer = NULL;
}

/* --------------------------------------------------------------------------- lists */

static void host_free(struct portal_host *h);

/* Too many: who is away the longest makes way. */
static void make_room(struct portal *p)
{
    struct portal_host *longest = NULL;
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next)
        if (!h->online && h->list != NULL &&
            (longest == NULL || h->gone_ms < longest->gone_ms))
            longest = h;
    if (longest != NULL)
        host_free(longest);
}

static struct portal_host *host_new(struct portal *p, const uint8_t *key)
{
    if (p->host_count >= PORTAL_HOSTS_MAX)
        make_room(p);
    struct portal_host *h =
        p->host_count < PORTAL_HOSTS_MAX ? calloc(1, sizeof(*h)) : NULL;
    if (h == NULL)
        return NULL;
    h->portal = p;
    h->number = p->next_host++;
    memcpy(h->key, key, KEY_LEN);
    struct portal_host **last = &p->hosts; /* the eldest first: see names.c */
    while (*last != NULL)
        last = &(*last)->next;
    *last = h;
    p->host_count++;
    return h;
}

static void host_free(struct portal_host *h)
{
    struct portal *p = h->portal;
    for (struct portal_host **at = &p->hosts; *at != NULL; at = &(*at)->next) {
        if (*at == h) {
            *at = h->next;
            break;
        }
    }
    p->host_count--;
    (void)routes_revoke_host(p->routes, h->number);
    drop_peer(h);
    free(h->list);
    free(h->coming);
    free(h);
}

static void begin(struct portal *p, const uint8_t *key, const PortalBegin *m)
{
    struct portal_host *h = host_by_key(p, key);
    if (h == NULL)
        h = host_new(p, key);
    if (h == NULL)
        return;
    if (h->coming == NULL)
        h->coming = malloc(sizeof(*h->coming));
    if (h->coming == NULL)
        return;
    memset(h->coming, 0, sizeof(*h->coming));
    (void)snprintf(h->name, sizeof(h->name), "%s", m->host);
    dns_label(h->name, h->label, sizeof(h->label));
}

static void add_service(struct portal_host *h, const PortalService *m)
{
    struct portal_list *l = h->coming;
    if (l->service_count == HOST_SERVICES_MAX || m->port == 0 || m->port > 65535)
        return;
    struct portal_service *s = &l->services[l->service_count++];
    (void)snprintf(s->name, sizeof(s->name), "%s", m->name);
    dns_label(s->name, s->label, sizeof(s->label));
    s->port = (uint16_t)m->port;
    s->udp = m->udp;
    s->open = m->open;
    s->tls = m->tls;
}

static void add_account(struct portal_host *h, const PortalAccount *m)
{
    struct portal_list *l = h->coming;
    if (l->account_count == HOST_ACCOUNTS_MAX || m->name[0] == '\0')
        return;
    struct portal_account *a = &l->accounts[l->account_count++];
    const struct portal_account *before = host_account(h, m->name);
    (void)snprintf(a->name, sizeof(a->name), "%s", m->name);
    (void)snprintf(a->hash, sizeof(a->hash), "%s", m->hash);
    a->totp_len = m->totp.size;
    memcpy(a->totp, m->totp.bytes, m->totp.size);
    a->totp_step = before != NULL ? before->totp_step : 0;
    a->expires_s = (int64_t)m->expires_s;
    a->owner = m->owner;
    for (pb_size_t i = 0; i < m->services_count; i++)
        if (m->services[i] < HOST_SERVICES_MAX)
            a->services |= UINT64_C(1) << m->services[i];
}

/* Who may use less than before, as the lists stand now, loses it at once. */
static void drop_lost_grants(struct portal *p)
{
    for (struct login *l = p->logins; l != NULL; l = l->next) {
        uint64_t after = 0;
        const struct route_grant *g;
        while ((g = routes_next_grant(p->routes, l->id, after)) != NULL) {
            struct portal_host *h = host_by_number(p, g->host);
            after = g->id;
            if (h == NULL || !login_may(l, h, host_service(h, g->service)))
                (void)routes_revoke(p->routes, g->id);
        }
    }
    doors_trim(p);
}

static void end(struct portal *p, struct portal_host *h)
{
    if (!h->online && h->peer != NULL && !peer_is_ready(h->peer))
        drop_peer(h); /* its pauses have grown while the host was away */
    free(h->list);
    h->list = h->coming;
    h->coming = NULL;
    h->online = true;
    log_debug("%s opens %zu services to %zu accounts", h->name, h->list->service_count,
              h->list->account_count);
    drop_lost_grants(p);
    if (h->list->service_count == 0 && h->list->account_count == 0)
        host_free(h); /* else its people stay logged in until it has some again */
    logins_check(p);
}

void hosts_on_message(struct portal *p, const uint8_t key[static KEY_LEN],
                      const Control *m)
{
    if (m->which_body == Control_portal_begin_tag) {
        begin(p, key, &m->body.portal_begin);
        return;
    }
    struct portal_host *h = host_by_key(p, key);
    if (h == NULL || h->coming == NULL)
        return;
    if (m->which_body == Control_portal_service_tag)
        add_service(h, &m->body.portal_service);
    else if (m->which_body == Control_portal_account_tag)
        add_account(h, &m->body.portal_account);
    else if (m->which_body == Control_portal_end_tag)
        end(p, h);
}

void hosts_on_gone(struct portal *p, const uint8_t key[static KEY_LEN])
{
    struct portal_host *h = host_by_key(p, key);
    if (h == NULL)
        return;
    if (h->list == NULL) { /* it never said what it opens */
        host_free(h);
        return;
    }
    h->online = false;
    h->gone_ms = loop_now_ms(p->loop);
    for (size_t i = 0; i < h->list->account_count; i++) {
        struct portal_account *a = &h->list->accounts[i];
        a->up = a->up_known = 0;
        a->silent = false;
    }
}

/* ------------------------------------------------------------------------ the rest */

void hosts_on_uplink(struct portal *p, bool up)
{
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next)
        if (h->peer != NULL)
            peer_on_uplink(h->peer, up);
}

void hosts_on_control(struct portal *p, const Control *m)
{
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next) {
        if (h->peer != NULL && peer_owns(h->peer, m)) {
            peer_on_control(h->peer, m);
            return;
        }
    }
}

void hosts_sweep(struct portal *p)
{
    struct portal_host *next;
    uint64_t now = loop_now_ms(p->loop);
    drop_lost_grants(p); /* of accounts that have expired */
    logins_check(p);
    for (struct portal_host *h = p->hosts; h != NULL; h = next) {
        next = h->next;
        if (h->peer != NULL && calls_of_peer(p->calls, h->peer) > 0)
            h->used_ms = now;
        else if (h->peer != NULL && now - h->used_ms > PEER_IDLE_MS)
            drop_peer(h);
        if (!h->online && now - h->gone_ms > HOST_KEPT_MS)
            host_free(h);
    }
}

void hosts_close(struct portal *p)
{
    while (p->hosts != NULL)
        host_free(p->hosts);
}
