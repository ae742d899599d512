/*
 * The agent of a LAN: hosts of this LAN hand their services to it, and it publishes
 * them as its own, through its one connection to the broker. It listens on the LAN,
 * because its user said so; it takes in hosts whose keys it knows, and new ones that
 * show its token. The handing side is host/via.h; docs/PROTOCOL.md has the messages.
 */
#ifndef POSTERN_HOST_AGENT_H
#define POSTERN_HOST_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"
#include "core/proto.h"

#define AGENT_PORT_DEFAULT 4480

struct agent;
struct serve;
struct local_conn;

/*
 * `listen` is ADDR:PORT, or "" for AGENT_PORT_DEFAULT on all addresses. Prints the
 * `agent` event with the link.
 */
MUST_CHECK int agent_open(struct agent **out, struct serve *s, const char *listen,
                          struct fault *f);
/* Ends all hosts' connections, and those of their clients. NULL is fine. */
void agent_close(struct agent *a);
/*
 * A host was taken off the list: its connection, and those of its clients through it,
 * end at once, and a new link is printed. True when it was connected. NULL is fine here
 * and below.
 */
bool agent_forget(struct agent *a, const uint8_t key[static KEY_LEN]);
/* The services have moved to another list, and some may be called otherwise. */
void agent_renamed(struct agent *a);
/* A `lan-host` event a host that is connected. */
void agent_status(struct agent *a, struct local_conn *c);

/* --------------------------------------------------------------------- connections */

struct agent_call;

/* From the loop, never from inside agent_call_start. */
struct agent_call_events {
    /* `fd` is connected to the service, non-blocking, and the caller's. */
    void (*on_connected)(void *ctx, int fd);
    /* Instead of it: the host's reason, in words for people. */
    void (*on_failed)(void *ctx, enum stream_code code, const char *reason);
    /* After on_connected: the connection broke, it did not end in order. */
    void (*on_broken)(void *ctx);
};

/*
 * Asks the host of that number (`by` of a service's target) for a connection to what it
 * calls `service`. POSTERN_ERR_UNREACHABLE when it is not connected, _LIMIT when too
 * many are waited for. `a` may be NULL: then nobody is connected.
 */
MUST_CHECK int agent_call_start(struct agent_call **out, struct agent *a, uint64_t host,
                                const char *service,
                                const struct agent_call_events *events, void *ctx);
/* Nothing is called any more; a connection that stands goes on. NULL is fine. */
void agent_call_free(struct agent_call *call);

#endif
