/*
 * A host that hands its services to the agent of its LAN in place of a broker: it is
 * present there as at a broker, needs no route to the internet, and its one client is
 * the agent (host/agent.h).
 */
#ifndef POSTERN_HOST_VIA_H
#define POSTERN_HOST_VIA_H

#include <stdbool.h>

#include "core/link.h"
#include "core/proto.h"

struct serve;

/* Whether the services go to an agent: said now, or in the last run. */
bool via_is_wanted(struct serve *s);
/* The agent that the command line or, when it names none, the last run names. */
MUST_CHECK int via_load(struct serve *s, struct link *agent, struct fault *f);
/* What the agent calls our services: people are told what is new. */
void via_on_names(struct serve *s, const Names *m);

#endif
