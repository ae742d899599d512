/*
 * Decides when the network changed. A message about addresses, links or default routes
 * only starts a short wait; then the usable addresses and default routes are read
 * afresh and compared with what was, so that chatter which changes nothing is not
 * passed on. An address that went is a change even when it is back by then: what was
 * connected from it may lead nowhere.
 */
#include "io/netmon.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/key.h"
#include "io/egress.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netlink.h"
#include "io/sidenet.h"
#include "io/sock.h"
#include "io/sockaddr.h"

enum {
    NETMON_QUIET_MS = 10,
    NETMON_LONGEST = 4,   /* quiet times after the first message, whatever follows */
    NETMON_RESTLESS = 6,  /* the quiet time doubles so often */
    NETMON_CALM_MS = 500, /* takes back one doubling */
    NETMON_SLEEP_POLL_S = 2,
    NETMON_SLEEP_MIN_MS = 1000, /* a shorter suspend breaks nothing */
    NETMON_ADDRESS_MAX = 64,
    NETMON_DEFAULTS_MAX = 16,
    NETMON_BRIDGES_MAX = 64,
    NETMON_RANKS = 8, /* of addresses; how far apart those of interfaces are */
    NETMON_HASH_LEN = 32,
};

struct netmon {
    struct loop *loop;
    struct watch news, waking;
    struct timer debounce;
    int fd;
    int sleep_fd; /* a timer that goes on while the machine sleeps: due at its waking */
    netmon_cb on_change;
    void *ctx;
    uint64_t burst_ms;    /* loop time of the first unreported message; 0: none */
    uint64_t reported_ms; /* loop time of the last report */
    unsigned restless;    /* bursts of late: the quiet time doubles with each */
    bool lost;            /* a usable address went in this burst */
    int64_t suspended_ms; /* CLOCK_BOOTTIME - CLOCK_MONOTONIC */
    uint8_t addresses[NETMON_HASH_LEN]; /* of what was last reported */
    uint8_t routes[NETMON_HASH_LEN];
};

const char *netmon_reason_name(enum netmon_reason reason)
{
    switch (reason) {
    case NETMON_ADDRESSES:
        return "addresses";
    case NETMON_ROUTES:
        return "routes";
    case NETMON_RESUME:
        return "resume";
    }
    return "unknown";
}

/* Interfaces by how likely a peer is there. */
struct interfaces {
    uint32_t defaults[NETMON_DEFAULTS_MAX], bridges[NETMON_BRIDGES_MAX];
    size_t default_count, bridge_count;
};

struct address_walk {
    struct addr found[NETMON_ADDRESS_MAX];
    int ranks[NETMON_ADDRESS_MAX];
    size_t count;
    const struct interfaces *by; /* NULL: all are alike */
    int fd;                      /* any socket, to ask for an interface's flags */
    bool loopback;
};

static bool interface_up(int fd, unsigned index)
{
    struct ifreq r = {0};
    return if_indextoname(index, r.ifr_name) != NULL &&
           ioctl(fd, SIOCGIFFLAGS, &r) == 0 && (r.ifr_flags & IFF_UP) != 0 &&
           (r.ifr_flags & IFF_RUNNING) != 0;
}

/* Lower is better; -1 is not usable. */
static int address_rank(const struct addr *a, uint32_t flags, bool loopback)
{
    struct addr probe = *a;
    probe.port = 1; /* a port of 0 counts as unusable */
    if ((flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED)) != 0 &&
        (flags & IFA_F_OPTIMISTIC) == 0)
        return -1;
    switch (addr_scope_of(&probe)) {
    case ADDR_SCOPE_GLOBAL:
        return a->family == ADDR_V6 && (flags & IFA_F_TEMPORARY) != 0 ? 0 : 1;
    case ADDR_SCOPE_PRIVATE:
        return a->family == ADDR_V4 ? 2 : 3;
    case ADDR_SCOPE_LOOPBACK:
        return loopback ? 4 : -1;
    case ADDR_SCOPE_LINK:
    case ADDR_SCOPE_UNUSABLE:
        break;
    }
    return -1;
}

/* One that is better than the last takes its place when there is no other. */
static void insert_address(struct address_walk *w, const struct addr *a, int rank)
{
    if (w->count == NETMON_ADDRESS_MAX && w->ranks[w->count - 1] <= rank)
        return;
    if (w->count == NETMON_ADDRESS_MAX)
        w->count--;
    size_t at = w->count;
    for (; at > 0 && w->ranks[at - 1] > rank; at--) {
        w->found[at] = w->found[at - 1];
        w->ranks[at] = w->ranks[at - 1];
    }
    w->found[at] = *a;
    w->ranks[at] = rank;
    w->count++;
}

static bool holds(const uint32_t *list, size_t n, unsigned interface)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == interface)
            return true;
    return false;
}

static int interface_rank(const struct interfaces *by, unsigned interface)
{
    if (by == NULL || holds(by->defaults, by->default_count, interface))
        return 0;
    return holds(by->bridges, by->bridge_count, interface) ? 2 : 1;
}

static void on_link(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct interfaces *by = ctx;
    struct netlink_link l;
    if (type == RTM_NEWLINK && netlink_read_link(body, len, &l) &&
        strcmp(l.kind, "bridge") == 0 && by->bridge_count < NETMON_BRIDGES_MAX)
        by->bridges[by->bridge_count++] = l.index;
}

static void on_address(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct address_walk *w = ctx;
    struct netlink_address a;
    if (type != RTM_NEWADDR || !netlink_read_address(body, len, &a))
        return;
    int rank = address_rank(&a.ip, a.flags, w->loopback);
    if (rank >= 0 && interface_up(w->fd, a.interface))
        insert_address(w, &a.ip,
                       rank + NETMON_RANKS * interface_rank(w->by, a.interface));
}

static bool walk_addresses(struct address_walk *w, const struct interfaces *by,
                           bool loopback)
{
    *w = (struct address_walk){.by = by, .loopback = loopback};
    w->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (w->fd < 0)
        return false;
    bool done = netlink_dump(RTM_GETADDR, on_address, w);
    (void)close(w->fd);
    return done;
}

size_t netmon_addresses(struct addr *out, size_t max, bool loopback)
{
    struct address_walk w;
    if (!walk_addresses(&w, NULL, loopback))
        log_debug("the kernel does not list its addresses");
    size_t n = w.count < max ? w.count : max;
    memcpy(out, w.found, n * sizeof(*out));
    return n;
}

/* How many of this family there is room for, where `others` of the other one wait. */
static size_t room_for(size_t max, size_t others)
{
    return max - (others < max / 2 ? others : max / 2);
}

/* At most `max`, in their order, but of each family some. */
static size_t choose(const struct address_walk *w, struct addr *out, size_t max)
{
    size_t n = 0, six = 0, taken[2] = {0};
    for (size_t i = 0; i < w->count; i++)
        six += w->found[i].family == ADDR_V6;
    const size_t room[2] = {room_for(max, six), room_for(max, w->count - six)};
    for (size_t i = 0; i < w->count && n < max; i++) {
        bool is_six = w->found[i].family == ADDR_V6;
        if (taken[is_six]++ < room[is_six])
            out[n++] = w->found[i];
    }
    return n;
}

size_t netmon_candidates(struct addr *out, size_t max, bool loopback)
{
    struct interfaces by = {0};
    struct address_walk w;
    if (!walk_addresses(&w, NULL, loopback))
        log_debug("the kernel does not list its addresses");
    if (w.count > max) { /* only then: a router's routes are many */
        by.default_count = sidenet_defaults(by.defaults, NETMON_DEFAULTS_MAX);
        (void)!netlink_dump(RTM_GETLINK, on_link, &by);
        (void)!walk_addresses(&w, &by, loopback);
    }
    return choose(&w, out, max);
}

/* hash = H(hash, bytes): the dumps come in a stable order. */
static void hash_more(uint8_t hash[static NETMON_HASH_LEN], const void *bytes,
                      size_t len)
{
    uint8_t key[NETMON_HASH_LEN];
    memcpy(key, hash, sizeof(key));
    key_hash(hash, bytes, len, key, sizeof(key));
}

/* 0.0.0.0/1 and 128.0.0.0/1 are how some tunnels overrule the default route. */
static bool is_default(const struct rtmsg *m)
{
    return m->rtm_dst_len <= 1 && m->rtm_type == RTN_UNICAST;
}

static void on_route(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    static const uint16_t parts[] = {RTA_DST,      RTA_GATEWAY, RTA_OIF,
                                     RTA_PRIORITY, RTA_TABLE,   RTA_MULTIPATH};
    struct rtmsg m;
    size_t head = NLMSG_ALIGN(sizeof(m));
    if (type != RTM_NEWROUTE || len < head)
        return;
    memcpy(&m, body, sizeof(m));
    if (!is_default(&m))
        return;
    hash_more(ctx, &m.rtm_family, sizeof(m.rtm_family));
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        size_t part_len = 0;
        const uint8_t *part =
            netlink_attribute(body + head, len - head, parts[i], &part_len);
        if (part != NULL)
            hash_more(ctx, part, part_len);
    }
}

/* Reads both states; false when the kernel does not tell. */
static bool read_state(uint8_t addresses[static NETMON_HASH_LEN],
                       uint8_t routes[static NETMON_HASH_LEN])
{
    struct address_walk w;
    memset(addresses, 0, NETMON_HASH_LEN);
    memset(routes, 0, NETMON_HASH_LEN);
    if (!walk_addresses(&w, NULL, false))
        return false;
    for (size_t i = 0; i < w.count; i++)
        hash_more(addresses, w.found[i].ip, sizeof(w.found[i].ip));
    return netlink_dump(RTM_GETROUTE, on_route, routes);
}

bool netmon_owns(const struct addr *a)
{
    struct addr own[32];
    size_t n = netmon_addresses(own, sizeof(own) / sizeof(own[0]), false);
    for (size_t i = 0; i < n; i++)
        if (addr_ip_equal(&own[i], a))
            return true;
    return false;
}

struct owner_walk {
    const struct addr *wanted;
    int fd; /* to ask for an interface's flags */
    unsigned interface;
    bool owned, up;
};

static void on_owner(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct owner_walk *w = ctx;
    struct netlink_address a;
    if (type != RTM_NEWADDR || !netlink_read_address(body, len, &a) ||
        !addr_ip_equal(&a.ip, w->wanted))
        return;
    w->owned = true;
    w->interface = a.interface;
    w->up = w->up || interface_up(w->fd, a.interface);
}

/* Where the kernel would start a connection to `remote` now; false: nowhere. */
bool netmon_source(const struct addr *remote, struct addr *local)
{
    return sock_source_for(remote, local) == 0;
}

struct dark_walk {
    int fd;
    char *name;
};

static void on_dark(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct dark_walk *w = ctx;
    struct netlink_address a;
    struct ifreq r = {0};
    if (w->name[0] == '\0' && type == RTM_NEWADDR &&
        netlink_read_address(body, len, &a) && address_rank(&a.ip, 0, false) >= 0 &&
        if_indextoname(a.interface, r.ifr_name) != NULL &&
        ioctl(w->fd, SIOCGIFFLAGS, &r) == 0 && (r.ifr_flags & IFF_UP) != 0 &&
        (r.ifr_flags & IFF_RUNNING) == 0)
        memcpy(w->name, r.ifr_name, NETMON_NAME_LEN);
}

bool netmon_dark(char name[static NETMON_NAME_LEN])
{
    struct dark_walk w = {.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                          .name = name};
    name[0] = '\0';
    if (w.fd < 0)
        return false;
    (void)!netlink_dump(RTM_GETADDR, on_dark, &w);
    (void)close(w.fd);
    return name[0] != '\0';
}

bool netmon_leads_out(void)
{
    struct addr local, v4 = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}},
                       v6 = {.family = ADDR_V6, .port = 9, .ip = {0x26, 0x20}};
    return netmon_source(&v4, &local) || netmon_source(&v6, &local);
}

enum netmon_way netmon_way_of(const struct addr *local, const struct addr *remote)
{
    struct owner_walk w = {.wanted = local};
    struct addr now;
    if (local->family == ADDR_NONE || remote->family == ADDR_NONE ||
        addr_scope_of(local) == ADDR_SCOPE_LOOPBACK)
        return NETMON_WAY_SAME;
    w.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool told = w.fd >= 0 && netlink_dump(RTM_GETADDR, on_owner, &w);
    if (w.fd >= 0)
        (void)close(w.fd);
    if (told && (!w.owned || egress_is_left(w.interface, remote)))
        return NETMON_WAY_GONE;
    bool found = told && netmon_source(remote, &now);
    if (found && w.up && addr_ip_equal(&now, local))
        return NETMON_WAY_SAME;
    /* Without another way there is time: the link may come back as it was. */
    return found && !w.up ? NETMON_WAY_GONE : NETMON_WAY_OTHER;
}

void netmon_network(uint8_t id[static NETMON_NETWORK_LEN])
{
    struct addr found[16];
    uint8_t routes[NETMON_HASH_LEN] = {0};
    size_t n = netmon_addresses(found, sizeof(found) / sizeof(found[0]), false);
    (void)!netlink_dump(RTM_GETROUTE, on_route, routes);
    for (size_t i = 0; i < n; i++) /* /24 and /64: the host's part may change */
        hash_more(routes, found[i].ip, found[i].family == ADDR_V4 ? 3 : 8);
    memcpy(id, routes, NETMON_NETWORK_LEN);
}

struct way_out {
    uint32_t priority;
    bool found;
    uint8_t hash[NETMON_HASH_LEN];
};

static void on_way_out(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct way_out *w = ctx;
    struct rtmsg m;
    uint32_t priority = 0;
    size_t head = NLMSG_ALIGN(sizeof(m)), part_len = 0;
    if (type != RTM_NEWROUTE || len < head)
        return;
    memcpy(&m, body, sizeof(m));
    if (m.rtm_family != AF_INET || !is_default(&m))
        return;
    const uint8_t *part =
        netlink_attribute(body + head, len - head, RTA_PRIORITY, &part_len);
    if (part != NULL && part_len == sizeof(priority))
        memcpy(&priority, part, sizeof(priority));
    if (w->found && priority >= w->priority)
        return;
    *w = (struct way_out){.priority = priority, .found = true};
    on_route(w->hash, type, body, len);
}

/* NATs are IPv4's: where there is none, what IPv6 starts from. */
uint64_t netmon_way_out(void)
{
    struct addr local, v4 = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}},
                       v6 = {.family = ADDR_V6, .port = 9, .ip = {0x26, 0x20}};
    struct way_out w = {0};
    uint64_t name;
    (void)!netlink_dump(RTM_GETROUTE, on_way_out, &w);
    if (netmon_source(&v4, &local))
        hash_more(w.hash, local.ip, 3); /* of /24 */
    else if (netmon_source(&v6, &local))
        hash_more(w.hash, local.ip, 8);
    memcpy(&name, w.hash, sizeof(name));
    return name;
}

static void on_settled(void *ctx)
{
    struct netmon *n = ctx;
    uint8_t addresses[NETMON_HASH_LEN], routes[NETMON_HASH_LEN];
    bool lost = n->lost;
    n->burst_ms = 0;
    n->lost = false;
    if (!read_state(addresses, routes))
        return;
    bool moved = lost || memcmp(addresses, n->addresses, NETMON_HASH_LEN) != 0;
    bool routed = memcmp(routes, n->routes, NETMON_HASH_LEN) != 0;
    memcpy(n->addresses, addresses, NETMON_HASH_LEN);
    memcpy(n->routes, routes, NETMON_HASH_LEN);
    if (!moved && !routed)
        return;
    n->reported_ms = loop_now_ms(n->loop);
    if (n->restless < NETMON_RESTLESS)
        n->restless++;
    n->on_change(n->ctx, moved ? NETMON_ADDRESSES : NETMON_ROUTES);
}

struct news {
    bool matter, lost;
};

static void on_news(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct news *news = ctx;
    struct rtmsg m;
    struct netlink_address a;
    if (type == RTM_NEWROUTE || type == RTM_DELROUTE) {
        if (len < sizeof(m))
            return;
        memcpy(&m, body, sizeof(m));
        news->matter = news->matter || is_default(&m);
        return;
    }
    news->matter = true;
    if (type == RTM_DELADDR && netlink_read_address(body, len, &a) &&
        address_rank(&a.ip, a.flags, false) >= 0)
        news->lost = true;
}

static void wait_for_quiet(struct netmon *n)
{
    uint64_t now_ms = loop_now_ms(n->loop);
    uint64_t calm = (now_ms - n->reported_ms) / NETMON_CALM_MS;
    unsigned restless = calm < n->restless ? n->restless - (unsigned)calm : 0;
    uint64_t quiet_ms = (uint64_t)NETMON_QUIET_MS << restless;
    if (n->burst_ms == 0) {
        n->burst_ms = now_ms;
        n->restless = restless;
    }
    uint64_t due_ms = now_ms + quiet_ms;
    if (due_ms > n->burst_ms + NETMON_LONGEST * quiet_ms)
        due_ms = n->burst_ms + NETMON_LONGEST * quiet_ms;
    uint64_t wait_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    timer_start(&n->debounce, wait_ms);
}

static void on_netlink(void *ctx, int events)
{
    struct netmon *n = ctx;
    struct news news = {0};
    uint8_t buf[8192];
    (void)events;
    for (int i = 0; i < 256; i++) {
        ssize_t got = recv(n->fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (got < 0 && errno != ENOBUFS)
            break;
        if (got > 0)
            netlink_each(buf, (size_t)got, on_news, &news);
        else /* messages were lost, so look at everything */
            news.matter = true;
    }
    n->lost = n->lost || news.lost;
    if (news.matter)
        wait_for_quiet(n);
}

static int64_t suspended_ms(void)
{
    struct timespec boot, mono;
    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    (void)clock_gettime(CLOCK_MONOTONIC, &mono);
    return ((int64_t)boot.tv_sec - mono.tv_sec) * 1000 +
           (boot.tv_nsec - mono.tv_nsec) / 1000000;
}

static void on_sleep_poll(void *ctx, int events)
{
    struct netmon *n = ctx;
    uint64_t times;
    (void)events;
    (void)!read(n->sleep_fd, &times, sizeof(times));
    int64_t now_ms = suspended_ms(), before_ms = n->suspended_ms;
    n->suspended_ms = now_ms;
    if (now_ms - before_ms >= NETMON_SLEEP_MIN_MS)
        n->on_change(n->ctx, NETMON_RESUME);
}

static int open_sockets(struct netmon *n)
{
    struct itimerspec every = {.it_value.tv_sec = NETMON_SLEEP_POLL_S,
                               .it_interval.tv_sec = NETMON_SLEEP_POLL_S};
    n->fd = netlink_monitor();
    n->sleep_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    return n->fd >= 0 && n->sleep_fd >= 0 &&
                   timerfd_settime(n->sleep_fd, 0, &every, NULL) == 0
               ? 0
               : POSTERN_ERR_IO;
}

int netmon_open(struct netmon **out, struct loop *loop, netmon_cb on_change, void *ctx)
{
    struct netmon *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return POSTERN_ERR_NOMEM;
    n->loop = loop;
    n->on_change = on_change;
    n->ctx = ctx;
    n->suspended_ms = suspended_ms();
    timer_init(&n->debounce, loop, on_settled, n);
    int rc = open_sockets(n);
    /* first the socket, then the state: a change in between is seen twice, not lost */
    if (rc == 0)
        rc = watch_start(&n->news, loop, n->fd, WATCH_READ, on_netlink, n);
    if (rc == 0)
        rc = watch_start(&n->waking, loop, n->sleep_fd, WATCH_READ, on_sleep_poll, n);
    if (rc == 0 && !read_state(n->addresses, n->routes))
        rc = POSTERN_ERR_IO;
    if (rc != 0) {
        netmon_close(n);
        return rc;
    }
    *out = n;
    return 0;
}

void netmon_close(struct netmon *n)
{
    if (n == NULL)
        return;
    watch_close(&n->news);
    watch_close(&n->waking);
    timer_stop(&n->debounce);
    if (n->fd >= 0)
        (void)close(n->fd);
    if (n->sleep_fd >= 0)
        (void)close(n->sleep_fd);
    free(n);
}
