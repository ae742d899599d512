/*
 * A bounded table of what is remembered of keys for a while: when it is full, what was
 * not used for longest makes room. What is remembered is the caller's.
 */
#ifndef POSTERN_BROKER_LEDGER_H
#define POSTERN_BROKER_LEDGER_H

#include "broker/keymap.h"
#include "core/list.h"

struct ledger {
    struct keymap map;
    struct list used; /* the longest unused first */
    size_t count, max, record_bytes;
    uint32_t age; /* how often it was aged */
};

MUST_CHECK int ledger_init(struct ledger *l, size_t max, size_t record_bytes,
                           const uint8_t secret[static KEYMAP_SECRET_LEN]);
/* Harmless when all is zero. */
void ledger_fini(struct ledger *l);
/* The record of `key`, as of now the last used; NULL: there is none. */
void *ledger_find(struct ledger *l, const uint8_t key[static KEY_LEN]);
/* The same, made of zeroes where there was none; NULL: out of memory. */
void *ledger_get(struct ledger *l, const uint8_t key[static KEY_LEN]);
/* Forgets what was not used since the call before this one, and says of how many. */
size_t ledger_age(struct ledger *l);

#endif
