/*
 * Watches the machine's network: usable addresses, default routes, and sleep. One
 * callback says that paths should be looked at again; how is not known here.
 */
#ifndef POSTERN_IO_NETMON_H
#define POSTERN_IO_NETMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

enum netmon_reason {
    NETMON_ADDRESSES = 1, /* a usable address came or went */
    NETMON_ROUTES = 2,    /* a default route changed */
    NETMON_RESUME = 3,    /* the machine slept */
};

struct netmon;
typedef void (*netmon_cb)(void *ctx, enum netmon_reason reason);

/*
 * Calls `on_change` from the loop, once for each burst of changes: 10 ms after the last
 * of it, at most 40 ms after the first; where one burst follows the other the wait
 * doubles each time, up to 0.64 s, and falls again with quiet. netmon_close may be
 * called inside it.
 */
MUST_CHECK int netmon_open(struct netmon **out, struct loop *loop, netmon_cb on_change,
                           void *ctx);
/* NULL is fine; no callback follows. Memory goes when the loop next turns. */
void netmon_close(struct netmon *n);

const char *netmon_reason_name(enum netmon_reason reason);

#define NETMON_NETWORK_LEN 16
/*
 * A name for the network that this machine is in, for remembering what worked there:
 * made of the prefixes of its addresses and its default routes. Two networks may look
 * alike.
 */
void netmon_network(uint8_t id[static NETMON_NETWORK_LEN]);

/*
 * A name for where what leaves this machine goes: the best default route, and the
 * prefix of the address from which it starts. Other interfaces and other addresses of
 * that network are no part of it. 0: there is no way out. Two networks may look alike.
 */
uint64_t netmon_way_out(void);

/*
 * The usable addresses of interfaces that are up, port 0: global before private,
 * temporary IPv6 (RFC 8981) before stable, never deprecated, tentative, link-local or
 * multicast ones; loopback only when asked. Returns how many were written.
 */
size_t netmon_addresses(struct addr *out, size_t max, bool loopback);
/*
 * The same for a peer to try, when there are more than `max`: those of the default
 * route's interfaces first, those of other bridges (containers, virtual machines) last;
 * and of each family half of `max`, if it has as many.
 */
size_t netmon_candidates(struct addr *out, size_t max, bool loopback);
/* That address, whatever its port, is one of them. */
bool netmon_owns(const struct addr *a);

/*
 * The address from which the kernel starts now towards `remote`, on a socket that is
 * bound to none. False, and `local` is not to be used, when there is no way.
 */
MUST_CHECK bool netmon_source(const struct addr *remote, struct addr *local);

#define NETMON_NAME_LEN 16
/*
 * The name of an interface that is switched on and has an address that would be usable,
 * and no cable or signal. False: there is none.
 */
bool netmon_dark(char name[static NETMON_NAME_LEN]);

/* The kernel knows a way beyond this machine's own networks, by IPv4 or IPv6. */
bool netmon_leads_out(void);

enum netmon_way {
    NETMON_WAY_SAME,
    /* `local` is ours, but there is no way now, or the kernel would start elsewhere. */
    NETMON_WAY_OTHER,
    /*
     * Nothing can go there and back: `local` is no address of this machine any more, or
     * stands on a link that is down while another way leads to `remote`, or on one that
     * is silent and in whose place another is used (io/egress.h).
     */
    NETMON_WAY_GONE,
};
/*
 * What became of the way from `local` to `remote`, the two ends of a connection that
 * stands; ADDR_NONE counts as unchanged.
 */
enum netmon_way netmon_way_of(const struct addr *local, const struct addr *remote);

#endif
