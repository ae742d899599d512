/* Counts of failed tries to log in, by whom they concern; see tries.h. */
#include "portal/tries.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "broker/ledger.h"
#include "core/strangers.h"
#include "io/loop.h"

enum {
    OWN_DELAY_MAX_MS = 60 * 1000,
    ADDRESS_DELAY_MAX_MS = 10 * 60 * 1000, /* nobody else has it to wait for */
    PLACES_MAX = 4096, /* addresses from which an account logged in */
};

struct tries {
    struct loop *loop;
    const struct devices *devices;
    struct throttle addresses, places, known;
    struct strangers strangers;
    struct ledger logged_in; /* addresses, by account */
};

/* For tables that know bytes only; what is not set is zero. */
struct try_key {
    uint32_t kind, host; /* 0: nobody is called so */
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
    return kind == KIND_ADDRESS ? &all->addresses
           : kind == KIND_PLACE ? &all->places
                                : &all->known;
}

static uint64_t wait_of(struct tries *ts, const struct tried *t, size_t i,
                        enum kind kind)
{
    struct try_key k = key_of(t, i, kind);
    return throttle_wait_ms(table_of(ts, kind), &k, sizeof(k), loop_now_ms(ts->loop));
}

static void fail(struct tries *ts, const struct tried *t, size_t i, enum kind kind)
{
    struct try_key k = key_of(t, i, kind);
    throttle_failed(table_of(ts, kind), &k, sizeof(k), loop_now_ms(ts->loop));
}

static void forget(struct tries *ts, const struct tried *t, size_t i, enum kind kind)
{
    struct try_key k = key_of(t, i, kind);
    throttle_succeeded(table_of(ts, kind), &k, sizeof(k));
}

static void strangers_fail(struct tries *ts, const struct tried *t, size_t i)
{
    struct try_key k = key_of(t, i, KIND_STRANGERS);
    strangers_failed(&ts->strangers, &k, sizeof(k), t->newcomer, loop_now_ms(ts->loop));
}

static void strangers_forget(struct tries *ts, const struct tried *t, size_t i)
{
    struct try_key k = key_of(t, i, KIND_STRANGERS);
    strangers_succeeded(&ts->strangers, &k, sizeof(k));
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

void tried_add(struct tries *ts, struct tried *t, const struct portal_host *h,
               const struct portal_account *a, const char *cookies)
{
    uint8_t key[KEY_LEN], device[DEVICE_NONCE_LEN];
    size_t i = t->count++;
    t->hosts[i] = h->number;
    t->by[i] = TRIED_BY_STRANGER;
    if (device_knows(ts->devices, cookies, h, a, device)) {
        t->by[i] = TRIED_BY_DEVICE;
        memcpy(t->device, device, sizeof(device));
        return;
    }
    place_key(t, i, key);
    if (ledger_find(&ts->logged_in, key) != NULL)
        t->by[i] = TRIED_BY_PLACE;
}

bool tried_is_known(const struct tried *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->by[i] != TRIED_BY_STRANGER)
            return true;
    return false;
}

uint64_t tries_own_wait_ms(struct tries *ts, const struct tried *t)
{
    uint64_t longest = by_device(t) || t->counted ? 0 : wait_of(ts, t, 0, KIND_ADDRESS);
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        uint64_t wait = wait_of(ts, t, i, own_kind(t, i));
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

uint64_t tries_strangers_wait_ms(struct tries *ts, const struct tried *t)
{
    uint64_t longest = 0;
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        bool counts = t->by[i] == TRIED_BY_STRANGER && !t->code;
        struct try_key k = key_of(t, i, KIND_STRANGERS);
        uint64_t wait = counts ? strangers_wait_ms(&ts->strangers, &k, sizeof(k),
                                                   t->newcomer, loop_now_ms(ts->loop))
                               : 0;
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

void tries_failed(struct tries *ts, const struct tried *t)
{
    if (!by_device(t) && !t->counted)
        fail(ts, t, 0, KIND_ADDRESS);
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        fail(ts, t, i, own_kind(t, i));
        if (t->by[i] == TRIED_BY_STRANGER && !t->code)
            strangers_fail(ts, t, i);
    }
}

void tries_succeeded(struct tries *ts, const struct tried *t)
{
    uint8_t key[KEY_LEN];
    forget(ts, t, 0, KIND_ADDRESS);
    for (size_t i = 0; i < t->count; i++) {
        forget(ts, t, i, KIND_PLACE);
        forget(ts, t, i, KIND_CODE);
        if (t->by[i] == TRIED_BY_DEVICE)
            forget(ts, t, i, KIND_DEVICE);
        if (t->by[i] == TRIED_BY_STRANGER)
            strangers_forget(ts, t, i);
        place_key(t, i, key);
        (void)!ledger_get(&ts->logged_in, key);
    }
}

static void throttle_new(struct throttle *t, uint64_t delay_max_ms)
{
    uint8_t secret[THROTTLE_SECRET_LEN];
    randombytes_buf(secret, sizeof(secret));
    throttle_init(t, secret, delay_max_ms);
}

int tries_new(struct tries **out, struct loop *loop, const struct devices *devices)
{
    uint8_t secret[KEYMAP_SECRET_LEN];
    struct tries *ts = calloc(1, sizeof(*ts));
    if (ts == NULL)
        return POSTERN_ERR_NOMEM;
    ts->loop = loop;
    ts->devices = devices;
    throttle_new(&ts->addresses, ADDRESS_DELAY_MAX_MS);
    throttle_new(&ts->places, OWN_DELAY_MAX_MS);
    throttle_new(&ts->known, OWN_DELAY_MAX_MS);
    randombytes_buf(secret, sizeof(secret));
    strangers_init(&ts->strangers, secret);
    randombytes_buf(secret, sizeof(secret));
    int rc = ledger_init(&ts->logged_in, PLACES_MAX, 1, secret);
    if (rc != 0)
        free(ts);
    else
        *out = ts;
    return rc;
}

void tries_free(struct tries *ts)
{
    if (ts == NULL)
        return;
    ledger_fini(&ts->logged_in);
    free(ts);
}
