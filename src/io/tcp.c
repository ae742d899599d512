/* TCP sockets for hole punching; decides nothing. */
#include "io/tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/helper.h"
#include "io/linger.h"
#include "io/sockaddr.h"

/* ICMP quotes the packet it is about: one whose TTL has run down says nothing to us. */
enum { HOPS_DEFAULT = 64, QUOTED_HOPS_MIN = 5, BACKLOG = 4 };

int tcp_bind(const struct addr *local)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sockaddr_from_addr(&ss, local);
    int on = 1;
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return POSTERN_ERR_IO;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (local->family == ADDR_V6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&ss, len) == 0)
        return fd;
    int err = errno;
    close(fd);
    fd = err == EACCES ? helper_low_port(local, true) : -1;
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        return fd;
    }
    return err == EADDRINUSE ? POSTERN_ERR_INUSE
           : err == EACCES   ? POSTERN_ERR_PERM
                             : POSTERN_ERR_IO;
}

static void set_reach(int fd, bool v6, int hops, int quoted_min)
{
    (void)setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                     v6 ? IPV6_UNICAST_HOPS : IP_TTL, &hops, sizeof(hops));
    (void)setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                     v6 ? IPV6_MINHOPCOUNT : IP_MINTTL, &quoted_min,
                     sizeof(quoted_min));
}

int tcp_connect(int fd, const struct addr *to, unsigned hops)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, to);
    bool v6 = to->family == ADDR_V6;
    if (hops > 0)
        set_reach(fd, v6, (int)hops, QUOTED_HOPS_MIN);
    int rc = connect(fd, (struct sockaddr *)&ss, len);
    int err = errno;
    if (hops > 0)
        set_reach(fd, v6, HOPS_DEFAULT, QUOTED_HOPS_MIN);
    if (rc == 0 || err == EINPROGRESS)
        return 0;
    return err == ENETUNREACH || err == EHOSTUNREACH   ? POSTERN_ERR_UNREACHABLE
           : err == ECONNREFUSED                       ? POSTERN_ERR_REFUSED
           : err == EADDRINUSE || err == EADDRNOTAVAIL ? POSTERN_ERR_INUSE
                                                       : POSTERN_ERR_IO;
}

int tcp_listen(int fd)
{
    return listen(fd, BACKLOG) == 0 ? 0 : POSTERN_ERR_INUSE;
}

void tcp_abort(int fd)
{
    linger_break(fd);
}
