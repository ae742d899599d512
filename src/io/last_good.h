/*
 * Where servers were found last, in a small file of the state directory, so that a
 * start without a resolver finds them again. A hint and no more: it may be lost, wrong
 * or old, and whoever is found there must prove who he is.
 */
#ifndef POSTERN_IO_LAST_GOOD_H
#define POSTERN_IO_LAST_GOOD_H

#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

/* Up to `max` addresses of `host`:`port`, best first; 0 when none are known. */
size_t last_good_load(const char *dir, const char *host, uint16_t port,
                      struct addr *out, size_t max);
/* Replaces them. What cannot be written is not kept, without a word. */
void last_good_save(const char *dir, const char *host, uint16_t port,
                    const struct addr *addrs, size_t n);

#endif
