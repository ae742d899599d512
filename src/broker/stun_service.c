/* UDP sockets around core/stun.h; see stun_service.h. */
#include "broker/stun_service.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/vouch.h"
#include "core/stun.h"
#include "io/loop.h"
#include "io/pktinfo.h"

enum {
    SOCKETS_PER_SITE = 4,
    SOCKETS_MAX = BROKER_LISTEN_MAX * SOCKETS_PER_SITE,
    PACKETS_PER_EVENT = 64,
};

struct stun_socket {
    struct watch watch;
    struct stun_service *service;
    const struct plan_site *site;
    struct addr bind;
    int fd;
};

struct stun_service {
    struct stun_socket sockets[SOCKETS_MAX];
    struct loop *loop;
    size_t count;
    struct addr_limits *limits;
    const uint8_t *secret;
    struct stun_stats stats;
};

struct packet {
    uint8_t data[STUN_MESSAGE_MAX];
    size_t len;
    struct addr source, local;
};

/* False when the socket is empty. A packet that is not usable has length 0. */
static bool receive(struct stun_socket *s, struct packet *p)
{
    ssize_t n =
        pktinfo_recv(s->fd, &s->bind, p->data, sizeof(p->data), &p->source, &p->local);
    if (n < 0)
        return false;
    p->len = p->source.family != ADDR_NONE ? (size_t)n : 0;
    return true;
}

/* The socket that can send from `from`. */
static struct stun_socket *socket_for(struct stun_socket *at, const struct addr *from)
{
    struct stun_service *v = at->service;
    for (size_t i = 0; i < v->count; i++) {
        struct stun_socket *s = &v->sockets[i];
        if (s->site == at->site && s->bind.port == from->port &&
            (s->site->wildcard || addr_ip_equal(&s->bind, from)))
            return s;
    }
    return NULL;
}

static void site_of(const struct stun_socket *s, const struct addr *local,
                    struct stun_site *out)
{
    const struct plan_site *p = s->site;
    const struct addr *main = local->family == ADDR_V4 ? &p->main_v4 : &p->main_v6;
    const struct addr *other = local->family == ADDR_V4 ? &p->other_v4 : &p->other_v6;
    out->at = *local;
    out->other = (struct addr){0};
    if (p->other_port == 0)
        return;
    out->other = *local;
    if (other->family != ADDR_NONE)
        memcpy(out->other.ip, addr_ip_equal(local, other) ? main->ip : other->ip,
               sizeof(out->other.ip));
    out->other.port = local->port == p->other_port ? p->bind.port : p->other_port;
}

/* A request whose source may be forged must take nothing from who shows that it is his.
 */
static bool may_answer(struct stun_service *v, const struct packet *p)
{
    struct stun_message m;
    uint32_t device;
    if (v->limits == NULL)
        return true;
    struct addr_place place = addr_limits_place(v->limits, &p->source);
    if (stun_parse(&m, p->data, p->len) == 0 && m.has_mark &&
        broker_proves(m.mark, v->secret, &p->source, &device))
        return addr_limits_stun_proven(v->limits, &place, device, loop_now_ms(v->loop));
    return addr_limits_stun(v->limits, &place, loop_now_ms(v->loop));
}

static void serve(struct stun_socket *s, const struct packet *p)
{
    struct stun_service *v = s->service;
    struct stun_site site;
    struct stun_answer answer;
    uint8_t data[STUN_MESSAGE_MAX], mark[VOUCH_MARK_LEN];
    if (!stun_is_message(p->data, p->len)) {
        v->stats.ignored++;
        return;
    }
    if (!may_answer(v, p)) {
        v->stats.limited++;
        return;
    }
    site_of(s, &p->local, &site);
    broker_mark(mark, v->secret, &p->source);
    site.mark = mark;
    if (!stun_answer(&answer, data, p->data, p->len, &p->source, &site)) {
        v->stats.ignored++;
        return;
    }
    struct stun_socket *via = socket_for(s, &answer.from);
    if (via != NULL)
        pktinfo_send(via->fd, &via->bind, data, answer.len, &answer.to, &answer.from);
    v->stats.answered++;
}

static void on_readable(void *ctx, int events)
{
    struct stun_socket *s = ctx;
    struct packet p;
    (void)events;
    for (int i = 0; i < PACKETS_PER_EVENT && receive(s, &p); i++)
        if (p.len > 0)
            serve(s, &p);
}

static int add_socket(struct stun_service *v, struct loop *loop,
                      const struct plan_site *site, const struct addr *bind)
{
    struct stun_socket *s = &v->sockets[v->count];
    int fd = plan_open_udp(site, bind);
    if (fd < 0)
        return fd;
    int rc = watch_start(&s->watch, loop, fd, WATCH_READ, on_readable, s);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    s->fd = fd;
    s->site = site;
    s->bind = *bind;
    s->service = v;
    v->count++;
    return 0;
}

int stun_service_open(struct stun_service **out, struct loop *loop,
                      const struct plan *plan, struct addr_limits *limits,
                      const uint8_t *secret)
{
    struct stun_service *v = calloc(1, sizeof(*v));
    int rc = v != NULL ? 0 : POSTERN_ERR_NOMEM;
    if (rc == 0) {
        v->loop = loop;
        v->limits = limits;
        v->secret = secret;
    }
    for (size_t i = 0; i < plan->site_count && rc == 0; i++) {
        struct addr binds[SOCKETS_PER_SITE];
        size_t n = plan_udp_binds(&plan->sites[i], binds);
        for (size_t j = 0; j < n && rc == 0; j++)
            rc = add_socket(v, loop, &plan->sites[i], &binds[j]);
    }
    if (rc != 0) {
        stun_service_close(v);
        return rc;
    }
    *out = v;
    return 0;
}

void stun_service_close(struct stun_service *v)
{
    for (size_t i = 0; v != NULL && i < v->count; i++) {
        watch_close(&v->sockets[i].watch);
        close(v->sockets[i].fd);
    }
    free(v);
}

void stun_service_read_stats(const struct stun_service *s, struct stun_stats *out)
{
    *out = s->stats;
}
