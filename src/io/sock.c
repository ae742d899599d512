/* The system calls; decides nothing. */
#include "io/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/egress.h"
#include "io/nat64_way.h"
#include "io/oserr.h"
#include "io/sockaddr.h"

/* -------------------------------------------------------------------- to make them */

static void set(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

/* Closes it; errno stays. */
static int give_up(int fd)
{
    int err = errno;
    (void)close(fd);
    errno = err;
    return oserr(err);
}

static void tell_own(int fd, bool v6)
{
    set(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVPKTINFO : IP_PKTINFO, 1);
}

static int open_bound(const struct addr *at, int type, const struct sock_options *o)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, at);
    bool v6 = at->family == ADDR_V6;
    int fd = socket(ss.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return oserr(errno);
    if (v6)
        set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !o->dual);
    if (type == SOCK_STREAM) /* restart at once, over connections in TIME_WAIT */
        set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (o->shared)
        set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (o->tells_own)
        tell_own(fd, v6);
    return bind(fd, (struct sockaddr *)&ss, len) == 0 ? fd : give_up(fd);
}

int sock_share(int fd, const struct sock_options *o)
{
    struct addr at;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own >= 0 && o->tells_own && sock_local(own, &at) == 0)
        tell_own(own, at.family == ADDR_V6);
    return own >= 0 ? own : oserr(errno);
}

int sock_listen(const struct addr *at, const struct sock_options *o)
{
    int fd = open_bound(at, SOCK_STREAM, o);
    if (fd < 0)
        return fd;
    return listen(fd, o->backlog) == 0 ? fd : give_up(fd);
}

int sock_udp(const struct addr *at, const struct sock_options *o)
{
    return open_bound(at, SOCK_DGRAM, o);
}

static int udp_to(const struct addr *to, bool outward)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, to);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return oserr(errno);
    if (outward)
        egress_bind(fd, to);
    return connect(fd, (struct sockaddr *)&ss, len) == 0 ? fd : give_up(fd);
}

int sock_udp_to(const struct addr *to)
{
    return udp_to(to, false);
}

int sock_pair(int fds[static 2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0
               ? 0
               : oserr(errno);
}

/* ------------------------------------------------------------------------- streams */

static ssize_t take(int fd, void *buf, size_t cap, int flags)
{
    ssize_t n;
    do
        n = recv(fd, buf, cap, flags | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : oserr(errno);
}

ssize_t sock_read(int fd, void *buf, size_t cap)
{
    return take(fd, buf, cap, 0);
}

ssize_t sock_peek(int fd, void *buf, size_t cap)
{
    return take(fd, buf, cap, MSG_PEEK);
}

static ssize_t take_message(int fd, struct msghdr *msg)
{
    ssize_t n;
    do
        n = recvmsg(fd, msg, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : oserr(errno);
}

static ssize_t give_message(int fd, const struct msghdr *msg)
{
    ssize_t n;
    do
        n = sendmsg(fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : oserr(errno);
}

/* The kernel's structure has no const; the calls do not write there. */
static struct msghdr message(const struct iovec *iov, size_t count)
{
    return (struct msghdr){.msg_iov = (struct iovec *)(uintptr_t)iov,
                           .msg_iovlen = count};
}

ssize_t sock_readv(int fd, const struct iovec *iov, size_t count)
{
    struct msghdr msg = message(iov, count);
    return take_message(fd, &msg);
}

ssize_t sock_write(int fd, const void *buf, size_t len)
{
    ssize_t n;
    do
        n = send(fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n >= 0 ? n : oserr(errno);
}

ssize_t sock_writev(int fd, const struct iovec *iov, size_t count)
{
    struct msghdr msg = message(iov, count);
    return give_message(fd, &msg);
}

bool sock_say(int fd, const void *buf, size_t len)
{
    return sock_write(fd, buf, len) == (ssize_t)len;
}

void sock_end_writing(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

void sock_end(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
}

bool sock_is_over(int fd)
{
    struct pollfd look = {.fd = fd};
    return poll(&look, 1, 0) == 1 && (look.revents & (POLLHUP | POLLERR)) != 0;
}

int sock_error(int fd)
{
    int err = 0;
    socklen_t len = sizeof(err);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    errno = err;
    return err == 0 ? 0 : oserr(err);
}

size_t sock_unsent(int fd)
{
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) == 0 && n > 0 ? (size_t)n : 0;
}

/* ----------------------------------------------------------------- UDP, one by one */

ssize_t sock_recv_from(int fd, void *buf, size_t cap, struct addr *from)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    ssize_t n;
    do
        n = recvfrom(fd, buf, cap, MSG_DONTWAIT, (struct sockaddr *)&ss, &len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return oserr(errno);
    (void)!sockaddr_to_addr(from, (struct sockaddr *)&ss);
    return n;
}

int sock_send_to(int fd, const void *buf, size_t len, const struct addr *to)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    return sock_sendv_to(fd, &iov, 1, to);
}

int sock_sendv_to(int fd, const struct iovec *iov, size_t count, const struct addr *to)
{
    struct sockaddr_storage ss;
    struct msghdr msg = message(iov, count);
    msg.msg_name = &ss;
    msg.msg_namelen = sockaddr_from_addr(&ss, to);
    if (msg.msg_namelen == 0)
        return POSTERN_ERR_INVALID;
    ssize_t n = give_message(fd, &msg);
    return n < 0 ? (int)n : 0;
}

/* ----------------------------------------------------------------------- addresses */

static int from_kernel(int fd, struct addr *a,
                       int (*ask)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    *a = (struct addr){0};
    if (ask(fd, (struct sockaddr *)&ss, &len) != 0)
        return POSTERN_ERR_IO;
    return sockaddr_to_addr(a, (const struct sockaddr *)&ss);
}

static int ask_local(int fd, struct sockaddr *sa, socklen_t *len)
{
    return getsockname(fd, sa, len);
}

static int ask_remote(int fd, struct sockaddr *sa, socklen_t *len)
{
    return getpeername(fd, sa, len);
}

int sock_local(int fd, struct addr *a)
{
    return from_kernel(fd, a, ask_local);
}

int sock_remote(int fd, struct addr *a)
{
    int rc = from_kernel(fd, a, ask_remote);
    struct addr v4;
    if (rc == 0 && a->family == ADDR_V6 && nat64_way_take_out(a, &v4))
        *a = v4;
    return rc;
}

static int source_by_routes(const struct addr *to, struct addr *from)
{
    *from = (struct addr){0};
    int fd = udp_to(to, true);
    if (fd < 0)
        return fd;
    int rc = sock_local(fd, from);
    (void)close(fd);
    from->port = 0;
    return rc;
}

int sock_source_for(const struct addr *to, struct addr *from)
{
    struct addr v6;
    int rc = source_by_routes(to, from);
    if (rc == POSTERN_ERR_UNREACHABLE && nat64_way_put_in(to, &v6))
        rc = source_by_routes(&v6, from);
    return rc;
}
