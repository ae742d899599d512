/*
 * The devices that a host lists, and the passes of its open invites (core/link.h),
 * which are as long as keys, in a form by which a broker recognises one that comes, and
 * cannot tell who the others are: a random salt, then 4 bytes of each key's hash with
 * it. Somebody who does not know the salt is taken for one of 500 by chance once in
 * eight million tries.
 */
#ifndef POSTERN_CORE_FAMILIAR_H
#define POSTERN_CORE_FAMILIAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/key.h"

enum {
    FAMILIAR_SALT_LEN = 8,
    FAMILIAR_TAG_LEN = 4,
    FAMILIAR_MAX = 500, /* devices */
    FAMILIAR_BYTES = FAMILIAR_SALT_LEN + FAMILIAR_MAX * FAMILIAR_TAG_LEN,
};

/* An empty list; returns its length. `salt` is random, and new for each list. */
size_t familiar_begin(uint8_t list[static FAMILIAR_BYTES],
                      const uint8_t salt[static FAMILIAR_SALT_LEN]);
/* One more device; returns the new length. A full list stays as it is. */
size_t familiar_add(uint8_t list[static FAMILIAR_BYTES], size_t len,
                    const uint8_t key[static KEY_LEN]);
/* Whether the device stands in it; a list that is none has nobody. */
bool familiar_has(const uint8_t *list, size_t len, const uint8_t key[static KEY_LEN]);

#endif
