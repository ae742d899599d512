/*
 * One local TCP port and where the outside sees it: this machine's addresses, and the
 * address that the broker's STUN over TCP reports for a connection from that port,
 * which is kept open so that the NAT keeps the mapping.
 */
#ifndef POSTERN_PATH_TCP_PORT_H
#define POSTERN_PATH_TCP_PORT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"
#include "path/target.h"

/* The other side takes no more (MEETING_PEERS_MAX). */
enum { TCP_PORT_CANDIDATES_MAX = 6 };

struct tcp_port;

struct tcp_candidate {
    struct addr addr;
    bool reflexive;
};

/*
 * `done` runs once, from the loop, when all that can be known is known. `low`: the IPv4
 * port is one of 512-1023 (core/predict.h says why); POSTERN_ERR_PERM when that may
 * not be.
 */
MUST_CHECK int tcp_port_open(struct tcp_port **out, struct approach *a, bool low,
                             void (*done)(void *ctx), void *ctx);
/* A free port of 512-1023 for IPv4, or 0 when none may be bound. */
uint16_t tcp_port_find_low(void);
/* Fine inside `done`. NULL is fine. */
void tcp_port_close(struct tcp_port *p);
/* The address to bind to for that family: any, with our port; false: not usable. */
bool tcp_port_local(const struct tcp_port *p, enum addr_family family,
                    struct addr *local);
/* The IPv4 NAT gave another port than ours: it may give each destination another. */
bool tcp_port_is_changed(const struct tcp_port *p);
/* The outside sees our IPv4 port as one that prediction tries (core/predict.h). */
bool tcp_port_is_mapped_low(const struct tcp_port *p);
/* What this kernel puts into its SYNs (enum tcp_ways of core/privilege.h) as far as the
 * broker's has it too; 0 before it has answered. */
uint32_t tcp_port_ways(const struct tcp_port *p);
/* The options that this connection has. */
uint32_t tcp_ways_of(int fd);
size_t tcp_port_candidates(const struct tcp_port *p,
                           struct tcp_candidate out[static TCP_PORT_CANDIDATES_MAX]);

#endif
