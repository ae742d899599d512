/* TCP sockets made with care for NATs: many from one port, with a chosen reach. */
#ifndef POSTERN_IO_TCP_H
#define POSTERN_IO_TCP_H

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
/* Lets a bound socket listen. */
MUST_CHECK int tcp_listen(int fd);
/* Closes with a RST. */
void tcp_abort(int fd);

#endif
