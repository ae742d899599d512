/* What a host counts, for who watches it (io/scrape.h). */
#ifndef POSTERN_HOST_HOST_FIGURES_H
#define POSTERN_HOST_HOST_FIGURES_H

#include "core/metrics.h"

struct host;

void host_figures_write(const struct host *h, struct metrics *m);

#endif
