/* Three dumps of the kernel: default routes, links, then addresses. */
#include "io/sidenet.h"

#include <linux/rtnetlink.h>
#include <string.h>

#include "io/log.h"
#include "io/netlink.h"

enum { DEFAULTS_MAX = 16, BRIDGES_MAX = 64, OVERLAY4_BITS = 10, OVERLAY6_BITS = 48 };

struct walk {
    struct sidenets *found;
    uint32_t defaults[DEFAULTS_MAX]; /* interfaces that a default route names */
    size_t default_count;
    uint32_t bridges[BRIDGES_MAX]; /* of this machine's containers and guests */
    size_t bridge_count;
    uint32_t outer[BRIDGES_MAX]; /* masters of links that lead out of the machine */
    size_t outer_count;
};

static bool has(const uint32_t *list, size_t n, uint32_t interface)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == interface)
            return true;
    return false;
}

static void keep(uint32_t *list, size_t *n, uint32_t interface)
{
    if (*n < BRIDGES_MAX)
        list[(*n)++] = interface;
}

static void add_default(struct walk *w, uint32_t interface)
{
    if (w->default_count < DEFAULTS_MAX)
        w->defaults[w->default_count++] = interface;
}

static bool is_default(const struct walk *w, uint32_t interface)
{
    for (size_t i = 0; i < w->default_count; i++)
        if (w->defaults[i] == interface)
            return true;
    return w->default_count == DEFAULTS_MAX; /* rather none than a wrong one */
}

static void on_route(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct rtmsg m;
    size_t head = NLMSG_ALIGN(sizeof(m)), part_len = 0;
    if (type != RTM_NEWROUTE || len < head)
        return;
    memcpy(&m, body, sizeof(m));
    /* 0.0.0.0/1 and 128.0.0.0/1 are how some tunnels overrule the default route */
    if (m.rtm_dst_len > 1 || m.rtm_type != RTN_UNICAST)
        return;
    const uint8_t *oif = netlink_attribute(body + head, len - head, RTA_OIF, &part_len);
    uint32_t interface;
    if (oif != NULL && part_len == sizeof(interface)) {
        memcpy(&interface, oif, sizeof(interface));
        add_default(ctx, interface);
    }
    const uint8_t *hops =
        netlink_attribute(body + head, len - head, RTA_MULTIPATH, &part_len);
    struct rtnexthop hop;
    for (size_t at = 0; hops != NULL && at + sizeof(hop) <= part_len;) {
        memcpy(&hop, hops + at, sizeof(hop));
        if (hop.rtnh_len < sizeof(hop))
            break;
        add_default(ctx, (uint32_t)hop.rtnh_ifindex);
        at += RTNH_ALIGN(hop.rtnh_len);
    }
}

/* Bridges, and which of them have a link that is no container's or guest's. */
static void on_link(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct walk *w = ctx;
    struct netlink_link l;
    if (type != RTM_NEWLINK || !netlink_read_link(body, len, &l))
        return;
    if (strcmp(l.kind, "bridge") == 0)
        keep(w->bridges, &w->bridge_count, l.index);
    if (l.master != 0 && strcmp(l.kind, "veth") != 0 && strcmp(l.kind, "tun") != 0)
        keep(w->outer, &w->outer_count, l.master);
}

/* Who is there stands on this very machine: no peer of another network. */
static bool is_inner(const struct walk *w, uint32_t interface)
{
    return has(w->bridges, w->bridge_count, interface) &&
           !has(w->outer, w->outer_count, interface);
}

/* An overlay gives each machine an address alone; its range is the usual one. */
static unsigned widen(const struct addr *a, unsigned bits)
{
    if (a->family == ADDR_V4 && bits == 32 && a->ip[0] == 100 &&
        (a->ip[1] & 0xc0) == 64)
        return OVERLAY4_BITS;
    if (a->family == ADDR_V6 && bits == 128 && (a->ip[0] & 0xfe) == 0xfc)
        return OVERLAY6_BITS;
    return bits;
}

static void on_address(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct walk *w = ctx;
    struct netlink_address a;
    if (type != RTM_NEWADDR || !netlink_read_address(body, len, &a) ||
        is_default(w, a.interface) || is_inner(w, a.interface) ||
        w->found->count == SIDENET_MAX)
        return;
    struct addr probe = a.ip;
    probe.port = 1;
    enum addr_scope scope = addr_scope_of(&probe);
    if (scope != ADDR_SCOPE_PRIVATE && scope != ADDR_SCOPE_GLOBAL)
        return;
    w->found->nets[w->found->count].addr = a.ip;
    w->found->nets[w->found->count++].bits = widen(&a.ip, a.bits);
}

size_t sidenet_defaults(uint32_t *out, size_t max)
{
    struct walk w = {0};
    if (!netlink_dump(RTM_GETROUTE, on_route, &w))
        return 0;
    size_t n = w.default_count < max ? w.default_count : max;
    memcpy(out, w.defaults, n * sizeof(out[0]));
    return n;
}

void sidenets_read(struct sidenets *s)
{
    struct walk w = {.found = s};
    s->count = 0;
    if (!netlink_dump(RTM_GETROUTE, on_route, &w) ||
        !netlink_dump(RTM_GETLINK, on_link, &w) ||
        !netlink_dump(RTM_GETADDR, on_address, &w)) {
        log_debug("the kernel does not list its networks");
        s->count = 0;
    }
}

bool sidenets_hold(const struct sidenets *s, const struct addr *a)
{
    bool inside = false;
    for (size_t i = 0; i < s->count; i++) {
        if (addr_ip_equal(&s->nets[i].addr, a))
            return false;
        inside = inside || addr_prefix_equal(&s->nets[i].addr, a, s->nets[i].bits);
    }
    return inside;
}
