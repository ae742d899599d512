/* RFC 3542 section 6 and ip(7): the other end of a packet's address pair. */
#include "io/pktinfo.h"

#include <netinet/in.h>
#include <string.h>

#include "io/sockaddr.h"

void pktinfo_read(struct msghdr *msg, const struct addr *bind, struct addr *local)
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

size_t pktinfo_put(void *control, uint8_t bound_family, const struct addr *from)
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
