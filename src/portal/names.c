/*
 * Services by name: a TLS connection that asks for SERVICE--HOST.domain goes to that
 * host's own TLS server, unopened. Only whom a login at the same address may admit, or
 * everybody where the host says so. The certificate is the host's affair.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/log.h"
#include "io/sockaddr.h"
#include "portal/internal.h"

/* RFC 8446 section 6: descriptions of fatal alerts. */
enum { ALERT_INTERNAL = 80, ALERT_ACCESS_DENIED = 49 };

enum {
    PASSAGES_MAX = 4096,
    PASSAGES_PUBLIC_MAX = 1024, /* of them, without a login: room is left for others */
    PASSAGES_EACH_MAX = 256,    /* of a login, or of an address without one */
};

#define RATE_STRANGERS_NOTED ((struct bucket_rate){1, 100})

struct passage {
    struct passage *next, **at;
    struct portal *portal;
    struct call *call;
    uint64_t login; /* 0: open to everybody */
    int fd;         /* a copy, to say why when the host refuses; -1: none */
    char account[64], object[128];
    struct addr from;
    uint64_t began_ms;
    uint64_t bytes, moved_ms; /* as last looked at */
    bool open;
};

/* For the audit log; strangers may not fill it until nothing else is left in it. */
static void note(struct portal *p, const char *what, uint64_t login, const char *who,
                 const struct addr *from, const char *object, const char *detail)
{
    char text[ADDR_TEXT_LEN];
    if (login != 0 ||
        bucket_take(&p->strangers, RATE_STRANGERS_NOTED, uv_now(&p->loop), 1))
        portal_audit(p, what, who, from, object, detail);
    else
        log_debug("%s by name, of %s: %s (%s)", what, addr_format(from, text), object,
                  detail);
}

/* Says no in the protocol's words, and takes what came so that they arrive. */
static void refuse(int fd, uint8_t description)
{
    uint8_t alert[] = {21, 3, 3, 0, 2, 2, description};
    uint8_t drain[4096];
    while (recv(fd, drain, sizeof(drain), MSG_DONTWAIT) > 0)
        ;
    (void)!send(fd, alert, sizeof(alert), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct passage *ps = ctx;
    struct portal *p = ps->portal;
    (void)c;
    if (code != STREAM_OK) {
        note(p, "refused", ps->login, ps->account, &ps->from, ps->object, reason);
        refuse(ps->fd, code == STREAM_DENIED ? ALERT_ACCESS_DENIED : ALERT_INTERNAL);
        return;
    }
    note(p, "opened", ps->login, ps->account, &ps->from, ps->object, "by name");
    ps->open = true;
    close(ps->fd);
    ps->fd = -1;
}

static void on_end(void *ctx, struct call *c)
{
    struct passage *ps = ctx;
    struct linger soft = {0}; /* the call resets; the alert shall arrive */
    if (ps->open) {
        char detail[96];
        struct pump_stats st = call_stats(c);
        (void)snprintf(detail, sizeof(detail), "%llu bytes there, %llu back, %llu s",
                       (unsigned long long)st.to_peer_bytes,
                       (unsigned long long)st.from_peer_bytes,
                       (unsigned long long)(uv_now(&ps->portal->loop) - ps->began_ms) /
                           1000);
        note(ps->portal, "closed", ps->login, ps->account, &ps->from, ps->object,
             detail);
    }
    if (ps->fd >= 0) {
        (void)setsockopt(ps->fd, SOL_SOCKET, SO_LINGER, &soft, sizeof(soft));
        close(ps->fd);
    }
    *ps->at = ps->next;
    if (ps->next != NULL)
        ps->next->at = ps->at;
    free(ps);
}

/* Strangers come to what is public: neither they nor a login may take every socket. */
static bool has_room(const struct portal *p, uint64_t login, const struct addr *from)
{
    size_t all = 0, open = 0, own = 0;
    for (const struct passage *ps = p->passages; ps != NULL; ps = ps->next) {
        all++;
        open += ps->login == 0;
        own +=
            ps->login == login && (login != 0 || portal_same_client(&ps->from, from));
    }
    return all < PASSAGES_MAX && own < PASSAGES_EACH_MAX &&
           (login != 0 || open < PASSAGES_PUBLIC_MAX);
}

static void pass(struct portal *p, int fd, struct portal_host *h, int service,
                 const struct login *l, const struct addr *from)
{
    const struct portal_service *s = &h->list->services[service];
    if (!has_room(p, l != NULL ? l->id : 0, from)) {
        log_debug("a connection by name was refused: there are too many");
        refuse(fd, ALERT_INTERNAL);
        close(fd);
        return;
    }
    struct peer *peer = host_peer(h);
    struct passage *ps = peer != NULL ? calloc(1, sizeof(*ps)) : NULL;
    if (peer == NULL) {
        note(p, "refused", l != NULL ? l->id : 0, l != NULL ? l->account : NULL, from,
             s->name, HOST_AWAY);
        refuse(fd, ALERT_INTERNAL);
    }
    if (ps == NULL || (ps->fd = dup(fd)) < 0) {
        free(ps);
        close(fd);
        return;
    }
    Visit v;
    portal_visit(&v, l != NULL ? l->account : "", from);
    v.by_name = true;
    ps->portal = p;
    ps->login = l != NULL ? l->id : 0;
    ps->from = *from;
    ps->began_ms = ps->moved_ms = uv_now(&p->loop);
    (void)snprintf(ps->account, sizeof(ps->account), "%s", v.account);
    (void)snprintf(ps->object, sizeof(ps->object), "%.60s on %.60s", s->name, h->name);
    ps->next = p->passages;
    ps->at = &p->passages;
    if (ps->next != NULL)
        ps->next->at = &ps->next;
    p->passages = ps;
    struct call_config cc = {.peer = peer,
                             .service = s->name,
                             .visit = &v,
                             .fd = fd,
                             .answer_first = true,
                             .on_answer = on_answer,
                             .on_end = on_end,
                             .ctx = ps};
    if (call_start(&ps->call, p->calls, &cc) != 0) {
        ps->call = NULL;
        on_end(ps, NULL);
    }
}

/*
 * Whom it is for, best first: one that a login here may use, then an open one. Of hosts
 * with the same label the eldest alone is open to everybody: another that took its name
 * would get what browsers keep for that name.
 */
static struct portal_host *find(struct portal *p, const char *label,
                                const struct addr *from, int *service,
                                struct login **login, bool *known)
{
    struct portal_host *open = NULL;
    int open_service = -1;
    bool eldest = true;
    const char *dashes = strstr(label, "--");
    size_t len = (size_t)(dashes - label);
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next) {
        if (h->list == NULL || strcmp(h->label, dashes + 2) != 0)
            continue;
        for (size_t i = 0; i < h->list->service_count; i++) {
            const struct portal_service *s = &h->list->services[i];
            if (s->udp || strlen(s->label) != len || memcmp(s->label, label, len) != 0)
                continue;
            *known = true;
            *login = login_at(p, from, h, (int)i);
            *service = (int)i;
            if (*login != NULL)
                return h;
            if (s->open && eldest && open == NULL) {
                open = h;
                open_service = (int)i;
            }
        }
        eldest = false;
    }
    *login = NULL;
    *service = open_service;
    return open;
}

bool names_take(struct portal *p, int fd, const char *server_name)
{
    char label[256];
    struct addr from;
    int service = -1;
    struct login *login = NULL;
    bool known = false;
    size_t len = strlen(server_name), domain = strlen(p->domain);
    if (len > 0 && server_name[len - 1] == '.')
        len--; /* a name that is absolute */
    if (strcasecmp(server_name, p->public_name) == 0)
        return false;
    if (domain == 0 || len < domain + 2 || server_name[len - domain - 1] != '.' ||
        strncasecmp(server_name + len - domain, p->domain, domain) != 0)
        return false;
    len -= domain + 1;
    if (len >= sizeof(label))
        return false;
    memcpy(label, server_name, len);
    label[len] = '\0';
    if (strstr(label, "--") == NULL)
        return false; /* else it is never the portal's, which would see its cookies */
    if (sockaddr_remote(fd, &from) != 0) {
        close(fd);
        return true;
    }
    struct portal_host *h = find(p, label, &from, &service, &login, &known);
    if (h != NULL) {
        pass(p, fd, h, service, login, &from);
        return true;
    }
    note(p, "refused", 0, NULL, &from, server_name,
         known ? "nobody who may use it is logged in at this address"
               : "no such service");
    /* A service that exists is told from one that does not only to who may use it. */
    refuse(fd, ALERT_ACCESS_DENIED);
    close(fd);
    return true;
}

bool names_in_use(struct portal *p, uint64_t login)
{
    for (const struct passage *ps = p->passages; ps != NULL; ps = ps->next)
        if (ps->login == login)
            return true;
    return false;
}

void names_end_login(struct portal *p, uint64_t login)
{
    for (struct passage *ps = p->passages; ps != NULL; ps = ps->next)
        if (ps->call != NULL && ps->login == login)
            call_abort(ps->call);
}

void names_sweep(struct portal *p, uint64_t idle_ms)
{
    uint64_t now = uv_now(&p->loop);
    for (struct passage *ps = p->passages; ps != NULL; ps = ps->next) {
        if (ps->call == NULL)
            continue;
        struct pump_stats st = call_stats(ps->call);
        if (st.to_peer_bytes + st.from_peer_bytes != ps->bytes)
            ps->moved_ms = now;
        else if (now - ps->moved_ms >= idle_ms)
            call_abort(ps->call);
        ps->bytes = st.to_peer_bytes + st.from_peer_bytes;
    }
}
