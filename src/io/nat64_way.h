/*
 * How this process reaches IPv4 where its network has IPv6 only and translates at its
 * edge (core/nat64.h): the prefix is asked of the system's resolver, and kept for the
 * process, as the network is the machine's. Where IPv4 has a way, nothing is asked, and
 * nothing is translated.
 */
#ifndef POSTERN_IO_NAT64_WAY_H
#define POSTERN_IO_NAT64_WAY_H

#include <stdbool.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

/* There is a way out by IPv6, and none by IPv4, as the routes say now. */
bool nat64_way_is_wanted(void);
/* As core/nat64.h, by what was found last. False: nothing was. From any thread. */
MUST_CHECK bool nat64_way_put_in(const struct addr *v4, struct addr *v6);
MUST_CHECK bool nat64_way_try(unsigned nth, const struct addr *v4, struct addr *v6);
bool nat64_way_is_doubtful(void);
void nat64_way_prove(const struct addr *v6, const struct addr *seen);
MUST_CHECK bool nat64_way_take_out(const struct addr *v6, struct addr *v4);

struct nat64_look;

/* Asks; `cb` comes from the loop, whatever was found. Then the handle is gone. */
MUST_CHECK int nat64_look_start(struct nat64_look **out, struct loop *loop, loop_cb cb,
                                void *ctx);
/* The callback will not run. NULL is fine. */
void nat64_look_cancel(struct nat64_look *l);

#endif
