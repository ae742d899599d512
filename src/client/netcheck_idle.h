/*
 * How long a silent UDP mapping lives: RFC 5780 section 4.6. Some sockets are seen by
 * the server and then silent, each for a time of its own; afterwards the server is
 * asked from another socket to answer there. Blocks nothing; takes two minutes.
 */
#ifndef POSTERN_CLIENT_NETCHECK_IDLE_H
#define POSTERN_CLIENT_NETCHECK_IDLE_H

#include "core/addr.h"
#include "io/udp.h"
#include "path/net.h"
#include "path/uplink.h"

struct netcheck_idle;

/* NULL: no memory, or no sockets. `asker` sends to `server` already; it and
 * `uplink`, to the same broker, are borrowed. */
struct netcheck_idle *netcheck_idle_new(struct net *net, const struct addr *server,
                                        struct udp *asker, const struct uplink *uplink);
void netcheck_idle_free(struct netcheck_idle *i);
/* Now and then. */
void netcheck_idle_tick(struct netcheck_idle *i, uint64_t now_ms);
bool netcheck_idle_done(const struct netcheck_idle *i);
/* The longest silence that a mapping outlived, and the shortest that it did not, in
 * seconds; 0: none. */
void netcheck_idle_found(const struct netcheck_idle *i, unsigned *lives_s,
                         unsigned *dies_s);

#endif
