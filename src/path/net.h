/* What everything in path/ and above shares on one loop. */
#ifndef POSTERN_PATH_NET_H
#define POSTERN_PATH_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/err.h"
#include "core/key.h"

struct net {
    uv_loop_t *loop;
    struct keypair own; /* this device's key */
    bool relay_by_tls;  /* this network let no relay connection through but by TLS */
    uint8_t *scratch;   /* UDP_SCRATCH_BYTES for receiving; used within one event */
};

MUST_CHECK int net_init(struct net *n, uv_loop_t *loop, const struct keypair *own);
void net_fini(struct net *n);
uint64_t net_now_us(void); /* monotonic */

#endif
