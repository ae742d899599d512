/*
 * What the broker remembers: its own key, the enrolment token, and which devices
 * enrolled. Not who is present: that lives in the threads' memory only.
 */
#ifndef POSTERN_BROKER_REGISTRY_H
#define POSTERN_BROKER_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"
#include "core/link.h"

struct registry;

struct registry_identity {
    struct keypair key;
    uint8_t token[LINK_SECRET_LEN]; /* secret */
    bool made;                      /* just now: no device knows it yet */
};

/* Opens broker.db in `dir`. A registry belongs to one thread; each opens its own. */
MUST_CHECK int registry_open(struct registry **out, const char *dir, struct fault *f);
/* NULL is fine. */
void registry_close(struct registry *r);

/* The broker's identity; made, with fresh random bytes, when there is none yet. */
MUST_CHECK int registry_identity(struct registry *r, struct registry_identity *id,
                                 struct fault *f);
/*
 * False: the file that stands there now, which may have been put in the place of the
 * one opened, is another broker's. One that cannot be read counts as ours.
 */
bool registry_is_ours(struct registry *r, const struct registry_identity *id);
bool registry_is_enrolled(struct registry *r, const uint8_t key[static KEY_LEN]);
/* Remembers that `key` once showed the token; again is fine. */
MUST_CHECK int registry_enrol(struct registry *r, const uint8_t key[static KEY_LEN],
                              const char *name, int64_t now_s);

#endif
