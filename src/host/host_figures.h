/* What a host counts, for who watches it (io/scrape.h). */
#ifndef POSTERN_HOST_HOST_FIGURES_H
#define POSTERN_HOST_HOST_FIGURES_H

#include "core/kinds.h"
#include "core/metrics.h"
#include "core/proto.h"

struct host;

/* Of the whole run; all zero at its start. */
struct host_figures {
    uint64_t introductions, opened;
    uint64_t refused[REFUSE_ENDED + 1];  /* by enum refuse_code */
    uint64_t ended[PATH_KIND_COUNT + 1]; /* by their last path; last: they had none */
    struct histogram opening;            /* from the introduction to the open session */
};

void host_figures_write(const struct host *h, struct metrics *m);

#endif
