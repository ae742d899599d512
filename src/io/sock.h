/*
 * Sockets as the floors above say them: addresses are struct addr, errors negative enum
 * postern_err (of io/oserr.h), and nothing blocks. One word is one system call, begun
 * again after a signal; nothing is copied between. What is only TCP's stands in
 * io/tcp.h and io/linger.h, UDP in batches in io/udp.h.
 */
#ifndef POSTERN_IO_SOCK_H
#define POSTERN_IO_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/addr.h"
#include "core/err.h"

/* -------------------------------------------------------------------- to make them */

/* Zeroed: of its own family only, the address is nobody else's. */
struct sock_options {
    bool dual;      /* an IPv6 wildcard takes IPv4 too */
    bool shared;    /* others that say so may be bound there too (SO_REUSEPORT) */
    bool tells_own; /* UDP: for io/pktinfo.h */
    int backlog;    /* TCP: at most so many wait to be accepted */
};

/*
 * A socket that listens at `at` (port 0: the kernel's choice; a port of which only
 * connections remain that have ended is free), or one that is bound to it. Descriptors
 * are non-blocking and close-on-exec. On failure errno still is the kernel's, for the
 * line that a person reads.
 */
MUST_CHECK int sock_listen(const struct addr *at, const struct sock_options *o);
MUST_CHECK int sock_udp(const struct addr *at, const struct sock_options *o);
/* One more descriptor of a socket that another program bound; `tells_own` counts. */
MUST_CHECK int sock_share(int fd, const struct sock_options *o);
/* UDP that sends to, and takes from, one address: sock_read and sock_write. */
MUST_CHECK int sock_udp_to(const struct addr *to);
/* Two ends of one stream inside this machine. On failure errno is the kernel's. */
MUST_CHECK int sock_pair(int fds[static 2]);

/* ------------------------------------------------------------------------- streams */

/*
 * Bytes; 0 at the stream's end (of UDP: an empty packet); POSTERN_ERR_AGAIN when there
 * is nothing now; else what broke it. sock_peek leaves them there.
 */
MUST_CHECK ssize_t sock_read(int fd, void *buf, size_t cap);
MUST_CHECK ssize_t sock_readv(int fd, const struct iovec *iov, size_t count);
MUST_CHECK ssize_t sock_peek(int fd, void *buf, size_t cap);
/* Bytes taken, perhaps fewer; POSTERN_ERR_AGAIN when it is full; else what broke it. */
MUST_CHECK ssize_t sock_write(int fd, const void *buf, size_t len);
MUST_CHECK ssize_t sock_writev(int fd, const struct iovec *iov, size_t count);
/* All of it was taken at once; for the few bytes that a fresh socket has room for. */
MUST_CHECK bool sock_say(int fd, const void *buf, size_t len);
/* The other end reads the end after what was written. */
void sock_end_writing(int fd);
/* Both ways; the descriptor stays. */
void sock_end(int fd);
/* It ended or failed both ways: half an end leaves the other half. */
bool sock_is_over(int fd);
/* What a connect, or the connection since, came to: 0 or an error (errno tells more).
 * It is told once. */
MUST_CHECK int sock_error(int fd);
/* Bytes written that the other end has not got. */
size_t sock_unsent(int fd);

/* ----------------------------------------------------------------- UDP, one by one */

/*
 * The packet's bytes, cut off at `cap`; `from` is ADDR_NONE where its sender has no
 * address. POSTERN_ERR_AGAIN: none is there.
 */
MUST_CHECK ssize_t sock_recv_from(int fd, void *buf, size_t cap, struct addr *from);
/* 0: taken, or lost as UDP may. */
MUST_CHECK int sock_send_to(int fd, const void *buf, size_t len, const struct addr *to);
MUST_CHECK int sock_sendv_to(int fd, const struct iovec *iov, size_t count,
                             const struct addr *to);

/* ----------------------------------------------------------------------- addresses */

/* `a` is ADDR_NONE on failure. A remote IPv4 machine behind a translator is IPv4. */
MUST_CHECK int sock_local(int fd, struct addr *a);
MUST_CHECK int sock_remote(int fd, struct addr *a);
/* Our own address on the way to `to`, as the routes say now, port 0; sends nothing.
 * Where IPv4 is reached through a translator (io/nat64_way.h), that is an IPv6 one. */
MUST_CHECK int sock_source_for(const struct addr *to, struct addr *from);

#endif
