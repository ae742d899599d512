/* RFC 3542 section 6 and ip(7): the other end of a packet's address pair. */
#include "io/pktinfo.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "io/oserr.h"
#include "io/sockaddr.h"

enum { CONTROL_LEN = 64 }; /* bytes; aligned as a uint64_t */

/* As recvmsg filled `msg`. */
static void read_local(struct msghdr *msg, const struct addr *bind, struct addr *local)
{
    *local = *bind;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        int rc = 0;
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            rc = addr_from_bytes(local, (uint8_t *)&info.ipi_addr, 4, bind->port);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            rc = addr_from_bytes(local, (uint8_t *)&info.ipi6_addr, 16, bind->port);
            if (addr_scope_of(local) == ADDR_SCOPE_LINK)
                local->scope = info.ipi6_ifindex;
        }
        (void)rc; /* the lengths are fixed: it cannot fail */
    }
}

/* For a control buffer, zeroed: returns the length that was used. */
static size_t put_from(void *control, uint8_t bound_family, const struct addr *from)
{
    struct cmsghdr c = {.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
    if (bound_family == ADDR_V4) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, from->ip, 4);
        c.cmsg_len = CMSG_LEN(sizeof(info));
        memcpy(control, &c, sizeof(c));
        memcpy((uint8_t *)control + CMSG_LEN(0), &info, sizeof(info));
        return CMSG_SPACE(sizeof(info));
    }
    struct sockaddr_storage ss;
    struct sockaddr_in6 in6;
    (void)sockaddr_from_addr_mapped(&ss, from);
    memcpy(&in6, &ss, sizeof(in6));
    struct in6_pktinfo info = {.ipi6_addr = in6.sin6_addr, .ipi6_ifindex = from->scope};
    c.cmsg_level = IPPROTO_IPV6;
    c.cmsg_type = IPV6_PKTINFO;
    c.cmsg_len = CMSG_LEN(sizeof(info));
    memcpy(control, &c, sizeof(c));
    memcpy((uint8_t *)control + CMSG_LEN(0), &info, sizeof(info));
    return CMSG_SPACE(sizeof(info));
}

ssize_t pktinfo_recv(int fd, const struct addr *bound, void *buf, size_t cap,
                     struct addr *from, struct addr *local)
{
    struct sockaddr_storage ss = {0};
    uint64_t control[CONTROL_LEN / sizeof(uint64_t)];
    struct iovec iov = {.iov_base = buf, .iov_len = cap};
    struct msghdr msg = {.msg_name = &ss,
                         .msg_namelen = sizeof(ss),
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t n;
    do
        n = recvmsg(fd, &msg, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return oserr(errno);
    read_local(&msg, bound, local);
    (void)!sockaddr_to_addr(from, (struct sockaddr *)&ss);
    if ((msg.msg_flags & MSG_TRUNC) != 0)
        *from = (struct addr){0};
    return n;
}

void pktinfo_send(int fd, const struct addr *bound, const void *buf, size_t len,
                  const struct addr *to, const struct addr *from)
{
    struct sockaddr_storage ss;
    uint64_t control[CONTROL_LEN / sizeof(uint64_t)] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    struct msghdr msg = {.msg_name = &ss, .msg_iov = &iov, .msg_iovlen = 1};
    msg.msg_namelen = bound->family == ADDR_V6 ? sockaddr_from_addr_mapped(&ss, to)
                                               : sockaddr_from_addr(&ss, to);
    msg.msg_control = control;
    msg.msg_controllen = put_from(control, bound->family, from);
    (void)sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL); /* lost is lost */
}
