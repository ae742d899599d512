/* TLS connections by the name that they ask for; see names.h. */
#include "portal/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "io/linger.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sock.h"
#include "portal/crowd.h"
#include "portal/rooms.h"
#include "portal/visitor.h"

/* RFC 8446 section 6: descriptions of fatal alerts. */
enum { ALERT_INTERNAL = 80, ALERT_ACCESS_DENIED = 49 };

enum {
    NAME_MAX_LEN = 256,
    PASSAGES_MAX = 8192,
    PASSAGES_OPEN_MAX = 4096,  /* of them where nobody is logged in */
    PASSAGES_CLIENT_MAX = 256, /* from one address, and by blocks: crowd.h */
    STRANGERS_TOLD_MAX = 60,   /* refusals in the log, a minute */
    STRANGERS_MS = 60 * 1000,
};

struct names {
    const struct rooms *rooms;
    struct list passages; /* the eldest first */
    uint64_t strangers_since_ms;
    unsigned strangers_told; /* refusals since then, whether logged or not */
};

struct passage {
    struct list link;
    struct names *of;
    struct call *call;
    uint64_t login; /* 0: open to everybody */
    uint32_t host;
    char service[ROUTES_SERVICE_LEN];
    int fd; /* a copy, to say why when the host refuses; -1: none */
    char account[64], object[128];
    struct addr from;
    uint64_t touched_ms; /* when bytes were last seen to have moved */
    struct pump_stats stats;
    uint64_t began_ms;
    bool open;
    bool ended; /* on_end is to come */
};

/* What a name asks for, by the labels of service and host. */
struct wanted {
    const char *service;
    size_t service_len;
    const char *host;
};

/* Where it leads, and as whom. */
struct target {
    struct portal_host *host;
    int service;
    struct login *login; /* NULL: the service is open to everybody */
};

/* Says no in the protocol's words, and takes what came so that they arrive. */
static void refuse(int fd, uint8_t description)
{
    uint8_t alert[] = {21, 3, 3, 0, 2, 2, description};
    uint8_t drain[4096];
    while (sock_read(fd, drain, sizeof(drain)) > 0)
        ;
    (void)!sock_say(fd, alert, sizeof(alert));
}

/* Whoever asks for names at random must not push all else out of the log. */
static void tell_refused(struct names *ns, const struct addr *from, const char *name,
                         const char *why)
{
    if (ns->strangers_told < STRANGERS_TOLD_MAX)
        visitor_audit(ns->rooms->audit, "refused", NULL, from, name, why);
    ns->strangers_told++;
}

static void tell_rest(struct names *ns, uint64_t now)
{
    char detail[64];
    if (now - ns->strangers_since_ms < STRANGERS_MS)
        return;
    if (ns->strangers_told > STRANGERS_TOLD_MAX) {
        (void)snprintf(detail, sizeof(detail), "%u more, within a minute or so",
                       ns->strangers_told - STRANGERS_TOLD_MAX);
        visitor_audit(ns->rooms->audit, "refused", NULL, NULL, "by name", detail);
    }
    ns->strangers_since_ms = now;
    ns->strangers_told = 0;
}

static void end_passage(struct passage *ps)
{
    ps->ended = true;
    if (ps->call != NULL)
        call_abort(ps->call);
}

/*
 * Those that nobody logged in for have half of the places; when these are taken, who
 * moved nothing for the longest goes, not the newcomer.
 */
static bool make_room(struct names *ns, const struct login *l, const struct addr *from)
{
    unsigned all = 0, open = 0;
    struct passage *silent = NULL;
    struct crowd crowd = {.around = *from};
    LIST_EACH (struct passage, ps, &ns->passages, link) {
        all++;
        crowd_add(&crowd, &ps->from);
        if (ps->login != 0 || ps->ended)
            continue;
        open++;
        if (silent == NULL || ps->touched_ms < silent->touched_ms)
            silent = ps; /* of several the eldest, which stands first */
    }
    if (all >= PASSAGES_MAX || crowd_full(&crowd, PASSAGES_CLIENT_MAX) < CROWD_LEVELS)
        return false;
    if (l == NULL && open >= PASSAGES_OPEN_MAX)
        end_passage(silent);
    return true;
}

static void on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct passage *ps = ctx;
    struct names *ns = ps->of;
    (void)c;
    if (code != STREAM_OK) {
        visitor_audit(ns->rooms->audit, "refused", ps->account, &ps->from, ps->object,
                      reason);
        refuse(ps->fd, code == STREAM_DENIED ? ALERT_ACCESS_DENIED : ALERT_INTERNAL);
        return;
    }
    visitor_audit(ns->rooms->audit, "opened", ps->account, &ps->from, ps->object,
                  "by name");
    ps->open = true;
    close(ps->fd);
    ps->fd = -1;
}

static void on_end(void *ctx, struct call *c)
{
    struct passage *ps = ctx;
    const struct rooms *rs = ps->of->rooms;
    if (ps->open) {
        char detail[VISITOR_SUM_LEN];
        struct pump_stats st = call_stats(c);
        visitor_audit(rs->audit, "closed", ps->account, &ps->from, ps->object,
                      visitor_sum(st.to_peer_bytes, st.from_peer_bytes,
                                  loop_now_ms(rs->loop) - ps->began_ms, detail));
    }
    if (ps->fd >= 0) {
        linger_orderly(ps->fd); /* the call resets; the alert shall arrive */
        close(ps->fd);
    }
    list_remove(&ps->link);
    free(ps);
}

static struct passage *passage_new(struct names *ns, const struct target *t, int fd,
                                   const struct addr *from)
{
    const struct portal_service *s = &t->host->list->services[t->service];
    struct passage *ps = calloc(1, sizeof(*ps));
    if (ps == NULL || (ps->fd = dup(fd)) < 0) {
        free(ps);
        return NULL;
    }
    ps->of = ns;
    ps->login = t->login != NULL ? t->login->id : 0;
    ps->host = t->host->number;
    ps->from = *from;
    ps->began_ms = ps->touched_ms = loop_now_ms(ns->rooms->loop);
    (void)snprintf(ps->service, sizeof(ps->service), "%s", s->name);
    (void)snprintf(ps->account, sizeof(ps->account), "%s",
                   t->login != NULL ? t->login->account : "");
    (void)snprintf(ps->object, sizeof(ps->object), "%.60s on %.60s", s->name,
                   t->host->name);
    list_push(&ns->passages, &ps->link);
    return ps;
}

static void pass(struct names *ns, int fd, const struct target *t,
                 const struct addr *from)
{
    const struct portal_service *s = &t->host->list->services[t->service];
    bool there = host_reach(t->host);
    if (!there) {
        visitor_audit(ns->rooms->audit, "refused",
                      t->login != NULL ? t->login->account : NULL, from, s->name,
                      HOST_AWAY);
        refuse(fd, ALERT_INTERNAL);
    }
    struct passage *ps = there ? passage_new(ns, t, fd, from) : NULL;
    if (ps == NULL) {
        close(fd);
        return;
    }
    Visit v;
    visitor_visit(&v, ps->account, from);
    v.by_name = true;
    struct call_config cc = {.service = s->name,
                             .visit = &v,
                             .fd = fd,
                             .answer_first = true,
                             .on_answer = on_answer,
                             .on_end = on_end,
                             .ctx = ps};
    if (host_call(t->host, &ps->call, &cc) != 0) {
        ps->call = NULL;
        on_end(ps, NULL);
    }
}

/* ------------------------------------------------------------------ whom it is for */

static bool is_called(const struct portal_service *s, const struct wanted *w)
{
    return !s->udp && strlen(s->label) == w->service_len &&
           memcmp(s->label, w->service, w->service_len) == 0;
}

/* The next host of that label after `h`, or the first; the eldest comes first. */
static struct portal_host *next_host(const struct names *ns, struct portal_host *h,
                                     const struct wanted *w)
{
    while ((h = hosts_next(ns->rooms->hosts, h)) != NULL &&
           strcmp(h->label, w->host) != 0)
        ;
    return h;
}

/* Where the name leads this login when it is alone at its address. */
static bool find_for(const struct names *ns, struct login *l, const struct wanted *w,
                     struct target *t)
{
    for (struct portal_host *h = NULL; (h = next_host(ns, h, w)) != NULL;) {
        for (size_t i = 0; h->list != NULL && i < h->list->service_count; i++) {
            if (!is_called(&h->list->services[i], w) || !login_may(l, h, (int)i))
                continue;
            *t = (struct target){h, (int)i, l};
            return true;
        }
    }
    return false;
}

static bool same_target(const struct target *a, const struct target *b)
{
    return a->host == b->host && a->service == b->service &&
           strcmp(a->login->account, b->login->account) == 0;
}

/*
 * Of hosts with the same label the eldest alone is open to everybody: another that took
 * its name would get what browsers keep for that name, also while it is away.
 */
static bool find_open(const struct names *ns, const struct wanted *w, struct target *t,
                      bool *known)
{
    bool eldest = true, found = false;
    for (struct portal_host *h = NULL; (h = next_host(ns, h, w)) != NULL;) {
        size_t count = h->list != NULL ? h->list->service_count : 0;
        for (size_t i = 0; i < count && !found; i++) {
            const struct portal_service *s = &h->list->services[i];
            if (!is_called(s, w))
                continue;
            *known = true;
            found = s->open && eldest;
            if (found)
                *t = (struct target){h, (int)i, NULL};
        }
        eldest = false;
    }
    return found;
}

/*
 * Whom it is for, best first: the one target of all who are logged in here, then an
 * open one. Returns NULL, or why there is none.
 */
static const char *find(const struct names *ns, const struct wanted *w,
                        const struct addr *from, struct target *t)
{
    struct target one;
    bool shared = false, known = false;
    *t = (struct target){0};
    for (struct login *l = NULL; (l = logins_next(ns->rooms->logins, l)) != NULL;) {
        if (!visitor_same(&l->client, from) || !find_for(ns, l, w, &one))
            continue;
        shared = shared || (t->host != NULL && !same_target(t, &one));
        *t = one;
    }
    if ((t->host != NULL && !shared) || find_open(ns, w, t, &known))
        return NULL;
    return shared  ? "several accounts at this address may use it: each can open its "
                     "port instead"
           : known ? "nobody who may use it is logged in at this address"
                   : "no such service";
}

bool names_are_given(const struct names *ns)
{
    return ns->rooms->place.domain[0] != '\0';
}

bool names_lead(const struct names *ns, const struct login *l,
                const struct portal_host *h, int service)
{
    const struct portal_service *s = &h->list->services[service];
    struct wanted w = {s->label, strlen(s->label), h->label};
    struct target t;
    return find(ns, &w, &l->client, &t) == NULL && t.host == h && t.service == service;
}

/* Cuts SERVICE--HOST out of a name below the domain; `label` is what `w` points to. */
static bool read_name(const struct names *ns, const char *name,
                      char label[static NAME_MAX_LEN], struct wanted *w)
{
    size_t len = strlen(name), domain = strlen(ns->rooms->place.domain);
    if (len > 0 && name[len - 1] == '.')
        len--; /* a name that is absolute */
    if (strcasecmp(name, ns->rooms->place.name) == 0)
        return false;
    if (domain == 0 || len < domain + 2 || name[len - domain - 1] != '.' ||
        strncasecmp(name + len - domain, ns->rooms->place.domain, domain) != 0)
        return false;
    len -= domain + 1;
    if (len >= NAME_MAX_LEN)
        return false;
    memcpy(label, name, len);
    label[len] = '\0';
    const char *dashes = strstr(label, "--");
    if (dashes == NULL)
        return false; /* else it is never the portal's, which would see its cookies */
    *w = (struct wanted){label, (size_t)(dashes - label), dashes + 2};
    return true;
}

bool names_take(struct names *ns, int fd, const char *server_name)
{
    char label[NAME_MAX_LEN];
    struct wanted w;
    struct target t;
    struct addr from;
    if (!read_name(ns, server_name, label, &w))
        return false;
    if (sock_remote(fd, &from) != 0) {
        close(fd);
        return true;
    }
    const char *why = find(ns, &w, &from, &t);
    bool room = why != NULL || make_room(ns, t.login, &from);
    if (why == NULL && room) {
        pass(ns, fd, &t, &from);
        return true;
    }
    tell_refused(ns, &from, server_name, room ? why : "too many connections");
    /* A service that exists is told from one that does not only to who may use it. */
    refuse(fd, room ? ALERT_ACCESS_DENIED : ALERT_INTERNAL);
    close(fd);
    return true;
}

bool names_in_use(const struct names *ns, const struct login *l)
{
    LIST_EACH (struct passage, ps, &ns->passages, link)
        if (ps->login == l->id)
            return true;
    return false;
}

/* Another login of the same account at the same address, or NULL. */
static const struct login *heir_of(const struct names *ns, const struct passage *ps)
{
    const struct portal_host *h = host_by_number(ns->rooms->hosts, ps->host);
    int service = h != NULL ? host_service(h, ps->service) : -1;
    const struct login *l = NULL;
    while ((l = logins_next(ns->rooms->logins, l)) != NULL)
        if (l->id != ps->login && strcmp(l->account, ps->account) == 0 &&
            visitor_same(&l->client, &ps->from) && h != NULL &&
            login_may(l, h, service))
            return l;
    return NULL;
}

void names_end_login(struct names *ns, const struct login *l)
{
    LIST_EACH (struct passage, ps, &ns->passages, link) {
        if (ps->login != l->id)
            continue;
        const struct login *heir = heir_of(ns, ps);
        if (heir != NULL)
            ps->login = heir->id;
        else
            end_passage(ps);
    }
}

void names_sweep(struct names *ns, uint64_t idle_ms)
{
    uint64_t now = loop_now_ms(ns->rooms->loop);
    LIST_EACH (struct passage, ps, &ns->passages, link) {
        struct pump_stats st = ps->call != NULL ? call_stats(ps->call) : ps->stats;
        if (st.to_peer_bytes != ps->stats.to_peer_bytes ||
            st.from_peer_bytes != ps->stats.from_peer_bytes)
            ps->touched_ms = now;
        ps->stats = st;
        if (now - ps->touched_ms > idle_ms)
            end_passage(ps);
    }
    tell_rest(ns, now);
}

int names_new(struct names **out, const struct rooms *rooms)
{
    struct names *ns = calloc(1, sizeof(*ns));
    if (ns == NULL)
        return POSTERN_ERR_NOMEM;
    ns->rooms = rooms;
    list_init(&ns->passages);
    *out = ns;
    return 0;
}

void names_free(struct names *ns)
{
    free(ns);
}
