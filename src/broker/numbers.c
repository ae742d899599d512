/* A table that is searched from end to end: a person waits for each search. */
#include "broker/numbers.h"

#include <string.h>

#include "core/rng.h"
#include "core/spoken.h"

enum {
    DRAWS = 24, /* in each range, before the next larger one */
    HOLDERS = 1024
};

static bool is_open(const struct number *x, uint64_t now_ms)
{
    return x->number != 0 && now_ms - x->at_ms < NUMBERS_FOR_MS;
}

static bool is_of(const struct number *x, const uint8_t *giver)
{
    return memcmp(x->giver, giver, KEY_LEN) == 0;
}

static struct number *find(struct numbers *n, unsigned number, uint64_t now_ms)
{
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        if (n->list[i].number == number && is_open(&n->list[i], now_ms))
            return &n->list[i];
    return NULL;
}

/* One that nobody has; 0: in vain, which is hardly possible. */
static unsigned draw(struct numbers *n, uint64_t seed, uint64_t now_ms)
{
    static const unsigned most[] = {99, 999, SPOKEN_NUMBER_MAX};
    for (size_t range = 0; range < sizeof(most) / sizeof(most[0]); range++)
        for (unsigned i = 0; i < DRAWS; i++) {
            unsigned number = 1 + (unsigned)rng_below(&seed, most[range]);
            if (find(n, number, now_ms) == NULL)
                return number;
        }
    return 0;
}

/* How many each block of addresses has; what counts alike is counted together. */
struct holdings {
    uint16_t count[ADDR_LEVELS][HOLDERS];
};

static void hold(struct holdings *h, const struct addr_place *p)
{
    for (unsigned i = 0; i < p->levels; i++)
        h->count[i][p->slot[i] % HOLDERS]++;
}

/* As addr_limits_weight: a block's count by a quarter of it, and so on. */
static unsigned weight(const struct holdings *h, const struct addr_place *p)
{
    unsigned most = 0;
    for (unsigned i = 0; i < p->levels; i++) {
        unsigned all = h->count[i][p->slot[i] % HOLDERS] >> 2 * i;
        most = all > most ? all : most;
    }
    return most;
}

/* All are taken: the oldest of the address with most, the newcomer's counted. */
static struct number *place_of_most(struct numbers *n, const struct addr_place *from)
{
    struct holdings h = {0};
    struct number *worst = NULL;
    unsigned most = 0;
    hold(&h, from);
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        hold(&h, &n->list[i].from);
    for (size_t i = 0; i < NUMBERS_MAX; i++) {
        struct number *x = &n->list[i];
        unsigned has = weight(&h, &x->from);
        if (worst == NULL || has > most || (has == most && x->at_ms < worst->at_ms)) {
            worst = x;
            most = has;
        }
    }
    return worst;
}

/* The giver's own oldest, if it has as many as it may; else a free one, if any. */
static struct number *place_for(struct numbers *n, const uint8_t *giver,
                                const struct addr_place *from, uint64_t now_ms)
{
    struct number *own = NULL, *unused = NULL;
    unsigned owned = 0;
    for (size_t i = 0; i < NUMBERS_MAX; i++) {
        struct number *x = &n->list[i];
        if (!is_open(x, now_ms)) {
            unused = x;
            continue;
        }
        if (!is_of(x, giver))
            continue;
        owned++;
        if (own == NULL || x->at_ms < own->at_ms)
            own = x;
    }
    if (owned >= NUMBERS_EACH)
        return own;
    return unused != NULL ? unused : place_of_most(n, from);
}

unsigned numbers_take(struct numbers *n, const uint8_t giver[static KEY_LEN],
                      const struct addr_place *from, unsigned wanted, uint64_t seed,
                      uint64_t now_ms)
{
    struct number *had =
        wanted > 0 && wanted <= SPOKEN_NUMBER_MAX ? find(n, wanted, now_ms) : NULL;
    if (had != NULL && is_of(had, giver)) {
        had->at_ms = now_ms;
        return wanted;
    }
    bool free_one = had == NULL && wanted > 0 && wanted <= SPOKEN_NUMBER_MAX;
    struct number *place = place_for(n, giver, from, now_ms);
    place->number = 0;
    unsigned number = free_one ? wanted : draw(n, seed, now_ms);
    *place = (struct number){.number = number, .at_ms = now_ms, .from = *from};
    memcpy(place->giver, giver, KEY_LEN);
    return number;
}

void numbers_end(struct numbers *n, const uint8_t giver[static KEY_LEN],
                 unsigned number)
{
    for (size_t i = 0; i < NUMBERS_MAX; i++)
        if (n->list[i].number == number && is_of(&n->list[i], giver))
            n->list[i].number = 0;
}

/* Too many tries came from there, or from the blocks around it. */
static bool is_over(const struct number *x, const struct addr_place *from)
{
    unsigned known = x->tried < NUMBERS_TRIES ? x->tried : NUMBERS_TRIES;
    for (unsigned level = 0; level < from->levels; level++) {
        unsigned count = 0;
        for (unsigned i = 0; i < known; i++)
            count += x->tries[i].levels > level &&
                     x->tries[i].slot[level] == from->slot[level];
        if (count >= (unsigned)NUMBERS_TRIES_EACH << level)
            return true;
    }
    return false;
}

const uint8_t *numbers_ask(struct numbers *n, unsigned number,
                           const struct number_asker *who,
                           const struct addr_place *from, uint64_t now_ms, bool *over)
{
    struct number *x = number == 0 ? NULL : find(n, number, now_ms);
    *over = false;
    if (x == NULL)
        return NULL;
    for (size_t i = 0; i < NUMBERS_ASKERS; i++)
        if (memcmp(&x->askers[i], who, sizeof(*who)) == 0)
            return x->giver;
    *over = is_over(x, from);
    if (*over)
        return NULL;
    x->tries[x->tried++ % NUMBERS_TRIES] = *from;
    x->askers[x->next++ % NUMBERS_ASKERS] = *who;
    return x->giver;
}

bool numbers_may_answer(const struct numbers *n, const uint8_t giver[static KEY_LEN],
                        unsigned number, const struct number_asker *who,
                        uint64_t now_ms)
{
    for (size_t i = 0; i < NUMBERS_MAX; i++) {
        const struct number *x = &n->list[i];
        if (x->number != number || !is_open(x, now_ms) || !is_of(x, giver))
            continue;
        for (size_t k = 0; k < NUMBERS_ASKERS; k++)
            if (memcmp(&x->askers[k], who, sizeof(*who)) == 0)
                return true;
    }
    return false;
}
