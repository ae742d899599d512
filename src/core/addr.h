/*
 * A transport address without the kernel's structures: what candidates, STUN and
 * messages carry. io/sockaddr.h converts to and from struct sockaddr.
 */
#ifndef POSTERN_CORE_ADDR_H
#define POSTERN_CORE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

enum addr_family { ADDR_NONE = 0, ADDR_V4 = 4, ADDR_V6 = 6 };

/* Host byte order port; `ip` in network order, 4 or 16 bytes used, the rest zero. */
struct addr {
    uint8_t family; /* enum addr_family */
    uint16_t port;
    uint8_t ip[16];
    uint32_t scope; /* IPv6 interface index of a link-local address, else 0 */
};

#define ADDR_TEXT_LEN 64 /* "[v6%scope]:port" and its NUL fit */

/* Length of `a->ip` in use: 4, 16, or 0 for ADDR_NONE. */
size_t addr_ip_len(const struct addr *a);
bool addr_equal(const struct addr *a, const struct addr *b);
bool addr_ip_equal(const struct addr *a, const struct addr *b);
/* The same address, or of IPv6 the same /64: whoever has the one can have the other. */
bool addr_place_equal(const struct addr *a, const struct addr *b);
/* The first `bits` of both are equal, and so is the family. */
bool addr_prefix_equal(const struct addr *a, const struct addr *b, unsigned bits);

/* Writes "1.2.3.4:5" or "[::1]:5" into `buf` and returns it; "none" for ADDR_NONE. */
const char *addr_format(const struct addr *a, char buf[static ADDR_TEXT_LEN]);
/* The same without the port and brackets. */
const char *addr_format_ip(const struct addr *a, char buf[static ADDR_TEXT_LEN]);

/* Parses numeric "1.2.3.4:5", "[::1]:5". POSTERN_ERR_INVALID on anything else. */
MUST_CHECK int addr_parse(struct addr *a, const char *text);
/* Parses a numeric address without a port; the port becomes 0. */
MUST_CHECK int addr_parse_ip(struct addr *a, const char *text);

/* From raw bytes of a message: len 4 or 16, an IPv4-mapped v6 becomes v4. */
MUST_CHECK int addr_from_bytes(struct addr *a, const uint8_t *ip, size_t len,
                               uint32_t port);

enum addr_scope {
    ADDR_SCOPE_UNUSABLE, /* unspecified, multicast, broadcast, port 0 */
    ADDR_SCOPE_LOOPBACK,
    ADDR_SCOPE_LINK,
    ADDR_SCOPE_PRIVATE, /* RFC 1918, RFC 6598 shared, RFC 4193 unique local */
    ADDR_SCOPE_GLOBAL,
};

enum addr_scope addr_scope_of(const struct addr *a);
/*
 * Whether a global address may be one of the internet: not one of those that mean
 * something inside one network only, though they look global. Where the broker has
 * such a one, all this is a network of its own, and they are as good as any.
 */
bool addr_is_of_internet(const struct addr *a, const struct addr *broker);

#endif
