/*
 * A second uplink of the machine in place of a first that fell silent without a word:
 * its link, address and default route are as they were. Which one is used is the
 * process's (io/egress.h). The uplinks to brokers find that out, since they dial over
 * both when the broker is silent (path/uplink.c); when to look whether the first
 * answers again says core/detour.h. Whoever opened it does as after a change of the
 * network.
 */
#ifndef POSTERN_PATH_DETOUR_H
#define POSTERN_PATH_DETOUR_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"
#include "path/net_sessions.h"

struct detour;

/* `on_change` comes from the loop: what is sent to the Internet goes another way. For
 * all whose nets have that budget, which outlives it. */
MUST_CHECK int detour_open(struct detour **out, struct loop *loop, struct net_budget *b,
                           loop_cb on_change, void *ctx);
/* NULL is fine. */
void detour_close(struct detour *d);
/* The network changed: the routes may name what answers, or not the other one any more.
 * No callback follows. */
void detour_on_network_change(struct detour *d);

/* The interface over which it is tried, too, where what is used is silent towards `to`;
 * 0: there is none, or nobody would be told. `local`: where the silent connection
 * starts, if there is one. */
unsigned detour_other(const struct net_budget *b, const struct addr *to,
                      const struct addr *local);
/* How it stands with a second way out towards `to`, which may be no address. */
enum detour_state {
    DETOUR_NONE,    /* there is no second */
    DETOUR_READY,   /* it takes the first one's place when that falls silent */
    DETOUR_BLOCKED, /* the kernel would drop what comes back there */
    DETOUR_USED,    /* it is used: the first is silent */
};
/* In words as well, with what to do; `f` is not touched where there is none. */
enum detour_state detour_describe(const struct addr *to, struct fault *f);
/*
 * `to` answers by none of the ways out: which they are, " through tun0" or the like,
 * and what to do about them. False: there is one alone, of which nothing is known.
 */
bool detour_describe_silence(const struct addr *to, char *through, size_t through_cap,
                             char *cure, size_t cure_cap);
/* The broker at `to` answered there, and not on `instead_of`, which was used (0: what
 * the routes name). */
void detour_take(struct net_budget *b, unsigned interface, unsigned instead_of,
                 const struct addr *to);

#endif
