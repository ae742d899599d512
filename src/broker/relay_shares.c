/* Counters by key and by address; see relay_shares.h. */
#include "broker/relay_shares.h"

#include <stdlib.h>
#include <string.h>

int shares_init(struct shares *s, size_t pairs_max,
                const uint8_t secret[static KEYMAP_SECRET_LEN])
{
    s->pairs_max = pairs_max;
    return keymap_init(&s->holders, secret);
}

void shares_fini(struct shares *s)
{
    keymap_fini(&s->holders); /* the last pair took the last holder along */
}

struct share_holder *shares_find(struct shares *s, const uint8_t key[static KEY_LEN])
{
    struct keymap_node *n = keymap_find(&s->holders, key);
    return n != NULL ? LIST_OWNER(n, struct share_holder, node) : NULL;
}

/* An eighth of all for one address, twice that for each block around it. */
static size_t address_max(const struct shares *s, unsigned level)
{
    size_t max = s->pairs_max >> (3 - (level < 3 ? level : 3));
    size_t cap = (size_t)LIMIT_RELAYS_PER_ADDRESS << level;
    max = max < LIMIT_RELAYS_ADDRESS_MIN ? LIMIT_RELAYS_ADDRESS_MIN : max;
    return max < cap ? max : cap;
}

/* The keys under which a pair counts; returns how many. */
static unsigned keys_of(const struct share_ask *a, uint8_t keys[SHARE_MAX][KEY_LEN])
{
    memcpy(keys[SHARE_CLIENT], a->client, KEY_LEN);
    memcpy(keys[SHARE_HOST], a->host, KEY_LEN);
    unsigned n = SHARE_ADDRESS;
    for (unsigned level = 0; a->from != NULL && level < addr_levels(a->from); level++)
        addr_block_key(keys[n++], a->from, level);
    return n;
}

struct share_holder *shares_full(struct shares *s, const struct share_ask *a,
                                 enum share_of *of)
{
    uint8_t keys[SHARE_MAX][KEY_LEN];
    unsigned n = keys_of(a, keys);
    for (unsigned i = 0; i < n; i++) {
        struct share_holder *h = shares_find(s, keys[i]);
        size_t max = i == SHARE_CLIENT ? a->client_max
                     : i == SHARE_HOST ? LIMIT_RELAYS_PER_HOST
                                       : address_max(s, i - SHARE_ADDRESS);
        *of = i < SHARE_ADDRESS ? (enum share_of)i : SHARE_ADDRESS;
        if (h != NULL && h->count >= max)
            return h;
    }
    return NULL;
}

static struct share_holder *get(struct shares *s, const uint8_t key[static KEY_LEN])
{
    struct share_holder *h = shares_find(s, key);
    if (h != NULL)
        return h;
    h = calloc(1, sizeof(*h));
    if (h == NULL)
        return NULL;
    memcpy(h->node.key, key, KEY_LEN);
    list_init(&h->pairs);
    keymap_add(&s->holders, &h->node);
    return h;
}

int shares_take(struct shares *s, const struct share_ask *a, void *pair,
                struct share_place places[static SHARE_MAX])
{
    uint8_t keys[SHARE_MAX][KEY_LEN];
    unsigned n = keys_of(a, keys);
    memset(places, 0, SHARE_MAX * sizeof(*places));
    for (unsigned i = 0; i < n; i++) {
        struct share_holder *h = get(s, keys[i]);
        if (h == NULL) {
            shares_give(s, places);
            return POSTERN_ERR_NOMEM;
        }
        places[i].holder = h;
        places[i].pair = pair;
        list_push(&h->pairs, &places[i].link);
        h->count++;
    }
    return 0;
}

void shares_give(struct shares *s, struct share_place places[static SHARE_MAX])
{
    for (unsigned i = 0; i < SHARE_MAX; i++) {
        struct share_holder *h = places[i].holder;
        if (h == NULL)
            continue;
        places[i].holder = NULL;
        list_remove(&places[i].link);
        if (--h->count == 0) {
            keymap_remove(&s->holders, &h->node);
            free(h);
        }
    }
}

static uint32_t count_of(struct shares *s, const uint8_t key[static KEY_LEN])
{
    const struct share_holder *h = shares_find(s, key);
    return h != NULL ? h->count : 0;
}

bool shares_yields(struct shares *s, const struct share_place places[static SHARE_MAX],
                   const struct share_ask *a, bool busy)
{
    uint8_t keys[SHARE_MAX][KEY_LEN];
    unsigned n = keys_of(a, keys);
    uint32_t own = n == SHARE_ADDRESS ? count_of(s, keys[SHARE_CLIENT]) : 0;
    for (unsigned i = SHARE_ADDRESS; i < n; i++) {
        uint32_t count = count_of(s, keys[i]);
        own = count > own ? count : own;
    }
    uint32_t margin = busy ? 2 : 0; /* or they would take it from each other for ever */
    if (shares_weight(places) >= own + margin)
        return true;
    const struct share_holder *host = places[SHARE_HOST].holder;
    return own == 0 && host != NULL && host->count > s->pairs_max / 4 &&
           host->count >= count_of(s, a->host) + 2;
}

uint32_t shares_weight(const struct share_place places[static SHARE_MAX])
{
    unsigned i = places[SHARE_ADDRESS].holder != NULL ? SHARE_ADDRESS : SHARE_CLIENT;
    unsigned end = i == SHARE_ADDRESS ? SHARE_MAX : SHARE_HOST + 1;
    uint32_t most = 0;
    for (; i < end; i++)
        if (places[i].holder != NULL && places[i].holder->count > most)
            most = places[i].holder->count;
    return most;
}
