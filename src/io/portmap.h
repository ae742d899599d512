/*
 * One mapping at the router (io/gateway.h), asked for in a worker thread, renewed at
 * half its lease, and taken back when it is closed.
 */
#ifndef POSTERN_IO_PORTMAP_H
#define POSTERN_IO_PORTMAP_H

#include <stdbool.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

struct portmap;

/* Once, from the loop. `external` is NULL when there is none, and `words` says why;
 * else they name the protocol. */
typedef void (*portmap_cb)(void *ctx, const struct addr *external, const char *words);

/* A port of this machine, for `peer` alone where that can be asked for. */
MUST_CHECK int portmap_open(struct portmap **out, struct loop *loop, bool tcp,
                            uint16_t port, const struct addr *peer, portmap_cb cb,
                            void *ctx);
/* The callback will not run. Fine inside it. NULL is fine. */
void portmap_close(struct portmap *p);

#endif
