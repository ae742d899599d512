/* Only the newest key's presence gives one. What comes of it is judged in
 * portal_visits.c. */
#include "host/portal_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/access.h"
#include "host/certs.h"
#include "host/clients.h"
#include "host/portal_visits.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/statedir.h"

enum {
    MESSAGE_MS = 10, /* of quiet, for each that was sent */
    EXPIRED_TOLD_S = 30 * 24 * 3600,
};

struct portal_list {
    struct host *host;
    int64_t version;   /* of access.db, by which the visits were judged */
    struct timer wait; /* the list waits for it */
    uint64_t next_ms;  /* when it may be sent again */
};

struct offered {
    struct access_account accounts[ACCESS_ACCOUNTS_MAX];
    size_t account_count;
    const struct service *services[SERVICE_MAX];
    bool open[SERVICE_MAX];
    size_t service_count;
};

/*
 * What the list has now: accounts that are good, or were not long ago, so that who
 * gives the password is told; and services that somebody may use.
 */
static int gather(const struct host *h, struct offered *l)
{
    int64_t now_s = statedir_now_s();
    int n = access_accounts(h->access, l->accounts, ACCESS_ACCOUNTS_MAX);
    if (n < 0)
        return n;
    for (int i = 0; i < n && i < ACCESS_ACCOUNTS_MAX; i++) {
        const struct access_account *a = &l->accounts[i];
        if (a->expires_s == 0 || a->expires_s > now_s - EXPIRED_TOLD_S)
            l->accounts[l->account_count++] = *a;
    }
    for (size_t i = 0; i < h->services.count; i++) {
        const struct service *sv = &h->services.items[i];
        bool open = !sv->udp && access_is_public(h->access, sv->name);
        bool used = open;
        for (size_t k = 0; k < l->account_count && !used; k++)
            used = access_allows(&l->accounts[k], sv, now_s);
        if (!used)
            continue;
        l->open[l->service_count] = open;
        l->services[l->service_count++] = sv;
    }
    return 0;
}

static int send_services(struct presence *at, const struct offered *l)
{
    for (size_t i = 0; i < l->service_count; i++) {
        Control m = {.which_body = Control_portal_service_tag};
        PortalService *p = &m.body.portal_service;
        (void)snprintf(p->name, sizeof(p->name), "%s", l->services[i]->name);
        (void)snprintf(p->title, sizeof(p->title), "%s", l->services[i]->title);
        p->port = l->services[i]->port;
        p->udp = l->services[i]->udp;
        p->open = l->open[i];
        p->tls = certs_has(at->host->certs, p->name);
        int err = uplink_send(at->endpoint.uplink, &m);
        if (err != 0)
            return err;
    }
    return 0;
}

static int send_accounts(struct presence *at, const struct offered *l)
{
    int64_t now_s = statedir_now_s();
    for (size_t i = 0; i < l->account_count; i++) {
        const struct access_account *a = &l->accounts[i];
        Control m = {.which_body = Control_portal_account_tag};
        PortalAccount *p = &m.body.portal_account;
        (void)snprintf(p->name, sizeof(p->name), "%s", a->name);
        (void)snprintf(p->hash, sizeof(p->hash), "%s", a->hash);
        if (a->code) {
            p->totp.size = sizeof(a->totp);
            memcpy(p->totp.bytes, a->totp, sizeof(a->totp));
        }
        bool over = a->expires_s != 0 && a->expires_s <= now_s;
        p->expires_s =
            over ? 1 : (uint64_t)a->expires_s; /* whatever their clock says */
        p->owner = a->owner;
        for (size_t k = 0; k < l->service_count; k++)
            if (access_allows(a, l->services[k], now_s))
                p->services[p->services_count++] = (uint32_t)k;
        int err = uplink_send(at->endpoint.uplink, &m);
        sodium_memzero(&m, sizeof(m));
        if (err != 0)
            return err;
    }
    return 0;
}

static int send_list(struct presence *at, const struct offered *l)
{
    Control m = {.which_body = Control_portal_begin_tag};
    (void)snprintf(m.body.portal_begin.host, sizeof(m.body.portal_begin.host), "%s",
                   at->host->settings.name);
    int err = uplink_send(at->endpoint.uplink, &m);
    if (err == 0)
        err = send_services(at, l);
    if (err == 0)
        err = send_accounts(at, l);
    if (err != 0)
        return err;
    m = (Control){.which_body = Control_portal_end_tag};
    return uplink_send(at->endpoint.uplink, &m);
}

/* A presence of an earlier key takes back what it gave. */
static void give(struct portal_list *list, struct presence *at)
{
    const struct host *h = list->host;
    if (h->to_agent) /* whose accounts count */
        return;
    struct offered *l = calloc(1, sizeof(*l));
    int err = l == NULL ? POSTERN_ERR_NOMEM : 0;
    if (err == 0 && !at->retired)
        err = gather(h, l);
    bool empty = l != NULL && l->account_count == 0 && l->service_count == 0;
    if (err == 0 && (!empty || at->list_given))
        err = send_list(at, l);
    if (l != NULL)
        list->next_ms = loop_now_ms(h->loop) +
                        (2 + l->account_count + l->service_count) * MESSAGE_MS;
    if (err == 0)
        at->list_given = !empty;
    else
        log_debug("the portal's list was not sent: %s", postern_strerror(err));
    at->list_due = err != 0; /* the next sweep tries again */
    if (l != NULL)
        sodium_memzero(l, sizeof(*l));
    free(l);
}

void portal_list_on_up(struct portal_list *l, struct presence *p)
{
    p->list_given = false;
    give(l, p);
}

static void give_all(struct portal_list *l, bool due)
{
    struct presences *ps = l->host->presences;
    for (struct presence *p = presences_next(ps, NULL); p != NULL;
         p = presences_next(ps, p))
        if ((p->list_due || !due) && uplink_is_up(p->endpoint.uplink))
            give(l, p);
}

static void on_timer(void *ctx)
{
    give_all(ctx, false);
}

/* A long list less often: the broker bounds what a device sends in a second. */
void portal_list_on_services(struct portal_list *l)
{
    uint64_t now = loop_now_ms(l->host->loop);
    if (now >= l->next_ms)
        give_all(l, false);
    else if (!timer_is_active(&l->wait))
        timer_start(&l->wait, l->next_ms - now);
}

void portal_list_on_change(struct portal_list *l)
{
    const struct host *h = l->host;
    l->version = access_version(h->access);
    portal_visits_check(h->visits, true);
    if (!access_is_open(h->access))
        clients_end_portal(h->clients);
}

void portal_list_sweep(struct portal_list *l)
{
    if (access_version(l->host->access) != l->version) {
        portal_list_on_change(l); /* nobody told us */
        portal_list_on_services(l);
        return;
    }
    portal_visits_check(l->host->visits, false);
    give_all(l, true);
}

struct portal_list *portal_list_new(struct host *h)
{
    struct portal_list *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->host = h;
    l->version = access_version(h->access);
    timer_init(&l->wait, h->loop, on_timer, l);
    return l;
}

void portal_list_free(struct portal_list *l)
{
    if (l == NULL)
        return;
    timer_stop(&l->wait);
    free(l);
}
