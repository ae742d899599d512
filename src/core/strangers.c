/* Searched from end to end, as core/throttle.c is; see strangers.h. */
#include "core/strangers.h"

#include <string.h>

#include <sodium.h>

void strangers_init(struct strangers *s,
                    const uint8_t secret[static THROTTLE_SECRET_LEN])
{
    memset(s, 0, sizeof(*s));
    throttle_init(&s->known, secret, STRANGERS_DELAY_MS);
}

static uint64_t hash_of(const struct strangers *s, const void *key, size_t len)
{
    uint8_t out[crypto_shorthash_BYTES];
    uint64_t hash;
    crypto_shorthash(out, key, len, s->known.secret);
    memcpy(&hash, out, sizeof(hash));
    return hash;
}

/* -1: it has spent nothing. */
static int slot_of(const struct strangers *s, uint64_t hash)
{
    for (int i = 0; i < THROTTLE_SLOTS; i++)
        if (s->newcomers[i].spent_ms != 0 && s->newcomers[i].hash == hash)
            return i;
    return -1;
}

static uint64_t newcomers_wait_ms(const struct strangers *s, const void *key,
                                  size_t len, uint64_t now_ms)
{
    static const uint64_t room_ms =
        (STRANGERS_BURST - 1) * (uint64_t)STRANGERS_EVERY_MS;
    int i = slot_of(s, hash_of(s, key, len));
    uint64_t spent_ms = i >= 0 ? s->newcomers[i].spent_ms : 0;
    return spent_ms > now_ms + room_ms ? spent_ms - now_ms - room_ms : 0;
}

uint64_t strangers_wait_ms(const struct strangers *s, const void *key, size_t len,
                           bool newcomer, uint64_t now_ms)
{
    uint64_t wait = throttle_wait_ms(&s->known, key, len, now_ms);
    uint64_t chance =
        newcomer && wait > 0 ? newcomers_wait_ms(s, key, len, now_ms) : wait;
    return chance < wait ? chance : wait;
}

static void newcomers_take(struct strangers *s, const void *key, size_t len,
                           uint64_t now_ms)
{
    uint64_t hash = hash_of(s, key, len);
    int i = slot_of(s, hash);
    if (i < 0) {
        i = 0;
        for (int k = 1; k < THROTTLE_SLOTS; k++)
            if (s->newcomers[k].spent_ms < s->newcomers[i].spent_ms)
                i = k;
        s->newcomers[i] = (struct newcomers_slot){.hash = hash};
    }
    struct newcomers_slot *n = &s->newcomers[i];
    n->spent_ms = (n->spent_ms > now_ms ? n->spent_ms : now_ms) + STRANGERS_EVERY_MS;
}

void strangers_failed(struct strangers *s, const void *key, size_t len, bool newcomer,
                      uint64_t now_ms)
{
    if (newcomer && newcomers_wait_ms(s, key, len, now_ms) == 0)
        newcomers_take(s, key, len, now_ms);
    else
        throttle_failed(&s->known, key, len, now_ms);
}

void strangers_succeeded(struct strangers *s, const void *key, size_t len)
{
    int i = slot_of(s, hash_of(s, key, len));
    throttle_succeeded(&s->known, key, len);
    if (i < 0)
        return;
    struct newcomers_slot *n = &s->newcomers[i];
    n->spent_ms =
        n->spent_ms > STRANGERS_EVERY_MS ? n->spent_ms - STRANGERS_EVERY_MS : 0;
}
