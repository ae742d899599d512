/*
 * Who counts with whom when places are shared out by address: a client's address, and
 * the blocks around it of which each may have four times as much. It knows addresses
 * and numbers only.
 */
#ifndef POSTERN_PORTAL_CROWD_H
#define POSTERN_PORTAL_CROWD_H

#include "core/addr.h"

/*
 * IPv4: the address, its /24. IPv6: the /64, the /56, the /48; link-local: the address.
 */
#define CROWD_LEVELS 3

/* Of some connections, how many stand as near to an address as each level says. */
struct crowd {
    struct addr around;
    unsigned count[CROWD_LEVELS];
};

/* The narrowest block that both are in, from 0; CROWD_LEVELS when there is none. */
unsigned crowd_distance(const struct addr *a, const struct addr *b);
/* Counts one more that comes from `other`. Begin with {.around = address}. */
void crowd_add(struct crowd *c, const struct addr *other);
/*
 * The narrowest block that has `max`, or four or sixteen times as many; CROWD_LEVELS
 * when one more may come.
 */
unsigned crowd_full(const struct crowd *c, unsigned max);

#endif
