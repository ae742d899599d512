/* What everything in path/ and above shares on one loop. */
#ifndef POSTERN_PATH_NET_H
#define POSTERN_PATH_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/budget.h"
#include "core/err.h"
#include "core/key.h"
#include "io/loop.h"

struct net {
    struct loop *loop;
    struct keypair own;    /* this device's key */
    bool relay_by_tls;     /* this network let no relay connection through but by TLS */
    struct budget *budget; /* of the whole process */
    bool own_budget;
    uint8_t *scratch; /* UDP_SCRATCH_BYTES for receiving; used within one event */
};

/* `budget` is what all of the process share, and outlives it; NULL: one of its own. */
MUST_CHECK int net_init(struct net *n, struct loop *loop, const struct keypair *own,
                        struct budget *budget);
void net_fini(struct net *n);
/* A budget with a fresh secret, or NULL; free() ends it. */
struct budget *net_budget_new(void);
/*
 * True while less than `percent` of the descriptors that this process may have are
 * taken, `apart` from those that have a bound of their own (negative: so many more are
 * about to be taken): what others make it open leaves room for what its owner wants.
 */
bool net_has_descriptors(const struct net *n, unsigned percent, long apart);

#endif
