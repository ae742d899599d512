/* Token buckets in ledgers; see admission.h. */
#include "broker/admission.h"

#include <string.h>

#include <sodium.h>

enum {
    /* From one introduction of an address to its next, once half the sum is used up;
     * four times that at each halving of what is left. */
    SPACING_FIRST_MS = 1000,
    SPACING_MAX_MS = 64000,
    SPACING_FACTOR = 4, /* and the share of each wider block of addresses */
};

struct device_budget {
    struct bucket messages[ADMISSION_ROLES], carried[ADMISSION_ROLES], introductions;
};

struct host_budget {
    struct bucket known, strangers, known_say, strangers_say;
};

struct stranger {
    uint64_t passed_ms; /* 0: never */
};

struct nothing {
    char unused;
};

int admission_init(struct admission *a, const uint8_t secret[static KEYMAP_SECRET_LEN])
{
    int rc = ledger_init(&a->devices, LIMIT_DEVICES_KEPT, sizeof(struct device_budget),
                         secret);
    if (rc == 0)
        rc = ledger_init(&a->hosts, LIMIT_DEVICES_KEPT, sizeof(struct host_budget),
                         secret);
    if (rc == 0)
        rc = ledger_init(&a->accepted, LIMIT_ACCEPTED_KEPT, sizeof(struct nothing),
                         secret);
    if (rc == 0)
        rc = ledger_init(&a->strangers, LIMIT_STRANGERS_KEPT, sizeof(struct stranger),
                         secret);
    return rc;
}

void admission_fini(struct admission *a)
{
    ledger_fini(&a->devices);
    ledger_fini(&a->hosts);
    ledger_fini(&a->accepted);
    ledger_fini(&a->strangers);
}

bool admission_message(struct admission *a, const uint8_t key[static KEY_LEN],
                       enum admission_role role, uint64_t now_ms)
{
    struct device_budget *b = ledger_get(&a->devices, key);
    struct bucket_rate rate =
        role == ADMISSION_HOST ? LIMIT_RATE_HOST_MESSAGES : LIMIT_RATE_MESSAGES;
    return b != NULL && bucket_take(&b->messages[role], rate, now_ms, 1);
}

bool admission_carry(struct admission *a, const uint8_t key[static KEY_LEN],
                     enum admission_role role, uint32_t bytes, uint64_t now_ms)
{
    struct device_budget *b = ledger_get(&a->devices, key);
    struct bucket_rate rate =
        role == ADMISSION_HOST ? LIMIT_RATE_HOST_CARRY : LIMIT_RATE_CARRY;
    return b != NULL && bucket_take(&b->carried[role], rate, now_ms, bytes);
}

bool admission_introduce(struct admission *a, const uint8_t key[static KEY_LEN],
                         uint64_t now_ms)
{
    struct device_budget *b = ledger_get(&a->devices, key);
    return b != NULL && bucket_take(&b->introductions, LIMIT_RATE_INTRODUCE, now_ms, 1);
}

/* The key of a host together with another key. */
static void both(uint8_t out[static KEY_LEN], const uint8_t *host, const uint8_t *other)
{
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, NULL, 0, KEY_LEN);
    (void)crypto_generichash_update(&h, host, KEY_LEN);
    (void)crypto_generichash_update(&h, other, KEY_LEN);
    (void)crypto_generichash_final(&h, out, KEY_LEN);
}

static bool was_accepted(struct admission *a, const uint8_t *host,
                         const uint8_t *client)
{
    uint8_t pair[KEY_LEN];
    both(pair, host, client);
    return ledger_find(&a->accepted, pair) != NULL;
}

static uint64_t spacing_ms(const struct bucket *b, struct bucket_rate rate)
{
    uint64_t spacing = 0, next = SPACING_FIRST_MS;
    for (uint32_t left = rate.burst / 2; b->level < left && next <= SPACING_MAX_MS;
         left /= 2, next *= SPACING_FACTOR)
        spacing = next;
    return spacing;
}

static bool stranger_passes(struct admission *a, const uint8_t *host,
                            const struct addr *from, struct bucket *sum,
                            uint64_t now_ms)
{
    struct stranger *places[ADDR_LEVELS];
    uint8_t block[KEY_LEN], key[KEY_LEN];
    unsigned levels = addr_levels(from);
    (void)bucket_take(sum, LIMIT_RATE_STRANGERS, now_ms, 0); /* what is left by now */
    uint64_t spacing = spacing_ms(sum, LIMIT_RATE_STRANGERS);
    for (unsigned i = 0; i < levels; i++, spacing /= SPACING_FACTOR) {
        addr_block_key(block, from, i);
        both(key, host, block);
        places[i] = ledger_get(&a->strangers, key);
        if (places[i] == NULL ||
            (places[i]->passed_ms != 0 && now_ms - places[i]->passed_ms < spacing))
            return false;
    }
    if (!bucket_take(sum, LIMIT_RATE_STRANGERS, now_ms, 1))
        return false;
    for (unsigned i = 0; i < levels; i++)
        places[i]->passed_ms = now_ms;
    return true;
}

bool admission_pass(struct admission *a, const uint8_t host[static KEY_LEN],
                    const uint8_t client[static KEY_LEN], const struct addr *from,
                    bool host_is_slow, uint64_t now_ms)
{
    struct host_budget *h = ledger_get(&a->hosts, host);
    if (h == NULL)
        return false;
    if (was_accepted(a, host, client))
        return bucket_take(&h->known, LIMIT_RATE_KNOWN, now_ms, 1);
    return !host_is_slow && stranger_passes(a, host, from, &h->strangers, now_ms);
}

bool admission_say(struct admission *a, const uint8_t host[static KEY_LEN],
                   const uint8_t client[static KEY_LEN], uint32_t bytes,
                   uint64_t now_ms)
{
    struct host_budget *h = ledger_get(&a->hosts, host);
    if (h == NULL)
        return false;
    if (was_accepted(a, host, client))
        return bucket_take(&h->known_say, LIMIT_RATE_KNOWN_SAY, now_ms, bytes);
    return bucket_take(&h->strangers_say, LIMIT_RATE_STRANGERS_SAY, now_ms, bytes);
}

void admission_accepted(struct admission *a, const uint8_t host[static KEY_LEN],
                        const uint8_t client[static KEY_LEN], const struct addr *from)
{
    uint8_t pair[KEY_LEN], block[KEY_LEN];
    both(pair, host, client);
    if (ledger_find(&a->accepted, pair) != NULL)
        return;
    (void)!ledger_get(&a->accepted, pair);
    for (unsigned i = 0; i < addr_levels(from); i++) {
        addr_block_key(block, from, i);
        both(pair, host, block);
        struct stranger *place = ledger_find(&a->strangers, pair);
        if (place != NULL)
            place->passed_ms = 0;
    }
}
