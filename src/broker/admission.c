/* Token buckets in ledgers; see admission.h. */
#include "broker/admission.h"

#include <string.h>

#include <sodium.h>

struct device_budget {
    struct bucket messages[ADMISSION_ROLES], carried[ADMISSION_ROLES], introductions,
        shown, badges, told, spoken;
};

struct host_budget {
    struct bucket known, strangers, known_say, strangers_say;
};

struct stranger {
    uint64_t passed_ms; /* 0: never */
};

/* Of one host to one client. */
struct teller {
    struct bucket carry, control;
};

struct acquaintance {
    bool disowned; /* since it was accepted */
};

int admission_init(struct admission *a, const uint8_t secret[static KEYMAP_SECRET_LEN])
{
    int rc = ledger_init(&a->devices, LIMIT_DEVICES_KEPT, sizeof(struct device_budget),
                         secret);
    if (rc == 0)
        rc = ledger_init(&a->hosts, LIMIT_DEVICES_KEPT, sizeof(struct host_budget),
                         secret);
    if (rc == 0)
        rc = ledger_init(&a->accepted, LIMIT_ACCEPTED_KEPT, sizeof(struct acquaintance),
                         secret);
    if (rc == 0)
        rc = ledger_init(&a->strangers, LIMIT_STRANGERS_KEPT, sizeof(struct stranger),
                         secret);
    if (rc == 0)
        rc = ledger_init(&a->told, LIMIT_DEVICES_KEPT, sizeof(struct teller), secret);
    return rc;
}

void admission_fini(struct admission *a)
{
    ledger_fini(&a->devices);
    ledger_fini(&a->hosts);
    ledger_fini(&a->accepted);
    ledger_fini(&a->strangers);
    ledger_fini(&a->told);
}

size_t admission_sweep(struct admission *a, uint64_t now_ms)
{
    if (now_ms - a->aged_ms < LIMIT_BUDGETS_MS)
        return 0;
    a->aged_ms = now_ms;
    return ledger_age(&a->devices) + ledger_age(&a->hosts) + ledger_age(&a->told);
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

bool admission_badge(struct admission *a, const uint8_t key[static KEY_LEN],
                     uint64_t now_ms)
{
    struct device_budget *b = ledger_get(&a->devices, key);
    return b != NULL && bucket_take(&b->badges, LIMIT_RATE_BADGE, now_ms, 1);
}

bool admission_show(struct admission *a, const uint8_t key[static KEY_LEN],
                    uint64_t now_ms)
{
    struct device_budget *b = ledger_get(&a->devices, key);
    return b != NULL && bucket_take(&b->shown, LIMIT_RATE_SHOW, now_ms, 1);
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

bool admission_knows(struct admission *a, const uint8_t host[static KEY_LEN],
                     const uint8_t client[static KEY_LEN])
{
    uint8_t pair[KEY_LEN];
    both(pair, host, client);
    const struct acquaintance *known = ledger_find(&a->accepted, pair);
    return known != NULL && !known->disowned;
}

/* The widest block first; those that an address has not are as its widest. */
static unsigned level_at(const struct addr *from, unsigned i)
{
    unsigned levels = addr_levels(from);
    return i < levels ? levels - 1 - i : 0;
}

static void place_of(uint8_t key[static KEY_LEN], const uint8_t *host,
                     const struct addr *from, unsigned level)
{
    uint8_t block[KEY_LEN];
    addr_block_key(block, from, level);
    both(key, host, block);
}

void admission_passed(struct admission *a, const uint8_t host[static KEY_LEN],
                      const struct addr *from, uint64_t passed_ms[static ADDR_LEVELS])
{
    uint8_t key[KEY_LEN];
    for (unsigned i = 0; i < ADDR_LEVELS; i++) {
        place_of(key, host, from, level_at(from, i));
        const struct stranger *place = ledger_find(&a->strangers, key);
        passed_ms[i] = place != NULL ? place->passed_ms : 0;
    }
}

void admission_note_passed(struct admission *a, const uint8_t host[static KEY_LEN],
                           const struct addr *from, uint64_t now_ms)
{
    uint8_t key[KEY_LEN];
    for (unsigned i = 0; i < addr_levels(from); i++) {
        place_of(key, host, from, i);
        struct stranger *place = ledger_get(&a->strangers, key);
        if (place != NULL)
            place->passed_ms = now_ms;
    }
}

uint64_t admission_pass_used(struct admission *a, const uint8_t host[static KEY_LEN],
                             const uint8_t pass[static KEY_LEN])
{
    uint8_t key[KEY_LEN];
    both(key, host, pass);
    const struct stranger *place = ledger_find(&a->strangers, key);
    return place != NULL ? place->passed_ms : 0;
}

void admission_note_pass(struct admission *a, const uint8_t host[static KEY_LEN],
                         const uint8_t pass[static KEY_LEN], uint64_t now_ms)
{
    uint8_t key[KEY_LEN];
    both(key, host, pass);
    struct stranger *place = ledger_get(&a->strangers, key);
    if (place != NULL)
        place->passed_ms = now_ms;
}

bool admission_pass(struct admission *a, const uint8_t host[static KEY_LEN], bool known,
                    uint64_t now_ms)
{
    struct host_budget *h = ledger_get(&a->hosts, host);
    if (h == NULL)
        return false;
    return known ? bucket_take(&h->known, LIMIT_RATE_KNOWN, now_ms, 1)
                 : bucket_take(&h->strangers, LIMIT_RATE_STRANGERS, now_ms, 1);
}

bool admission_may_pass(struct admission *a, const uint8_t host[static KEY_LEN],
                        uint64_t now_ms)
{
    struct host_budget *h = ledger_get(&a->hosts, host);
    if (h == NULL)
        return false;
    (void)bucket_take(&h->strangers, LIMIT_RATE_STRANGERS, now_ms, 0);
    return h->strangers.level > 0;
}

bool admission_say(struct admission *a, const uint8_t host[static KEY_LEN], bool known,
                   uint32_t bytes, uint64_t now_ms)
{
    struct host_budget *h = ledger_get(&a->hosts, host);
    if (h == NULL)
        return false;
    return known ? bucket_take(&h->known_say, LIMIT_RATE_KNOWN_SAY, now_ms, bytes)
                 : bucket_take(&h->strangers_say, LIMIT_RATE_STRANGERS_SAY, now_ms,
                               bytes);
}

bool admission_tell(struct admission *a, const uint8_t client[static KEY_LEN],
                    uint32_t bytes, uint64_t now_ms)
{
    struct device_budget *b = ledger_get(&a->devices, client);
    return b != NULL && bucket_take(&b->told, LIMIT_RATE_TELL, now_ms, bytes);
}

bool admission_tell_asked(struct admission *a, const uint8_t host[static KEY_LEN],
                          const uint8_t client[static KEY_LEN], enum said said,
                          uint32_t bytes, uint64_t now_ms)
{
    uint8_t pair[KEY_LEN];
    both(pair, host, client);
    struct teller *t = ledger_get(&a->told, pair);
    if (t == NULL)
        return false;
    if (said == SAID_CONTROL)
        return bucket_take(&t->control, LIMIT_RATE_TELL_CONTROL, now_ms, bytes);
    return bucket_take_above(&t->carry, LIMIT_RATE_TELL_ASKED, now_ms, bytes,
                             said == SAID_BULK ? LIMIT_TOLD_KEEP : 0);
}

bool admission_tell_spoken(struct admission *a, const uint8_t client[static KEY_LEN],
                           uint32_t bytes, uint64_t now_ms)
{
    struct device_budget *b = ledger_get(&a->devices, client);
    return b != NULL && bucket_take(&b->spoken, LIMIT_RATE_SPOKEN, now_ms, bytes);
}

void admission_accepted(struct admission *a, const uint8_t host[static KEY_LEN],
                        const uint8_t client[static KEY_LEN], const struct addr *from)
{
    uint8_t pair[KEY_LEN];
    both(pair, host, client);
    struct acquaintance *known = ledger_find(&a->accepted, pair);
    if (known != NULL) {
        known->disowned = false;
        return;
    }
    (void)!ledger_get(&a->accepted, pair);
    for (unsigned i = 0; i < addr_levels(from); i++) {
        place_of(pair, host, from, i);
        struct stranger *place = ledger_find(&a->strangers, pair);
        if (place != NULL)
            place->passed_ms = 0;
    }
}

void admission_recall(struct admission *a, const uint8_t host[static KEY_LEN],
                      const uint8_t client[static KEY_LEN])
{
    uint8_t pair[KEY_LEN];
    both(pair, host, client);
    (void)!ledger_get(&a->accepted, pair);
}

void admission_disown(struct admission *a, const uint8_t host[static KEY_LEN],
                      const uint8_t client[static KEY_LEN])
{
    uint8_t pair[KEY_LEN];
    both(pair, host, client);
    struct acquaintance *known = ledger_find(&a->accepted, pair);
    if (known != NULL) /* of strangers nothing is remembered */
        known->disowned = true;
}
