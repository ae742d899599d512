/*
 * A hash table of objects by 32-byte key, linked through a node inside each object.
 * Keyed hashing: whoever chooses keys cannot choose collisions. Several objects may
 * have the same key.
 */
#ifndef POSTERN_BROKER_KEYMAP_H
#define POSTERN_BROKER_KEYMAP_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"

#define KEYMAP_SECRET_LEN 16

struct keymap_node {
    struct keymap_node *next;
    uint8_t key[KEY_LEN];
};

struct keymap {
    struct keymap_node **slots; /* owned; the nodes are the caller's */
    size_t slot_count, used;
    uint8_t secret[KEYMAP_SECRET_LEN];
};

MUST_CHECK int keymap_init(struct keymap *m,
                           const uint8_t secret[static KEYMAP_SECRET_LEN]);
void keymap_fini(struct keymap *m);
struct keymap_node *keymap_find(const struct keymap *m,
                                const uint8_t key[static KEY_LEN]);
/* The next object with the same key, or NULL. */
struct keymap_node *keymap_next(const struct keymap_node *node);
/* `node->key` is set; `node` is not in the table yet. Never fails: a full table is
 * slower. */
void keymap_add(struct keymap *m, struct keymap_node *node);
/* The node must be in the table. */
void keymap_remove(struct keymap *m, struct keymap_node *node);

#endif
