/*
 * The networks that this machine is in beside the one with its default route: tunnels,
 * overlays, second interfaces; not the bridges of its own containers and guests. What a
 * peer names as its own address in one of those is likely to be that peer; in the
 * default network it may be anybody's, since most homes number theirs alike.
 */
#ifndef POSTERN_IO_SIDENET_H
#define POSTERN_IO_SIDENET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

enum { SIDENET_MAX = 16 };

struct sidenets {
    struct {
        struct addr addr; /* ours in it */
        unsigned bits;    /* of its prefix */
    } nets[SIDENET_MAX];
    size_t count;
};

/* The interfaces that a default route names; returns how many, at most `max`. */
size_t sidenet_defaults(uint32_t *out, size_t max);
/*
 * Asks the kernel. A point-to-point address of 100.64.0.0/10 or fc00::/7 counts as its
 * overlay's whole range, /10 or /48, which is how they are numbered.
 */
void sidenets_read(struct sidenets *s);
/* The address is in one of them, and not our own. */
bool sidenets_hold(const struct sidenets *s, const struct addr *a);

#endif
