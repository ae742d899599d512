/* Growing delays for failures; see throttle.h. The table is searched from end to end:
 * each try costs the hash of a password beside it. */
#include "core/throttle.h"

#include <sodium.h>
#include <string.h>

_Static_assert(crypto_shorthash_KEYBYTES == THROTTLE_SECRET_LEN, "SipHash's key");

void throttle_init(struct throttle *t, const uint8_t secret[static THROTTLE_SECRET_LEN],
                   uint64_t delay_max_ms)
{
    memset(t, 0, sizeof(*t));
    memcpy(t->secret, secret, THROTTLE_SECRET_LEN);
    t->delay_max_ms =
        delay_max_ms < THROTTLE_FORGET_MS ? delay_max_ms : THROTTLE_FORGET_MS;
}

static uint64_t hash_of(const struct throttle *t, const void *key, size_t len)
{
    uint8_t out[crypto_shorthash_BYTES];
    uint64_t hash;
    crypto_shorthash(out, key, len, t->secret);
    memcpy(&hash, out, sizeof(hash));
    return hash;
}

/* -1 when the key has not failed. */
static int slot_of(const struct throttle *t, const void *key, size_t len)
{
    uint64_t hash = hash_of(t, key, len);
    for (int i = 0; i < THROTTLE_SLOTS; i++)
        if (t->slots[i].failures > 0 && t->slots[i].hash == hash)
            return i;
    return -1;
}

/* A clock that goes back counts as one that stands. */
static uint64_t since(uint64_t then_ms, uint64_t now_ms)
{
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

static uint64_t delay_of(const struct throttle *t, uint32_t failures)
{
    if (failures <= THROTTLE_FREE)
        return 0;
    uint32_t doublings = failures - THROTTLE_FREE - 1;
    uint64_t delay =
        doublings < 20 ? (uint64_t)THROTTLE_FIRST_MS << doublings : t->delay_max_ms;
    return delay < t->delay_max_ms ? delay : t->delay_max_ms;
}

uint64_t throttle_wait_ms(const struct throttle *t, const void *key, size_t len,
                          uint64_t now_ms)
{
    int i = slot_of(t, key, len);
    if (i < 0)
        return 0;
    uint64_t passed = since(t->slots[i].failed_ms, now_ms);
    uint64_t delay = delay_of(t, t->slots[i].failures);
    return passed < delay ? delay - passed : 0;
}

/* A free slot, or the one whose failure is longest ago. */
static struct throttle_slot *stalest(struct throttle *t)
{
    struct throttle_slot *best = &t->slots[0];
    for (int i = 0; i < THROTTLE_SLOTS; i++) {
        if (t->slots[i].failures == 0)
            return &t->slots[i];
        if (t->slots[i].failed_ms < best->failed_ms)
            best = &t->slots[i];
    }
    return best;
}

void throttle_failed(struct throttle *t, const void *key, size_t len, uint64_t now_ms)
{
    int i = slot_of(t, key, len);
    struct throttle_slot *s = i >= 0 ? &t->slots[i] : stalest(t);
    if (i < 0 || since(s->failed_ms, now_ms) >= THROTTLE_FORGET_MS)
        *s = (struct throttle_slot){.hash = hash_of(t, key, len)};
    s->failed_ms = now_ms;
    if (s->failures < UINT32_MAX)
        s->failures++;
}

void throttle_succeeded(struct throttle *t, const void *key, size_t len)
{
    int i = slot_of(t, key, len);
    if (i >= 0)
        t->slots[i] = (struct throttle_slot){0};
}
