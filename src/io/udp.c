/* A UDP socket on the loop; knows no packet's meaning. */
#include "io/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/egress.h"
#include "io/helper.h"
#include "io/loop.h"
#include "io/nat64_way.h"
#include "io/oserr.h"
#include "io/sock.h"
#include "io/sockaddr.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    SLOTS = 4,
    SLOT_BYTES = UDP_SCRATCH_BYTES / SLOTS,
    ROUNDS = 8,
    KNOWN = 64,
};

struct udp {
    struct loop *loop;
    struct watch watch;
    int fd;
    enum addr_family family;
    uint8_t *scratch;
    const struct udp_events *events;
    void *ctx;
    bool want_write, no_segment, busy, freed, leaves_count;
    bool dual;        /* of IPv4, and its descriptor of both: it has met a translator */
    struct addr last; /* to which something was sent */
    uint32_t known[KNOWN]; /* hashes of those before it */
    unsigned known_next;
};

static void on_ready(void *ctx, int events);

void udp_prepare(int fd, enum addr_family family)
{
    bool v6 = family == ADDR_V6;
    int on = 1, size = PRIVILEGE_BUFFER_BYTES;
    int pmtu = v6 ? IPV6_PMTUDISC_PROBE : IP_PMTUDISC_PROBE;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    helper_enlarge(fd);
    (void)setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
    if (v6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    (void)setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                     v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &pmtu, sizeof(pmtu));
}

static int socket_open(const struct addr *at)
{
    int domain = at->family == ADDR_V6 ? AF_INET6 : AF_INET;
    struct sockaddr_storage ss;
    int fd = socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    udp_prepare(fd, (enum addr_family)at->family);
    socklen_t len = sockaddr_from_addr(&ss, at);
    if (bind(fd, (struct sockaddr *)&ss, len) == 0)
        return fd;
    bool forbidden = errno == EACCES;
    close(fd);
    fd = forbidden ? helper_low_port(at, false) : -1;
    if (fd >= 0)
        udp_prepare(fd, (enum addr_family)at->family);
    return fd;
}

int udp_adopt(struct udp **out, struct loop *loop, int fd, enum addr_family family,
              uint8_t *scratch, const struct udp_events *events, void *ctx)
{
    struct udp *u = calloc(1, sizeof(*u));
    if (u == NULL)
        return POSTERN_ERR_NOMEM;
    *u = (struct udp){.loop = loop,
                      .fd = fd,
                      .family = family,
                      .scratch = scratch,
                      .events = events,
                      .ctx = ctx};
    int rc = watch_start(&u->watch, loop, fd, WATCH_READ, on_ready, u);
    if (rc != 0) {
        free(u);
        return rc;
    }
    *out = u;
    return 0;
}

int udp_open(struct udp **out, struct loop *loop, const struct addr *at,
             uint8_t *scratch, const struct udp_events *events, void *ctx)
{
    int fd = socket_open(at);
    if (fd < 0)
        return POSTERN_ERR_IO;
    int rc =
        udp_adopt(out, loop, fd, (enum addr_family)at->family, scratch, events, ctx);
    if (rc != 0)
        close(fd);
    return rc;
}

int udp_connect(struct udp *u, const struct addr *to)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, to);
    return connect(u->fd, (struct sockaddr *)&ss, len) == 0 ? 0
                                                            : POSTERN_ERR_UNREACHABLE;
}

static int send_error(struct udp *u, int err)
{
    int rc = err == ENOBUFS ? POSTERN_ERR_AGAIN : oserr(err);
    if (rc == POSTERN_ERR_UNREACHABLE || rc == POSTERN_ERR_PERM)
        return rc;
    if (rc != POSTERN_ERR_AGAIN)
        return 0; /* EMSGSIZE, ICMP errors of the past: lost */
    if (!u->want_write) {
        u->want_write = true;
        watch_for(&u->watch, WATCH_READ | WATCH_WRITE);
    }
    return rc;
}

union control {
    struct cmsghdr align;
    char buf[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static void add_control(struct msghdr *msg, union control *room, int level, int type,
                        const void *data, size_t len)
{
    size_t at = msg->msg_controllen;
    struct cmsghdr *c = (struct cmsghdr *)(void *)(room->buf + at);
    msg->msg_control = room->buf;
    msg->msg_controllen = at + CMSG_SPACE(len);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
}

/* By an interface that was chosen; not through a translator. */
static void add_egress(const struct udp *u, struct msghdr *msg, union control *room,
                       const struct sockaddr_storage *ss)
{
    struct addr to;
    if (egress_chosen() == 0 || u->dual ||
        sockaddr_to_addr(&to, (const struct sockaddr *)ss) != 0)
        return;
    struct addr source;
    unsigned interface = egress_towards(&to, &source);
    struct in_pktinfo four = {.ipi_ifindex = (int)interface};
    struct in6_pktinfo six = {.ipi6_ifindex = interface};
    if (source.family == ADDR_V4)
        memcpy(&four.ipi_spec_dst, source.ip, sizeof(four.ipi_spec_dst));
    else if (source.family == ADDR_V6)
        memcpy(&six.ipi6_addr, source.ip, sizeof(six.ipi6_addr));
    if (interface != 0 && u->family == ADDR_V6)
        add_control(msg, room, IPPROTO_IPV6, IPV6_PKTINFO, &six, sizeof(six));
    else if (interface != 0)
        add_control(msg, room, IPPROTO_IP, IP_PKTINFO, &four, sizeof(four));
}

static ssize_t send_one(struct udp *u, const struct sockaddr_storage *ss,
                        socklen_t slen, const uint8_t *buf, size_t len,
                        size_t segment_len)
{
    union control room = {0};
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    struct msghdr msg = {.msg_name = (void *)(uintptr_t)ss,
                         .msg_namelen = slen,
                         .msg_iov = &iov,
                         .msg_iovlen = 1};
    add_egress(u, &msg, &room, ss);
    uint16_t size = (uint16_t)segment_len;
    if (len > segment_len)
        add_control(&msg, &room, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
    return sendmsg(u->fd, &msg, MSG_NOSIGNAL);
}

/* One packet, and once more after an ICMP error of the past, which the socket told. */
static int send_packet(struct udp *u, const struct sockaddr_storage *ss, socklen_t slen,
                       const uint8_t *buf, size_t len)
{
    if (send_one(u, ss, slen, buf, len, len) >= 0)
        return 0;
    if (errno == ECONNREFUSED && send_one(u, ss, slen, buf, len, len) >= 0)
        return 0;
    return send_error(u, errno);
}

/*
 * The kernel takes or refuses a batch as a whole. Where it was refused for its first
 * packet's size (EINVAL; EMSGSIZE since Linux 6.13), as a search for the path's MTU
 * is, the shorter one behind it must not be lost along with it.
 */
static bool batch_is_taken(struct udp *u, const struct sockaddr_storage *ss,
                           socklen_t slen, const uint8_t *buf, size_t len,
                           size_t segment_len, int *rc)
{
    *rc = 0;
    if (send_one(u, ss, slen, buf, len, segment_len) >= 0)
        return true;
    switch (errno) {
    case EIO:
        u->no_segment = true; /* this way out cannot segment */
        return false;
    case EINVAL:
    case EMSGSIZE:
    case ECONNREFUSED:
        return false;
    default:
        *rc = send_error(u, errno);
        return true;
    }
}

void udp_leave_count(struct udp *u, bool yes)
{
    u->leaves_count = yes;
}

static uint32_t hash_of(const struct addr *a)
{
    uint32_t h = 2166136261u ^ a->port; /* FNV-1a */
    for (size_t i = 0; i < (a->family == ADDR_V4 ? 4 : sizeof(a->ip)); i++)
        h = (h ^ a->ip[i]) * 16777619u;
    return h != 0 ? h : 1;
}

/* The first packet to an address begins a session. */
static void note_sent(struct udp *u, const struct addr *to)
{
    if (u->leaves_count || addr_equal(to, &u->last))
        return;
    uint32_t hash = hash_of(to);
    u->last = *to;
    for (unsigned i = 0; i < KNOWN; i++)
        if (u->known[i] == hash)
            return;
    u->known[u->known_next++ % KNOWN] = hash;
    loop_begin_session(u->loop, to);
}

static int send_there(struct udp *u, const struct sockaddr_storage *ss, socklen_t slen,
                      const uint8_t *buf, size_t len, size_t segment_len)
{
    int rc;
    if (len <= segment_len)
        return send_packet(u, ss, slen, buf, len);
    if (!u->no_segment && batch_is_taken(u, ss, slen, buf, len, segment_len, &rc))
        return rc;
    for (size_t at = 0; at < len; at += segment_len) {
        size_t n = len - at < segment_len ? len - at : segment_len;
        rc = send_packet(u, ss, slen, buf + at, n);
        if (rc != 0)
            return at == 0 ? rc : 0;
    }
    return 0;
}

/* In place of an IPv4 descriptor one that takes both, at the same port. */
static bool make_dual(struct udp *u)
{
    struct sockaddr_storage ss;
    struct addr at;
    int off = 0, pmtu = IP_PMTUDISC_PROBE;
    if (u->dual || sock_local(u->fd, &at) != 0)
        return u->dual;
    at = (struct addr){.family = ADDR_V6, .port = at.port};
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    udp_prepare(fd, ADDR_V6);
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    (void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &pmtu, sizeof(pmtu));
    socklen_t len = sockaddr_from_addr(&ss, &at);
    struct loop *loop = u->loop;
    watch_close(&u->watch);
    close(u->fd);
    u->fd = fd;
    u->dual = bind(fd, (struct sockaddr *)&ss, len) == 0;
    u->want_write = false;
    return watch_start(&u->watch, loop, fd, WATCH_READ, on_ready, u) == 0 && u->dual;
}

/* Through a translator; straight again where IPv4 has a way. */
static int send_translated(struct udp *u, const struct addr *to, const uint8_t *buf,
                           size_t len, size_t segment_len)
{
    struct sockaddr_storage ss;
    struct addr v6;
    socklen_t slen;
    if (!nat64_way_put_in(to, &v6) || !make_dual(u))
        return POSTERN_ERR_UNREACHABLE;
    slen = sockaddr_from_addr(&ss, &v6);
    return send_there(u, &ss, slen, buf, len, segment_len);
}

int udp_send(struct udp *u, const struct addr *to, const uint8_t *buf, size_t len,
             size_t segment_len)
{
    struct sockaddr_storage ss;
    socklen_t slen =
        u->dual ? sockaddr_from_addr_mapped(&ss, to) : sockaddr_from_addr(&ss, to);
    if (to->family != u->family || slen == 0)
        return POSTERN_ERR_UNREACHABLE;
    int rc = send_there(u, &ss, slen, buf, len, segment_len);
    if (rc == POSTERN_ERR_UNREACHABLE && u->family == ADDR_V4)
        rc = send_translated(u, to, buf, len, segment_len);
    if (rc == 0)
        note_sent(u, to);
    return rc;
}

static size_t gro_size(struct msghdr *msg, size_t len)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            return size > 0 ? (size_t)size : len;
        }
    }
    return len;
}

/* What comes through a translator is IPv4's. */
static bool is_of_family(const struct udp *u, struct addr *a)
{
    struct addr v4;
    if (!u->dual || a->family == ADDR_V4)
        return true;
    if (!nat64_way_take_out(a, &v4))
        return false;
    *a = v4;
    return true;
}

/* Reads one round of batches; false when the socket is drained or closed. */
static bool read_round(struct udp *u)
{
    struct mmsghdr msgs[SLOTS];
    struct iovec iov[SLOTS];
    struct sockaddr_storage from[SLOTS];
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control[SLOTS] = {0};
    memset(msgs, 0, sizeof(msgs));
    for (int i = 0; i < SLOTS; i++) {
        iov[i] = (struct iovec){u->scratch + (size_t)i * SLOT_BYTES, SLOT_BYTES};
        msgs[i].msg_hdr = (struct msghdr){.msg_name = &from[i],
                                          .msg_namelen = sizeof(from[i]),
                                          .msg_iov = &iov[i],
                                          .msg_iovlen = 1,
                                          .msg_control = control[i].buf,
                                          .msg_controllen = sizeof(control[i].buf)};
    }
    int n = recvmmsg(u->fd, msgs, SLOTS, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n && !u->freed; i++) {
        struct addr a;
        size_t len = msgs[i].msg_len;
        if (len == 0 || (msgs[i].msg_hdr.msg_flags & MSG_TRUNC) ||
            sockaddr_to_addr(&a, (struct sockaddr *)&from[i]) != 0 ||
            !is_of_family(u, &a))
            continue;
        u->events->on_packets(u->ctx, u, &a, iov[i].iov_base, len,
                              gro_size(&msgs[i].msg_hdr, len));
    }
    return n == SLOTS && !u->freed;
}

static void on_ready(void *ctx, int events)
{
    struct udp *u = ctx;
    u->busy = true;
    if ((events & WATCH_WRITE) != 0 && u->want_write) {
        u->want_write = false;
        watch_for(&u->watch, WATCH_READ);
        u->events->on_writable(u->ctx, u);
    }
    if (!u->freed && (events & WATCH_READ) != 0) {
        int rounds = 0;
        while (rounds < ROUNDS && read_round(u))
            rounds++;
    }
    u->busy = false;
    if (u->freed)
        free(u);
}

void udp_local(const struct udp *u, struct addr *a)
{
    if (sock_local(u->fd, a) != 0)
        *a = (struct addr){0};
    if (u->dual)
        *a = (struct addr){.family = ADDR_V4, .port = a->port};
}

void udp_local_towards(const struct udp *u, const struct addr *to, struct addr *a)
{
    struct addr source;
    udp_local(u, a);
    if (sock_source_for(to, &source) == 0) {
        source.port = a->port;
        *a = source;
    }
}

void udp_set_user(struct udp *u, const struct udp_events *events, void *ctx)
{
    u->events = events;
    u->ctx = ctx;
}

void udp_close(struct udp *u)
{
    if (u == NULL || u->freed)
        return;
    watch_close(&u->watch);
    close(u->fd);
    u->freed = true;
    if (!u->busy)
        free(u);
}
