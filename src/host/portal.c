/*
 * The list that this host gives the broker's portal: the services that it opens, and
 * the accounts that may use them. Only the newest key's face gives one. What comes of
 * it is judged in caller.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/internal.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/statedir.h"

enum { MESSAGE_MS = 10 }; /* of quiet, for each that was sent */

struct offered {
    struct access_account accounts[ACCESS_ACCOUNTS_MAX];
    size_t account_count;
    const struct service *services[SERVICE_MAX];
    bool open[SERVICE_MAX];
    size_t service_count;
};

/* What the list has now: accounts that are good, and services that somebody may use. */
static int gather(struct serve *s, struct offered *l)
{
    int64_t now_s = statedir_now_s();
    int n = access_accounts(s->access, l->accounts, ACCESS_ACCOUNTS_MAX);
    if (n < 0)
        return n;
    for (int i = 0; i < n && i < ACCESS_ACCOUNTS_MAX; i++) {
        const struct access_account *a = &l->accounts[i];
        if (a->expires_s == 0 || a->expires_s > now_s)
            l->accounts[l->account_count++] = *a;
    }
    for (size_t i = 0; i < s->services.count; i++) {
        const struct service *sv = &s->services.items[i];
        bool open = !sv->udp && access_is_public(s->access, sv->name);
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

static int send_services(struct face *face, const struct offered *l)
{
    for (size_t i = 0; i < l->service_count; i++) {
        Control m = {.which_body = Control_portal_service_tag};
        PortalService *p = &m.body.portal_service;
        (void)snprintf(p->name, sizeof(p->name), "%s", l->services[i]->name);
        p->port = l->services[i]->port;
        p->udp = l->services[i]->udp;
        p->open = l->open[i];
        p->tls = certs_has(face->serve->certs, p->name);
        int err = uplink_send(face->endpoint.uplink, &m);
        if (err != 0)
            return err;
    }
    return 0;
}

static int send_accounts(struct face *face, const struct offered *l)
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
        p->expires_s = (uint64_t)a->expires_s;
        p->owner = a->owner;
        for (size_t k = 0; k < l->service_count; k++)
            if (access_allows(a, l->services[k], now_s))
                p->services[p->services_count++] = (uint32_t)k;
        int err = uplink_send(face->endpoint.uplink, &m);
        sodium_memzero(&m, sizeof(m));
        if (err != 0)
            return err;
    }
    return 0;
}

static int send_list(struct face *face, const struct offered *l)
{
    Control m = {.which_body = Control_portal_begin_tag};
    (void)snprintf(m.body.portal_begin.host, sizeof(m.body.portal_begin.host), "%s",
                   face->serve->settings.name);
    int err = uplink_send(face->endpoint.uplink, &m);
    if (err == 0)
        err = send_services(face, l);
    if (err == 0)
        err = send_accounts(face, l);
    if (err != 0)
        return err;
    m = (Control){.which_body = Control_portal_end_tag};
    return uplink_send(face->endpoint.uplink, &m);
}

/* A face of an earlier key takes back what it gave. */
static void give(struct face *face)
{
    if (face->serve->to_agent) /* whose accounts count */
        return;
    struct offered *l = calloc(1, sizeof(*l));
    int err = l == NULL ? POSTERN_ERR_NOMEM : 0;
    if (err == 0 && !face->retired)
        err = gather(face->serve, l);
    bool empty = l != NULL && l->account_count == 0 && l->service_count == 0;
    if (err == 0 && (!empty || face->portal_given))
        err = send_list(face, l);
    if (l != NULL)
        face->serve->portal_next_ms =
            loop_now_ms(face->serve->loop) +
            (2 + l->account_count + l->service_count) * MESSAGE_MS;
    if (err == 0)
        face->portal_given = !empty;
    else
        log_debug("the portal's list was not sent: %s", postern_strerror(err));
    face->portal_due = err != 0; /* the next sweep tries again */
    if (l != NULL)
        sodium_memzero(l, sizeof(*l));
    free(l);
}

void host_portal_on_up(struct face *face)
{
    face->portal_given = false;
    give(face);
}

static void give_all(struct serve *s)
{
    for (size_t i = 0; i < FACES_MAX; i++)
        if (s->faces[i].open && uplink_is_up(s->faces[i].endpoint.uplink))
            give(&s->faces[i]);
}

static void on_timer(void *ctx)
{
    give_all(ctx);
}

/* A long list less often: the broker bounds what a device sends in a second. */
void host_portal_on_services(struct serve *s)
{
    uint64_t now = loop_now_ms(s->loop);
    if (now >= s->portal_next_ms)
        give_all(s);
    else if (!timer_is_active(&s->portal_timer))
        timer_start(&s->portal_timer, s->portal_next_ms - now);
}

void host_portal_open(struct serve *s)
{
    timer_init(&s->portal_timer, s->loop, on_timer, s);
}

void host_portal_close(struct serve *s)
{
    timer_stop(&s->portal_timer);
}

void host_portal_on_change(struct serve *s)
{
    s->access_version = access_version(s->access);
    callers_check(s, true);
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (!g->dead && g->portal && !caller_may_enter(s))
            guest_close(g, REFUSE_DENIED, "this host opens nothing to the portal");
}

void host_portal_sweep(struct serve *s)
{
    if (access_version(s->access) != s->access_version) {
        host_portal_on_change(s); /* nobody told us */
        host_portal_on_services(s);
        return;
    }
    callers_check(s, false);
    for (size_t i = 0; i < FACES_MAX; i++)
        if (s->faces[i].open && s->faces[i].portal_due &&
            uplink_is_up(s->faces[i].endpoint.uplink))
            give(&s->faces[i]);
}
