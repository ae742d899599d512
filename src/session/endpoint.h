/*
 * An endpoint: one device key at one broker, with all that sessions and approaches of
 * that key share on a loop. A device has one, and for a while another after its key
 * was rotated.
 */
#ifndef POSTERN_SESSION_ENDPOINT_H
#define POSTERN_SESSION_ENDPOINT_H

#include "io/loop.h"
#include "path/uplink.h"
#include "session/session.h"

struct endpoint {
    struct net net;
    struct session_env env;
    struct uplink *uplink;
};

struct endpoint_config {
    struct loop *loop;
    const struct keypair *key; /* copied */
    struct net_budget *budget; /* borrowed, one for the process; NULL: its own */
    const struct link *broker; /* copied */
    bool lan;                  /* as of uplink_config, as the next two */
    bool host;
    const char *name;
    const char *state;                  /* as of uplink_config; borrowed */
    const struct uplink_events *events; /* borrowed */
    void *ctx;
};

MUST_CHECK int endpoint_open(struct endpoint *e, const struct endpoint_config *c);
/* Sessions and approaches must be gone. */
void endpoint_close(struct endpoint *e);

#endif
