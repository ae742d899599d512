/*
 * A TCP connection to a public server, straight or through an HTTP proxy's CONNECT
 * (RFC 9110 section 9.3.6), as HTTPS_PROXY and NO_PROXY say.
 */
#ifndef POSTERN_IO_REACH_H
#define POSTERN_IO_REACH_H

#include "io/dial.h"
#include "io/loop.h"

struct proxy {
    char host[256];
    uint16_t port;
    char credentials[512]; /* base64 of "user:password" (RFC 7617); empty: none */
};

/*
 * Reads HTTPS_PROXY (or https_proxy), `http://[USER:PASSWORD@]HOST[:PORT]`, and
 * NO_PROXY. 1: `p` is to be used for `host`; 0: none; POSTERN_ERR_USAGE with `f`.
 */
MUST_CHECK int proxy_from_env(struct proxy *p, const char *host, struct fault *f);

struct reach;

struct reach_config {
    struct loop *loop;
    const struct proxy *via; /* borrowed while it lasts; NULL: straight */
    struct dial_known to;    /* its strings and addresses are copied */
    const struct addr *only; /* numeric: no name is looked up; may be NULL */
    unsigned timeout_ms;
    /* Segments as small as any path must take: for little, that must not be lost. */
    bool small;
    unsigned also; /* an interface over which it is tried as well; 0: none */
};

/*
 * The callback is as of dial_start; beside its errors POSTERN_ERR_DENIED: the proxy
 * wants other credentials, POSTERN_ERR_PROTO: the proxy does not lead there. A proxy is
 * told the name, and nothing is looked up here but its own.
 */
MUST_CHECK int reach_start(struct reach **out, const struct reach_config *c, dial_cb cb,
                           void *ctx);
/* The callback will not run. NULL is fine. */
void reach_cancel(struct reach *r);

#endif
