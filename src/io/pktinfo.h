/*
 * Which local address a UDP packet came to, and from which one to answer, on a socket
 * that is bound to many (IP_PKTINFO, IPV6_RECVPKTINFO).
 */
#ifndef POSTERN_IO_PKTINFO_H
#define POSTERN_IO_PKTINFO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/addr.h"

#define PKTINFO_CONTROL_LEN 64 /* bytes of a control buffer, aligned as a uint64_t */

/* As recvmsg filled `msg`; `bind` is what the socket is bound to, with its port. */
void pktinfo_read(struct msghdr *msg, const struct addr *bind, struct addr *local);
/* For sendmsg's control buffer, zeroed: returns the length that was used. */
size_t pktinfo_put(void *control, uint8_t bound_family, const struct addr *from);

#endif
