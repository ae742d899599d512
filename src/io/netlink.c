/* Framing of rtnetlink(7). Copies every header out before it trusts a length. */
#include "io/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/err.h"

enum { NETLINK_BUFFER_LEN = 32768 };

/* Walks one datagram; 1 at the dump's end, 0 when more must come, -1 on an error. */
static int walk(const uint8_t *at, size_t left, netlink_cb cb, void *ctx)
{
    while (left >= sizeof(struct nlmsghdr)) {
        struct nlmsghdr h;
        memcpy(&h, at, sizeof(h));
        if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > left)
            return -1;
        if (h.nlmsg_type == NLMSG_DONE)
            return 1;
        if (h.nlmsg_type == NLMSG_ERROR)
            return -1;
        cb(ctx, h.nlmsg_type, at + NLMSG_HDRLEN, h.nlmsg_len - NLMSG_HDRLEN);
        size_t step = NLMSG_ALIGN((size_t)h.nlmsg_len);
        if (step >= left)
            return 0;
        at += step;
        left -= step;
    }
    return 0;
}

static bool read_dump(int fd, netlink_cb cb, void *ctx)
{
    uint8_t buf[NETLINK_BUFFER_LEN];
    int r = 0;
    while (r == 0) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        r = walk(buf, (size_t)n, cb, ctx);
    }
    return r == 1;
}

/* Sends one question of `len` bytes, and walks what is answered. */
static bool ask_kernel(const void *question, size_t len, netlink_cb cb, void *ctx,
                       bool (*read_answer)(int fd, netlink_cb cb, void *ctx))
{
    struct timeval limit = {.tv_sec = 1};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return false;
    bool done = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
                send(fd, question, len, 0) == (ssize_t)len && read_answer(fd, cb, ctx);
    (void)close(fd);
    return done;
}

bool netlink_dump(uint16_t type, netlink_cb cb, void *ctx)
{
    struct {
        struct nlmsghdr h;
        struct rtgenmsg g;
    } ask = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
                   .nlmsg_type = type,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                   .nlmsg_seq = 1},
             .g = {.rtgen_family = AF_UNSPEC}};
    return ask_kernel(&ask, ask.h.nlmsg_len, cb, ctx, read_dump);
}

struct route_question {
    struct nlmsghdr h;
    struct rtmsg m;
    uint8_t attributes[2 * RTA_SPACE(16) + RTA_SPACE(sizeof(uint32_t))];
};

static void add_attribute(struct route_question *q, unsigned short type,
                          const void *data, size_t len)
{
    struct rtattr head = {.rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = type};
    uint8_t *at = (uint8_t *)q + NLMSG_ALIGN(q->h.nlmsg_len);
    memcpy(at, &head, sizeof(head));
    memcpy(at + RTA_LENGTH(0), data, len);
    q->h.nlmsg_len =
        (uint32_t)(NLMSG_ALIGN(q->h.nlmsg_len) + RTA_ALIGN(RTA_LENGTH(len)));
}

struct route_walk {
    struct netlink_route *out;
    bool found;
};

static uint32_t number_of(const uint8_t *attrs, size_t len, uint16_t type)
{
    uint32_t value = 0;
    size_t n = 0;
    const uint8_t *at = netlink_attribute(attrs, len, type, &n);
    if (at != NULL && n == sizeof(value))
        memcpy(&value, at, sizeof(value));
    return value;
}

static void on_route(void *ctx, uint16_t type, const uint8_t *body, size_t len)
{
    struct route_walk *w = ctx;
    struct rtmsg m;
    size_t head = NLMSG_ALIGN(sizeof(m)), n = 0;
    if (type != RTM_NEWROUTE || len < head)
        return;
    memcpy(&m, body, sizeof(m));
    const uint8_t *attrs = body + head;
    *w->out = (struct netlink_route){
        .table = number_of(attrs, len - head, RTA_TABLE),
        .priority = number_of(attrs, len - head, RTA_PRIORITY),
        .bits = m.rtm_dst_len,
        .leads_out = m.rtm_type == RTN_UNICAST,
        .spread = netlink_attribute(attrs, len - head, RTA_MULTIPATH, &n) != NULL};
    w->found = true;
}

static bool read_one(int fd, netlink_cb cb, void *ctx)
{
    uint8_t buf[NETLINK_BUFFER_LEN];
    ssize_t n;
    do
        n = recv(fd, buf, sizeof(buf), 0);
    while (n < 0 && errno == EINTR);
    return n > 0 && walk(buf, (size_t)n, cb, ctx) == 0;
}

bool netlink_route(const struct addr *to, const struct addr *from, unsigned interface,
                   struct netlink_route *out)
{
    bool v6 = to->family == ADDR_V6;
    size_t len = v6 ? 16 : 4;
    uint32_t index = interface;
    struct route_walk w = {.out = out};
    struct route_question q = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)),
                                     .nlmsg_type = RTM_GETROUTE,
                                     .nlmsg_flags = NLM_F_REQUEST,
                                     .nlmsg_seq = 1},
                               .m = {.rtm_family = v6 ? AF_INET6 : AF_INET,
                                     .rtm_dst_len = (unsigned char)(8 * len),
                                     .rtm_flags = RTM_F_FIB_MATCH}};
    add_attribute(&q, RTA_DST, to->ip, len);
    if (from != NULL) {
        q.m.rtm_src_len = (unsigned char)(8 * len);
        add_attribute(&q, RTA_SRC, from->ip, len);
    }
    if (index != 0)
        add_attribute(&q, RTA_OIF, &index, sizeof(index));
    return ask_kernel(&q, q.h.nlmsg_len, on_route, &w, read_one) && w.found;
}

void netlink_each(const uint8_t *buf, size_t len, netlink_cb cb, void *ctx)
{
    (void)walk(buf, len, cb, ctx);
}

const uint8_t *netlink_attribute(const uint8_t *attrs, size_t attrs_len, uint16_t type,
                                 size_t *len)
{
    while (attrs_len >= sizeof(struct rtattr)) {
        struct rtattr head;
        memcpy(&head, attrs, sizeof(head));
        if (head.rta_len < sizeof(head) || head.rta_len > attrs_len)
            return NULL;
        if (head.rta_type == type) {
            *len = head.rta_len - RTA_LENGTH(0);
            return attrs + RTA_LENGTH(0);
        }
        size_t step = RTA_ALIGN((size_t)head.rta_len);
        if (step >= attrs_len)
            return NULL;
        attrs += step;
        attrs_len -= step;
    }
    return NULL;
}

bool netlink_read_link(const uint8_t *body, size_t len, struct netlink_link *out)
{
    struct ifinfomsg m;
    size_t head = NLMSG_ALIGN(sizeof(m)), n = 0, kind_len = 0;
    if (len < head)
        return false;
    memcpy(&m, body, sizeof(m));
    *out = (struct netlink_link){.index = (uint32_t)m.ifi_index,
                                 .runs = (m.ifi_flags & IFF_UP) != 0 &&
                                         (m.ifi_flags & IFF_RUNNING) != 0};
    const uint8_t *info = netlink_attribute(body + head, len - head, IFLA_LINKINFO, &n);
    const uint8_t *kind =
        info != NULL ? netlink_attribute(info, n, IFLA_INFO_KIND, &kind_len) : NULL;
    if (kind != NULL)
        memcpy(out->kind, kind,
               kind_len < sizeof(out->kind) ? kind_len : sizeof(out->kind) - 1);
    const uint8_t *at = netlink_attribute(body + head, len - head, IFLA_MASTER, &n);
    if (at != NULL && n == sizeof(out->master))
        memcpy(&out->master, at, sizeof(out->master));
    return true;
}

bool netlink_read_address(const uint8_t *body, size_t len, struct netlink_address *out)
{
    struct ifaddrmsg m;
    size_t head = NLMSG_ALIGN(sizeof(m)), ip_len = 0, flags_len = 0;
    if (len < head)
        return false;
    memcpy(&m, body, sizeof(m));
    *out = (struct netlink_address){
        .interface = m.ifa_index, .flags = m.ifa_flags, .bits = m.ifa_prefixlen};
    const uint8_t *attrs = body + head;
    const uint8_t *ip = netlink_attribute(attrs, len - head, IFA_LOCAL, &ip_len);
    if (ip == NULL) /* IFA_ADDRESS is the other end on a point-to-point link */
        ip = netlink_attribute(attrs, len - head, IFA_ADDRESS, &ip_len);
    const uint8_t *more = netlink_attribute(attrs, len - head, IFA_FLAGS, &flags_len);
    if (more != NULL && flags_len == sizeof(out->flags))
        memcpy(&out->flags, more, sizeof(out->flags));
    return ip != NULL && addr_from_bytes(&out->ip, ip, ip_len, 0) == 0;
}

int netlink_monitor(void)
{
    struct sockaddr_nl at = {.nl_family = AF_NETLINK,
                             .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR |
                                          RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                                          RTMGRP_IPV6_ROUTE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0)
        return POSTERN_ERR_IO;
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
        (void)close(fd);
        return POSTERN_ERR_IO;
    }
    return fd;
}
