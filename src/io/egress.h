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
/* Another one than what is used now, with a default route of its own; 0: none. */
unsigned egress_other(const struct addr *to);
/* Its name, of NETMON_NAME_LEN; a number where it has gone. */
void egress_name(unsigned interface, char *buf, size_t cap);
/* What comes by it over IPv4 is dropped by the kernel while the routes name another one
 * for where it came from (rp_filter=1). */
bool egress_is_strict(unsigned interface);
/* It has a default route of that family. */
bool egress_leads(unsigned interface, const struct addr *to);
/* From now on; 0: as the routes say. From any thread, like all here. */
void egress_choose(unsigned interface);
unsigned egress_chosen(void);
/* The chosen one, where `to` is reached by it: on the Internet, and in no network that
 * this machine has an address of. 0: as the routes say. */
unsigned egress_towards(const struct addr *to);
/* A socket that is not connected yet: 0 is fine, and does nothing. */
void egress_bind(int fd, unsigned interface);
/* What it is bound to; 0: nothing. */
unsigned egress_of(int fd);

#endif
