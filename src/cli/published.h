/* What this host publishes, as a command beside the daemon can know it. */
#ifndef POSTERN_CLI_PUBLISHED_H
#define POSTERN_CLI_PUBLISHED_H

#include "host/roster.h"
#include "io/statedir.h"

/*
 * The host's settings, its services and its broker's link. Free `services` with
 * service_list_fini in any case.
 */
MUST_CHECK int published_read(struct roster *r, struct roster_settings *s,
                              struct service_list *services, struct link *broker,
                              struct fault *f);
/*
 * What a running serve publishes takes the list's place, if one runs: with what comes
 * from programs (`postern run`) and other hosts (`serve --via`). False where one runs
 * and does not answer, which was warned of.
 */
bool published_add_running(const struct statedir *state, struct service_list *services);

#endif
