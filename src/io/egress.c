/* The kernel's links, addresses and answers about routes, and one number. */
#include "io/egress.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/netlink.h"
#include "io/sockaddr.h"

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum { LINKS_MAX = 64, NETS_MAX = 32, SOURCES_MAX = 16 };

/* The process's own: the machine has one set of routes, whatever loops there are. */
static atomic_uint chosen, silent;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct near {
    struct addr addr[NETS_MAX];
    unsigned bits[NETS_MAX];
    size_t count;
    struct addr sources[2]; /* of IPv4 and of IPv6, to start from; family none: any */
} near;

struct source_walk {
    const struct addr *source;
    unsigned interface;
};

static void on_source(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct source_walk *w = ctx;
    struct netlink_address a;
    if (type == RTM_NEWADDR && netlink_read_address(body, len, &a) &&
        addr_ip_equal(&a.ip, w->source))
        w->interface = a.interface;
}

unsigned egress_with(const struct addr *local)
{
    struct source_walk w = {.source = local};
    return local->family != ADDR_NONE && netlink_dump(RTM_GETADDR, on_source, &w) ? w.interface : 0;
}

unsigned egress_by_routes(const struct addr *to)
{
    struct sockaddr_storage ss = {0};
    struct addr local;
    socklen_t len = sockaddr_from_addr(&ss, to), got = sizeof(ss);
    int fd = len == 0 ? -1 : socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    bool known = connect(fd, (struct sockaddr *)&ss, len) == 0 &&
                 getsockname(fd, (struct sockaddr *)&ss, &got) == 0 &&
                 sockaddr_to_addr(&local, (const struct sockaddr *)&ss) == 0;
    (void)close(fd);
    return known ? egress_with(&local) : 0;
}

bool egress_is_spread(const struct addr *to)
{
    struct netlink_route r;
    return netlink_route(to, NULL, 0, &r) && r.spread;
}

/* ------------------------------------------------------------- where else it goes */

struct link_walk {
    unsigned plain[LINKS_MAX]; /* no tunnels */
    size_t count;
};

static void on_link(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    static const char *const kinds[] = {"",     "veth",  "vlan",    "bond",  "team",
                                        "wwan", "rmnet", "macvlan", "bridge"};
    struct link_walk *w = ctx;
    struct netlink_link l;
    if (type != RTM_NEWLINK || !netlink_read_link(body, len, &l) || !l.runs)
        return;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(l.kind, kinds[i]) == 0 && w->count < LINKS_MAX)
            w->plain[w->count++] = l.index;
}

static bool is_plain(const struct link_walk *w, unsigned interface)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->plain[i] == interface)
            return true;
    return false;
}

struct tunnel_walk {
    unsigned interface;
    bool tunnel;
};

static void on_kind(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    static const char *const kinds[] = {"tun", "wireguard", "amneziawg", "xfrm",
                                        "vti", "vti6",      "ipip",      "gre",
                                        "sit", "ip6tnl",    "ip6gre",    "ovpn"};
    struct tunnel_walk *w = ctx;
    struct netlink_link l;
    if (type != RTM_NEWLINK || !netlink_read_link(body, len, &l) ||
        l.index != w->interface)
        return;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        w->tunnel = w->tunnel || strcmp(l.kind, kinds[i]) == 0;
}

bool egress_is_tunnel(unsigned interface)
{
    struct tunnel_walk w = {.interface = interface};
    return interface != 0 && netlink_dump(RTM_GETLINK, on_kind, &w) && w.tunnel;
}

/* Addresses of this machine from which something on the Internet can be reached. */
struct own_walk {
    uint8_t family;
    struct addr addr[SOURCES_MAX];
    unsigned interface[SOURCES_MAX];
    size_t count;
};

static void on_own(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct own_walk *w = ctx;
    struct netlink_address a;
    if (type != RTM_NEWADDR || !netlink_read_address(body, len, &a) ||
        a.ip.family != w->family || w->count == SOURCES_MAX ||
        (a.flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED)) != 0)
        return;
    struct addr probe = a.ip;
    probe.port = 1; /* a port of 0 has no scope */
    if (addr_scope_of(&probe) != ADDR_SCOPE_GLOBAL &&
        addr_scope_of(&probe) != ADDR_SCOPE_PRIVATE)
        return;
    w->interface[w->count] = a.interface;
    w->addr[w->count++] = a.ip;
}

static bool walk_own(struct own_walk *w, const struct addr *to)
{
    *w = (struct own_walk){.family = to->family};
    return netlink_dump(RTM_GETADDR, on_own, w);
}

/*
 * A default route leads to `to` through `interface`, and from which of its addresses:
 * family none where the kernel finds it by itself, else where a rule asks for one (`ip
 * rule from ADDRESS`).
 */
static bool leads(const struct own_walk *own, unsigned interface, const struct addr *to,
                  struct addr *source, uint32_t *order)
{
    struct netlink_route r;
    *source = (struct addr){0};
    if (netlink_route(to, NULL, interface, &r) && r.leads_out && r.bits == 0) {
        *order = r.priority;
        return true;
    }
    for (size_t i = 0; i < own->count; i++) {
        if (own->interface[i] != interface ||
            !netlink_route(to, &own->addr[i], interface, &r) || !r.leads_out ||
            r.bits != 0)
            continue;
        *source = own->addr[i];
        *order = UINT32_MAX; /* after those that need no rule */
        return true;
    }
    return false;
}

unsigned egress_other(const struct addr *to, unsigned used)
{
    struct link_walk links = {0};
    struct own_walk own;
    struct addr source;
    unsigned best = 0;
    uint32_t order, least = 0;
    if (used == 0)
        used = egress_chosen() != 0 ? egress_chosen() : egress_by_routes(to);
    if (!netlink_dump(RTM_GETLINK, on_link, &links) || !walk_own(&own, to) ||
        (used != 0 && !is_plain(&links, used)))
        return 0;
    for (size_t i = 0; i < own.count; i++) {
        unsigned interface = own.interface[i];
        if (interface == used || interface == best || !is_plain(&links, interface) ||
            !leads(&own, interface, to, &source, &order) ||
            (best != 0 && order >= least))
            continue;
        best = interface;
        least = order;
    }
    return best;
}

static bool find_source(unsigned interface, const struct addr *to, struct addr *source)
{
    struct own_walk own;
    uint32_t order;
    *source = (struct addr){0};
    return walk_own(&own, to) && leads(&own, interface, to, source, &order);
}

bool egress_leads(unsigned interface, const struct addr *to)
{
    struct addr source;
    return find_source(interface, to, &source);
}

void egress_name(unsigned interface, char *buf, size_t cap)
{
    char name[IF_NAMESIZE];
    if (if_indextoname(interface, name) != NULL)
        (void)snprintf(buf, cap, "%s", name);
    else
        (void)snprintf(buf, cap, "%u", interface);
}

static int filter_of(const char *name)
{
    char path[64 + IF_NAMESIZE];
    int c = EOF;
    (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", name);
    FILE *in = fopen(path, "re");
    if (in != NULL) {
        c = fgetc(in);
        (void)fclose(in);
    }
    return c >= '0' && c <= '2' ? c - '0' : 0;
}

/* The greater of the two counts: 2 asks only whether there is any route. */
bool egress_is_strict(unsigned interface)
{
    char name[IF_NAMESIZE];
    if (if_indextoname(interface, name) == NULL)
        return false;
    int own = filter_of(name), all = filter_of("all");
    return (own > all ? own : all) == 1;
}

static void on_near(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct near *n = ctx;
    struct netlink_address a;
    if (type != RTM_NEWADDR || !netlink_read_address(body, len, &a) ||
        n->count == NETS_MAX)
        return;
    n->addr[n->count] = a.ip;
    n->bits[n->count++] = a.bits;
}

static const struct addr far[] = {
    {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}},
    {.family = ADDR_V6, .port = 9, .ip = {0x26, 0x20}},
};

void egress_choose(unsigned interface, unsigned instead_of)
{
    struct near now = {0};
    if (interface != 0) {
        (void)!netlink_dump(RTM_GETADDR, on_near, &now);
        for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++)
            (void)!find_source(interface, &far[i], &now.sources[i]);
    }
    (void)pthread_mutex_lock(&lock);
    near = now;
    (void)pthread_mutex_unlock(&lock);
    atomic_store(&silent, interface != 0 ? instead_of : 0);
    atomic_store(&chosen, interface);
}

unsigned egress_chosen(void)
{
    return atomic_load(&chosen);
}

unsigned egress_left(void)
{
    return atomic_load(&silent);
}

unsigned egress_towards(const struct addr *to, struct addr *source)
{
    unsigned interface = egress_chosen();
    struct addr there = *to;
    there.port = 1; /* a port of 0 has no scope */
    *source = (struct addr){0};
    if (interface == 0 || addr_scope_of(&there) != ADDR_SCOPE_GLOBAL)
        return 0;
    (void)pthread_mutex_lock(&lock);
    *source = near.sources[to->family == ADDR_V6];
    for (size_t i = 0; i < near.count; i++)
        if (addr_prefix_equal(&near.addr[i], to, near.bits[i]))
            interface = 0;
    (void)pthread_mutex_unlock(&lock);
    return interface;
}

bool egress_is_left(unsigned interface, const struct addr *to)
{
    struct addr source;
    return interface != 0 && interface == egress_left() &&
           egress_towards(to, &source) != 0;
}

static void bind_to(int fd, unsigned interface, const struct addr *source)
{
    struct sockaddr_storage ss;
    int index = (int)interface, on = 1;
    socklen_t len = source->family != ADDR_NONE ? sockaddr_from_addr(&ss, source) : 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index));
    if (len == 0) /* one that has a port already keeps it, and starts where it can */
        return;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    (void)!bind(fd, (struct sockaddr *)&ss, len);
}

void egress_bind(int fd, const struct addr *to)
{
    struct addr source;
    unsigned interface = egress_towards(to, &source);
    if (interface != 0)
        bind_to(fd, interface, &source);
}

void egress_bind_over(int fd, unsigned interface, const struct addr *to)
{
    struct addr source;
    (void)!find_source(interface, to, &source);
    bind_to(fd, interface, &source);
}

unsigned egress_of(int fd)
{
    int index = 0;
    socklen_t len = sizeof(index);
    if (getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &len) != 0)
        return 0;
    return (unsigned)index;
}
