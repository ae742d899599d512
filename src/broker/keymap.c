/* Chained hashing with SipHash; see keymap.h. */
#include "broker/keymap.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { KEYMAP_SLOTS_MIN = 64 };

int keymap_init(struct keymap *m, const uint8_t secret[static KEYMAP_SECRET_LEN])
{
    memset(m, 0, sizeof(*m));
    memcpy(m->secret, secret, KEYMAP_SECRET_LEN);
    m->slots = calloc(KEYMAP_SLOTS_MIN, sizeof(struct keymap_node *));
    if (m->slots == NULL)
        return POSTERN_ERR_NOMEM;
    m->slot_count = KEYMAP_SLOTS_MIN;
    return 0;
}

void keymap_fini(struct keymap *m)
{
    free(m->slots);
    memset(m, 0, sizeof(*m));
}

static struct keymap_node **slot_of(const struct keymap *m, const uint8_t *key)
{
    uint8_t out[crypto_shorthash_BYTES];
    uint64_t hash;
    crypto_shorthash(out, key, KEY_LEN, m->secret);
    memcpy(&hash, out, sizeof(hash));
    return &m->slots[hash & (m->slot_count - 1)];
}

static struct keymap_node *first_equal(struct keymap_node *n, const uint8_t *key)
{
    while (n != NULL && sodium_memcmp(n->key, key, KEY_LEN) != 0)
        n = n->next;
    return n;
}

struct keymap_node *keymap_find(const struct keymap *m,
                                const uint8_t key[static KEY_LEN])
{
    return first_equal(*slot_of(m, key), key);
}

struct keymap_node *keymap_next(const struct keymap_node *node)
{
    return first_equal(node->next, node->key);
}

static void link_node(struct keymap *m, struct keymap_node *node)
{
    struct keymap_node **slot = slot_of(m, node->key);
    node->next = *slot;
    *slot = node;
}

static void grow(struct keymap *m)
{
    struct keymap_node **old = m->slots;
    size_t count = m->slot_count;
    struct keymap_node **wider = calloc(count * 2, sizeof(struct keymap_node *));
    if (wider == NULL)
        return;
    m->slots = wider;
    m->slot_count = count * 2;
    for (size_t i = 0; i < count; i++) {
        for (struct keymap_node *n = old[i], *next; n != NULL; n = next) {
            next = n->next;
            link_node(m, n);
        }
    }
    free(old);
}

void keymap_add(struct keymap *m, struct keymap_node *node)
{
    if (m->used >= m->slot_count)
        grow(m);
    link_node(m, node);
    m->used++;
}

void keymap_remove(struct keymap *m, struct keymap_node *node)
{
    struct keymap_node **at = slot_of(m, node->key);
    while (*at != NULL && *at != node)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    *at = node->next;
    node->next = NULL;
    m->used--;
}
