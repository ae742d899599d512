/* The only place that knows the layout of the kernel's addresses; opens nothing. */
#include "io/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

socklen_t sockaddr_from_addr(struct sockaddr_storage *ss, const struct addr *a)
{
    memset(ss, 0, sizeof(*ss));
    if (a->family == ADDR_V4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&in.sin_addr, a->ip, 4);
        memcpy(ss, &in, sizeof(in));
        return sizeof(in);
    }
    if (a->family == ADDR_V6) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6,
                                   .sin6_port = htons(a->port),
                                   .sin6_scope_id = a->scope};
        memcpy(&in6.sin6_addr, a->ip, 16);
        memcpy(ss, &in6, sizeof(in6));
        return sizeof(in6);
    }
    return 0;
}

socklen_t sockaddr_from_addr_mapped(struct sockaddr_storage *ss, const struct addr *a)
{
    struct addr m = *a;
    if (a->family == ADDR_V4) {
        m.family = ADDR_V6;
        memcpy(m.ip, mapped_prefix, sizeof(mapped_prefix));
        memcpy(m.ip + sizeof(mapped_prefix), a->ip, 4);
    }
    return sockaddr_from_addr(ss, &m);
}

int sockaddr_to_addr(struct addr *a, const struct sockaddr *sa)
{
    memset(a, 0, sizeof(*a));
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        return addr_from_bytes(a, (const uint8_t *)&in.sin_addr, 4, ntohs(in.sin_port));
    }
    if (sa->sa_family != AF_INET6)
        return POSTERN_ERR_INVALID;
    struct sockaddr_in6 in6;
    memcpy(&in6, sa, sizeof(in6));
    int r =
        addr_from_bytes(a, (const uint8_t *)&in6.sin6_addr, 16, ntohs(in6.sin6_port));
    if (a->family == ADDR_V6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80)
        a->scope = in6.sin6_scope_id;
    return r;
}
