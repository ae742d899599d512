/*
 * By which interface this process sends to the Internet: the one that the kernel's
 * routes name, until the floors above choose another one because that is silent. The
 * machine's own, as its routes are: one choice for the process. Only what is told so is
 * sent there: connections to services follow the routes alone. Decides nothing.
 *
 * A socket of an ordinary user may be bound to an interface once (Linux 5.7). Tunnels
 * are neither passed by nor taken: who sends all through one wants that.
 */
#ifndef POSTERN_IO_EGRESS_H
#define POSTERN_IO_EGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"

/* The interface that the routes name towards `to`; 0: none. */
unsigned egress_by_routes(const struct addr *to);
/* They name several, among which the kernel chooses for each connection (ECMP). */
bool egress_is_spread(const struct addr *to);
/* The interface that has that address; 0: none. */
unsigned egress_with(const struct addr *local);
/*
 * Another one than `used` (0: what is used now towards `to`), by which a default route
 * leads there: of the routes' main table, of one of several in one route (ECMP), or by
 * a rule for what starts from its address. 0: there is none.
 */
unsigned egress_other(const struct addr *to, unsigned used);
/* Its name, of NETMON_NAME_LEN; a number where it has gone. */
void egress_name(unsigned interface, char *buf, size_t cap);
/* A VPN's, as it seems (WireGuard, TUN and the like). */
bool egress_is_tunnel(unsigned interface);
/* What comes by it over IPv4 is dropped by the kernel while the routes name another one
 * for where it came from (rp_filter=1). */
bool egress_is_strict(unsigned interface);
/* A default route leads there through it, as above. */
bool egress_leads(unsigned interface, const struct addr *to);
/* From now on, since `instead_of` (0: nobody knows which) answers nothing; 0: as the
 * routes say. From any thread, like all here. */
void egress_choose(unsigned interface, unsigned instead_of);
unsigned egress_chosen(void);
/* Instead of which one; 0: of none. */
unsigned egress_left(void);
/* `interface` is that one, and `to` is reached by the chosen one: a connection that
 * stands there is heard by nobody, though bytes may still come by it. */
bool egress_is_left(unsigned interface, const struct addr *to);
/* The chosen one, where `to` is reached by it: on the Internet, and in no network that
 * this machine has an address of. 0: as the routes say. `source`: the address from
 * which it leads there; family none: the kernel knows. */
unsigned egress_towards(const struct addr *to, struct addr *source);
/* A socket that is not connected yet: it goes by the chosen one, where `to` is reached
 * by that. One that is bound to a port keeps its address. */
void egress_bind(int fd, const struct addr *to);
/* By that one, whatever is chosen. */
void egress_bind_over(int fd, unsigned interface, const struct addr *to);
/* What it is bound to; 0: nothing. */
unsigned egress_of(int fd);

#endif
