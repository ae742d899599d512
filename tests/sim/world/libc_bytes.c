/* libc's names for bytes over descriptors; see libc.c. */
#include "libc.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/sockaddr.h"

/* Bytes on their way between a program's buffers and a file. Between two waits only:
 * then another task may have its own here. A larger read or write is a short one. */
static uint8_t moving[65536];

/* --------------------------------------------------------------------------- bytes */

ssize_t read(int fd, void *buf, size_t cap)
{
    NOT_OURS(fd, ssize_t, SYS_read, fd, buf, cap);
    long rc;
    do
        rc = file_read(file_of(fd), buf, cap, false);
    while (waited(fd, file_of(fd), 0, POLLIN, rc));
    return told(rc);
}

/* What FORTIFY_SOURCE makes of read and recv where it knows the buffer's size. */
ssize_t __read_chk(int fd, void *buf, size_t cap, size_t size);
ssize_t __read_chk(int fd, void *buf, size_t cap, size_t size)
{
    if (cap > size)
        abort();
    return read(fd, buf, cap);
}

ssize_t __recv_chk(int fd, void *buf, size_t cap, size_t size, int flags);
ssize_t __recv_chk(int fd, void *buf, size_t cap, size_t size, int flags)
{
    if (cap > size)
        abort();
    return recv(fd, buf, cap, flags);
}

/* Of real files: their disk is the machine's. */
static bool disk_is_full(int fd)
{
    const struct machine *m = machine_now();
    return fd > STDERR_FILENO && !file_is_ours(fd) && m != NULL && m->disk_full;
}

/* What databases write with. */
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at)
{
    if (disk_is_full(fd))
        return told(-ENOSPC);
    return syscall(SYS_pwrite64, fd, buf, len, at);
}

/* A program's log line begins with when, and which machine's. */
static void tell_who(void)
{
    char who[64];
    int n =
        snprintf(who, sizeof(who), "%.3f %s ", (double)house_now_us(house_now()) / 1e6,
                 machine_now()->node->name);
    (void)syscall(SYS_write, STDERR_FILENO, who, n);
}

ssize_t write(int fd, const void *buf, size_t len)
{
    if (fd == STDERR_FILENO && machine_now() != NULL && getenv("WORLD_DEBUG") != NULL)
        tell_who();
    if (disk_is_full(fd))
        return told(-ENOSPC);
    NOT_OURS(fd, ssize_t, SYS_write, fd, buf, len);
    long rc;
    do
        rc = file_write(file_of(fd), buf, len);
    while (waited(fd, file_of(fd), 0, POLLOUT, rc));
    return told(rc);
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags);
ssize_t sendmsg(int fd, const struct msghdr *m, int flags);

ssize_t recvfrom(int fd, void *buf, size_t cap, int flags, struct sockaddr *sa,
                 socklen_t *len)
{
    NOT_OURS(fd, ssize_t, SYS_recvfrom, fd, buf, cap, flags, sa, len);
    struct iovec iov = {buf, cap};
    struct msghdr m = {.msg_name = sa,
                       .msg_namelen = len != NULL ? *len : 0,
                       .msg_iov = &iov,
                       .msg_iovlen = 1};
    ssize_t n = recvmsg(fd, &m, flags);
    if (len != NULL)
        *len = m.msg_namelen;
    return n;
}

ssize_t recv(int fd, void *buf, size_t cap, int flags)
{
    return recvfrom(fd, buf, cap, flags, NULL, NULL);
}

ssize_t sendto(int fd, const void *buf, size_t len, int flags,
               const struct sockaddr *sa, socklen_t salen)
{
    NOT_OURS(fd, ssize_t, SYS_sendto, fd, buf, len, flags, sa, salen);
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    struct msghdr m = {.msg_name = (void *)(uintptr_t)sa,
                       .msg_namelen = salen,
                       .msg_iov = &iov,
                       .msg_iovlen = 1};
    return sendmsg(fd, &m, flags);
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    return sendto(fd, buf, len, flags, NULL, 0);
}

static size_t sum(const struct iovec *iov, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += iov[i].iov_len;
    return n;
}

static void scatter(const struct iovec *iov, size_t count, const uint8_t *data,
                    size_t len)
{
    for (size_t i = 0; i < count && len > 0; i++) {
        size_t n = iov[i].iov_len < len ? iov[i].iov_len : len;
        memcpy(iov[i].iov_base, data, n);
        data += n;
        len -= n;
    }
}

static size_t gather(const struct iovec *iov, size_t count, uint8_t *out, size_t cap)
{
    size_t at = 0;
    for (size_t i = 0; i < count && at < cap; i++) {
        size_t n = iov[i].iov_len < cap - at ? iov[i].iov_len : cap - at;
        if (n > 0)
            memcpy(out + at, iov[i].iov_base, n);
        at += n;
    }
    return at;
}

static bool is_udp(int fd)
{
    struct vsock *s = file_sock(file_of(fd));
    return s != NULL && vsock_proto(s) == VPROTO_UDP;
}

static void put_control(struct msghdr *m, int level, int type, const void *data,
                        size_t len)
{
    if (m->msg_control == NULL || m->msg_controllen < CMSG_SPACE(len)) {
        m->msg_controllen = 0;
        return;
    }
    struct cmsghdr *c = m->msg_control;
    memset(c, 0, CMSG_SPACE(len));
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    m->msg_controllen = CMSG_SPACE(len);
}

/* Where it was sent to, for who asked. */
static void put_pktinfo(const struct vsock *s, const struct addr *to, struct msghdr *m)
{
    struct sockaddr_storage ss;
    if (!vsock_get(s, VSOCK_PKTINFO)) {
        m->msg_controllen = 0;
    } else if (vsock_family(s) == ADDR_V4) {
        struct in_pktinfo i = {.ipi_ifindex = 2};
        memcpy(&i.ipi_addr, to->ip, 4);
        memcpy(&i.ipi_spec_dst, to->ip, 4);
        put_control(m, IPPROTO_IP, IP_PKTINFO, &i, sizeof(i));
    } else {
        struct in6_pktinfo i = {.ipi6_ifindex = 2};
        (void)sockaddr_from_addr_mapped(&ss, to);
        memcpy(&i.ipi6_addr, &((struct sockaddr_in6 *)(void *)&ss)->sin6_addr, 16);
        put_control(m, IPPROTO_IPV6, IPV6_PKTINFO, &i, sizeof(i));
    }
}

static long receive(int fd, struct msghdr *m, int flags)
{
    struct vsock *s = file_sock(file_of(fd));
    struct addr from = {0}, to = {0};
    size_t cap = sum(m->msg_iov, m->msg_iovlen);
    long n;
    do
        n = vsock_receive(s, moving, sizeof(moving), (flags & MSG_PEEK) != 0, &from,
                          &to);
    while (waited(fd, file_of(fd), flags, POLLIN, n));
    if (n < 0)
        return n;
    m->msg_flags = (size_t)n > cap ? MSG_TRUNC : 0;
    size_t kept = (size_t)n < cap ? (size_t)n : cap;
    scatter(m->msg_iov, m->msg_iovlen, moving, kept);
    if (m->msg_name != NULL)
        put_address(s, &from, m->msg_name, &m->msg_namelen);
    put_pktinfo(s, &to, m);
    return (flags & MSG_TRUNC) != 0 ? n : (long)kept;
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    NOT_OURS(fd, ssize_t, SYS_recvmsg, fd, m, flags);
    if (is_udp(fd))
        return told(receive(fd, m, flags));
    struct vfile *f = file_of(fd);
    size_t cap = sum(m->msg_iov, m->msg_iovlen);
    long n;
    do
        n = file_read(f, moving, cap < sizeof(moving) ? cap : sizeof(moving),
                      (flags & MSG_PEEK) != 0);
    while (waited(fd, f, flags, POLLIN, n));
    if (n > 0)
        scatter(m->msg_iov, m->msg_iovlen, moving, (size_t)n);
    m->msg_flags = 0;
    m->msg_namelen = 0;
    int passed = n > 0 && m->msg_control != NULL ? file_passed(f) : -1;
    if (passed >= 0)
        put_control(m, SOL_SOCKET, SCM_RIGHTS, &passed, sizeof(passed));
    else
        m->msg_controllen = 0;
    return told(n);
}

/* What control messages ask for. */
static void read_control(const struct msghdr *m, size_t *segment, struct addr *from,
                         int *passed)
{
    struct msghdr x = *m;
    for (struct cmsghdr *c = m->msg_control != NULL ? CMSG_FIRSTHDR(&x) : NULL;
         c != NULL; c = CMSG_NXTHDR(&x, c)) {
        uint16_t size;
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT) {
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            *segment = size;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo i;
            memcpy(&i, CMSG_DATA(c), sizeof(i));
            (void)!addr_from_bytes(from, (const uint8_t *)&i.ipi_spec_dst, 4, 0);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo i;
            memcpy(&i, CMSG_DATA(c), sizeof(i));
            (void)!addr_from_bytes(from, (const uint8_t *)&i.ipi6_addr, 16, 0);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            memcpy(passed, CMSG_DATA(c), sizeof(*passed));
        } else {
            unknown("control message", c->cmsg_level, c->cmsg_type);
        }
    }
}

static long transmit(int fd, const struct msghdr *m, const uint8_t *buf, size_t len,
                     size_t segment, const struct addr *from)
{
    struct vsock *s = file_sock(file_of(fd));
    struct addr to;
    if (m->msg_name != NULL && !get_address(m->msg_name, &to))
        return -EINVAL;
    if (segment == 0)
        segment = len > 0 ? len : 1;
    for (size_t at = 0; at < len || at == 0; at += segment) {
        size_t n = len - at < segment ? len - at : segment;
        long rc = vsock_send(s, buf + at, n, from, m->msg_name != NULL ? &to : NULL);
        if (rc < 0)
            return at == 0 ? rc : (long)len;
    }
    return (long)len;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    NOT_OURS(fd, ssize_t, SYS_sendmsg, fd, m, flags);
    struct vfile *f = file_of(fd);
    size_t segment = 0, len;
    struct addr from = {0};
    int passed = -1;
    read_control(m, &segment, &from, &passed);
    long n;
    if (is_udp(fd)) {
        len = gather(m->msg_iov, m->msg_iovlen, moving, sizeof(moving));
        return told(transmit(fd, m, moving, len, segment, &from));
    }
    if (passed >= 0)
        file_pass(f, file_of(passed));
    do {
        len = gather(m->msg_iov, m->msg_iovlen, moving, sizeof(moving));
        n = file_write(f, moving, len);
    } while (waited(fd, f, flags, POLLOUT, n));
    return told(n);
}

ssize_t readv(int fd, const struct iovec *iov, int count)
{
    NOT_OURS(fd, ssize_t, SYS_readv, fd, iov, count);
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                       .msg_iovlen = (size_t)count};
    return recvmsg(fd, &m, 0);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    NOT_OURS(fd, ssize_t, SYS_writev, fd, iov, count);
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                       .msg_iovlen = (size_t)count};
    return sendmsg(fd, &m, 0);
}

int recvmmsg(int fd, struct mmsghdr *m, unsigned count, int flags, struct timespec *t)
{
    NOT_OURS(fd, int, SYS_recvmmsg, fd, m, count, flags, t);
    for (unsigned i = 0; i < count; i++) {
        ssize_t n = recvmsg(fd, &m[i].msg_hdr, flags | MSG_DONTWAIT);
        if (n < 0)
            return i > 0 ? (int)i : -1;
        m[i].msg_len = (unsigned)n;
    }
    return (int)count;
}

int sendmmsg(int fd, struct mmsghdr *m, unsigned count, int flags)
{
    NOT_OURS(fd, int, SYS_sendmmsg, fd, m, count, flags);
    for (unsigned i = 0; i < count; i++) {
        ssize_t n = sendmsg(fd, &m[i].msg_hdr, flags);
        if (n < 0)
            return i > 0 ? (int)i : -1;
        m[i].msg_len = (unsigned)n;
    }
    return (int)count;
}

ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t len,
               unsigned flags)
{
    NOT_OURS(from, ssize_t, SYS_splice, from, from_at, to, to_at, len, flags);
    if (len > sizeof(moving))
        len = sizeof(moving);
    long n = file_read(file_of(from), moving, len, true);
    if (n <= 0)
        return told(n);
    long out =
        file_of(to) != NULL ? file_write(file_of(to), moving, (size_t)n) : -EBADF;
    if (out > 0)
        (void)file_read(file_of(from), moving, (size_t)out, false);
    return told(out);
}
