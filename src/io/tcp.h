/*
 * What is TCP's own: sockets made with care for NATs (many from one port, with a chosen
 * reach), what may be asked of a connection, and what it tells. How it is reset:
 * io/linger.h.
 */
#ifndef POSTERN_IO_TCP_H
#define POSTERN_IO_TCP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

/*
 * A non-blocking socket bound to `local`, whose port others may share as long as
 * nobody listens on it (SO_REUSEADDR). Port 0: the kernel's choice. A descriptor, or
 * POSTERN_ERR_INUSE, _PERM or _IO.
 */
MUST_CHECK int tcp_bind(const struct addr *local);
/*
 * Begins to connect. `hops` other than 0: the SYN dies after so many routers, later
 * segments do not, and an ICMP error about it is ignored (IP_MINTTL): it opens the way
 * back in our own NATs and firewalls and is never seen by the other side's. The kernel
 * then holds an end for exactly this remote address. 0 when under way.
 */
MUST_CHECK int tcp_connect(int fd, const struct addr *to, unsigned hops);
/*
 * Before tcp_connect without `hops`, for two neighbours who call each other: the socket
 * sends with more hops than any kernel does by itself, and hears only who does so too
 * (IP_MINTTL). So the reset that answers a SYN where nobody calls yet is not the end of
 * it: the socket waits for the other end's SYN. Nor does it meet a machine that
 * listens there for others. Needs no privilege.
 */
void tcp_hear_callers(int fd, enum addr_family family);
/* Once it is connected: resets count again. It goes on sending so, since the other end
 * may not have got so far. */
void tcp_hear_all(int fd, enum addr_family family);
/* Lets a bound socket listen. */
MUST_CHECK int tcp_listen(int fd);

/* All of these do nothing on another socket than TCP's. */
void tcp_no_delay(int fd);
/* An idle connection is asked after as often as the system does. */
void tcp_keep_alive(int fd);
/* After `idle_s`, then every `gap_s`; `count` unanswered end it. */
void tcp_keep_alive_every(int fd, int idle_s, int gap_s, int count);
/* What comes next is acknowledged when it arrives, not up to 40 ms later. The kernel
 * forgets that as soon as something is sent. */
void tcp_ack_at_once(int fd);
/* So many bytes may wait behind the congestion window: more would only be delay. */
void tcp_unsent_max(int fd, int bytes);
/* Ends the connection when the other end acknowledged nothing for so long. */
void tcp_give_up_after(int fd, int ms);
/* Pauses between what is sent again double up to that, and not below a second; kernels
 * before 6.15 double on. */
void tcp_send_again_within(int fd, unsigned ms);
/* Before the connect: larger segments are neither sent nor asked for. */
void tcp_segment_max(int fd, int bytes);

struct tcp_facts {
    uint32_t rtt_us;
    uint32_t min_rtt_us; /* 0: the kernel does not say */
    bool timestamps, sack, scales;
    uint8_t window_shift;  /* of what we receive, where it scales */
    unsigned retransmits;  /* of the first unacknowledged segment, so far */
    unsigned unacked;      /* segments under way */
    uint32_t data_ms;      /* since something came last; 0: just now */
    uint32_t sent_ms;      /* since something new or lost was sent last */
    uint32_t ack_ms;       /* since an acknowledgement came, with data or without */
    unsigned probes;       /* of an idle connection, or of a full one, not answered */
    uint64_t rate_bytes_s; /* at which data arrived of late; 0: not known */
};

/*
 * Of a connection that has just come about by tcp_connect: a SYN of the other end's
 * met ours (simultaneous open), which only who expected it can have sent. False: the
 * other end accepted it, as anybody who listens there does, or has closed it since.
 * True where the kernel does not say.
 */
bool tcp_has_crossed(int fd);

/*
 * Of a connection that was reset: nothing of ours was under way to which a router that
 * has forgotten it could have answered so, but perhaps the answer to a keepalive of the
 * other end's kernel, of which ours does not tell.
 */
bool tcp_was_reset_unasked(int fd);

/* POSTERN_ERR_IO, and zeroes, for another socket than TCP's. */
MUST_CHECK int tcp_read_facts(int fd, struct tcp_facts *f);

#endif
