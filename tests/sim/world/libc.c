/*
 * libc's names that ask the kernel for sockets, readiness, time, randomness and
 * threads, defined anew: the executable's own go before libc's, also for the libraries
 * that it uses. A descriptor of house.h is answered here, any other by the kernel.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "house.h"
#include "io/sockaddr.h"

enum {
    EPOCH_S = 1800000000, /* what the wall clock said when virtual time was 0 */
    MARK = 0x51f0a11,     /* in ai_flags: a list of ours */
    LOOKUP_US = 5000,
    FILES_MAX = 1 << 20,
};

static long told(long rc)
{
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

/* What would be answered wrongly is not answered. */
static void unknown(const char *what, long a, long b)
{
    (void)fprintf(stderr, "the world does not know %s %ld %ld; see libc.c\n", what, a,
                  b);
    abort();
}

static struct vfile *ours(int fd)
{
    return file_is_ours(fd) ? file_of(fd) : NULL;
}

#define NOT_OURS(fd, call, ...)                                                        \
    do {                                                                               \
        if (!file_is_ours(fd))                                                         \
            return (__typeof__(call))syscall(__VA_ARGS__);                             \
        if (file_of(fd) == NULL) {                                                     \
            errno = EBADF;                                                             \
            return -1;                                                                 \
        }                                                                              \
    } while (0)

/* ---------------------------------------------------------------------- waiting */

struct one_wait {
    struct vwait wait; /* first */
    struct task *task;
};

static void on_change(struct vwait *w, int edges)
{
    (void)edges;
    task_wake(((struct one_wait *)(void *)w)->task);
}

static int look(struct pollfd *p, nfds_t n)
{
    int count = 0;
    for (nfds_t i = 0; i < n; i++) {
        struct vfile *f = p[i].fd >= 0 ? ours(p[i].fd) : NULL;
        p[i].revents = 0;
        if (f != NULL)
            p[i].revents = (short)(file_ready(f) & (p[i].events | POLLERR | POLLHUP));
        else if (p[i].fd >= 0 && file_is_ours(p[i].fd))
            p[i].revents = POLLNVAL;
        count += p[i].revents != 0;
    }
    return count;
}

static int wait_for(struct pollfd *p, nfds_t n, int timeout_ms)
{
    struct house *h = house_now();
    struct one_wait waits[16] = {0};
    uint64_t until =
        timeout_ms < 0 ? UINT64_MAX : house_now_us(h) + (uint64_t)timeout_ms * 1000;
    if (n > 16)
        unknown("poll of so many", (long)n, 0);
    int count = look(p, n);
    if (count > 0 || timeout_ms == 0)
        return count;
    for (nfds_t i = 0; i < n; i++) {
        struct vfile *f = p[i].fd >= 0 ? ours(p[i].fd) : NULL;
        waits[i] = (struct one_wait){.wait.cb = on_change, .task = task_now()};
        if (f != NULL)
            file_wait(f, &waits[i].wait);
    }
    do {
        task_sleep(until);
        count = look(p, n);
    } while (count == 0 && house_now_us(h) < until);
    for (nfds_t i = 0; i < n; i++)
        file_wait_end(&waits[i].wait);
    return count;
}

int poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
    bool any = false;
    for (nfds_t i = 0; i < n; i++)
        any = any || file_is_ours(p[i].fd);
    if (!any && task_now() == NULL)
        return (int)syscall(SYS_poll, p, n, timeout_ms);
    if (!any) { /* of the kernel's: as it is now */
        int count = (int)syscall(SYS_poll, p, n, 0);
        if (count != 0 || timeout_ms == 0)
            return count;
    }
    return wait_for(p, n, timeout_ms);
}

int __poll_chk(struct pollfd *p, nfds_t n, int timeout_ms, size_t size);
int __poll_chk(struct pollfd *p, nfds_t n, int timeout_ms, size_t size)
{
    (void)size;
    return poll(p, n, timeout_ms);
}

/* True when it is worth another try. */
static bool waited(int fd, struct vfile *f, int flags, short events, long rc)
{
    struct pollfd p = {.fd = fd, .events = events};
    return rc == -EAGAIN && (flags & MSG_DONTWAIT) == 0 && file_blocks(f) &&
           task_now() != NULL && wait_for(&p, 1, -1) > 0;
}

/* ---------------------------------------------------------------------- to make */

static int made(int fd, int flags)
{
    struct vfile *f = fd >= 0 ? file_of(fd) : NULL;
    if (f != NULL)
        file_set_blocking(f, (flags & O_NONBLOCK) == 0);
    return (int)told(fd);
}

int socket(int domain, int type, int protocol)
{
    if (task_now() == NULL)
        return (int)syscall(SYS_socket, domain, type, protocol);
    return made(file_socket(domain, type), type);
}

int socketpair(int domain, int type, int protocol, int fds[2])
{
    if (task_now() == NULL)
        return (int)syscall(SYS_socketpair, domain, type, protocol, fds);
    (void)file_pair(fds);
    (void)made(fds[0], type);
    (void)made(fds[1], type);
    return 0;
}

int pipe2(int fds[2], int flags)
{
    if (task_now() == NULL)
        return (int)syscall(SYS_pipe2, fds, flags);
    (void)file_pipe(fds);
    (void)made(fds[0], flags);
    (void)made(fds[1], flags);
    return 0;
}

int eventfd(unsigned initial, int flags)
{
    if (task_now() == NULL)
        return (int)syscall(SYS_eventfd2, initial, flags);
    return made(file_event(), flags);
}

int epoll_create1(int flags)
{
    if (task_now() == NULL)
        return (int)syscall(SYS_epoll_create1, flags);
    return made(file_epoll(), 0);
}

int epoll_ctl(int set, int op, int fd, struct epoll_event *e)
{
    NOT_OURS(set, int, SYS_epoll_ctl, set, op, fd, e);
    if (!file_is_ours(fd))
        unknown("epoll of the kernel's descriptor", fd, 0);
    return (int)told(file_epoll_change(file_of(set), op, fd, e));
}

int epoll_wait(int set, struct epoll_event *e, int max, int timeout_ms)
{
    NOT_OURS(set, int, SYS_epoll_wait, set, e, max, timeout_ms);
    struct pollfd p = {.fd = set, .events = POLLIN};
    if (timeout_ms != 0)
        (void)wait_for(&p, 1, timeout_ms);
    return file_epoll_take(file_of(set), e, max);
}

int close(int fd)
{
    if (!file_is_ours(fd))
        return (int)syscall(SYS_close, fd);
    return (int)told(file_close(fd));
}

int dup(int fd)
{
    NOT_OURS(fd, int, SYS_dup, fd);
    return (int)told(file_dup(file_of(fd)));
}

static int fcntl_ours(int fd, int cmd, long arg)
{
    struct vfile *f = file_of(fd);
    switch (cmd) {
    case F_GETFD:
    case F_SETFD:
        return FD_CLOEXEC;
    case F_GETFL:
        return O_RDWR | (file_blocks(f) ? 0 : O_NONBLOCK);
    case F_SETFL:
        file_set_blocking(f, (arg & O_NONBLOCK) == 0);
        return 0;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        return (int)told(file_dup(f));
    case F_SETPIPE_SZ:
        return (int)arg;
    default:
        unknown("fcntl", cmd, arg);
        return -1;
    }
}

int fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    long arg = va_arg(ap, long);
    va_end(ap);
    NOT_OURS(fd, int, SYS_fcntl, fd, cmd, arg);
    return fcntl_ours(fd, cmd, arg);
}

int fcntl(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    long arg = va_arg(ap, long);
    va_end(ap);
    NOT_OURS(fd, int, SYS_fcntl, fd, cmd, arg);
    return fcntl_ours(fd, cmd, arg);
}

int ioctl(int fd, unsigned long what, ...)
{
    va_list ap;
    va_start(ap, what);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    NOT_OURS(fd, int, SYS_ioctl, fd, what, arg);
    if (what == SIOCOUTQ)
        *(int *)arg = (int)file_unsent(file_of(fd));
    else if (what == FIONREAD)
        *(int *)arg = (int)file_unread(file_of(fd));
    else
        unknown("ioctl", (long)what, 0);
    return 0;
}

int fchmod(int fd, mode_t mode)
{
    NOT_OURS(fd, int, SYS_fchmod, fd, mode);
    return 0;
}

/* Programs compare numbers of descriptors with it: ours begin high. */
int getrlimit(__rlimit_resource_t what, struct rlimit *r)
{
    if (task_now() == NULL || what != RLIMIT_NOFILE)
        return (int)syscall(SYS_getrlimit, what, r);
    *r = (struct rlimit){FILES_MAX, FILES_MAX};
    return 0;
}

int getrlimit64(__rlimit_resource_t what, struct rlimit64 *r)
{
    if (task_now() == NULL || what != RLIMIT_NOFILE)
        return (int)syscall(SYS_getrlimit, what, r);
    *r = (struct rlimit64){FILES_MAX, FILES_MAX};
    return 0;
}

static int set_limit(__rlimit_resource_t what, const void *r)
{
    if (task_now() == NULL || what != RLIMIT_NOFILE)
        return (int)syscall(SYS_setrlimit, what, r);
    return 0;
}

int setrlimit(__rlimit_resource_t what, const struct rlimit *r)
{
    return set_limit(what, r);
}

int setrlimit64(__rlimit_resource_t what, const struct rlimit64 *r)
{
    return set_limit(what, r);
}

/* -------------------------------------------------------------------- addresses */

/* As a socket of that family says it. */
static void put_address(const struct vsock *s, const struct addr *a, void *out,
                        socklen_t *cap)
{
    struct sockaddr_storage ss;
    struct addr x = *a;
    if (x.family == ADDR_NONE)
        x.family = (uint8_t)vsock_family(s);
    socklen_t len = vsock_family(s) == ADDR_V6 ? sockaddr_from_addr_mapped(&ss, &x)
                                               : sockaddr_from_addr(&ss, &x);
    memcpy(out, &ss, len < *cap ? len : *cap);
    *cap = len;
}

/* False: no address that a socket of ours knows. */
static bool get_address(const struct sockaddr *sa, struct addr *a)
{
    struct sockaddr_in6 in6;
    if (sa->sa_family == AF_INET6) { /* [::] too */
        memcpy(&in6, sa, sizeof(in6));
        if (IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr)) {
            *a = (struct addr){.family = ADDR_V6, .port = ntohs(in6.sin6_port)};
            return true;
        }
    }
    return sockaddr_to_addr(a, sa) == 0;
}

int bind(int fd, const struct sockaddr *sa, socklen_t len)
{
    NOT_OURS(fd, int, SYS_bind, fd, sa, len);
    struct vsock *s = file_sock(file_of(fd));
    struct addr a;
    if (sa->sa_family == AF_UNIX)
        return (int)told(file_bind(
            file_of(fd), ((const struct sockaddr_un *)(const void *)sa)->sun_path));
    if (s == NULL || !get_address(sa, &a))
        return (int)told(-EINVAL);
    return (int)told(vsock_bind(s, &a));
}

int listen(int fd, int backlog)
{
    NOT_OURS(fd, int, SYS_listen, fd, backlog);
    struct vsock *s = file_sock(file_of(fd));
    return (int)told(s != NULL ? vsock_listen(s, backlog) : file_listen(file_of(fd)));
}

int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    NOT_OURS(fd, int, SYS_connect, fd, sa, len);
    struct vsock *s = file_sock(file_of(fd));
    struct addr a;
    if (sa->sa_family == AF_UNIX)
        return (int)told(file_connect(
            file_of(fd), ((const struct sockaddr_un *)(const void *)sa)->sun_path));
    if (s == NULL || !get_address(sa, &a))
        return (int)told(-EINVAL);
    int rc = vsock_connect(s, &a);
    if (rc == -EINPROGRESS && file_blocks(file_of(fd))) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        (void)wait_for(&p, 1, -1);
        rc = -vsock_error(s);
    }
    return (int)told(rc);
}

int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    NOT_OURS(fd, int, SYS_accept4, fd, sa, len, flags);
    int got = made(file_accept(file_of(fd)), flags);
    struct addr a;
    if (got < 0 || sa == NULL)
        return got;
    struct vsock *s = file_sock(file_of(got));
    if (s != NULL) {
        (void)!vsock_remote(s, &a);
        put_address(s, &a, sa, len);
    } else {
        sa->sa_family = AF_UNIX;
        *len = sizeof(sa->sa_family);
    }
    return got;
}

int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    NOT_OURS(fd, int, SYS_getsockname, fd, sa, len);
    struct vsock *s = file_sock(file_of(fd));
    struct addr a;
    if (s == NULL) {
        if (!file_is_local(file_of(fd)))
            return (int)told(-ENOTSOCK);
        sa->sa_family = AF_UNIX;
        *len = sizeof(sa->sa_family);
        return 0;
    }
    vsock_local(s, &a);
    put_address(s, &a, sa, len);
    return 0;
}

int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    NOT_OURS(fd, int, SYS_getpeername, fd, sa, len);
    struct vsock *s = file_sock(file_of(fd));
    struct addr a;
    if (s == NULL) {
        if (!file_is_local(file_of(fd)))
            return (int)told(-ENOTSOCK);
        sa->sa_family = AF_UNIX;
        *len = sizeof(sa->sa_family);
        return 0;
    }
    int rc = vsock_remote(s, &a);
    if (rc == 0)
        put_address(s, &a, sa, len);
    return (int)told(rc);
}

/* ---------------------------------------------------------------------- options */

static const struct {
    int level, name;
    int option; /* of enum vsock_option; -1: taken, without effect here */
} options[] = {
    {SOL_SOCKET, SO_REUSEADDR, VSOCK_REUSE_ADDRESS},
    {SOL_SOCKET, SO_REUSEPORT, VSOCK_REUSE_PORT},
    {SOL_SOCKET, SO_KEEPALIVE, VSOCK_KEEPALIVE},
    {SOL_SOCKET, SO_RCVBUF, -1},
    {SOL_SOCKET, SO_SNDBUF, -1},
    {SOL_SOCKET, SO_RCVBUFFORCE, -1},
    {SOL_SOCKET, SO_SNDBUFFORCE, -1},
    {SOL_SOCKET, SO_SNDTIMEO, -1},
    {SOL_SOCKET, SO_RCVTIMEO, -1},
    {IPPROTO_TCP, TCP_NODELAY, -1},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1},
    {IPPROTO_TCP, TCP_KEEPIDLE, VSOCK_KEEP_IDLE_S},
    {IPPROTO_TCP, TCP_KEEPINTVL, VSOCK_KEEP_GAP_S},
    {IPPROTO_TCP, TCP_KEEPCNT, VSOCK_KEEP_COUNT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, VSOCK_GIVE_UP_MS},
    {IPPROTO_TCP, TCP_MAXSEG, VSOCK_SEGMENT_MAX},
    {IPPROTO_UDP, UDP_GRO, -1}, /* each packet comes alone */
    {IPPROTO_UDP, UDP_SEGMENT, -1},
    {IPPROTO_IP, IP_TTL, VSOCK_TTL},
    {IPPROTO_IP, IP_MINTTL, VSOCK_MIN_TTL},
    {IPPROTO_IP, IP_PKTINFO, VSOCK_PKTINFO},
    {IPPROTO_IP, IP_MTU_DISCOVER, -1},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, VSOCK_TTL},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT, VSOCK_MIN_TTL},
    {IPPROTO_IPV6, IPV6_V6ONLY, VSOCK_V6ONLY},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, VSOCK_PKTINFO},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, -1},
};

static int option_of(int level, int name)
{
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (options[i].level == level && options[i].name == name)
            return options[i].option;
    unknown("socket option", level, name);
    return -1;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    NOT_OURS(fd, int, SYS_setsockopt, fd, level, name, value, len);
    struct vsock *s = file_sock(file_of(fd));
    int v = 0;
    if (s == NULL)
        return level == SOL_SOCKET ? 0 : (int)told(-EOPNOTSUPP);
    if (level == IPPROTO_TCP && vsock_proto(s) != VPROTO_TCP)
        return (int)told(-ENOPROTOOPT);
    if (level == SOL_SOCKET && name == SO_LINGER) {
        struct linger l;
        memcpy(&l, value, sizeof(l));
        vsock_set(s, VSOCK_ABORT, l.l_onoff && l.l_linger == 0);
        return 0;
    }
    memcpy(&v, value, len < sizeof(v) ? len : sizeof(v));
    int o = option_of(level, name);
    if (o >= 0)
        vsock_set(s, (enum vsock_option)o, v);
    return 0;
}

static void tcp_facts(const struct vsock *s, void *out, socklen_t *len)
{
    enum { MIN_RTT_AT = 148, SIZE = 232 };
    uint8_t whole[SIZE] = {0};
    struct vsock_facts f;
    struct tcp_info info = {0};
    vsock_facts(s, &f);
    info.tcpi_rtt = f.rtt_us;
    info.tcpi_retransmits = (uint8_t)f.retransmits;
    info.tcpi_options = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE;
    info.tcpi_rcv_wscale = 7;
    info.tcpi_unacked = (uint32_t)(vsock_unsent(s) / 1000);
    memcpy(whole, &info, sizeof(info));
    memcpy(whole + MIN_RTT_AT, &f.min_rtt_us, sizeof(f.min_rtt_us));
    *len = *len < SIZE ? *len : SIZE;
    memcpy(out, whole, *len);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    NOT_OURS(fd, int, SYS_getsockopt, fd, level, name, value, len);
    struct vsock *s = file_sock(file_of(fd));
    struct ucred own = {.pid = getpid(), .uid = getuid(), .gid = getgid()};
    int v = 0;
    if (level == SOL_SOCKET && name == SO_PEERCRED) {
        memcpy(value, &own, sizeof(own) < *len ? sizeof(own) : *len);
        return 0;
    }
    if (level == IPPROTO_TCP && (s == NULL || vsock_proto(s) != VPROTO_TCP))
        return (int)told(s == NULL ? -EOPNOTSUPP : -ENOPROTOOPT);
    if (level == IPPROTO_TCP && name == TCP_INFO) {
        tcp_facts(s, value, len);
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_ERROR)
        v = s != NULL ? vsock_error(s) : 0;
    else if (level == SOL_SOCKET && name == SO_ACCEPTCONN)
        v = s != NULL && vsock_is_listening(s);
    else if (level == SOL_SOCKET && name == SO_TYPE)
        v = s == NULL || vsock_proto(s) == VPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM;
    else if (s != NULL) {
        int o = option_of(level, name);
        v = o >= 0 ? vsock_get(s, (enum vsock_option)o) : 4 * 1024 * 1024;
    }
    memcpy(value, &v, *len < sizeof(v) ? *len : sizeof(v));
    return 0;
}

int shutdown(int fd, int how)
{
    NOT_OURS(fd, int, SYS_shutdown, fd, how);
    return (int)told(file_shutdown(file_of(fd), how));
}

/* ------------------------------------------------------------------------ bytes */

ssize_t read(int fd, void *buf, size_t cap)
{
    NOT_OURS(fd, ssize_t, SYS_read, fd, buf, cap);
    long rc;
    do
        rc = file_read(file_of(fd), buf, cap, false);
    while (waited(fd, file_of(fd), 0, POLLIN, rc));
    return told(rc);
}

ssize_t write(int fd, const void *buf, size_t len)
{
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

static void gather(const struct iovec *iov, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        if (iov[i].iov_len > 0)
            memcpy(out, iov[i].iov_base, iov[i].iov_len);
        out += iov[i].iov_len;
    }
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
    static uint8_t buf[65536];
    struct vsock *s = file_sock(file_of(fd));
    struct addr from = {0}, to = {0};
    size_t cap = sum(m->msg_iov, m->msg_iovlen);
    long n;
    do
        n = vsock_receive(s, buf, sizeof(buf), (flags & MSG_PEEK) != 0, &from, &to);
    while (waited(fd, file_of(fd), flags, POLLIN, n));
    if (n < 0)
        return n;
    m->msg_flags = (size_t)n > cap ? MSG_TRUNC : 0;
    size_t kept = (size_t)n < cap ? (size_t)n : cap;
    scatter(m->msg_iov, m->msg_iovlen, buf, kept);
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
    uint8_t *buf = malloc(cap > 0 ? cap : 1);
    long n;
    do
        n = file_read(f, buf, cap, (flags & MSG_PEEK) != 0);
    while (waited(fd, f, flags, POLLIN, n));
    if (n > 0)
        scatter(m->msg_iov, m->msg_iovlen, buf, (size_t)n);
    free(buf);
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
    size_t len = sum(m->msg_iov, m->msg_iovlen), segment = 0;
    struct addr from = {0};
    int passed = -1;
    uint8_t *buf = malloc(len > 0 ? len : 1);
    gather(m->msg_iov, m->msg_iovlen, buf);
    read_control(m, &segment, &from, &passed);
    long n;
    if (is_udp(fd)) {
        n = transmit(fd, m, buf, len, segment, &from);
    } else {
        if (passed >= 0)
            file_pass(f, file_of(passed));
        do
            n = file_write(f, buf, len);
        while (waited(fd, f, flags, POLLOUT, n));
    }
    free(buf);
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
    static uint8_t buf[65536];
    long n = file_read(file_of(from), buf, len < sizeof(buf) ? len : sizeof(buf), true);
    if (n <= 0)
        return told(n);
    long out = file_of(to) != NULL ? file_write(file_of(to), buf, (size_t)n) : -EBADF;
    if (out > 0)
        (void)file_read(file_of(from), buf, (size_t)out, false);
    return told(out);
}

/* ----------------------------------------------------------------------- time and
 * chance */

int clock_gettime(clockid_t id, struct timespec *t)
{
    struct house *h = house_now();
    if (h == NULL || id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID)
        return (int)syscall(SYS_clock_gettime, id, t);
    uint64_t us = house_now_us(h);
    bool wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    t->tv_sec = (time_t)(us / 1000000) + (wall ? EPOCH_S : 0);
    t->tv_nsec = (long)(us % 1000000) * 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    if (out != NULL)
        *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec t;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    *tv = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
    return 0;
}

int nanosleep(const struct timespec *t, struct timespec *rest)
{
    if (task_now() == NULL)
        return (int)syscall(SYS_nanosleep, t, rest);
    uint64_t until = house_now_us(house_now()) + (uint64_t)t->tv_sec * 1000000 +
                     (uint64_t)t->tv_nsec / 1000;
    while (house_now_us(house_now()) < until)
        task_sleep(until);
    return 0;
}

int usleep(useconds_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    return nanosleep(&t, NULL);
}

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
    if (house_now() == NULL)
        return syscall(SYS_getrandom, buf, len, flags);
    house_secret(buf, len);
    return (ssize_t)len;
}

/* -------------------------------------------------------------------------------
 * threads */

/* libc's own of that name. */
static void *libc_own(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (p == NULL)
        unknown(name, 0, 0);
    return p;
}

int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *),
                   void *arg)
{
    int (*own)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int state = PTHREAD_CREATE_JOINABLE;
    if (task_now() == NULL) {
        *(void **)&own = libc_own("pthread_create");
        return own(out, attr, run, arg);
    }
    struct task *t = task_start(machine_now(), run, arg);
    if (attr != NULL && pthread_attr_getdetachstate(attr, &state) == 0 &&
        state == PTHREAD_CREATE_DETACHED)
        task_detach(t);
    *out = (pthread_t)t;
    return 0;
}

int pthread_join(pthread_t thread, void **result)
{
    int (*own)(pthread_t, void **);
    struct task *t = (struct task *)thread; /* NOLINT */
    if (!task_exists(t)) {
        *(void **)&own = libc_own("pthread_join");
        return own(thread, result);
    }
    void *r = task_join(t);
    if (result != NULL)
        *result = r;
    return 0;
}

int pthread_detach(pthread_t thread)
{
    int (*own)(pthread_t);
    struct task *t = (struct task *)thread; /* NOLINT */
    if (!task_exists(t)) {
        *(void **)&own = libc_own("pthread_detach");
        return own(thread);
    }
    task_detach(t);
    return 0;
}

/* ---------------------------------------------------------------------------------
 * names */

struct answer {
    struct addrinfo info; /* first */
    struct sockaddr_storage at;
};

static struct addrinfo *answer_new(const struct addr *a, const struct addrinfo *hints)
{
    struct answer *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return NULL;
    x->info.ai_addrlen = sockaddr_from_addr(&x->at, a);
    x->info.ai_addr = (struct sockaddr *)&x->at;
    x->info.ai_family = x->at.ss_family;
    x->info.ai_socktype = hints != NULL ? hints->ai_socktype : SOCK_STREAM;
    x->info.ai_flags = MARK;
    return &x->info;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    int (*own)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    struct addrinfo numeric = hints != NULL ? *hints : (struct addrinfo){0};
    struct addr found[HOUSE_NAMES];
    *(void **)&own = libc_own("getaddrinfo");
    if (task_now() == NULL)
        return own(name, service, hints, out);
    numeric.ai_flags |= AI_NUMERICHOST;
    numeric.ai_flags &= ~AI_ADDRCONFIG;
    if (own(name, service, &numeric, out) == 0)
        return 0;
    uint64_t until = house_now_us(house_now()) + LOOKUP_US;
    while (house_now_us(house_now()) < until)
        task_sleep(until);
    size_t n = house_resolve(house_now(), name, found, HOUSE_NAMES);
    *out = NULL;
    struct addrinfo **at = out;
    for (size_t i = 0; i < n && (*at = answer_new(&found[i], hints)) != NULL; i++)
        at = &(*at)->ai_next;
    return *out != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    void (*own)(struct addrinfo *);
    if (list != NULL && list->ai_flags != MARK) {
        *(void **)&own = libc_own("freeaddrinfo");
        own(list);
        return;
    }
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}
