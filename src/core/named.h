/*
 * The sessions (entries in this device's own NAT) that peers make us open by naming
 * addresses: checks, knocks, and tries by TCP. A peer may name ever new ones, each is
 * another entry, and a full table keeps out whatever else stands behind that NAT.
 *
 * One that was used within NAMED_LIFE_S may be used again. Of new ones a peer has
 * NAMED_EACH in that time, at most NAMED_STRANGE of them where the broker does not
 * vouch for the address; and all that nothing has answered are NAMED_UNPROVEN at most,
 * of which nobody takes more than a third of what is left, but everybody the first few.
 * What a peer's own program answers proves only that it is the peer's: it still counts
 * among the peer's. Knows addresses, peers and time as numbers, and no socket.
 */
#ifndef POSTERN_CORE_NAMED_H
#define POSTERN_CORE_NAMED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

enum {
    NAMED_LIFE_S = 60,
    NAMED_EACH = 40,
    NAMED_STRANGE = 20,
    NAMED_FIRST = 8,
    NAMED_UNPROVEN = 256,
    NAMED_MAX = 1024, /* of all peers, answered or not */
};

struct named_session {
    uint64_t peer;    /* who named it */
    uint64_t used_us; /* last; 0: the place is free */
    struct addr to;
    uint32_t from; /* from which port of ours; 0: another each time */
    bool vouched;  /* the broker says that the address is the peer's */
    bool answered;
};

/* All zero at first. 56 KiB. */
struct named {
    struct named_session of[NAMED_MAX];
};

/* Whether `s` may be opened or used now. `crowded`: the device has opened as much as it
 * should, so that each peer has its first few only. */
bool named_may(const struct named *n, const struct named_session *s, bool crowded,
               uint64_t now_us);
/* It is, since named_may said so, by a packet that goes now. `now_us` is not 0. */
void named_use(struct named *n, const struct named_session *s, uint64_t now_us);
/* What this peer named at that address and port was answered from there. */
void named_answered(struct named *n, uint64_t peer, const struct addr *from);
/* Another network, whose NAT has none of them. */
void named_forget(struct named *n);

#endif
