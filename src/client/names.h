/* The DNS server of `up`: HOST.postern to the host's loopback address. */
#ifndef POSTERN_CLIENT_NAMES_H
#define POSTERN_CLIENT_NAMES_H

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

struct names;

/* Fills `addr` for a host's name (without ".postern"); false when there is none. */
typedef bool (*names_lookup)(void *ctx, const char *host, struct addr *addr);

/* Answers on 127.80.0.53, port 53 where that is permitted, else 5353. */
MUST_CHECK int names_open(struct names **out, struct loop *loop, names_lookup lookup,
                          void *ctx);
void names_close(struct names *n);
void names_local(const struct names *n, struct addr *a);

#endif
