/* Sockets, ports and UDP; TCP's connections are in tcp.c. */
#include "stack_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    UDP_ROOM = 4 * 1024 * 1024,
    PORT_FIRST = 32768,
    PORT_LAST = 60999,
    UDP_MAX = 65507,
};

/* --------------------------------------------------------------------------- bytes */

void fifo_put(struct fifo *f, const void *data, size_t len)
{
    if (f->from > 0 && f->from + f->len + len > f->room) {
        memmove(f->data, f->data + f->from, f->len);
        f->from = 0;
    }
    if (f->len + len > f->room) {
        f->room = 2 * (f->len + len);
        f->data = realloc(f->data, f->room);
        assert(f->data != NULL);
    }
    memcpy(f->data + f->from + f->len, data, len);
    f->len += len;
}

size_t fifo_copy(const struct fifo *f, size_t at, void *out, size_t cap)
{
    size_t n = at < f->len ? f->len - at : 0;
    if (n > cap)
        n = cap;
    if (n > 0)
        memcpy(out, f->data + f->from + at, n);
    return n;
}

void fifo_skip(struct fifo *f, size_t len)
{
    f->from += len;
    f->len -= len;
    if (f->len == 0)
        f->from = 0;
}

/* ------------------------------------------------------------------- who it is for */

static bool is_any(const struct addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

/* How well `s` fits a packet from `from` to `to`; 0: not at all. */
static int fits(const struct vsock *s, enum vproto proto, const struct addr *from,
                const struct addr *to)
{
    if (s->proto != proto || !s->bound || s->local.port != to->port)
        return 0;
    if (s->remote.family != ADDR_NONE)
        return addr_equal(&s->remote, from) &&
                       (is_any(&s->local) || addr_ip_equal(&s->local, to))
                   ? 8
                   : 0;
    if (proto == VPROTO_TCP && s->t.state != TCP_LISTENS)
        return 0;
    if (!is_any(&s->local))
        return addr_ip_equal(&s->local, to) ? 4 : 0;
    if (s->local.family == to->family)
        return 2;
    return s->local.family == ADDR_V6 && !s->options[VSOCK_V6ONLY] ? 1 : 0;
}

static uint64_t hash_of(const struct addr *a, const struct addr *b)
{
    uint64_t h = a->port * 31u + b->port;
    for (size_t i = 0; i < sizeof(a->ip); i++)
        h = h * 1099511628211u + a->ip[i] * 7u + b->ip[i];
    return h ^ h >> 29;
}

static struct vsock *find(const struct vstack *k, enum vproto proto,
                          const struct addr *from, const struct addr *to)
{
    struct vsock *best[64];
    unsigned n = 0;
    int good = 0;
    for (struct vsock *s = k->socks; s != NULL; s = s->next) {
        int f = fits(s, proto, from, to);
        if (f > good)
            n = 0;
        if (f > 0 && f >= good && n < 64)
            best[n++] = s;
        good = f > good ? f : good;
    }
    return n == 0 ? NULL : best[n == 1 ? 0 : hash_of(from, to) % n];
}

/* ------------------------------------------------------------------------ arrivals */

void vsock_tell(struct vsock *s, int edges)
{
    if (s->cb != NULL)
        s->cb(s->ctx, edges);
}

static void take_datagram(struct vsock *s, const struct vpacket *p)
{
    if (s->queued + p->len > UDP_ROOM)
        return;
    struct datagram *d = calloc(1, sizeof(*d) + p->len);
    assert(d != NULL);
    d->from = p->from;
    d->to = p->to;
    d->len = p->len;
    if (p->len > 0)
        memcpy(d->data, p->data, p->len);
    *s->last = d;
    s->last = &d->next;
    s->queued += d->len + 1;
    vsock_tell(s, POLLIN);
}

static void on_icmp(struct vstack *k, const struct vpacket *p)
{
    struct vsock *s = find(k, p->proto, &p->icmp.to, &p->icmp.from);
    if (s == NULL || s->remote.family == ADDR_NONE)
        return;
    if (p->proto == VPROTO_TCP) {
        vtcp_icmp(s, p);
    } else if (p->icmp.kind == VICMP_PORT) {
        s->err = ECONNREFUSED;
        vsock_tell(s, POLLIN | POLLOUT);
    }
}

static void on_packet(void *ctx, const struct vpacket *p)
{
    struct vstack *k = ctx;
    if (p->icmp.kind != VICMP_NONE) {
        on_icmp(k, p);
        return;
    }
    struct vsock *s = find(k, p->proto, &p->from, &p->to);
    if (p->proto == VPROTO_UDP) {
        if (s != NULL)
            take_datagram(s, p);
        else
            vnet_complain(k->node, p, VICMP_PORT, 0);
        return;
    }
    if (s == NULL || (s->t.state == TCP_LISTENS &&
                      (p->tcp.flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)) {
        vtcp_refuse(k->node, p);
        return;
    }
    if (s->t.state == TCP_LISTENS)
        vtcp_answer(vsock_child(s, p), p);
    else
        vtcp_input(s, p);
}

/* -------------------------------------------------------------------- to make them */

struct vstack *vstack_new(struct vnet_node *node)
{
    struct vstack *k = calloc(1, sizeof(*k));
    assert(k != NULL);
    k->node = node;
    node->on_packet = on_packet;
    node->ctx = k;
    return k;
}

void vstack_free(struct vstack *k)
{
    if (k == NULL)
        return;
    while (k->socks != NULL)
        vsock_free(k->socks);
    k->node->on_packet = NULL;
    free(k);
}

size_t vstack_sockets(const struct vstack *k)
{
    size_t n = 0;
    for (const struct vsock *s = k->socks; s != NULL; s = s->next)
        n += !s->orphan && s->t.parent == NULL;
    return n;
}

size_t vstack_lingering(const struct vstack *k)
{
    size_t n = 0;
    for (const struct vsock *s = k->socks; s != NULL; s = s->next)
        n++;
    return n - vstack_sockets(k);
}

size_t vstack_doors(const struct vstack *k)
{
    size_t n = 0;
    for (const struct vsock *s = k->socks; s != NULL; s = s->next) {
        struct addr a = s->local;
        a.port = 1;
        n += s->bound && addr_scope_of(&a) != ADDR_SCOPE_LOOPBACK &&
             (s->proto == VPROTO_UDP || s->t.state == TCP_LISTENS);
    }
    return n;
}

struct vsock *vsock_new(struct vstack *k, enum vproto proto, enum addr_family family)
{
    struct vsock *s = calloc(1, sizeof(*s));
    assert(s != NULL);
    s->stack = k;
    s->proto = proto;
    s->family = family;
    s->local.family = (uint8_t)family;
    s->last = &s->first;
    struct vsock **at = &k->socks; /* in the order of their making */
    while (*at != NULL)
        at = &(*at)->next;
    *at = s;
    if (proto == VPROTO_TCP)
        vtcp_init(s);
    return s;
}

struct vsock *vsock_child(struct vsock *listener, const struct vpacket *syn)
{
    struct vsock *s = vsock_new(listener->stack, VPROTO_TCP, listener->family);
    memcpy(s->options, listener->options, sizeof(s->options));
    s->bound = true;
    s->local = syn->to;
    s->t.parent = listener;
    return s;
}

void vsock_free(struct vsock *s)
{
    struct vsock **at = &s->stack->socks;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    vtcp_fini(s);
    while (s->first != NULL) {
        struct datagram *d = s->first;
        s->first = d->next;
        free(d);
    }
    free(s);
}

void vsock_watch(struct vsock *s, vsock_cb cb, void *ctx)
{
    s->cb = cb;
    s->ctx = ctx;
}

void vsock_close(struct vsock *s)
{
    s->cb = NULL;
    if (s->proto == VPROTO_TCP)
        vtcp_close(s);
    else
        vsock_free(s);
}

void vsock_set(struct vsock *s, enum vsock_option o, int value)
{
    s->options[o] = value;
    if (o == VSOCK_KEEPALIVE || o == VSOCK_KEEP_IDLE_S)
        vtcp_watch_silence(s);
}

int vsock_get(const struct vsock *s, enum vsock_option o)
{
    return s->options[o];
}

/* --------------------------------------------------------------------------- ports */

static bool both_say(const struct vsock *a, const struct vsock *b, enum vsock_option o)
{
    return a->options[o] && b->options[o];
}

static bool is_in_conflict(const struct vsock *s, const struct vsock *o,
                           const struct addr *at)
{
    if (o == s || o->proto != s->proto || !o->bound || o->local.port != at->port)
        return false;
    if (is_any(&o->local) || is_any(at)) {
        if (o->local.family != at->family &&
            !(o->local.family == ADDR_V6 && is_any(&o->local) &&
              !o->options[VSOCK_V6ONLY]) &&
            !(at->family == ADDR_V6 && is_any(at) && !s->options[VSOCK_V6ONLY]))
            return false;
    } else if (!addr_ip_equal(&o->local, at)) {
        return false;
    }
    if (both_say(s, o, VSOCK_REUSE_PORT))
        return false;
    if (s->proto == VPROTO_TCP && s->options[VSOCK_REUSE_ADDRESS] &&
        (o->options[VSOCK_REUSE_ADDRESS] || o->orphan))
        return o->t.state == TCP_LISTENS;
    return !(s->proto == VPROTO_UDP && both_say(s, o, VSOCK_REUSE_ADDRESS));
}

static bool is_free(const struct vsock *s, const struct addr *at)
{
    for (const struct vsock *o = s->stack->socks; o != NULL; o = o->next)
        if (is_in_conflict(s, o, at))
            return false;
    return true;
}

int vsock_bind(struct vsock *s, const struct addr *wish)
{
    struct addr at = *wish;
    if (s->bound)
        return -EINVAL;
    if (at.family != s->family && !(s->family == ADDR_V6 && at.family == ADDR_V4))
        return -EAFNOSUPPORT;
    if (!is_any(&at) && !vnet_owns(s->stack->node, &at))
        return -EADDRNOTAVAIL;
    if (at.port != 0 && !is_free(s, &at))
        return -EADDRINUSE;
    for (unsigned i = 0; at.port == 0; i++) {
        if (i > 20000)
            return -EADDRINUSE;
        at.port = (uint16_t)(PORT_FIRST +
                             vclock_random(vsock_clock(s), PORT_LAST - PORT_FIRST + 1));
        if (!is_free(s, &at))
            at.port = 0;
    }
    s->local = at;
    s->bound = true;
    return 0;
}

static int bind_any(struct vsock *s)
{
    struct addr any = {.family = (uint8_t)s->family};
    return s->bound ? 0 : vsock_bind(s, &any);
}

int vsock_listen(struct vsock *s, int backlog)
{
    int rc = bind_any(s);
    if (s->proto != VPROTO_TCP)
        return -EOPNOTSUPP;
    if (rc != 0)
        return rc;
    if (s->t.state != TCP_IDLE && s->t.state != TCP_LISTENS)
        return -EINVAL;
    for (const struct vsock *o = s->stack->socks; o != NULL; o = o->next)
        if (o != s && o->proto == VPROTO_TCP && o->t.state == TCP_LISTENS &&
            o->local.port == s->local.port && addr_ip_equal(&o->local, &s->local) &&
            !both_say(s, o, VSOCK_REUSE_PORT))
            return -EADDRINUSE;
    s->t.backlog = backlog < 1 ? 1 : backlog > 64 ? 64 : (unsigned)backlog;
    s->t.state = TCP_LISTENS;
    return 0;
}

static int connect_tcp(struct vsock *s, const struct addr *to)
{
    if (s->t.state != TCP_IDLE)
        return s->t.state == TCP_CALLS ? -EALREADY : -EISCONN;
    for (const struct vsock *o = s->stack->socks; o != NULL; o = o->next)
        if (o != s && o->proto == VPROTO_TCP && o->local.port == s->local.port &&
            addr_equal(&o->remote, to) && addr_ip_equal(&o->local, &s->local))
            return -EADDRNOTAVAIL;
    s->remote = *to;
    return vtcp_connect(s);
}

int vsock_connect(struct vsock *s, const struct addr *to)
{
    struct addr source;
    if (to->family != s->family && !(s->family == ADDR_V6 && to->family == ADDR_V4))
        return -EAFNOSUPPORT;
    if (!vnet_source(s->stack->node, to, &source))
        return -ENETUNREACH;
    int rc = bind_any(s);
    if (rc != 0)
        return rc;
    if (is_any(&s->local)) {
        source.port = s->local.port;
        s->local = source;
    }
    if (s->proto == VPROTO_TCP)
        return connect_tcp(s, to);
    s->remote = *to;
    return 0;
}

struct vsock *vsock_accept(struct vsock *s)
{
    struct vtcp *t = &s->t;
    if (t->waiting_count == 0)
        return NULL;
    struct vsock *w = t->waiting[0];
    memmove(&t->waiting[0], &t->waiting[1], --t->waiting_count * sizeof(w));
    w->t.parent = NULL;
    return w;
}

/* --------------------------------------------------------------------------- bytes */

int vsock_error(struct vsock *s)
{
    int err = s->err;
    s->err = 0;
    return err;
}

long vsock_read(struct vsock *s, void *buf, size_t cap, bool peek)
{
    struct vtcp *t = &s->t;
    if (t->in.len > 0) {
        size_t n = fifo_copy(&t->in, 0, buf, cap);
        if (!peek) {
            fifo_skip(&t->in, n);
            vtcp_opened_window(s);
        }
        return (long)n;
    }
    if (s->err != 0)
        return -vsock_error(s);
    if (t->state == TCP_IDLE || t->state == TCP_LISTENS)
        return -ENOTCONN;
    return t->ended || t->no_more_reading || t->state == TCP_OVER ? 0 : -EAGAIN;
}

long vsock_write(struct vsock *s, const void *buf, size_t len)
{
    struct vtcp *t = &s->t;
    if (s->err != 0)
        return -vsock_error(s);
    if (t->end_wanted || t->state == TCP_OVER)
        return -EPIPE;
    if (t->state == TCP_CALLS || t->state == TCP_ANSWERS)
        return -EAGAIN;
    if (t->state != TCP_OPEN)
        return -ENOTCONN;
    size_t room = t->out.len < VTCP_ROOM ? VTCP_ROOM - t->out.len : 0;
    if (room == 0 && len > 0)
        return -EAGAIN;
    size_t n = len < room ? len : room;
    fifo_put(&t->out, buf, n);
    vtcp_output(s);
    return (long)n;
}

long vsock_receive(struct vsock *s, void *buf, size_t cap, bool peek, struct addr *from,
                   struct addr *to)
{
    struct datagram *d = s->first;
    if (s->err != 0)
        return -vsock_error(s);
    if (d == NULL)
        return -EAGAIN;
    size_t n = d->len < cap ? d->len : cap;
    if (n > 0)
        memcpy(buf, d->data, n);
    *from = d->from;
    *to = d->to;
    if (!peek) {
        s->first = d->next;
        if (s->first == NULL)
            s->last = &s->first;
        s->queued -= d->len + 1;
        free(d);
    }
    return (long)n;
}

long vsock_send(struct vsock *s, const void *buf, size_t len, const struct addr *from,
                const struct addr *to)
{
    struct vnet_node *node = s->stack->node;
    struct addr source;
    if (s->err != 0)
        return -vsock_error(s);
    if (to == NULL)
        to = &s->remote;
    if (to->family == ADDR_NONE)
        return -EDESTADDRREQ;
    if (to->family != s->family && !(s->family == ADDR_V6 && to->family == ADDR_V4))
        return -EAFNOSUPPORT;
    if (to->port == 0)
        return -EINVAL;
    int rc = bind_any(s);
    if (rc != 0)
        return rc;
    if (!vnet_source(node, to, &source))
        return -ENETUNREACH;
    if (!is_any(&s->local))
        source = s->local;
    else if (from->family == to->family && vnet_owns(node, from))
        source = *from;
    if (!vnet_owns(node, &source))
        return -EINVAL; /* the address went away */
    source.port = s->local.port;
    size_t over = to->family == ADDR_V6 ? UDP6_OVERHEAD : UDP4_OVERHEAD;
    if (len > UDP_MAX || len + over > vnet_mtu(node, to))
        return -EMSGSIZE;
    struct vpacket *p = vpacket_new(VPROTO_UDP, &source, to, buf, len);
    if (s->options[VSOCK_TTL] > 0)
        p->ttl = (unsigned)s->options[VSOCK_TTL];
    return vnet_send(node, p) ? (long)len : -ENETUNREACH;
}

int vsock_shutdown(struct vsock *s, int how)
{
    struct vtcp *t = &s->t;
    if (s->proto == VPROTO_TCP && t->state != TCP_OPEN)
        return -ENOTCONN;
    if (how != SHUT_WR)
        t->no_more_reading = true;
    if (how != SHUT_RD) {
        t->end_wanted = true;
        vtcp_output(s);
    }
    vsock_tell(s, POLLIN | POLLOUT);
    return 0;
}

/* --------------------------------------------------------------------------- facts */

static int ready_tcp(const struct vsock *s)
{
    const struct vtcp *t = &s->t;
    bool in_over = t->ended || t->no_more_reading;
    switch (t->state) {
    case TCP_IDLE:
        return POLLOUT | POLLHUP;
    case TCP_LISTENS:
        return t->waiting_count > 0 ? POLLIN : 0;
    case TCP_CALLS:
    case TCP_ANSWERS:
        return 0;
    case TCP_OVER:
        return POLLIN | POLLOUT | POLLRDHUP | POLLHUP | (s->err != 0 ? POLLERR : 0);
    case TCP_OPEN:
        break;
    }
    return (t->in.len > 0 || in_over ? POLLIN : 0) | (in_over ? POLLRDHUP : 0) |
           (in_over && t->end_wanted ? POLLHUP : 0) |
           (t->end_wanted || t->out.len < VTCP_ROOM * 2 / 3 ? POLLOUT : 0);
}

int vsock_ready(const struct vsock *s)
{
    if (s->proto == VPROTO_TCP)
        return ready_tcp(s);
    return POLLOUT | (s->first != NULL ? POLLIN : 0) |
           (s->err != 0 ? POLLERR | POLLIN : 0);
}

enum vproto vsock_proto(const struct vsock *s)
{
    return s->proto;
}

enum addr_family vsock_family(const struct vsock *s)
{
    return s->family;
}

bool vsock_is_listening(const struct vsock *s)
{
    return s->t.state == TCP_LISTENS;
}

void vsock_local(const struct vsock *s, struct addr *a)
{
    *a = s->local;
}

int vsock_remote(const struct vsock *s, struct addr *a)
{
    bool open = s->proto == VPROTO_UDP || s->t.state == TCP_OPEN;
    *a = s->remote;
    return open && s->remote.family != ADDR_NONE ? 0 : -ENOTCONN;
}

size_t vsock_unsent(const struct vsock *s)
{
    return s->t.out.len;
}

size_t vsock_unread(const struct vsock *s)
{
    return s->proto == VPROTO_TCP ? s->t.in.len : s->first != NULL ? s->first->len : 0;
}

void vsock_facts(const struct vsock *s, struct vsock_facts *f)
{
    *f = (struct vsock_facts){
        .rtt_us = (uint32_t)s->t.srtt_us,
        .min_rtt_us = (uint32_t)s->t.min_rtt_us,
        .data_ms = (uint32_t)((vsock_clock(s)->now_us - s->t.data_us) / 1000),
        .sent_ms = (uint32_t)((vsock_clock(s)->now_us - s->t.said_us) / 1000),
        .ack_ms = (uint32_t)((vsock_clock(s)->now_us - s->t.heard_us) / 1000),
        .retransmits = s->t.repeats,
        .segments_in = s->t.segments_in,
        .data_segments_in = s->t.data_segments_in,
        .half_closed = s->t.ended};
}
