/* Which kind of descriptor came along with a request; does nothing with it. */
#include <netinet/in.h>
#include <sys/socket.h>

#include "helper/parts.h"

static int option_of(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

enum edge_given given_kind(int fd)
{
    if (fd < 0)
        return EDGE_GIVEN_NONE;
    int domain = option_of(fd, SO_DOMAIN), type = option_of(fd, SO_TYPE);
    if ((domain == AF_INET || domain == AF_INET6) && type == SOCK_DGRAM &&
        option_of(fd, SO_PROTOCOL) == IPPROTO_UDP)
        return EDGE_GIVEN_UDP;
    return domain == AF_UNIX && type == SOCK_SEQPACKET ? EDGE_GIVEN_PAIR
                                                       : EDGE_GIVEN_OTHER;
}
