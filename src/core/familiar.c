/* Short keyed hashes of keys; see familiar.h. */
#include "core/familiar.h"

#include <string.h>

static void tag_of(uint8_t tag[static FAMILIAR_TAG_LEN], const uint8_t *salt,
                   const uint8_t *key)
{
    uint8_t msg[FAMILIAR_SALT_LEN + KEY_LEN], hash[32];
    memcpy(msg, salt, FAMILIAR_SALT_LEN);
    memcpy(msg + FAMILIAR_SALT_LEN, key, KEY_LEN);
    key_hash(hash, msg, sizeof(msg), NULL, 0);
    memcpy(tag, hash, FAMILIAR_TAG_LEN);
}

size_t familiar_begin(uint8_t list[static FAMILIAR_BYTES],
                      const uint8_t salt[static FAMILIAR_SALT_LEN])
{
    memcpy(list, salt, FAMILIAR_SALT_LEN);
    return FAMILIAR_SALT_LEN;
}

size_t familiar_add(uint8_t list[static FAMILIAR_BYTES], size_t len,
                    const uint8_t key[static KEY_LEN])
{
    if (len < FAMILIAR_SALT_LEN || len + FAMILIAR_TAG_LEN > FAMILIAR_BYTES)
        return len;
    tag_of(list + len, list, key);
    return len + FAMILIAR_TAG_LEN;
}

bool familiar_has(const uint8_t *list, size_t len, const uint8_t key[static KEY_LEN])
{
    uint8_t tag[FAMILIAR_TAG_LEN];
    if (list == NULL || len < FAMILIAR_SALT_LEN + FAMILIAR_TAG_LEN)
        return false;
    tag_of(tag, list, key);
    for (size_t at = FAMILIAR_SALT_LEN; at + FAMILIAR_TAG_LEN <= len;
         at += FAMILIAR_TAG_LEN)
        if (memcmp(list + at, tag, FAMILIAR_TAG_LEN) == 0)
            return true;
    return false;
}
