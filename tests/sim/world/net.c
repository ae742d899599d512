/* Nodes, wires, routes and what routers do; see net.h. */
#include "net.h"

#include <assert.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

enum { QUEUE_BYTES = 256 * 1024, SECOND = 1000000 };

static void *take(size_t size)
{
    void *p = calloc(1, size);
    assert(p != NULL);
    return p;
}

/* --------------------------------------------------------------------- to build it */

struct vnet *vnet_new(uint64_t seed)
{
    struct vnet *n = take(sizeof(*n));
    vclock_init(&n->clock, seed);
    return n;
}

static void free_node(struct vnet_node *node)
{
    for (unsigned i = 0; i < node->iface_count; i++)
        free(node->ifaces[i]);
    for (int six = 0; six < 2; six++) {
        if (node->nats[six] != NULL)
            nat_fini(node->nats[six]);
        free(node->nats[six]);
    }
    free(node);
}

static void arrive(void *ctx);
static void at_segment(void *ctx);
static void local(void *ctx);
static bool error_in(struct vnet_node *node, struct vpacket *p);

void vnet_free(struct vnet *n)
{
    if (n == NULL)
        return;
    struct agenda_entry *e;
    while ((e = agenda_take(&n->clock.agenda, UINT64_MAX, UINT64_MAX)) != NULL) {
        struct valarm *a = (struct valarm *)(void *)e;
        if (a->cb == arrive || a->cb == at_segment || a->cb == local)
            free(a->ctx);
    }
    for (unsigned i = 0; i < n->node_count; i++)
        free_node(n->nodes[i]);
    for (unsigned i = 0; i < n->segment_count; i++)
        free(n->segments[i]);
    free(n);
}

struct vnet_node *vnet_node_add(struct vnet *n, const char *name, bool forwards)
{
    assert(n->node_count < VNET_NODES);
    struct vnet_node *node = take(sizeof(*node));
    node->net = n;
    node->forwards = forwards;
    (void)snprintf(node->name, sizeof(node->name), "%s", name);
    return n->nodes[n->node_count++] = node;
}

struct vnet_segment *vnet_segment_add(struct vnet *n)
{
    assert(n->segment_count < VNET_SEGMENTS);
    return n->segments[n->segment_count++] = take(sizeof(struct vnet_segment));
}

static void parse_prefix(const char *text, struct addr *a, unsigned *bits)
{
    char ip[64];
    const char *slash = strchr(text, '/');
    assert(slash != NULL && (size_t)(slash - text) < sizeof(ip));
    (void)snprintf(ip, sizeof(ip), "%.*s", (int)(slash - text), text);
    int rc = addr_parse_ip(a, ip);
    assert(rc == 0);
    *bits = (unsigned)strtoul(slash + 1, NULL, 10);
}

static void changed(struct vnet_node *node)
{
    if (node->on_change != NULL)
        node->on_change(node->ctx);
}

static void leave_segment(struct vnet_iface *i)
{
    struct vnet_segment *s = i->segment;
    for (unsigned m = 0; s != NULL && m < s->count; m++)
        if (s->members[m] == i)
            s->members[m] = s->members[--s->count];
    i->segment = NULL;
}

void vnet_plug(struct vnet_iface *i, struct vnet_segment *s)
{
    leave_segment(i);
    if (s != NULL) {
        assert(s->count < VNET_MEMBERS);
        s->members[s->count++] = i;
        i->segment = s;
    }
    changed(i->node);
}

struct vnet_iface *vnet_attach(struct vnet_node *node, struct vnet_segment *s,
                               const char *address, const struct vnet_wire *wire)
{
    assert(node->iface_count < VNET_IFACES);
    struct vnet_iface *i = take(sizeof(*i));
    i->node = node;
    if (wire != NULL)
        i->out = i->in = *wire;
    node->ifaces[node->iface_count++] = i;
    vnet_plug(i, s);
    if (address != NULL)
        vnet_add_address(i, address);
    return i;
}

static void add_route(struct vnet_node *node, const struct vnet_route *r)
{
    assert(node->route_count < VNET_ROUTES);
    node->routes[node->route_count++] = *r;
    changed(node);
}

void vnet_add_address(struct vnet_iface *i, const char *address)
{
    assert(i->addr_count < VNET_ADDRS);
    struct addr *a = &i->addrs[i->addr_count];
    parse_prefix(address, a, &i->bits[i->addr_count]);
    struct vnet_route r = {.to = *a, .bits = i->bits[i->addr_count], .via = i};
    i->addr_count++;
    add_route(i->node, &r);
}

void vnet_drop_routes(struct vnet_iface *via)
{
    struct vnet_node *node = via->node;
    unsigned kept = 0;
    for (unsigned r = 0; r < node->route_count; r++)
        if (node->routes[r].via != via)
            node->routes[kept++] = node->routes[r];
    node->route_count = kept;
    changed(node);
}

void vnet_drop_addresses(struct vnet_iface *i)
{
    i->addr_count = 0;
    vnet_drop_routes(i);
}

void vnet_set_down(struct vnet_iface *i, bool down)
{
    i->down = down;
    changed(i->node);
}

void vnet_add_route(struct vnet_node *node, const char *to, struct vnet_iface *via,
                    const char *gateway)
{
    struct vnet_route r = {.via = via};
    parse_prefix(to, &r.to, &r.bits);
    int rc = gateway != NULL ? addr_parse_ip(&r.gateway, gateway) : 0;
    assert(rc == 0);
    add_route(node, &r);
}

static struct nat *nat_of(const struct vnet_node *node, const struct addr *a)
{
    return node->nats[a->family == ADDR_V6];
}

void vnet_set_nat(struct vnet_iface *outer, enum addr_family family,
                  const struct nat_config *c)
{
    struct vnet_node *node = outer->node;
    struct nat **nat = &node->nats[family == ADDR_V6];
    if (*nat == NULL)
        *nat = take(sizeof(**nat));
    else
        nat_fini(*nat);
    nat_init(*nat, c);
    node->outers[family == ADDR_V6] = outer;
    if (c->translates && c->ext.family == ADDR_NONE)
        (*nat)->c.ext = outer->addrs[0];
}

void vnet_flush(struct vnet_node *node)
{
    for (int six = 0; six < 2; six++)
        if (node->nats[six] != NULL)
            nat_flush(node->nats[six]);
}

/* It is the router's own address, behind which it translates. */
static bool is_mapped(const struct vnet_node *node, const struct addr *a)
{
    const struct nat *nat = nat_of(node, a);
    return nat != NULL && nat_owns(nat, a);
}

/* -------------------------------------------------------------------------- routes */

static bool is_up(const struct vnet_iface *i)
{
    return !i->down && i->segment != NULL && !i->node->off;
}

static bool iface_owns(const struct vnet_iface *i, const struct addr *a)
{
    for (unsigned k = 0; k < i->addr_count; k++)
        if (addr_ip_equal(&i->addrs[k], a))
            return true;
    return false;
}

bool vnet_owns(const struct vnet_node *node, const struct addr *a)
{
    struct addr any_port = *a;
    any_port.port = 1;
    if (addr_scope_of(&any_port) == ADDR_SCOPE_LOOPBACK)
        return true;
    for (unsigned i = 0; i < node->iface_count; i++)
        if (iface_owns(node->ifaces[i], a))
            return true;
    return false;
}

const struct vnet_route *vnet_route_to(const struct vnet_node *node,
                                       const struct addr *to)
{
    const struct vnet_route *best = NULL;
    for (unsigned r = 0; r < node->route_count; r++) {
        const struct vnet_route *x = &node->routes[r];
        if (x->to.family == to->family && is_up(x->via) &&
            addr_prefix_equal(&x->to, to, x->bits) &&
            (best == NULL || x->bits > best->bits))
            best = x;
    }
    return best;
}

bool vnet_source(const struct vnet_node *node, const struct addr *to, struct addr *from)
{
    const struct vnet_route *r = vnet_route_to(node, to);
    if (vnet_owns(node, to)) {
        *from = *to;
        from->port = 0;
        return true;
    }
    for (unsigned k = 0; r != NULL && k < r->via->addr_count; k++)
        if (r->via->addrs[k].family == to->family) {
            *from = r->via->addrs[k];
            return true;
        }
    return false;
}

static uint16_t mtu_of(const struct vnet_wire *w)
{
    return w->mtu > 0 ? w->mtu : VNET_MTU;
}

uint16_t vnet_mtu(const struct vnet_node *node, const struct addr *to)
{
    const struct vnet_route *r = vnet_route_to(node, to);
    return r != NULL ? mtu_of(&r->via->out) : VNET_MTU;
}

/* ------------------------------------------------------------------------- packets */

struct vpacket *vpacket_new(enum vproto proto, const struct addr *from,
                            const struct addr *to, const void *data, size_t len)
{
    struct vpacket *p = take(sizeof(*p) + len);
    p->proto = proto;
    p->from = *from;
    p->to = *to;
    p->ttl = VNET_TTL;
    p->len = len;
    if (len > 0)
        memcpy(p->data, data, len);
    return p;
}

size_t vpacket_size(const struct vpacket *p)
{
    bool v6 = p->to.family == ADDR_V6;
    if (p->icmp.kind != VICMP_NONE)
        return v6 ? 96 : 56;
    if (p->proto == VPROTO_UDP)
        return p->len + (v6 ? UDP6_OVERHEAD : UDP4_OVERHEAD);
    return p->len + (v6 ? TCP6_OVERHEAD : TCP4_OVERHEAD);
}

static struct vpacket *copy(const struct vpacket *p)
{
    struct vpacket *c = take(sizeof(*c) + p->len);
    memcpy(c, p, sizeof(*p) + p->len);
    c->alarm = (struct valarm){0};
    return c;
}

static void drop(struct vnet *n, struct vpacket *p, unsigned long *count)
{
    (void)n;
    (*count)++;
    free(p);
}

static void set_off(struct vnet *n, struct vpacket *p, struct vnet_iface *at,
                    void (*cb)(void *ctx), uint64_t when_us)
{
    p->at = at;
    p->alarm.cb = cb;
    p->alarm.ctx = p;
    n->under_way++;
    valarm_set(&n->clock, &p->alarm, when_us);
}

/* When it is through, by the wire's rate, queue, delay and jitter; 0: the queue is
 * full. */
static uint64_t pass_wire(struct vnet *n, struct vnet_wire *w, const struct vpacket *p)
{
    uint64_t now = n->clock.now_us, at = now;
    if (w->rate_bps > 0) {
        uint64_t start = w->free_us > now ? w->free_us : now;
        uint64_t queued = (start - now) * (w->rate_bps / 8) / SECOND;
        if (queued > (w->queue_bytes > 0 ? w->queue_bytes : QUEUE_BYTES))
            return 0;
        at = w->free_us = start + vpacket_size(p) * 8 * SECOND / w->rate_bps;
    }
    at += w->delay_us;
    if (w->jitter_us > 0)
        at += vclock_random(&n->clock, w->jitter_us + 1);
    if (vclock_chance(&n->clock, w->reorder_permille))
        return at + w->delay_us / 2 + 1000; /* others may come before it */
    if (at < w->last_us)
        at = w->last_us;
    w->last_us = at;
    return at;
}

/* Through one direction of a wire, and then `cb`. Takes `p`. */
static void through(struct vnet_iface *i, struct vnet_wire *w, struct vpacket *p,
                    void (*cb)(void *ctx))
{
    struct vnet *n = i->node->net;
    uint64_t at = pass_wire(n, w, p);
    bool udp = p->proto == VPROTO_UDP && w->udp_loss_permille > 0;
    if (at == 0 || vclock_chance(&n->clock, w->loss_permille) ||
        (udp && vclock_chance(&n->clock, w->udp_loss_permille))) {
        drop(n, p, &n->lost);
        return;
    }
    if (vclock_chance(&n->clock, w->double_permille))
        set_off(n, copy(p), i, cb, at);
    set_off(n, p, i, cb, at);
}

/* Who on the segment has the next hop's address. */
static struct vnet_iface *neighbour(const struct vnet_iface *i, const struct addr *hop)
{
    const struct vnet_segment *s = i->segment;
    for (unsigned m = 0; m < s->count; m++)
        if (s->members[m] != i && is_up(s->members[m]) &&
            iface_owns(s->members[m], hop))
            return s->members[m];
    return NULL;
}

/* It left an interface; `p->at` is that one. */
static void at_segment(void *ctx)
{
    struct vpacket *p = ctx;
    struct vnet_iface *from = p->at;
    struct vnet *n = from->node->net;
    n->under_way--;
    const struct vnet_route *r = is_up(from) ? vnet_route_to(from->node, &p->to) : NULL;
    const struct addr *hop =
        r != NULL && r->via == from && r->gateway.family != ADDR_NONE ? &r->gateway
                                                                      : &p->to;
    struct vnet_iface *to = is_up(from) ? neighbour(from, hop) : NULL;
    if (to == NULL) {
        vnet_complain(from->node, p, VICMP_UNREACHABLE, 0);
        drop(n, p, &n->unrouted);
        return;
    }
    if (to->segment->apart && from->node->forwards && to->node->forwards) {
        drop(n, p, &n->lost);
        return;
    }
    if (vpacket_size(p) > mtu_of(&to->in)) { /* as if the far router had that wire */
        if (!to->in.mtu_silent)
            vnet_complain(from->node, p, VICMP_TOO_BIG, mtu_of(&to->in));
        drop(n, p, &n->lost);
        return;
    }
    through(to, &to->in, p, arrive);
}

static bool send_by(struct vnet_node *node, const struct vnet_route *r,
                    struct vpacket *p)
{
    struct vnet *n = node->net;
    if (vpacket_size(p) > mtu_of(&r->via->out)) {
        if (!r->via->out.mtu_silent)
            vnet_complain(node, p, VICMP_TOO_BIG, mtu_of(&r->via->out));
        drop(n, p, &n->lost);
        return true;
    }
    through(r->via, &r->via->out, p, at_segment);
    return true;
}

static void local(void *ctx)
{
    struct vpacket *p = ctx;
    struct vnet_node *node = p->at->node;
    node->net->under_way--;
    node->net->delivered++;
    if (node->on_packet != NULL && !node->off)
        node->on_packet(node->ctx, p);
    free(p);
}

bool vnet_send(struct vnet_node *node, struct vpacket *p)
{
    struct vnet *n = node->net;
    n->sent++;
    if (vnet_owns(node, &p->to) && node->iface_count > 0 && !node->off) {
        set_off(n, p, node->ifaces[0], local, n->clock.now_us + 20);
        return true;
    }
    const struct vnet_route *r = vnet_route_to(node, &p->to);
    if (r == NULL) {
        drop(n, p, &n->unrouted);
        return false;
    }
    return send_by(node, r, p);
}

void vnet_complain(struct vnet_node *node, const struct vpacket *p, enum vicmp kind,
                   uint16_t mtu)
{
    struct addr from;
    if (p->icmp.kind != VICMP_NONE || !vnet_source(node, &p->from, &from))
        return;
    struct vpacket *e = vpacket_new(p->proto, &from, &p->from, NULL, 0);
    e->icmp.kind = kind;
    e->icmp.mtu = mtu;
    e->icmp.from = p->from;
    e->icmp.to = p->to;
    e->icmp.seq = p->tcp.seq;
    e->to.port = 0;
    bool own = is_mapped(node, &e->to);
    if (own && !error_in(node, e)) /* about what it had translated itself */
        free(e);
    else
        (void)vnet_send(node, e);
}

/* ------------------------------------------------------------------------- routers */

static unsigned nat_flags(const struct vpacket *p)
{
    if (p->proto != VPROTO_TCP)
        return 0;
    return ((p->tcp.flags & TCP_SYN) != 0 ? NAT_TCP_SYN : 0u) |
           ((p->tcp.flags & TCP_FIN) != 0 ? NAT_TCP_FIN : 0u) |
           ((p->tcp.flags & TCP_RST) != 0 ? NAT_TCP_RST : 0u) |
           ((p->tcp.flags & TCP_ACK) != 0 ? NAT_TCP_ACK : 0u);
}

static void refuse(struct vnet_node *node, const struct vpacket *p)
{
    if (p->proto != VPROTO_TCP || (p->tcp.flags & TCP_RST) != 0)
        return;
    struct vpacket *r = vpacket_new(VPROTO_TCP, &p->to, &p->from, NULL, 0);
    r->tcp.flags = TCP_RST | TCP_ACK;
    r->tcp.seq = p->tcp.ack;
    r->tcp.ack = p->tcp.seq + (uint32_t)p->len + ((p->tcp.flags & TCP_SYN) != 0);
    (void)vnet_send(node, r);
}

/* An error about a packet that went out: to whom it really came from. */
static bool error_in(struct vnet_node *node, struct vpacket *p)
{
    struct addr inner;
    if (!nat_inner_of(nat_of(node, &p->to), p->proto, &p->icmp.from, &p->icmp.to,
                      node->net->clock.now_us, &inner))
        return false;
    p->icmp.from = p->to = inner;
    p->to.port = 0;
    return true;
}

static bool come_in(struct vnet_node *node, struct vpacket *p)
{
    if (p->icmp.kind != VICMP_NONE)
        return error_in(node, p);
    struct nat *nat = nat_of(node, &p->to);
    if (nat_in(nat, p->proto, &p->from, &p->to, nat_flags(p), node->net->clock.now_us))
        return true;
    if (nat->c.rejects_tcp)
        refuse(node, p);
    return false;
}

static bool go_out(struct vnet_node *node, struct vpacket *p)
{
    struct nat *nat = nat_of(node, &p->to);
    if (p->icmp.kind != VICMP_NONE)
        return !nat->c.translates; /* inner errors stay inside */
    return nat_out(nat, p->proto, &p->from, &p->to, nat_flags(p),
                   node->net->clock.now_us, &node->net->clock.rng);
}

/* What the NAT makes of it; false: dropped. */
static bool translate(struct vnet_node *node, struct vnet_iface *at, struct vpacket *p)
{
    struct nat *nat = nat_of(node, &p->to);
    const struct vnet_iface *outer = node->outers[p->to.family == ADDR_V6];
    bool own = is_mapped(node, &p->to);
    if (at == outer)
        return own || !nat->c.translates ? come_in(node, p) : false;
    if (own) /* hairpin */
        return nat->c.hairpins && go_out(node, p) && come_in(node, p);
    const struct vnet_route *r = vnet_route_to(node, &p->to);
    return r == NULL || r->via != outer || go_out(node, p);
}

/* A SYN asks for no larger segments than the wire takes. */
static void clamp(const struct vnet_node *node, const struct vnet_wire *w,
                  struct vpacket *p)
{
    size_t over = p->to.family == ADDR_V6 ? TCP6_OVERHEAD : TCP4_OVERHEAD;
    const struct nat *nat = nat_of(node, &p->to);
    if (nat != NULL && nat->c.clamps && p->proto == VPROTO_TCP &&
        (p->tcp.flags & TCP_SYN) != 0 && p->tcp.mss > mtu_of(w) - over)
        p->tcp.mss = (uint16_t)(mtu_of(w) - over);
}

static void forward(struct vnet_node *node, struct vnet_iface *at, struct vpacket *p)
{
    struct vnet *n = node->net;
    if (--p->ttl == 0) {
        vnet_complain(node, p, VICMP_EXPIRED, 0);
        drop(n, p, &n->lost);
        return;
    }
    const struct vnet_route *after = vnet_route_to(node, &p->to);
    if (after != NULL && vpacket_size(p) > mtu_of(&after->via->out)) {
        if (!after->via->out.mtu_silent) /* before the NAT: to who sent it */
            vnet_complain(node, p, VICMP_TOO_BIG, mtu_of(&after->via->out));
        drop(n, p, &n->lost);
        return;
    }
    if (nat_of(node, &p->to) != NULL && !translate(node, at, p)) {
        drop(n, p, &n->filtered);
        return;
    }
    const struct vnet_route *r = vnet_route_to(node, &p->to);
    if (r == NULL) {
        vnet_complain(node, p, VICMP_UNREACHABLE, 0);
        drop(n, p, &n->unrouted);
        return;
    }
    clamp(node, &at->in, p);
    clamp(node, &r->via->out, p);
    (void)send_by(node, r, p);
}

static void arrive(void *ctx)
{
    struct vpacket *p = ctx;
    struct vnet_iface *at = p->at;
    struct vnet_node *node = at->node;
    struct vnet *n = node->net;
    n->under_way--;
    if (!is_up(at)) {
        drop(n, p, &n->lost);
        return;
    }
    if (n->on_seen != NULL)
        n->on_seen(n->ctx, at, p);
    bool own = vnet_owns(node, &p->to);
    if (own && !is_mapped(node, &p->to)) {
        n->delivered++;
        if (node->on_packet != NULL)
            node->on_packet(node->ctx, p);
        free(p);
    } else if (node->forwards) {
        forward(node, at, p);
    } else {
        drop(n, p, &n->unrouted);
    }
}
