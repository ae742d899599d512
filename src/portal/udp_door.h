/* A port of flows of datagrams: one visit for each client address and port. */
#ifndef POSTERN_PORTAL_UDP_DOOR_H
#define POSTERN_PORTAL_UDP_DOOR_H

#include "portal/visits.h"

/* Owns `fd`, a UDP socket bound to `bound`, also on failure. */
MUST_CHECK int udp_door_open(struct udp_door **out, struct visits *visits, int fd,
                             const struct addr *bound);
/* Its flows take no more datagrams; they end by the table. NULL is fine. */
void udp_door_close(struct udp_door *d);

#endif
