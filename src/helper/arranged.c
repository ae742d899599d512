/*
 * The arranged connection (firewalled-pair-central-station, figures 5 and 6): both
 * sides know both first sequence numbers beforehand, so that this side may answer a SYN
 * that its NAT has swallowed. The socket is put into its connected state first
 * (TCP_REPAIR), or the kernel would answer what comes with RST; then SYN and SYN-ACK go
 * out raw. Since the peer's SYN is never seen, its options were told beforehand too;
 * what both kernels have (window scale, timestamps, SACK) is in the raw packets and in
 * the socket alike.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/parts.h"
#include "io/sockaddr.h"

enum {
    MSS = 1360,
    WINDOW = 65535,
    HOPS_DEFAULT = 64,
    FLAG_SYN = 0x02,
    FLAG_ACK = 0x10,
    TCP_LEN_BARE = 20,
    OPTIONS_MAX = 20, /* MSS 4, SACK permitted 2, timestamps 10, window scale 1 + 3 */
    TCP_LEN_MAX = TCP_LEN_BARE + OPTIONS_MAX,
    IPV4_LEN = 20,
    IPV6_LEN = 40,
    PACKET_MAX = IPV6_LEN + TCP_LEN_MAX,
};

#ifndef TCP_REPAIR_OFF_NO_WP
#define TCP_REPAIR_OFF_NO_WP (-1)
#endif

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

/* What both sides' SYNs carry; the peer never sees this side's, and still answers it.
 */
static uint32_t agreed(const struct privilege_request *q)
{
    return q->ways & q->peer_ways & TCP_WAYS_FLAGS;
}

/* The first timestamp: as little to be guessed as the sequence number, and derived
 * from it so that all packets of the connection have the same. Odd ones would tell
 * TCP_TIMESTAMP to count in microseconds. */
static uint32_t first_timestamp(const struct privilege_request *q)
{
    return (q->sequence ^ q->peer_sequence) & ~1u;
}

/* The options, padded to whole words; returns their length. */
static size_t put_options(uint8_t *o, const struct privilege_request *q)
{
    static const uint8_t sack[] = {TCPOPT_SACK_PERMITTED, TCPOLEN_SACK_PERMITTED};
    uint32_t ways = agreed(q);
    size_t n = 0;
    o[n++] = TCPOPT_MAXSEG;
    o[n++] = TCPOLEN_MAXSEG;
    put16(o + n, MSS);
    n += 2;
    if ((ways & TCP_WAYS_SACK) != 0) {
        memcpy(o + n, sack, sizeof(sack));
        n += sizeof(sack);
    }
    if ((ways & TCP_WAYS_TIMESTAMPS) != 0) {
        o[n++] = TCPOPT_TIMESTAMP;
        o[n++] = TCPOLEN_TIMESTAMP;
        put32(o + n, first_timestamp(q));
        put32(o + n + 4, 0); /* the peer's SYN was not seen: nothing to echo */
        n += 8;
    }
    if ((ways & TCP_WAYS_SCALES) != 0) {
        o[n++] = TCPOPT_WINDOW;
        o[n++] = TCPOLEN_WINDOW;
        o[n++] = q->ways & TCP_WAYS_SCALE_MASK;
    }
    while (n % 4 != 0)
        o[n++] = TCPOPT_NOP;
    return n;
}

/* One's complement sum of RFC 1071, not folded; `len` is even. */
static uint32_t sum(const uint8_t *p, size_t len)
{
    uint32_t s = 0;
    for (size_t i = 0; i < len; i += 2)
        s += (uint32_t)p[i] << 8 | p[i + 1];
    return s;
}

static uint16_t fold(uint32_t s)
{
    while (s >> 16 != 0)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

/* Returns the length. */
static size_t put_tcp(uint8_t *t, const struct privilege_request *q, uint8_t flags)
{
    size_t ip_len = addr_ip_len(&q->local);
    memset(t, 0, TCP_LEN_MAX);
    size_t len = TCP_LEN_BARE + put_options(t + TCP_LEN_BARE, q);
    put16(t, q->local.port);
    put16(t + 2, q->remote.port);
    put32(t + 4, q->sequence);
    put32(t + 8, (flags & FLAG_ACK) != 0 ? q->peer_sequence + 1 : 0);
    t[12] = (uint8_t)(len / 4 << 4);
    t[13] = flags;
    put16(t + 14, WINDOW);
    put16(t + 16, fold(sum(t, len) + sum(q->local.ip, ip_len) +
                       sum(q->remote.ip, ip_len) + IPPROTO_TCP + (uint32_t)len));
    return len;
}

static size_t put_packet(uint8_t *p, const struct privilege_request *q, uint8_t flags,
                         unsigned hops)
{
    memset(p, 0, PACKET_MAX);
    if (q->local.family == ADDR_V4) {
        size_t len = put_tcp(p + IPV4_LEN, q, flags);
        p[0] = 0x45;
        put16(p + 2, (uint32_t)(IPV4_LEN + len));
        p[6] = 0x40; /* do not fragment */
        p[8] = (uint8_t)hops;
        p[9] = IPPROTO_TCP;
        memcpy(p + 12, q->local.ip, 4);
        memcpy(p + 16, q->remote.ip, 4);
        put16(p + 10, fold(sum(p, IPV4_LEN)));
        return IPV4_LEN + len;
    }
    size_t len = put_tcp(p + IPV6_LEN, q, flags);
    p[0] = 0x60;
    put16(p + 4, (uint32_t)len);
    p[6] = IPPROTO_TCP;
    p[7] = (uint8_t)hops;
    memcpy(p + 8, q->local.ip, 16);
    memcpy(p + 24, q->remote.ip, 16);
    return IPV6_LEN + len;
}

static int send_raw(const struct privilege_request *q, struct privilege_reply *r,
                    uint8_t flags, unsigned hops)
{
    uint8_t packet[PACKET_MAX];
    struct sockaddr_storage ss;
    struct addr to = q->remote;
    to.port = 1; /* a raw socket's destination has none; 0 is no address to us */
    socklen_t len = sockaddr_from_addr(&ss, &to);
    if (to.family == ADDR_V6)
        ((struct sockaddr_in6 *)&ss)->sin6_port = 0;
    size_t n = put_packet(packet, q, flags, hops);
    int fd = socket(ss.ss_family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
    if (fd < 0)
        return refuse(r, POSTERN_ERR_PERM, "raw packets cannot be sent: %s",
                      strerror(errno));
    ssize_t sent = sendto(fd, packet, n, MSG_NOSIGNAL, (struct sockaddr *)&ss, len);
    int err = errno;
    close(fd);
    return sent == (ssize_t)n ? 0
                              : refuse(r, POSTERN_ERR_IO,
                                       "a raw packet was not sent: %s", strerror(err));
}

static int check(const struct privilege_request *q, struct privilege_reply *r)
{
    return socket_is_own(&q->local)
               ? 0
               : refuse(r, POSTERN_ERR_DENIED, "the source is not this machine");
}

static bool set(int fd, int option, const void *value, socklen_t len)
{
    return setsockopt(fd, IPPROTO_TCP, option, value, len) == 0;
}

static bool set_int(int fd, int option, int value)
{
    return set(fd, option, &value, sizeof(value));
}

static bool set_sequence(int fd, int queue, uint32_t next)
{
    return set_int(fd, TCP_REPAIR_QUEUE, queue) &&
           set(fd, TCP_QUEUE_SEQ, &next, sizeof(next));
}

/* The options as if they had been negotiated; see put_options. */
static bool set_options(int fd, const struct privilege_request *q)
{
    uint32_t ways = agreed(q);
    struct tcp_repair_opt o[4] = {{.opt_code = TCPOPT_MAXSEG, .opt_val = MSS},
                                  {.opt_code = TCPOPT_WINDOW}};
    socklen_t n = 2;
    if ((ways & TCP_WAYS_SCALES) != 0)
        o[1].opt_val = (q->peer_ways & TCP_WAYS_SCALE_MASK) |
                       (q->ways & TCP_WAYS_SCALE_MASK) << 16;
    if ((ways & TCP_WAYS_SACK) != 0)
        o[n++].opt_code = TCPOPT_SACK_PERMITTED;
    if ((ways & TCP_WAYS_TIMESTAMPS) != 0)
        o[n++].opt_code = TCPOPT_TIMESTAMP;
    return set(fd, TCP_REPAIR_OPTIONS, o, n * (socklen_t)sizeof(o[0])) &&
           ((ways & TCP_WAYS_TIMESTAMPS) == 0 ||
            set_int(fd, TCP_TIMESTAMP, (int)first_timestamp(q)));
}

/* Windows in a SYN are never scaled: these are the bytes that both may send at first.
 */
static bool set_windows(int fd, const struct privilege_request *q)
{
    struct tcp_repair_window w = {.snd_wl1 = q->peer_sequence,
                                  .snd_wnd = WINDOW,
                                  .max_window = WINDOW,
                                  .rcv_wnd = WINDOW,
                                  .rcv_wup = q->peer_sequence + 1};
    return set(fd, TCP_REPAIR_WINDOW, &w, sizeof(w));
}

/* A socket in the state that it will have when the handshake is over. */
static int connected(const struct privilege_request *q)
{
    struct sockaddr_storage from, to;
    socklen_t from_len = sockaddr_from_addr(&from, &q->local);
    socklen_t to_len = sockaddr_from_addr(&to, &q->remote);
    int on = 1;
    int fd = socket(from.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&from, from_len) == 0 &&
        set_int(fd, TCP_NODELAY, 1) && set_int(fd, TCP_REPAIR, 1) &&
        set_sequence(fd, TCP_SEND_QUEUE, q->sequence + 1) &&
        set_sequence(fd, TCP_RECV_QUEUE, q->peer_sequence + 1) &&
        connect(fd, (struct sockaddr *)&to, to_len) == 0 && set_options(fd, q) &&
        set_windows(fd, q) && set_int(fd, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP) &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0) /* now unset */
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

int arranged_begin(const struct privilege_request *q, struct privilege_reply *r,
                   int *fd)
{
    if (check(q, r) != 0)
        return r->err;
    int s = connected(q);
    if (s < 0)
        return refuse(r, errno == EADDRINUSE ? POSTERN_ERR_INUSE : POSTERN_ERR_IO,
                      "an arranged connection cannot be made: %s", strerror(errno));
    if (send_raw(q, r, FLAG_SYN, q->hops > 0 ? q->hops : HOPS_DEFAULT) != 0) {
        close(s);
        return r->err;
    }
    *fd = s;
    return 0;
}

int arranged_answer(const struct privilege_request *q, struct privilege_reply *r)
{
    return check(q, r) != 0 ? r->err
                            : send_raw(q, r, FLAG_SYN | FLAG_ACK, HOPS_DEFAULT);
}
