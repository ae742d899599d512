/*
 * What devices behind one outside address may open in the NAT there, by port
 * prediction, all together: its table is one for all of them, and only the broker sees
 * who they are. The sum is core/sessions', the turns are core/shares': who has had none
 * lately goes before who has. One that is alone there may have all. Knows devices as
 * numbers, and time as one. Bounded: the address that asked longest ago gives way.
 */
#ifndef POSTERN_BROKER_GRANTS_H
#define POSTERN_BROKER_GRANTS_H

#include <stdint.h>

#include "core/addr.h"
#include "core/sessions.h"
#include "core/shares.h"

enum {
    GRANTS_V6_BYTES = 7, /* of an address count: a /56 */
    GRANTS_ADDRESSES = 512,
    GRANTS_CROWDED_S = 600, /* another device asked from there of late */
    GRANTS_EACH = 24,       /* what each device there opens otherwise, about */
    GRANTS_TO_COME = 8,     /* devices that may come in the same minute */
    GRANTS_WAIT_MS = 5000,  /* at least, until who was refused asks again */
};

/* All zero at first. */
struct grants {
    /* An IPv4 address, or the /56 of an IPv6 one, behind its family. */
    uint8_t block[GRANTS_ADDRESSES][8];
    uint64_t asked_us[GRANTS_ADDRESSES]; /* last */
    struct grants_address {
        uint64_t device;     /* that asked last; 0: none */
        uint64_t crowded_us; /* another one did, last; 0: never */
        struct sessions open;
        struct shares shares;
    } of[GRANTS_ADDRESSES];
};

/* Of `wanted`, `device` (not 0) there may open so many from now; if none, it is to ask
 * again in `wait_ms`. */
unsigned grants_take(struct grants *g, const struct addr *from, uint64_t device,
                     unsigned wanted, uint64_t now_us, uint32_t *wait_ms);
/* It will open so many of them no more. */
void grants_return(struct grants *g, const struct addr *from, uint64_t device,
                   unsigned n, uint64_t now_us);

#endif
