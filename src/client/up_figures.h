/* What `up` counts, for who watches it (io/scrape.h). */
#ifndef POSTERN_CLIENT_UP_FIGURES_H
#define POSTERN_CLIENT_UP_FIGURES_H

#include "core/kinds.h"
#include "core/metrics.h"

struct client;

/* All zero at the start. */
struct up_figures {
    uint64_t chosen[PATH_KIND_COUNT], faults, calls;
    struct histogram direct, relayed; /* from the try's beginning to that path */
};

void up_figures_note_path(struct up_figures *n, enum path_kind kind,
                          uint64_t elapsed_us);
void up_figures_write(const struct up_figures *n, struct client *c, struct metrics *m);
/* What a broker that is away says of it; NULL: each of them is there, or none is used.
 */
const char *up_why_not_ready(struct client *c);

#endif
