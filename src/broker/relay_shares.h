/*
 * Who holds how many relay pairs: each pair counts for its client, its host, and the
 * client's address with the blocks around it. Whoever has used up a share gives his own
 * least pair; when all are given, the one who holds most does. Knows no socket.
 */
#ifndef POSTERN_BROKER_RELAY_SHARES_H
#define POSTERN_BROKER_RELAY_SHARES_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/keymap.h"
#include "broker/limits.h"
#include "core/list.h"
#include "core/addr.h"

enum share_of {
    SHARE_CLIENT,
    SHARE_HOST,
    SHARE_ADDRESS, /* and behind it the blocks around it */
    SHARE_MAX = SHARE_ADDRESS + ADDR_LEVELS,
};

struct share_holder {
    struct keymap_node node;
    struct list pairs; /* struct share_place, oldest first */
    uint32_t count;
};

/* One pair in one holder's list. */
struct share_place {
    struct list link;
    struct share_holder *holder; /* NULL: does not count there */
    void *pair;
};

struct shares {
    struct keymap holders;
    size_t pairs_max; /* of all */
};

/* For whom a pair is asked. */
struct share_ask {
    const uint8_t *client, *host; /* keys */
    const struct addr *from;      /* the client's address; NULL: counts for none */
    uint32_t client_max;
};

MUST_CHECK int shares_init(struct shares *s, size_t pairs_max,
                           const uint8_t secret[static KEYMAP_SECRET_LEN]);
void shares_fini(struct shares *s);
/*
 * The first holder that has no room for one pair more, else NULL, with `*of` telling
 * whose share it is.
 */
struct share_holder *shares_full(struct shares *s, const struct share_ask *a,
                                 enum share_of *of);
/* Counts `pair` everywhere; POSTERN_ERR_NOMEM and counts nowhere. */
MUST_CHECK int shares_take(struct shares *s, const struct share_ask *a, void *pair,
                           struct share_place places[static SHARE_MAX]);
void shares_give(struct shares *s, struct share_place places[static SHARE_MAX]);
/* The holder under a device's key, or NULL. */
struct share_holder *shares_find(struct shares *s, const uint8_t key[static KEY_LEN]);
/*
 * When all pairs are given: whether this one may go for the asker's sake. Its client's
 * address or a block around it (its key, where no address counts) holds at least as
 * many as the asker's; or its host more than a quarter of all, and more than the
 * asker's, who holds none. `busy`: it moves bytes, so it stays unless the asker will
 * hold fewer even then.
 */
bool shares_yields(struct shares *s, const struct share_place places[static SHARE_MAX],
                   const struct share_ask *a, bool busy);
/* How many pairs the largest of its holders has, of addresses where they are known. */
uint32_t shares_weight(const struct share_place places[static SHARE_MAX]);

#endif
