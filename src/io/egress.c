/* Dumps of the kernel's links, routes and addresses, and one number. */
#include "io/egress.h"

#include <linux/rtnetlink.h>
#include <net/if.h>
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

enum { LINKS_MAX = 64, NETS_MAX = 32 };

/* The process's own: the machine has one set of routes, whatever loops there are. */
static atomic_uint chosen;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct near {
    struct addr addr[NETS_MAX];
    unsigned bits[NETS_MAX];
    size_t count;
} near;

struct source_walk {
    struct addr source;
    unsigned interface;
};

static void on_source(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct source_walk *w = ctx;
    struct netlink_address a;
    if (type == RTM_NEWADDR && netlink_read_address(body, len, &a) &&
        addr_ip_equal(&a.ip, &w->source))
        w->interface = a.interface;
}

unsigned egress_by_routes(const struct addr *to)
{
    struct sockaddr_storage ss = {0};
    struct source_walk w = {0};
    socklen_t len = sockaddr_from_addr(&ss, to), got = sizeof(ss);
    int fd = len == 0 ? -1 : socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    bool known = connect(fd, (struct sockaddr *)&ss, len) == 0 &&
                 getsockname(fd, (struct sockaddr *)&ss, &got) == 0 &&
                 sockaddr_to_addr(&w.source, (const struct sockaddr *)&ss) == 0;
    (void)close(fd);
    return known && netlink_dump(RTM_GETADDR, on_source, &w) ? w.interface : 0;
}

struct link_walk {
    unsigned plain[LINKS_MAX]; /* no tunnels */
    size_t count;
    unsigned used, best, wanted;
    bool leads; /* the wanted one does */
    uint32_t priority;
    uint8_t family;
};

static void on_link(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    static const char *const kinds[] = {"",     "veth",  "vlan",    "bond",  "team",
                                        "wwan", "rmnet", "macvlan", "bridge"};
    struct link_walk *w = ctx;
    struct netlink_link l;
    if (type != RTM_NEWLINK || !netlink_read_link(body, len, &l))
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

static uint32_t number_of(const uint8_t *body, size_t len, uint16_t attribute)
{
    uint32_t value = 0;
    size_t n = 0;
    const uint8_t *at = netlink_attribute(body, len, attribute, &n);
    if (at != NULL && n == sizeof(value))
        memcpy(&value, at, sizeof(value));
    return value;
}

static void on_route(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct link_walk *w = ctx;
    struct rtmsg m;
    size_t head = NLMSG_ALIGN(sizeof(m));
    if (type != RTM_NEWROUTE || len < head)
        return;
    memcpy(&m, body, sizeof(m));
    if (m.rtm_family != w->family || m.rtm_dst_len != 0 || m.rtm_type != RTN_UNICAST ||
        m.rtm_table != RT_TABLE_MAIN ||
        (m.rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) != 0)
        return;
    unsigned interface = number_of(body + head, len - head, RTA_OIF);
    uint32_t priority = number_of(body + head, len - head, RTA_PRIORITY);
    w->leads = w->leads || interface == w->wanted;
    if (interface == w->used || !is_plain(w, interface) ||
        (w->best != 0 && priority >= w->priority))
        return;
    w->best = interface;
    w->priority = priority;
}

unsigned egress_other(const struct addr *to)
{
    struct link_walk w = {.family = to->family == ADDR_V6 ? AF_INET6 : AF_INET};
    unsigned by_routes = egress_by_routes(to);
    w.used = egress_chosen() != 0 ? egress_chosen() : by_routes;
    if (by_routes == 0 || !netlink_dump(RTM_GETLINK, on_link, &w) ||
        !is_plain(&w, by_routes) || !netlink_dump(RTM_GETROUTE, on_route, &w))
        return 0;
    return w.best;
}

bool egress_leads(unsigned interface, const struct addr *to)
{
    struct link_walk w = {.family = to->family == ADDR_V6 ? AF_INET6 : AF_INET,
                          .wanted = interface};
    return netlink_dump(RTM_GETROUTE, on_route, &w) && w.leads;
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

void egress_choose(unsigned interface)
{
    struct near now = {0};
    (void)!netlink_dump(RTM_GETADDR, on_near, &now);
    (void)pthread_mutex_lock(&lock);
    near = now;
    (void)pthread_mutex_unlock(&lock);
    atomic_store(&chosen, interface);
}

unsigned egress_chosen(void)
{
    return atomic_load(&chosen);
}

unsigned egress_towards(const struct addr *to)
{
    unsigned interface = egress_chosen();
    struct addr there = *to;
    there.port = 1; /* a port of 0 has no scope */
    if (interface == 0 || addr_scope_of(&there) != ADDR_SCOPE_GLOBAL)
        return 0;
    (void)pthread_mutex_lock(&lock);
    for (size_t i = 0; i < near.count; i++)
        if (addr_prefix_equal(&near.addr[i], to, near.bits[i]))
            interface = 0;
    (void)pthread_mutex_unlock(&lock);
    return interface;
}

void egress_bind(int fd, unsigned interface)
{
    int index = (int)interface;
    if (index != 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index));
}

unsigned egress_of(int fd)
{
    int index = 0;
    socklen_t len = sizeof(index);
    if (getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &len) != 0)
        return 0;
    return (unsigned)index;
}
