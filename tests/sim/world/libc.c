/*
 * libc's names that ask the kernel for sockets, readiness, time, randomness and
 * threads, defined anew: the executable's own go before libc's, also for the libraries
 * that it uses. A descriptor of house.h is answered here, any other by the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "libc.h"
#include "io/sockaddr.h"

enum { FILES_MAX = 1 << 20 };

void unknown(const char *what, long a, long b)
{
    (void)fprintf(stderr, "the world does not know %s %ld %ld; see libc.c\n", what, a,
                  b);
    abort();
}

static struct vfile *ours(int fd)
{
    return file_is_ours(fd) ? file_of(fd) : NULL;
}

/* ------------------------------------------------------------------------- waiting */

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

bool waited(int fd, struct vfile *f, int flags, short events, long rc)
{
    struct pollfd p = {.fd = fd, .events = events};
    return rc == -EAGAIN && (flags & MSG_DONTWAIT) == 0 && file_blocks(f) &&
           task_now() != NULL && wait_for(&p, 1, -1) > 0;
}

/* ------------------------------------------------------------------------- to make */

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
    int rc = file_pair(fds);
    if (rc < 0)
        return (int)told(rc);
    (void)made(fds[0], type);
    (void)made(fds[1], type);
    return 0;
}

int pipe2(int fds[2], int flags)
{
    if (task_now() == NULL)
        return (int)syscall(SYS_pipe2, fds, flags);
    int rc = file_pipe(fds);
    if (rc < 0)
        return (int)told(rc);
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
    if (!file_is_ours(fd)) {
        lock_forget(fd);
        return (int)syscall(SYS_close, fd);
    }
    return (int)told(file_close(fd));
}

int dup(int fd)
{
    NOT_OURS(fd, int, SYS_dup, fd);
    return (int)told(file_dup(file_of(fd)));
}

int dup2(int fd, int as)
{
    if (!file_is_ours(as))
        return (int)syscall(SYS_dup2, fd, as);
    if (file_is_ours(fd))
        unknown("dup2", fd, as);
    (void)file_close(as); /* by one of the kernel's, which nobody reads: none, here */
    return as;
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

/* ----------------------------------------------------------------------- addresses */

void put_address(const struct vsock *s, const struct addr *a, void *out, socklen_t *cap)
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

bool get_address(const struct sockaddr *sa, struct addr *a)
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

/* An end's address; a local socket has a family only. */
static int tell_name(int fd, int (*end)(const struct vsock *s, struct addr *a),
                     struct sockaddr *sa, socklen_t *len)
{
    struct vsock *s = file_sock(file_of(fd));
    struct addr a;
    if (s != NULL) {
        int rc = end(s, &a);
        if (rc == 0)
            put_address(s, &a, sa, len);
        return (int)told(rc);
    }
    if (!file_is_local(file_of(fd)))
        return (int)told(-ENOTSOCK);
    sa->sa_family = AF_UNIX;
    *len = sizeof(sa->sa_family);
    return 0;
}

static int own_end(const struct vsock *s, struct addr *a)
{
    vsock_local(s, a);
    return 0;
}

int getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    NOT_OURS(fd, int, SYS_getsockname, fd, sa, len);
    return tell_name(fd, own_end, sa, len);
}

int getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    NOT_OURS(fd, int, SYS_getpeername, fd, sa, len);
    return tell_name(fd, vsock_remote, sa, len);
}

/* ------------------------------------------------------------------------- options */

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
    {IPPROTO_TCP, TCP_QUICKACK, -1},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1},
    {IPPROTO_TCP, TCP_KEEPIDLE, VSOCK_KEEP_IDLE_S},
    {IPPROTO_TCP, TCP_KEEPINTVL, VSOCK_KEEP_GAP_S},
    {IPPROTO_TCP, TCP_KEEPCNT, VSOCK_KEEP_COUNT},
    {IPPROTO_TCP, TCP_LINGER2, VSOCK_LINGER2},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, VSOCK_GIVE_UP_MS},
    {IPPROTO_TCP, TCP_MAXSEG, VSOCK_SEGMENT_MAX},
    {IPPROTO_TCP, 44, -1},      /* TCP_RTO_MAX_MS; as a kernel before 6.15 */
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
    struct tcp_info info = {0};
    enum { SEGMENTS_AT = 140, MIN_RTT_AT = 148, DATA_SEGMENTS_AT = 152 };
    enum { SIZE = sizeof(info) > 232 ? sizeof(info) : 232 };
    uint8_t whole[SIZE] = {0};
    struct vsock_facts f;
    vsock_facts(s, &f);
    info.tcpi_state = f.half_closed ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
    info.tcpi_rtt = f.rtt_us;
    info.tcpi_retransmits = (uint8_t)f.retransmits;
    info.tcpi_last_data_recv = f.data_ms;
    info.tcpi_last_data_sent = f.sent_ms;
    info.tcpi_last_ack_recv = f.ack_ms;
    info.tcpi_options = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE;
    info.tcpi_rcv_wscale = 7;
    info.tcpi_unacked = (uint32_t)((vsock_unsent(s) + 999) / 1000);
    memcpy(whole, &info, sizeof(info));
    memcpy(whole + MIN_RTT_AT, &f.min_rtt_us, sizeof(f.min_rtt_us));
    memcpy(whole + SEGMENTS_AT, &f.segments_in, sizeof(f.segments_in));
    memcpy(whole + DATA_SEGMENTS_AT, &f.data_segments_in, sizeof(f.data_segments_in));
    *len = *len < SIZE ? *len : SIZE;
    memcpy(out, whole, *len);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    NOT_OURS(fd, int, SYS_getsockopt, fd, level, name, value, len);
    struct vsock *s = file_sock(file_of(fd));
    int v = 0;
    if (level == SOL_SOCKET && name == SO_PEERCRED) {
        struct ucred own = {.pid = getpid(), .uid = getuid(), .gid = getgid()};
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
