/*
 * The text of a hosts file (hosts(5)) with a block of our own in it, between two lines
 * that say whose it is. What others wrote stays as it is. No file is known here.
 */
#ifndef POSTERN_CORE_HOSTS_TEXT_H
#define POSTERN_CORE_HOSTS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"
#include "core/err.h"

struct hosts_name {
    char host[64]; /* without ".postern"; a DNS label in lower case */
    struct addr addr;
};

/*
 * `text` without the blocks of `owner`, and with one at its end where `n` is not 0.
 * `owner` tells two programs apart that both have a block: a path. The result is for
 * free(), not ended by a zero byte. POSTERN_ERR_NOMEM.
 */
MUST_CHECK int hosts_text_set(char **out, size_t *out_len, const char *text, size_t len,
                              const char *owner, const struct hosts_name *names,
                              size_t n);

/*
 * The owners of the blocks in `text`, one after the other, as far as a line tells them:
 * begin with `*at` 0. False: there is none any more.
 */
bool hosts_text_next(const char *text, size_t len, size_t *at, char *owner, size_t cap);

#endif
