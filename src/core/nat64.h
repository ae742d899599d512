/*
 * IPv4 addresses inside IPv6 ones, for a network that has IPv6 only and translates at
 * its edge (NAT64): the prefix found from what its DNS makes of ipv4only.arpa (RFC
 * 7050), addresses put in and taken out (RFC 6052). Knows no resolver.
 *
 * DNS that lies can name anybody's network as the prefix. So addresses that others
 * named are put in under a proven one only: the well-known prefix, which is nobody's
 * network, or one through which a server saw this device with an IPv4 address, as only
 * a translator makes it so.
 */
#ifndef POSTERN_CORE_NAT64_H
#define POSTERN_CORE_NAT64_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"

#define NAT64_NAME "ipv4only.arpa" /* has IPv4 addresses only, in all of DNS */
#define NAT64_PREFIXES_MAX 4

struct nat64_prefix {
    uint8_t ip[16]; /* zero from `bits` on */
    uint8_t bits;   /* 32, 40, 48, 56, 64 or 96 */
    bool proven;
};

struct nat64 {
    struct nat64_prefix prefixes[NAT64_PREFIXES_MAX];
    size_t count; /* 0: this network has none */
};

/*
 * What the IPv6 addresses that were found for NAT64_NAME tell: each has a known IPv4
 * address of it where RFC 6052 has it for one length of the prefix, with zeroes behind,
 * or is left out.
 */
void nat64_learn(struct nat64 *n, const struct addr *found, size_t count);
/* What was proven before still is. */
void nat64_keep(struct nat64 *n, const struct nat64 *before);
/*
 * A server that was asked at `v6` (nat64_try) answered that it sees this device as
 * `seen`: that proves the prefix, or nothing.
 */
void nat64_prove(struct nat64 *n, const struct addr *v6, const struct addr *seen);
/* A prefix is known, and none is proven. */
bool nat64_is_doubtful(const struct nat64 *n);
/* `v4` as this network reaches it, by its first proven prefix. False: it has none, or
 * `v4` is none of the internet's (RFC 6052 section 3.1 forbids it under the well-known
 * prefix, and nothing of this network's own lies behind a translator). */
MUST_CHECK bool nat64_put_in(const struct nat64 *n, const struct addr *v4,
                             struct addr *out);
/*
 * The same by a prefix that may be a lie: for the broker's own addresses alone. The
 * `nth` try takes another prefix each time, where none is proven.
 */
MUST_CHECK bool nat64_try(const struct nat64 *n, unsigned nth, const struct addr *v4,
                          struct addr *out);
/* The IPv4 address in `v6`, where it lies under one of the prefixes. */
MUST_CHECK bool nat64_take_out(const struct nat64 *n, const struct addr *v6,
                               struct addr *out);

/* The two steps by themselves, for one prefix. */
void nat64_prefix_put_in(const struct nat64_prefix *p, const struct addr *v4,
                         struct addr *out);
MUST_CHECK bool nat64_prefix_take_out(const struct nat64_prefix *p,
                                      const struct addr *v6, struct addr *out);

#endif
