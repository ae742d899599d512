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

struct host;
struct roster;

/*
 * The agent that `via` or, when it is NULL, the last run names. `known`: it took us in
 * before.
 */
MUST_CHECK int via_load(struct roster *r, const char *via, struct link *agent,
                        bool *known, struct fault *f);
/* 0, or why that link, is no agent's. */
MUST_CHECK int via_check_link(const struct link *l, struct fault *f);
/*
 * --tls and --tls-command of such a host: its services are asked for by name at the
 * agent, which ends TLS itself. Of that only `none` is taken.
 */
MUST_CHECK int via_check_tls(const char *const *texts, size_t n, const char *command,
                             struct fault *f);
/* What the agent calls our services: people are told what is new. */
void via_on_names(struct host *h, const Names *m);

#endif
