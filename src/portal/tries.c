/*
 * How often one may try to log in. Whoever logged in before is judged by his own count:
 * a browser by its cookie (devices.c), else an address by what is remembered of it.
 * Strangers share one count for each account, so their failures delay strangers only,
 * and none of these for long: who waits his turn gets it (turns.h).
 */
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/loop.h"
#include "portal/internal.h"

enum {
    OWN_DELAY_MAX_MS = 60 * 1000,
    STRANGERS_DELAY_MAX_MS = 10 * 1000,
    ADDRESS_DELAY_MAX_MS = 10 * 60 * 1000,
    PLACES_MAX = 4096, /* addresses from which an account logged in */
};

/* For tables that know bytes only; what is not set is zero. */
struct try_key {
    uint32_t kind, host;
    char name[64];
    uint8_t by[17];
};

enum kind { KIND_ADDRESS, KIND_STRANGERS, KIND_PLACE, KIND_DEVICE, KIND_CODE };

static void put_address(uint8_t by[static 17], const struct addr *from)
{
    by[0] = from->family;
    memcpy(by + 1, from->ip, from->family == ADDR_V6 && from->scope == 0 ? 8 : 16);
}

static struct try_key key_of(const struct tried *t, size_t i, enum kind kind)
{
    struct try_key k;
    memset(&k, 0, sizeof(k));
    k.kind = kind;
    if (kind != KIND_ADDRESS) {
        k.host = t->count > 0 ? t->hosts[i] : 0;
        memcpy(k.name, t->name, strnlen(t->name, sizeof(k.name) - 1));
    }
    if (kind == KIND_ADDRESS || kind == KIND_PLACE)
        put_address(k.by, &t->from);
    if (kind == KIND_DEVICE)
        memcpy(k.by, t->device, DEVICE_NONCE_LEN);
    return k;
}

static enum kind own_kind(const struct tried *t, size_t i)
{
    if (t->by[i] == TRIED_BY_DEVICE)
        return KIND_DEVICE;
    return t->code ? KIND_CODE : KIND_PLACE;
}

/* What nobody can fill who has not logged in, or known a password, has its own table.
 */
static struct throttle *table_of(struct tries *all, enum kind kind)
{
    return kind == KIND_ADDRESS     ? &all->addresses
           : kind == KIND_STRANGERS ? &all->strangers
           : kind == KIND_PLACE     ? &all->places
                                    : &all->known;
}

static uint64_t wait_of(struct portal *p, const struct tried *t, size_t i,
                        enum kind kind)
{
    struct try_key k = key_of(t, i, kind);
    return throttle_wait_ms(table_of(p->tries, kind), &k, sizeof(k),
                            loop_now_ms(p->loop));
}

static void fail(struct portal *p, const struct tried *t, size_t i, enum kind kind)
{
    struct try_key k = key_of(t, i, kind);
    throttle_failed(table_of(p->tries, kind), &k, sizeof(k), loop_now_ms(p->loop));
}

static void forget(struct portal *p, const struct tried *t, size_t i, enum kind kind)
{
    struct try_key k = key_of(t, i, kind);
    throttle_succeeded(table_of(p->tries, kind), &k, sizeof(k));
}

static bool by_device(const struct tried *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->by[i] == TRIED_BY_DEVICE)
            return true;
    return false;
}

/* What has logged in from there before, as the key of a table. */
static void place_key(const struct tried *t, size_t i, uint8_t key[static KEY_LEN])
{
    struct try_key k = key_of(t, i, KIND_PLACE);
    key_hash(key, &k, sizeof(k), NULL, 0);
}

void tried_add(struct portal *p, struct tried *t, uint32_t host, const char *cookies)
{
    uint8_t key[KEY_LEN], device[DEVICE_NONCE_LEN];
    const struct portal_host *h = host_by_number(p, host);
    const struct portal_account *a = h != NULL ? host_account(h, t->name) : NULL;
    size_t i = t->count++;
    t->hosts[i] = host;
    t->by[i] = TRIED_BY_STRANGER;
    if (a != NULL && device_knows(p, cookies, h, a, device)) {
        t->by[i] = TRIED_BY_DEVICE;
        memcpy(t->device, device, sizeof(device));
        return;
    }
    place_key(t, i, key);
    if (ledger_find(&p->tries->logged_in, key) != NULL)
        t->by[i] = TRIED_BY_PLACE;
}

bool tried_is_known(const struct tried *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->by[i] != TRIED_BY_STRANGER)
            return true;
    return false;
}

uint64_t tries_own_wait_ms(struct portal *p, const struct tried *t)
{
    uint64_t longest = by_device(t) ? 0 : wait_of(p, t, 0, KIND_ADDRESS);
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        uint64_t wait = wait_of(p, t, i, own_kind(t, i));
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

uint64_t tries_strangers_wait_ms(struct portal *p, const struct tried *t)
{
    uint64_t longest = 0;
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        bool counts = t->by[i] == TRIED_BY_STRANGER && !t->code;
        uint64_t wait = counts ? wait_of(p, t, i, KIND_STRANGERS) : 0;
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

void tries_failed(struct portal *p, const struct tried *t)
{
    if (!by_device(t))
        fail(p, t, 0, KIND_ADDRESS);
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        fail(p, t, i, own_kind(t, i));
        if (t->by[i] == TRIED_BY_STRANGER && !t->code)
            fail(p, t, i, KIND_STRANGERS);
    }
}

void tries_succeeded(struct portal *p, const struct tried *t)
{
    uint8_t key[KEY_LEN];
    forget(p, t, 0, KIND_ADDRESS);
    for (size_t i = 0; i < t->count; i++) {
        forget(p, t, i, KIND_PLACE);
        forget(p, t, i, KIND_CODE);
        if (t->by[i] == TRIED_BY_DEVICE)
            forget(p, t, i, KIND_DEVICE);
        if (t->by[i] == TRIED_BY_STRANGER)
            forget(p, t, i, KIND_STRANGERS);
        place_key(t, i, key);
        (void)!ledger_get(&p->tries->logged_in, key);
    }
}

static void throttle_new(struct throttle *t, uint64_t delay_max_ms)
{
    uint8_t secret[THROTTLE_SECRET_LEN];
    randombytes_buf(secret, sizeof(secret));
    throttle_init(t, secret, delay_max_ms);
}

int tries_open(struct portal *p)
{
    uint8_t secret[KEYMAP_SECRET_LEN];
    p->tries = calloc(1, sizeof(*p->tries));
    if (p->tries == NULL)
        return POSTERN_ERR_NOMEM;
    throttle_new(&p->tries->addresses, ADDRESS_DELAY_MAX_MS);
    throttle_new(&p->tries->strangers, STRANGERS_DELAY_MAX_MS);
    throttle_new(&p->tries->places, OWN_DELAY_MAX_MS);
    throttle_new(&p->tries->known, OWN_DELAY_MAX_MS);
    randombytes_buf(secret, sizeof(secret));
    int rc = ledger_init(&p->tries->logged_in, PLACES_MAX, 1, secret);
    return rc == 0 ? turns_init(&p->tries->turns, secret) : rc;
}

void tries_close(struct portal *p)
{
    if (p->tries == NULL)
        return;
    if (p->tries->logged_in.max > 0)
        ledger_fini(&p->tries->logged_in);
    turns_fini(&p->tries->turns);
    free(p->tries);
    p->tries = NULL;
}
