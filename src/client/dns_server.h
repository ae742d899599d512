/* The DNS server of `up`: HOST.postern to the host's loopback address. */
#ifndef POSTERN_CLIENT_DNS_SERVER_H
#define POSTERN_CLIENT_DNS_SERVER_H

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

struct dns_server;

/* Fills `addr` for a host's name (without ".postern"); false when there is none. */
typedef bool (*dns_server_lookup)(void *ctx, const char *host, struct addr *addr);

/* Answers on 127.80.0.53, port 53 where that is permitted, else 5353. */
MUST_CHECK int dns_server_open(struct dns_server **out, struct loop *loop,
                               dns_server_lookup lookup, void *ctx);
void dns_server_close(struct dns_server *n);
void dns_server_local(const struct dns_server *n, struct addr *a);

#endif
