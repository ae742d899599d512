/*
 * In which order hosts count when anybody can be a host, and have as many keys as he
 * likes: first by what was proven; of equals each neighbourhood (IPv4: the /16, in it
 * the /24, in that the address; IPv6: the /32, /48 and /64) has one place after
 * another, the eldest in it first. So many hosts of one neighbourhood stand behind one
 * another, and a host elsewhere does not stand behind them. Pure.
 */
#ifndef POSTERN_PORTAL_CANDIDATES_H
#define POSTERN_PORTAL_CANDIDATES_H

#include <stddef.h>

#include "core/addr.h"

struct candidate {
    uint32_t host; /* its number: a later one came later */
    uint8_t proof; /* the less the more was proven */
    uint8_t by;    /* the caller's, */
    uint8_t name;  /* and this */
    struct addr from;
    uint32_t turn; /* set here: how many of its neighbourhood stand before it */
};

void candidates_order(struct candidate *cs, size_t count);

#endif
