/*
 * Which local address a UDP packet came to, and from which one to answer, on a socket
 * that is bound to many and was made to tell (sock_options.tells_own).
 */
#ifndef POSTERN_IO_PKTINFO_H
#define POSTERN_IO_PKTINFO_H

#include <stddef.h>
#include <sys/types.h>

#include "core/addr.h"

/*
 * As sock_recv_from; `bound` is what the socket is bound to, with its port, and `local`
 * what the packet came to. `from` is ADDR_NONE also where the packet is longer than
 * `cap`.
 */
MUST_CHECK ssize_t pktinfo_recv(int fd, const struct addr *bound, void *buf, size_t cap,
                                struct addr *from, struct addr *local);
/* Sends it from `from` of this machine, or loses it. */
void pktinfo_send(int fd, const struct addr *bound, const void *buf, size_t len,
                  const struct addr *to, const struct addr *from);

#endif
