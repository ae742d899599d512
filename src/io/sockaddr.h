/* Conversion between struct addr and the kernel's socket addresses. */
#ifndef POSTERN_IO_SOCKADDR_H
#define POSTERN_IO_SOCKADDR_H

#include <sys/socket.h>

#include "core/addr.h"
#include "core/err.h"

/*
 * Fills `ss` and returns the length to hand to the kernel, or 0 for ADDR_NONE. The
 * rest of `ss` is zeroed.
 */
socklen_t sockaddr_from_addr(struct sockaddr_storage *ss, const struct addr *a);
/*
 * For a dual-stack AF_INET6 socket: the same, but an IPv4 address becomes an
 * IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
 */
socklen_t sockaddr_from_addr_mapped(struct sockaddr_storage *ss, const struct addr *a);
/* An IPv4-mapped address becomes IPv4. POSTERN_ERR_INVALID for another family. */
MUST_CHECK int sockaddr_to_addr(struct addr *a, const struct sockaddr *sa);

#endif
