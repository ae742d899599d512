/*
 * The agent of a LAN: hosts of this LAN hand their services to it, and it publishes
 * them as its own, through its one connection to the broker. It listens on the LAN,
 * because its user said so; it takes in hosts whose keys it knows, and new ones that
 * show its token. To them it is broker and only client at once (host/via.h).
 */
#ifndef POSTERN_HOST_AGENT_H
#define POSTERN_HOST_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"
#include "core/proto.h"

struct agent;
struct host;
struct local_conn;
struct pump;
struct pump_events;

/*
 * `listen` is as of agent_door_open. Prints the
 * `agent` event with the link.
 */
MUST_CHECK int agent_open(struct agent **out, struct host *h, const char *listen,
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
/* A `lan-host` event a host that is connected, and a `lan-away` of each other. */
void agent_status(struct agent *a, struct local_conn *c);

/*
 * A stream to the host of that number (`by` of a service's target), for what it calls
 * `service`; its StreamReply is the header. POSTERN_ERR_UNREACHABLE when it is not
 * there, _LIMIT when it has too many streams.
 */
MUST_CHECK int agent_open_stream(struct pump **out, struct agent *a, uint64_t host,
                                 const char *service, const struct pump_events *events,
                                 void *ctx);

#endif
