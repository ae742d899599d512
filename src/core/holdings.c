/* Counts by key, in a list of its few holders; knows nothing of time. */
#include "core/holdings.h"

#include <stdlib.h>
#include <string.h>

struct holder {
    struct holder *next;
    uint8_t key[KEY_LEN];
    size_t count;
    struct holding *first, *last; /* the oldest first */
};

void holdings_init(struct holdings *s, size_t max,
                   uint64_t (*worth)(const struct holding *e))
{
    *s = (struct holdings){.max = max, .worth = worth};
}

static struct holder *find(const struct holdings *s, const uint8_t *key)
{
    struct holder *h = s->first;
    while (h != NULL && memcmp(h->key, key, KEY_LEN) != 0)
        h = h->next;
    return h;
}

static struct holder *find_or_add(struct holdings *s, const uint8_t *key)
{
    struct holder *h = find(s, key);
    if (h != NULL)
        return h;
    h = calloc(1, sizeof(*h));
    if (h == NULL)
        return NULL;
    memcpy(h->key, key, KEY_LEN);
    h->next = s->first;
    s->first = h;
    return h;
}

struct holding *holdings_weakest(const struct holdings *s,
                                 const uint8_t key[static KEY_LEN])
{
    const struct holder *own = find(s, key), *most = NULL;
    for (const struct holder *h = s->first; h != NULL; h = h->next)
        if (most == NULL || h->count > most->count)
            most = h;
    if (most == NULL || (own != NULL ? own->count : 0) + 1 >= most->count)
        return NULL;
    struct holding *weakest = most->first;
    for (struct holding *e = most->first; e != NULL; e = e->next)
        if (s->worth(e) < s->worth(weakest))
            weakest = e;
    return weakest;
}

int holdings_take(struct holdings *s, struct holding *e,
                  const uint8_t key[static KEY_LEN], struct holding **leaves)
{
    *leaves = NULL;
    if (s->count >= s->max) {
        *leaves = holdings_weakest(s, key);
        if (*leaves == NULL)
            return POSTERN_ERR_LIMIT;
        holdings_give_back(s, *leaves);
    }
    struct holder *h = find_or_add(s, key);
    if (h == NULL)
        return POSTERN_ERR_NOMEM;
    *e = (struct holding){.holder = h, .prev = h->last};
    if (h->last != NULL)
        h->last->next = e;
    else
        h->first = e;
    h->last = e;
    h->count++;
    s->count++;
    return 0;
}

static void remove_holder(struct holdings *s, struct holder *h)
{
    struct holder **at = &s->first;
    while (*at != NULL && *at != h)
        at = &(*at)->next;
    if (*at != NULL)
        *at = h->next;
    free(h);
}

void holdings_give_back(struct holdings *s, struct holding *e)
{
    struct holder *h = e->holder;
    if (h == NULL)
        return;
    if (e->prev != NULL)
        e->prev->next = e->next;
    else
        h->first = e->next;
    if (e->next != NULL)
        e->next->prev = e->prev;
    else
        h->last = e->prev;
    *e = (struct holding){0};
    s->count--;
    if (--h->count == 0)
        remove_holder(s, h);
}
