/*
 * Where the hosts of a LAN come in at its agent: a listening socket, and who has not
 * shown yet what it wants. It knows no host and no key.
 */
#ifndef POSTERN_HOST_AGENT_DOOR_H
#define POSTERN_HOST_AGENT_DOOR_H

#include "core/addr.h"
#include "core/proto.h"
#include "io/loop.h"

#define AGENT_PORT_DEFAULT 4480

struct agent_door;

/* From the loop; `fd` is connected, non-blocking, and the callee's. */
struct agent_door_events {
    /* Its ClientHello offers PROTO_ALPN_AGENT; nothing was read. */
    void (*on_host)(void *ctx, int fd);
    /* It showed a relay's preface, and waits for the answer. */
    void (*on_pair)(void *ctx, int fd, const uint8_t ticket[static TICKET_LEN]);
};

/* `listen` is ADDR:PORT, or "" for AGENT_PORT_DEFAULT on all addresses. */
MUST_CHECK int agent_door_open(struct agent_door **out, struct loop *loop,
                               const char *listen,
                               const struct agent_door_events *events, void *ctx,
                               struct fault *f);
/* Reads that as the address to listen on. */
MUST_CHECK int agent_door_check(const char *listen, struct addr *at, struct fault *f);
/* NULL is fine. */
void agent_door_close(struct agent_door *d);
/* Where it is bound; and the address that the LAN's hosts dial. */
const struct addr *agent_door_bound(const struct agent_door *d);
void agent_door_address(const struct agent_door *d, struct addr *out);

#endif
