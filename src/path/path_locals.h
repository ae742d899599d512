/*
 * Paths and this machine's own addresses, when those change: which path can bring
 * nothing any more, and from where the others start. Asks the kernel; closes nothing.
 */
#ifndef POSTERN_PATH_LOCALS_H
#define POSTERN_PATH_LOCALS_H

#include <stdint.h>

#include "core/list.h"

struct path;

/* The first in `paths` (struct path, by link) with a higher id than that whose own
 * address is gone; NULL: there is none. */
struct path *path_find_gone(const struct list *paths, uint32_t after_id);
/* Notes where each of them starts from now. */
void path_renew_locals(struct list *paths);

#endif
