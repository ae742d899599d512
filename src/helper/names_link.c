/*
 * The link by which systemd-resolved is told of a DNS server for one domain: it knows
 * servers by link, and takes none for loopback. Nothing is ever sent there. It is gone
 * with its descriptor, and what resolved knew by it with it, also after a kill.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/parts.h"

#define NAME "postern"
enum { DIGITS = 2 }; /* of its number: a hundred at once in a network namespace */

/* Of `up`'s DNS server. On loopback it answers; here it makes the link count. */
static const uint8_t server[4] = {127, 80, 0, 53};

static int open_tun(struct ifreq *ifr)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    *ifr = (struct ifreq){.ifr_flags = IFF_TUN | IFF_NO_PI};
    memcpy(ifr->ifr_name, NAME "%d", sizeof(NAME "%d"));
    if (ioctl(fd, TUNSETIFF, ifr) == 0)
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

/* By netlink, as the ioctl gives every 127.x.y.z the scope of one host. */
static bool add_address(int nl, unsigned index)
{
    struct {
        struct nlmsghdr head;
        struct ifaddrmsg body;
        struct rtattr attr;
        uint8_t ip[sizeof(server)];
    } m = {.head = {.nlmsg_len = sizeof(m),
                    .nlmsg_type = RTM_NEWADDR,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
           .body = {.ifa_family = AF_INET,
                    .ifa_prefixlen = 32,
                    .ifa_scope = RT_SCOPE_UNIVERSE,
                    .ifa_index = index},
           .attr = {.rta_len = RTA_LENGTH(sizeof(server)), .rta_type = IFA_LOCAL}};
    struct {
        struct nlmsghdr head;
        struct nlmsgerr err;
    } answer = {0};
    memcpy(m.ip, server, sizeof(server));
    if (send(nl, &m, sizeof(m), 0) != (ssize_t)sizeof(m) ||
        recv(nl, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer))
        return false;
    errno = -answer.err.error;
    return answer.head.nlmsg_type == NLMSG_ERROR && answer.err.error == 0;
}

static bool bring_up(struct ifreq *ifr)
{
    int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int ip = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up = nl >= 0 && ip >= 0 && ioctl(ip, SIOCGIFINDEX, ifr) == 0 &&
              add_address(nl, (unsigned)ifr->ifr_ifindex) &&
              ioctl(ip, SIOCGIFFLAGS, ifr) == 0;
    if (up) {
        ifr->ifr_flags = (short)(ifr->ifr_flags | IFF_UP);
        up = ioctl(ip, SIOCSIFFLAGS, ifr) == 0;
    }
    int err = errno;
    if (nl >= 0)
        close(nl);
    if (ip >= 0)
        close(ip);
    errno = err;
    return up;
}

int names_link(struct privilege_reply *r, int *fd)
{
    struct ifreq ifr;
    int tun = open_tun(&ifr);
    if (tun >= 0 && strlen(ifr.ifr_name) > sizeof(NAME) - 1 + DIGITS) {
        close(tun);
        return refuse(r, POSTERN_ERR_LIMIT, "there are many such links already");
    }
    if (tun >= 0 && bring_up(&ifr)) {
        (void)snprintf(r->reason, sizeof(r->reason), "%.*s", IFNAMSIZ - 1,
                       ifr.ifr_name);
        *fd = tun;
        return 0;
    }
    int rc = refuse(r, POSTERN_ERR_PERM, "a link for names cannot be made: %s",
                    strerror(errno));
    if (tun >= 0)
        close(tun);
    return rc;
}
