/* Token buckets and the table of addresses; see limits.h. */
#include "broker/limits.h"

#include <sodium.h>
#include <string.h>

bool bucket_take(struct bucket *b, struct bucket_rate rate, uint64_t now_ms,
                 uint32_t amount)
{
    if (b->at_ms == 0) {
        b->level = rate.burst;
        b->at_ms = now_ms;
    }
    uint64_t gain = (now_ms - b->at_ms) * rate.per_s / 1000;
    if (b->level + gain >= rate.burst) {
        b->level = rate.burst;
        b->at_ms = now_ms;
    } else if (gain > 0) { /* only whole tokens pass, the rest of the time stays */
        b->level += (uint32_t)gain;
        b->at_ms += gain * 1000 / rate.per_s;
    }
    if (b->level < amount)
        return false;
    b->level -= amount;
    return true;
}

unsigned addr_levels(const struct addr *a)
{
    return a->family == ADDR_V6 ? 3 : a->family == ADDR_V4 ? 2 : 0;
}

/* Bytes of the address that count at a level. */
static size_t block_len(const struct addr *a, unsigned level)
{
    return (a->family == ADDR_V6 ? 8 : 4) - level;
}

void addr_block_key(uint8_t key[static KEY_LEN], const struct addr *a, unsigned level)
{
    memset(key, 0xff, KEY_LEN); /* no Ed25519 key: not below its prime */
    key[0] = a->family;
    key[1] = (uint8_t)level;
    memcpy(key + 2, a->ip, block_len(a, level));
}

uint16_t addr_limits_slot(const struct addr_limits *l, const struct addr *a)
{
    uint8_t out[crypto_shorthash_BYTES];
    uint64_t hash;
    size_t len = a->family == ADDR_V6 ? 8 : addr_ip_len(a);
    crypto_shorthash(out, a->ip, len, l->secret);
    memcpy(&hash, out, sizeof(hash));
    return (uint16_t)(hash % ADDR_LIMITS_SLOTS);
}
