/* A keymap and a list by last use; see ledger.h. */
#include "broker/ledger.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct keymap_node node;
    struct list used;
    uint32_t age; /* the ledger's, when it was used */
    max_align_t record[];
};

int ledger_init(struct ledger *l, size_t max, size_t record_bytes,
                const uint8_t secret[static KEYMAP_SECRET_LEN])
{
    *l = (struct ledger){.max = max, .record_bytes = record_bytes};
    list_init(&l->used);
    return keymap_init(&l->map, secret);
}

static void forget(struct ledger *l, struct entry *e)
{
    keymap_remove(&l->map, &e->node);
    list_remove(&e->used);
    l->count--;
    free(e);
}

void ledger_fini(struct ledger *l)
{
    while (l->count > 0)
        forget(l, LIST_FIRST(&l->used, struct entry, used));
    keymap_fini(&l->map);
}

void *ledger_find(struct ledger *l, const uint8_t key[static KEY_LEN])
{
    struct keymap_node *n = keymap_find(&l->map, key);
    if (n == NULL)
        return NULL;
    struct entry *e = LIST_OWNER(n, struct entry, node);
    list_remove(&e->used);
    list_push(&l->used, &e->used);
    e->age = l->age;
    return e->record;
}

void *ledger_get(struct ledger *l, const uint8_t key[static KEY_LEN])
{
    void *known = ledger_find(l, key);
    if (known != NULL)
        return known;
    struct entry *e = calloc(1, sizeof(*e) + l->record_bytes);
    if (e == NULL)
        return NULL;
    if (l->count >= l->max)
        forget(l, LIST_FIRST(&l->used, struct entry, used));
    memcpy(e->node.key, key, KEY_LEN);
    keymap_add(&l->map, &e->node);
    list_push(&l->used, &e->used);
    l->count++;
    e->age = l->age;
    return e->record;
}

size_t ledger_age(struct ledger *l)
{
    size_t before = l->count;
    l->age++;
    while (l->count > 0) {
        struct entry *e = LIST_FIRST(&l->used, struct entry, used);
        if (l->age - e->age < 2)
            break;
        forget(l, e);
    }
    return before - l->count;
}
