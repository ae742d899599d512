/* Hosts by their own lists, and the sessions to them; see hosts.h. */
#include "portal/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/dns.h"
#include "io/log.h"
#include "io/loop.h"
#include "portal/candidates.h"
#include "portal/rooms.h"

enum {
    HOSTS_MAX = 4096,                /* of at most 43 KB, and 33 while it speaks */
    LIST_KEPT_MS = 5 * 60 * 1000,    /* after it went: it may only restart */
    NAME_KEPT_MS = 24 * 3600 * 1000, /* and nobody else has its name */
    PEER_IDLE_MS = 5 * 60 * 1000,    /* a session to a host that nobody uses */
};

struct host {
    struct portal_host is;
    struct list link;
    struct hosts *hosts;
    struct portal_list *coming; /* owned, as is the list in force */
    struct peer *peer;          /* NULL: nobody asked for it lately */
    bool gone;                  /* since `gone_ms` */
    uint64_t gone_ms, used_ms;
};

struct hosts {
    const struct rooms *rooms;
    struct calls *calls;
    struct list all; /* struct host, the eldest first: see names.c */
    size_t count;
    uint32_t next_number;
};

static struct host *host_of(const struct portal_host *is)
{
    return LIST_OWNER(is, struct host, is);
}

struct portal_host *hosts_next(const struct hosts *hs, const struct portal_host *h)
{
    const struct list *n = h != NULL ? host_of(h)->link.next : hs->all.next;
    return n != &hs->all ? &LIST_OWNER(n, struct host, link)->is : NULL;
}

struct portal_host *host_by_number(const struct hosts *hs, uint32_t number)
{
    struct portal_host *h = NULL;
    while ((h = hosts_next(hs, h)) != NULL && h->number != number)
        ;
    return h;
}

struct portal_host *host_by_key(const struct hosts *hs,
                                const uint8_t key[static KEY_LEN])
{
    struct portal_host *h = NULL;
    while ((h = hosts_next(hs, h)) != NULL && memcmp(h->key, key, KEY_LEN) != 0)
        ;
    return h;
}

struct portal_account *host_account(const struct portal_host *h, const char *name)
{
    for (size_t i = 0; h->list != NULL && i < h->list->account_count; i++)
        if (strcasecmp(h->list->accounts[i].name, name) == 0)
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
    struct host *h = ctx;
    calls_on_ready(h->hosts->calls, peer);
}

static void on_fault(void *ctx, struct peer *peer, const struct fault *f, bool fatal)
{
    struct host *h = ctx;
    log_debug("no session to %s: %s", h->is.name, f->what);
    calls_on_fault(h->hosts->calls, peer, f, fatal);
}

static const struct peer_events peer_events = {
    .on_ready = on_ready,
    .on_fault = on_fault,
    .on_sure = on_ready,
};

bool host_reach(struct portal_host *is)
{
    struct host *h = host_of(is);
    const struct rooms *rs = h->hosts->rooms;
    h->used_ms = loop_now_ms(rs->loop);
    if (h->peer != NULL && (is->online || peer_is_ready(h->peer)))
        return true;
    if (!is->online) /* nobody shall wait for it */
        return false;
    /* By the relay alone: it is this broker's own, so any other way is longer. */
    struct peer_config pc = {.endpoint = rs->endpoint,
                             .paths = 1u << PATH_RELAY,
                             .visiting = true,
                             .events = &peer_events,
                             .ctx = h};
    (void)snprintf(pc.name, sizeof(pc.name), "%s", is->name);
    memcpy(pc.key, is->key, KEY_LEN);
    if (peer_open(&h->peer, &pc) != 0)
        h->peer = NULL;
    return h->peer != NULL;
}

int host_call(struct portal_host *is, struct call **out, const struct call_config *c)
{
    struct host *h = host_of(is);
    struct call_config whole = *c;
    whole.peer = h->peer;
    return call_start(out, h->hosts->calls, &whole);
}

unsigned host_calls(const struct portal_host *is)
{
    const struct host *h = host_of(is);
    return h->peer != NULL ? calls_of_peer(h->hosts->calls, h->peer) : 0;
}

static void drop_peer(struct host *h)
{
    if (h->peer == NULL)
        return;
    calls_drop_peer(h->hosts->calls, h->peer);
    peer_close(h->peer);
    h->peer = NULL;
}

/* --------------------------------------------------------------------------- lists */

static void host_free(struct host *h)
{
    struct hosts *hs = h->hosts;
    list_remove(&h->link);
    hs->count--;
    hs->rooms->events->on_host_forgotten(hs->rooms, h->is.number);
    drop_peer(h);
    free(h->is.list);
    free(h->coming);
    free(h);
}

/* It counts no more, but for its name. */
static void drop_list(struct host *h)
{
    free(h->is.list);
    h->is.list = NULL;
    drop_peer(h);
    h->hosts->rooms->events->on_host_forgotten(h->hosts->rooms, h->is.number);
    h->hosts->rooms->events->on_lists(h->hosts->rooms);
}

/*
 * Too many: who is away makes way, then the last of the most crowded neighbourhood; it
 * may be the newcomer itself, `from` there: false.
 */
static bool make_room(struct hosts *hs, const struct addr *from)
{
    size_t n = 0;
    struct candidate *cs = calloc(hs->count + 1, sizeof(*cs));
    if (cs == NULL)
        return false;
    LIST_EACH (struct host, h, &hs->all, link)
        cs[n++] = (struct candidate){
            .host = h->is.number, .proof = h->gone, .from = h->is.from};
    cs[n] = (struct candidate){.host = hs->next_number, .from = *from};
    candidates_order(cs, n + 1);
    uint32_t last = cs[n].host;
    free(cs);
    if (last == hs->next_number)
        return false;
    host_free(host_of(host_by_number(hs, last)));
    return true;
}

static struct host *host_new(struct hosts *hs, const uint8_t *key,
                             const struct addr *from)
{
    bool room = hs->count < HOSTS_MAX || make_room(hs, from);
    struct host *h = room ? calloc(1, sizeof(*h)) : NULL;
    if (h == NULL)
        return NULL;
    h->hosts = hs;
    h->is.number = hs->next_number++;
    memcpy(h->is.key, key, KEY_LEN);
    list_push(&hs->all, &h->link);
    hs->count++;
    return h;
}

static void begin(struct hosts *hs, const uint8_t *key, const struct addr *from,
                  const PortalBegin *m)
{
    struct portal_host *known = host_by_key(hs, key);
    struct host *h = known != NULL ? host_of(known) : host_new(hs, key, from);
    if (h == NULL)
        return;
    h->gone = false;
    h->is.from = *from;
    if (h->coming == NULL)
        h->coming = malloc(sizeof(*h->coming));
    if (h->coming == NULL)
        return;
    memset(h->coming, 0, sizeof(*h->coming));
    (void)snprintf(h->is.name, sizeof(h->is.name), "%s", m->host);
    dns_label(h->is.name, h->is.label, sizeof(h->is.label));
}

static void add_service(struct host *h, const PortalService *m)
{
    struct portal_list *l = h->coming;
    if (l->service_count == HOST_SERVICES_MAX || m->port == 0 || m->port > 65535)
        return;
    struct portal_service *s = &l->services[l->service_count++];
    (void)snprintf(s->name, sizeof(s->name), "%s", m->name);
    (void)snprintf(s->title, sizeof(s->title), "%s", m->title);
    dns_label(s->name, s->label, sizeof(s->label));
    s->port = (uint16_t)m->port;
    s->udp = m->udp;
    s->open = m->open;
    s->tls = m->tls;
}

static void add_account(struct host *h, const PortalAccount *m)
{
    struct portal_list *l = h->coming;
    if (l->account_count == HOST_ACCOUNTS_MAX || m->name[0] == '\0')
        return;
    struct portal_account *a = &l->accounts[l->account_count++];
    const struct portal_account *before = host_account(&h->is, m->name);
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

static void end(struct hosts *hs, struct host *h)
{
    struct portal_host *is = &h->is;
    if (!is->online && h->peer != NULL && !peer_is_ready(h->peer))
        drop_peer(h); /* its pauses have grown while the host was away */
    free(is->list);
    is->list = h->coming;
    h->coming = NULL;
    is->online = true;
    log_debug("%s opens %zu services to %zu accounts", is->name,
              is->list->service_count, is->list->account_count);
    if (is->list->service_count == 0 && is->list->account_count == 0)
        host_free(h); /* else its people stay logged in until it has some again */
    hs->rooms->events->on_lists(hs->rooms);
}

void hosts_on_message(struct hosts *hs, const uint8_t key[static KEY_LEN],
                      const struct addr *from, const Control *m)
{
    if (m->which_body == Control_portal_begin_tag) {
        begin(hs, key, from, &m->body.portal_begin);
        return;
    }
    struct portal_host *is = host_by_key(hs, key);
    struct host *h = is != NULL ? host_of(is) : NULL;
    if (h == NULL || h->coming == NULL)
        return;
    if (m->which_body == Control_portal_service_tag)
        add_service(h, &m->body.portal_service);
    else if (m->which_body == Control_portal_account_tag)
        add_account(h, &m->body.portal_account);
    else if (m->which_body == Control_portal_end_tag)
        end(hs, h);
}

void hosts_on_gone(struct hosts *hs, const uint8_t key[static KEY_LEN])
{
    struct portal_host *h = host_by_key(hs, key);
    if (h == NULL)
        return;
    if (h->list == NULL) { /* it never said what it opens */
        host_free(host_of(h));
        return;
    }
    free(host_of(h)->coming);
    host_of(h)->coming = NULL;
    h->online = false;
    host_of(h)->gone = true;
    host_of(h)->gone_ms = loop_now_ms(hs->rooms->loop);
    for (size_t i = 0; i < h->list->account_count; i++) {
        struct portal_account *a = &h->list->accounts[i];
        a->up = a->up_known = a->refused = 0;
        a->silent = false;
    }
}

/* ------------------------------------------------------------------------ the rest */

void hosts_on_uplink(struct hosts *hs, bool up)
{
    LIST_EACH (struct host, h, &hs->all, link)
        if (h->peer != NULL)
            peer_on_uplink(h->peer, up);
}

void hosts_on_control(struct hosts *hs, const Control *m)
{
    LIST_EACH (struct host, h, &hs->all, link) {
        if (h->peer != NULL && peer_owns(h->peer, m)) {
            peer_on_control(h->peer, m);
            return;
        }
    }
}

void hosts_sweep(struct hosts *hs)
{
    uint64_t now = loop_now_ms(hs->rooms->loop);
    hs->rooms->events->on_lists(hs->rooms); /* accounts expire */
    LIST_EACH_REMOVABLE (struct host, h, next, &hs->all, link) {
        if (host_calls(&h->is) > 0)
            h->used_ms = now;
        else if (h->peer != NULL && now - h->used_ms > PEER_IDLE_MS)
            drop_peer(h);
        if (h->gone && now - h->gone_ms > NAME_KEPT_MS)
            host_free(h);
        else if (h->gone && h->is.list != NULL && now - h->gone_ms > LIST_KEPT_MS)
            drop_list(h);
    }
}

int hosts_new(struct hosts **out, const struct rooms *rooms)
{
    struct hosts *hs = calloc(1, sizeof(*hs));
    if (hs == NULL)
        return POSTERN_ERR_NOMEM;
    hs->rooms = rooms;
    list_init(&hs->all);
    hs->next_number = 1;
    int rc = calls_new(&hs->calls, rooms->loop);
    if (rc != 0)
        free(hs);
    else
        *out = hs;
    return rc;
}

void hosts_free(struct hosts *hs)
{
    if (hs == NULL)
        return;
    while (!list_empty(&hs->all))
        host_free(LIST_FIRST(&hs->all, struct host, link));
    calls_free(hs->calls);
    free(hs);
}
