/* TCP sockets for hole punching, and their options; decides nothing. */
#include "io/tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/egress.h"
#include "io/helper.h"
#include "io/oserr.h"
#include "io/sock.h"
#include "io/sockaddr.h"

/* ICMP quotes the packet it is about: one whose TTL has run down says nothing to us. */
enum { HOPS_DEFAULT = 64, QUOTED_HOPS_MIN = 5, BACKLOG = 4 };
/* Kernels send with 64 or 128 by themselves; few routers are between neighbours. */
enum { HOPS_CALLER = 255, HOPS_CALLER_MIN = 224 };

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
    return oserr(err);
}

static void set_reach(int fd, bool v6, int hops, int quoted_min)
{
    (void)setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                     v6 ? IPV6_UNICAST_HOPS : IP_TTL, &hops, sizeof(hops));
    (void)setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                     v6 ? IPV6_MINHOPCOUNT : IP_MINTTL, &quoted_min,
                     sizeof(quoted_min));
}

void tcp_hear_callers(int fd, enum addr_family family)
{
    set_reach(fd, family == ADDR_V6, HOPS_CALLER, HOPS_CALLER_MIN);
}

void tcp_hear_all(int fd, enum addr_family family)
{
    set_reach(fd, family == ADDR_V6, HOPS_CALLER, 0);
}

int tcp_connect(int fd, const struct addr *to, unsigned hops)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, to);
    bool v6 = to->family == ADDR_V6;
    if (hops > 0)
        set_reach(fd, v6, (int)hops, QUOTED_HOPS_MIN);
    egress_bind(fd, to);
    int rc = connect(fd, (struct sockaddr *)&ss, len);
    int err = errno;
    if (hops > 0)
        set_reach(fd, v6, HOPS_DEFAULT, QUOTED_HOPS_MIN);
    if (rc == 0 || err == EINPROGRESS)
        return 0;
    return err == EADDRNOTAVAIL ? POSTERN_ERR_INUSE
                                : oserr(err); /* the pair is taken */
}

int tcp_listen(int fd)
{
    return listen(fd, BACKLOG) == 0 ? 0 : POSTERN_ERR_INUSE;
}

static void set(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

void tcp_no_delay(int fd)
{
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void tcp_keep_alive(int fd)
{
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

void tcp_keep_alive_every(int fd, int idle_s, int gap_s, int count)
{
    tcp_keep_alive(fd);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, gap_s);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, count);
}

void tcp_ack_at_once(int fd)
{
    set(fd, IPPROTO_TCP, TCP_QUICKACK, 1);
}

void tcp_unsent_max(int fd, int bytes)
{
    set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, bytes);
}

void tcp_give_up_after(int fd, int ms)
{
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms);
}

void tcp_send_again_within(int fd, unsigned ms)
{
    enum { RTO_MAX_MS = 44, LEAST_MS = 1000, MOST_MS = 120000 }; /* TCP_RTO_MAX_MS */
    unsigned within = ms > LEAST_MS ? ms : LEAST_MS;
    set(fd, IPPROTO_TCP, RTO_MAX_MS, (int)(within < MOST_MS ? within : MOST_MS));
}

void tcp_segment_max(int fd, int bytes)
{
    set(fd, IPPROTO_TCP, TCP_MAXSEG, bytes);
}

int tcp_read_facts(int fd, struct tcp_facts *f)
{
    /* tcpi_min_rtt and tcpi_delivery_rate of the kernel's struct tcp_info, which an
     * older netinet/tcp.h cuts short, and a newer one makes longer than 256 bytes. */
    enum { MIN_RTT_AT = 148, RATE_AT = 160 };
    struct tcp_info info;
    uint8_t whole[sizeof(info) > 256 ? sizeof(info) : 256] = {0};
    socklen_t len = sizeof(whole);
    *f = (struct tcp_facts){0};
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, whole, &len) != 0)
        return POSTERN_ERR_IO;
    memcpy(&info, whole, sizeof(info));
    if (len >= MIN_RTT_AT + sizeof(f->min_rtt_us))
        memcpy(&f->min_rtt_us, whole + MIN_RTT_AT, sizeof(f->min_rtt_us));
    if (len >= RATE_AT + sizeof(f->rate_bytes_s))
        memcpy(&f->rate_bytes_s, whole + RATE_AT, sizeof(f->rate_bytes_s));
    if (f->min_rtt_us == UINT32_MAX)
        f->min_rtt_us = 0;
    f->rtt_us = info.tcpi_rtt;
    f->retransmits = info.tcpi_retransmits;
    f->unacked = info.tcpi_unacked;
    f->probes = info.tcpi_probes;
    f->data_ms = info.tcpi_last_data_recv;
    f->sent_ms = info.tcpi_last_data_sent;
    f->ack_ms = info.tcpi_last_ack_recv;
    f->timestamps = (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
    f->sack = (info.tcpi_options & TCPI_OPT_SACK) != 0;
    f->scales = (info.tcpi_options & TCPI_OPT_WSCALE) != 0;
    f->window_shift = info.tcpi_rcv_wscale;
    return 0;
}

bool tcp_was_reset_unasked(int fd)
{
    enum { LATE_ACK_MS = 200 }; /* as long as a kernel puts one off */
    struct tcp_facts f;
    return sock_unsent(fd) == 0 && tcp_read_facts(fd, &f) == 0 && f.probes == 0 &&
           f.data_ms > LATE_ACK_MS + 2 * f.rtt_us / 1000;
}

bool tcp_has_crossed(int fd)
{
    enum { SEGS_IN_AT = 140, DATA_SEGS_IN_AT = 152 };
    enum { SIZE = sizeof(struct tcp_info) > 256 ? sizeof(struct tcp_info) : 256 };
    uint8_t whole[SIZE] = {0};
    socklen_t len = sizeof(whole);
    struct tcp_info info;
    uint32_t in, data;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, whole, &len) != 0 ||
        len < DATA_SEGS_IN_AT + sizeof(data))
        return true;
    memcpy(&info, whole, sizeof(info));
    if (info.tcpi_state != TCP_ESTABLISHED) /* its FIN came: one segment more */
        return false;
    memcpy(&in, whole + SEGS_IN_AT, sizeof(in));
    memcpy(&data, whole + DATA_SEGS_IN_AT, sizeof(data));
    return in - data >= 2; /* a SYN, then its ACK; else one SYN-ACK */
}
