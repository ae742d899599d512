/* Sockets that an ordinary user may not make, handed over when they are made. */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/parts.h"
#include "io/sockaddr.h"

#ifndef TCP_REPAIR_OFF_NO_WP
#define TCP_REPAIR_OFF_NO_WP (-1)
#endif

static int open_bound(const struct addr *local, int type, bool transparent)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, local);
    int on = 1;
    if (len == 0) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    int fd = socket(ss.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (local->family == ADDR_V6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    bool v6 = local->family == ADDR_V6;
    if ((!transparent ||
         setsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
                    &on, sizeof(on)) == 0) &&
        bind(fd, (struct sockaddr *)&ss, len) == 0)
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

static int refuse_errno(struct privilege_reply *r, const char *what)
{
    int err = errno;
    return refuse(r,
                  err == EADDRINUSE               ? POSTERN_ERR_INUSE
                  : err == EPERM || err == EACCES ? POSTERN_ERR_PERM
                                                  : POSTERN_ERR_IO,
                  "%s: %s", what, strerror(err));
}

/* TCP_REPAIR lets the next sequence number be chosen before connect(); tcp(7). */
int socket_sequenced(const struct privilege_request *q, struct privilege_reply *r,
                     int *fd)
{
    int on = 1, off = TCP_REPAIR_OFF_NO_WP, queue = TCP_SEND_QUEUE;
    int s = open_bound(&q->local, SOCK_STREAM, false);
    if (s < 0)
        return refuse_errno(r, "a TCP socket cannot be bound");
    (void)setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (setsockopt(s, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0 ||
        setsockopt(s, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)) != 0 ||
        setsockopt(s, IPPROTO_TCP, TCP_QUEUE_SEQ, &q->sequence, sizeof(q->sequence)) !=
            0 ||
        setsockopt(s, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)) != 0 ||
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) { /* now unset */
        int rc = refuse_errno(r, "the first sequence number cannot be chosen");
        close(s);
        return rc;
    }
    *fd = s;
    return 0;
}

/* The kernel lets us bind nothing else. */
/* A network's broadcast address can be bound, and not connected to (EACCES). */
bool socket_is_own(const struct addr *a)
{
    struct sockaddr_storage ss;
    struct addr own = *a;
    own.port = 0;
    int fd = open_bound(&own, SOCK_DGRAM, false);
    if (fd < 0)
        return false;
    own.port = 1; /* nothing is sent */
    socklen_t len = sockaddr_from_addr(&ss, &own);
    bool is = connect(fd, (struct sockaddr *)&ss, len) == 0;
    close(fd);
    return is;
}

int socket_transparent(const struct privilege_request *q, struct privilege_reply *r,
                       int *fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, &q->remote);
    if (socket_is_own(&q->local))
        return refuse(r, POSTERN_ERR_DENIED, "the address to send from is our own");
    int s = open_bound(&q->local, SOCK_DGRAM, true);
    if (s < 0)
        return refuse_errno(r, "the broker's address cannot be sent from");
    if (connect(s, (struct sockaddr *)&ss, len) != 0) {
        int rc = refuse_errno(r, "there is no way to the peer's address");
        close(s);
        return rc;
    }
    *fd = s;
    return 0;
}

int socket_low_port(const struct privilege_request *q, struct privilege_reply *r,
                    int *fd)
{
    int s = open_bound(&q->local, q->tcp ? SOCK_STREAM : SOCK_DGRAM, false);
    if (s < 0)
        return refuse_errno(r, "a low port cannot be bound");
    *fd = s;
    return 0;
}

int socket_buffers(int fd, struct privilege_reply *r)
{
    int size = PRIVILEGE_BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
        return refuse(r, POSTERN_ERR_PERM, "the socket's buffers stay as they are");
    return 0;
}
