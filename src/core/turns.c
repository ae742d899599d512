/* A short line, searched from end to end, and a table of blocks; see turns.h. */
#include "core/turns.h"

#include <string.h>

#include <sodium.h>

_Static_assert(crypto_shorthash_KEYBYTES == TURNS_SECRET_LEN, "SipHash's key");

void turns_init(struct turns *t, const uint8_t secret[static TURNS_SECRET_LEN])
{
    memset(t, 0, sizeof(*t));
    memcpy(t->secret, secret, TURNS_SECRET_LEN);
}

/* ------------------------------------------------------------- what each block has had
 */

static uint64_t block_of(const struct turns *t, const struct addr *a, int level)
{
    static const uint8_t v4[TURNS_LEVELS] = {2, 3, 3, 4},
                         v6[TURNS_LEVELS] = {4, 5, 6, 8};
    uint8_t key[2 + sizeof(a->ip)] = {a->family, (uint8_t)level};
    uint8_t out[crypto_shorthash_BYTES];
    uint64_t block;
    memcpy(key + 2, a->ip, a->family == ADDR_V6 ? v6[level] : v4[level]);
    crypto_shorthash(out, key, sizeof(key), t->secret);
    memcpy(&block, out, sizeof(block));
    return block != 0 ? block : 1;
}

static bool is_past(const struct turns_slot *s, uint64_t now_ms)
{
    return now_ms > s->at_ms && now_ms - s->at_ms >= TURNS_FORGET_MS;
}

static struct turns_slot *find(struct turns *t, uint64_t block, uint64_t now_ms)
{
    struct turns_slot *set = t->slots[block % TURNS_SETS];
    for (int i = 0; i < TURNS_WAYS; i++)
        if (set[i].block == block && !is_past(&set[i], now_ms))
            return &set[i];
    return NULL;
}

static struct turns_slot *make(struct turns *t, uint64_t block, uint64_t now_ms)
{
    struct turns_slot *set = t->slots[block % TURNS_SETS], *s = find(t, block, now_ms);
    if (s != NULL)
        return s;
    s = &set[0];
    for (int i = 0; i < TURNS_WAYS; i++) {
        if (set[i].block == 0 || is_past(&set[i], now_ms)) {
            s = &set[i];
            break;
        }
        if (set[i].count < s->count ||
            (set[i].count == s->count && set[i].at_ms < s->at_ms))
            s = &set[i];
    }
    *s = (struct turns_slot){.block = block};
    return s;
}

static void count_turn(struct turns *t, const struct turn *a, uint64_t now_ms)
{
    for (int level = 0; level < TURNS_LEVELS; level++) {
        struct turns_slot *s = make(t, a->blocks[level], now_ms);
        s->at_ms = now_ms;
        s->count += !a->again;
    }
}

/*
 * A neighbourhood of which some must go has more people than turns: it stands behind
 * those that were never heard of, as if it had had one.
 */
static void note_crowded(struct turns *t, const struct turn *a, uint64_t now_ms)
{
    for (int level = 0; level <= TURNS_NEW_LEVEL; level++) {
        struct turns_slot *s = make(t, a->blocks[level], now_ms);
        if (s->count == 0)
            *s = (struct turns_slot){
                .block = a->blocks[level], .at_ms = now_ms, .count = 1};
    }
}

void turns_return(struct turns *t, const struct addr *from, uint64_t now_ms)
{
    for (int level = 0; level < TURNS_LEVELS; level++) {
        struct turns_slot *s = find(t, block_of(t, from, level), now_ms);
        if (s != NULL && s->count > 0)
            s->count--;
    }
}

/* ----------------------------------------------------------------------------- ranks
 */

struct rank {
    bool known;
    uint64_t key[2 + TURNS_LEVELS]; /* the lesser goes first, from the left */
};

static struct rank rank_of(struct turns *t, const struct turn *a, uint64_t now_ms)
{
    uint64_t counts[TURNS_LEVELS], at[TURNS_LEVELS];
    struct rank r = {0};
    for (int level = 0; level < TURNS_LEVELS; level++) {
        const struct turns_slot *s = find(t, a->blocks[level], now_ms);
        counts[level] = s != NULL ? s->count : 0;
        counts[level] -= a->again && counts[level] > 0; /* his own */
        at[level] = s != NULL ? s->at_ms : 0;
    }
    r.known = counts[TURNS_NEW_LEVEL] >= TURNS_NEW;
    if (!r.known) {
        r.key[0] = counts[TURNS_NEW_LEVEL];
        while (counts[r.key[1]] > r.key[0])
            r.key[1]++;
    }
    memcpy(r.key + 2, r.known ? at : counts, sizeof(at));
    return r;
}

static bool goes_before(const struct rank *a, const struct rank *b)
{
    if (a->known != b->known)
        return b->known;
    for (size_t i = 0; i < sizeof(a->key) / sizeof(a->key[0]); i++)
        if (a->key[i] != b->key[i])
            return a->key[i] < b->key[i];
    return false;
}

/* -------------------------------------------------------------------------- the line
 */

static void *take(struct turns *t, size_t i)
{
    void *who = t->line[i].who;
    t->count--;
    memmove(&t->line[i], &t->line[i + 1], (t->count - i) * sizeof(t->line[0]));
    return who;
}

/* How many stand near to `a`, block by block. */
static void crowd_of(const struct turns *t, const struct turn *a,
                     size_t n[static TURNS_LEVELS])
{
    memset(n, 0, TURNS_LEVELS * sizeof(*n));
    for (size_t i = 0; i < t->count; i++)
        for (int level = 0; level < TURNS_LEVELS; level++)
            n[level] += a->blocks[level] == t->line[i].blocks[level];
}

/* Who is known before who is new; the more crowded; whose turn is the later one. */
static size_t who_goes(struct turns *t, uint64_t now_ms)
{
    size_t worst = 0, most[TURNS_LEVELS], n[TURNS_LEVELS];
    struct rank last = rank_of(t, &t->line[0], now_ms);
    crowd_of(t, &t->line[0], most);
    for (size_t i = 1; i < t->count; i++) {
        struct rank r = rank_of(t, &t->line[i], now_ms);
        crowd_of(t, &t->line[i], n);
        int level = 0;
        while (level < TURNS_LEVELS - 1 && n[level] == most[level])
            level++;
        bool worse = r.known != last.known     ? r.known
                     : n[level] != most[level] ? n[level] > most[level]
                                               : !goes_before(&r, &last);
        if (!worse)
            continue;
        worst = i;
        last = r;
        memcpy(most, n, sizeof(most));
    }
    return worst;
}

void *turns_enter(struct turns *t, void *who, const struct addr *from, bool again,
                  uint64_t now_ms)
{
    struct turn *new = &t->line[t->count++];
    *new = (struct turn){.who = who, .since_ms = now_ms, .again = again};
    for (int level = 0; level < TURNS_LEVELS; level++)
        new->blocks[level] = block_of(t, from, level);
    if (t->count <= TURNS_MAX)
        return NULL;
    size_t worst = who_goes(t, now_ms);
    note_crowded(t, &t->line[worst], now_ms);
    return take(t, worst);
}

void *turns_next(struct turns *t, turns_may may, void *ctx, uint64_t now_ms)
{
    struct rank best = {0};
    size_t next = t->count;
    for (size_t i = 0; i < t->count; i++) {
        struct rank r = rank_of(t, &t->line[i], now_ms);
        if ((next < t->count && !goes_before(&r, &best)) ||
            !may(ctx, t->line[i].who, !r.known))
            continue;
        next = i;
        best = r;
    }
    if (next == t->count)
        return NULL;
    count_turn(t, &t->line[next], now_ms);
    return take(t, next);
}

void *turns_overdue(struct turns *t, uint64_t patience_ms, uint64_t now_ms)
{
    if (t->count == 0 || now_ms - t->line[0].since_ms < patience_ms)
        return NULL;
    note_crowded(t, &t->line[0], now_ms);
    return take(t, 0);
}
