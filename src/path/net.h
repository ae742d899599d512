/* What everything in path/ and above shares on one loop. */
#ifndef POSTERN_PATH_NET_H
#define POSTERN_PATH_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/key.h"
#include "core/lateness.h"
#include "io/loop.h"
#include "path/net_sessions.h"

enum { NET_DESCRIPTORS_OWN = 32, NET_PROCESS_LEN = 8 };

struct net {
    struct loop *loop;
    struct keypair own;               /* this device's key */
    uint8_t process[NET_PROCESS_LEN]; /* random: no session is older than it */
    bool relay_by_tls;    /* this network let no relay connection through but by TLS */
    struct addr thin;     /* our end, where full segments to the relay were swallowed */
    unsigned relay_dials; /* connections for relay pairs that are not answered yet */
    uint64_t relay_heard_us; /* when anything came through a relay pair; 0: never */
    uint32_t relay_rtt_us;   /* of its connection to the broker, of late */
    struct lateness late;    /* of answers, on any way over this device's own line */
    unsigned predictions; /* by UDP, that open mappings or wait for what comes of it */
    struct net_budget *budget; /* of the whole process */
    bool own_budget;
    uint8_t *scratch; /* UDP_SCRATCH_BYTES for receiving; used within one event */
};

/* `budget` is what all of the process share, and outlives the loop, whose sessions
 * count there; NULL: one of its own. */
MUST_CHECK int net_init(struct net *n, struct loop *loop, const struct keypair *own,
                        struct net_budget *budget);
void net_fini(struct net *n);
/*
 * What others make this process open leaves room for what its owner wants: of the
 * descriptors that it may have, NET_DESCRIPTORS_OWN are its own (its broker's
 * connection and the next one, databases, watches, questions of the owner's programs),
 * and shares are of the rest.
 */
size_t net_descriptors_share(unsigned percent);
/* Raises what the process may have; net_init does it. For who takes a share before. */
void net_allow_descriptors(void);
/*
 * True while others have less than `percent` of that rest, `apart` from those that have
 * a bound of their own (negative: so many more are about to be taken).
 */
bool net_has_descriptors(const struct net *n, unsigned percent, long apart);

#endif
