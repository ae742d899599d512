/*
 * The broker's mark on an introduction: who asked for whom, from where and when, under
 * a key that only the broker has. The host shows it again when it accepts; so the
 * broker remembers nothing of introductions.
 */
#ifndef POSTERN_BROKER_MARK_H
#define POSTERN_BROKER_MARK_H

#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/key.h"
#include "core/proto.h"

#define MARK_SECRET_LEN 32

struct mark_names {
    const uint8_t *client, *host, *conv;
};

/* Returns the length. `from` is where the client is connected from. */
size_t mark_make(uint8_t out[static MARK_MAX],
                 const uint8_t secret[static MARK_SECRET_LEN],
                 const struct mark_names *n, const struct addr *from, uint64_t now_ms);
/* POSTERN_ERR_DENIED when it is none of ours, or older than `max_age_ms`; `age_ms` is
 * how old it is. Times are one clock's of this process. */
MUST_CHECK int mark_open(struct addr *from, uint64_t *age_ms, const uint8_t *mark,
                         size_t len, const uint8_t secret[static MARK_SECRET_LEN],
                         const struct mark_names *n, uint64_t now_ms,
                         uint64_t max_age_ms);

#endif
