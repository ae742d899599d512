/* A short line, searched from end to end; see turns.h. */
#include "portal/turns.h"

#include <string.h>

struct served {
    uint64_t at_ms; /* CROWDED: it had no turn, but more wanted one than could wait */
};

enum { CROWDED = 1 };

int turns_init(struct turns *t, const uint8_t secret[static KEYMAP_SECRET_LEN])
{
    t->count = 0;
    return ledger_init(&t->served, TURNS_SERVED_MAX, sizeof(struct served), secret);
}

void turns_fini(struct turns *t)
{
    if (t->served.max > 0)
        ledger_fini(&t->served);
    *t = (struct turns){0};
}

static void block_of(uint8_t key[static KEY_LEN], const struct addr *a, int level)
{
    static const uint8_t v4[TURNS_LEVELS] = {2, 3, 4}, v6[TURNS_LEVELS] = {4, 6, 8};
    memset(key, 0, KEY_LEN);
    key[0] = a->family;
    key[1] = (uint8_t)level;
    memcpy(key + 2, a->ip, a->family == ADDR_V6 ? v6[level] : v4[level]);
}

static void *take(struct turns *t, size_t i)
{
    void *who = t->line[i].who;
    t->count--;
    memmove(&t->line[i], &t->line[i + 1], (t->count - i) * sizeof(t->line[0]));
    return who;
}

/* True when as many as `most` says stand near to `a`, or more: then it says how many.
 */
static bool is_more_crowded(const struct turns *t, const struct turn *a,
                            size_t most[static TURNS_LEVELS])
{
    size_t n[TURNS_LEVELS] = {0};
    for (size_t i = 0; i < t->count; i++)
        for (int level = 0; level < TURNS_LEVELS; level++)
            n[level] +=
                memcmp(a->blocks[level], t->line[i].blocks[level], KEY_LEN) == 0;
    int level = 0;
    while (level < TURNS_LEVELS - 1 && n[level] == most[level])
        level++;
    if (n[level] < most[level]) /* of equals the later goes */
        return false;
    memcpy(most, n, sizeof(n));
    return true;
}

/*
 * A neighbourhood of which some must go has more people than turns: it stands behind
 * those that were never heard of, as if it had had one long ago. Addresses are not
 * worth a place in the table, and half of that is kept for who had a turn.
 */
static void note_crowded(struct turns *t, const struct turn *a)
{
    for (int level = 0; level < TURNS_LEVELS - 1; level++) {
        if (ledger_find(&t->served, a->blocks[level]) != NULL ||
            t->served.count >= TURNS_SERVED_MAX / 2)
            continue;
        struct served *s = ledger_get(&t->served, a->blocks[level]);
        if (s != NULL)
            s->at_ms = CROWDED;
    }
}

void *turns_enter(struct turns *t, void *who, const struct addr *from, uint64_t now_ms)
{
    struct turn *new = &t->line[t->count++];
    size_t most[TURNS_LEVELS] = {0}, worst = 0;
    *new = (struct turn){.who = who, .since_ms = now_ms};
    for (int level = 0; level < TURNS_LEVELS; level++)
        block_of(new->blocks[level], from, level);
    if (t->count <= TURNS_MAX)
        return NULL;
    for (size_t i = 0; i < t->count; i++)
        if (is_more_crowded(t, &t->line[i], most))
            worst = i;
    note_crowded(t, &t->line[worst]);
    return take(t, worst);
}

/* True when `a` had its turn before what `best` says, block by block. */
static bool was_served_before(struct turns *t, const struct turn *a,
                              uint64_t best[static TURNS_LEVELS])
{
    uint64_t at[TURNS_LEVELS];
    for (int level = 0; level < TURNS_LEVELS; level++) {
        const struct served *s = ledger_find(&t->served, a->blocks[level]);
        at[level] = s != NULL ? s->at_ms : 0;
    }
    int level = 0;
    while (level < TURNS_LEVELS - 1 && at[level] == best[level])
        level++;
    if (at[level] >= best[level])
        return false;
    memcpy(best, at, sizeof(at));
    return true;
}

void *turns_next(struct turns *t, bool (*may)(void *ctx, void *who), void *ctx,
                 uint64_t now_ms)
{
    uint64_t best[TURNS_LEVELS] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    size_t next = t->count;
    for (size_t i = 0; i < t->count; i++)
        if (may(ctx, t->line[i].who) && was_served_before(t, &t->line[i], best))
            next = i;
    if (next == t->count)
        return NULL;
    for (int level = 0; level < TURNS_LEVELS; level++) {
        struct served *s = ledger_get(&t->served, t->line[next].blocks[level]);
        if (s != NULL)
            s->at_ms = now_ms > CROWDED ? now_ms : CROWDED;
    }
    return take(t, next);
}

void *turns_overdue(struct turns *t, uint64_t patience_ms, uint64_t now_ms)
{
    if (t->count == 0 || now_ms - t->line[0].since_ms < patience_ms)
        return NULL;
    return take(t, 0);
}
