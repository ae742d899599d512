/* Token buckets and the table of addresses; see limits.h. */
#include "broker/limits.h"

#include <sodium.h>
#include <string.h>

bool bucket_take(struct bucket *b, struct bucket_rate rate, uint64_t now_ms,
                 uint32_t amount)
{
    if (b->at_ms == 0) {
        b->level = rate.burst;
        b->at_ms = now_ms;
    }
    uint64_t gain = (now_ms - b->at_ms) * rate.per_s + b->part;
    b->at_ms = now_ms;
    if (b->level + gain / 1000 >= rate.burst) {
        b->level = rate.burst;
        b->part = 0;
    } else { /* what is no whole token stays, however often anybody asks */
        b->level += (uint32_t)(gain / 1000);
        b->part = (uint32_t)(gain % 1000);
    }
    if (b->level < amount)
        return false;
    b->level -= amount;
    return true;
}

bool bucket_take_above(struct bucket *b, struct bucket_rate rate, uint64_t now_ms,
                       uint32_t amount, uint32_t keep)
{
    if (!bucket_take(b, rate, now_ms, amount + keep))
        return false;
    b->level += keep;
    return true;
}

unsigned addr_levels(const struct addr *a)
{
    return a->family == ADDR_V6 ? 3 : a->family == ADDR_V4 ? 2 : 0;
}

/* Bytes of the address that count at a level. */
static size_t block_len(const struct addr *a, unsigned level)
{
    return (a->family == ADDR_V6 ? 8 : 4) - level;
}

void addr_block_key(uint8_t key[static KEY_LEN], const struct addr *a, unsigned level)
{
    memset(key, 0xff, KEY_LEN); /* no Ed25519 key: not below its prime */
    key[0] = a->family;
    key[1] = (uint8_t)level;
    memcpy(key + 2, a->ip, block_len(a, level));
}

struct addr_place addr_limits_place(const struct addr_limits *l, const struct addr *a)
{
    struct addr_place p = {.levels = (uint8_t)addr_levels(a)};
    uint8_t key[KEY_LEN], out[crypto_shorthash_BYTES];
    uint64_t hash;
    for (unsigned i = 0; i < p.levels; i++) {
        addr_block_key(key, a, i);
        crypto_shorthash(out, key, sizeof(key), l->secret);
        memcpy(&hash, out, sizeof(hash));
        p.slot[i] = (uint16_t)(hash % ADDR_LIMITS_SLOTS);
    }
    return p;
}

static uint32_t *count_of(struct addr_limits *l, const struct addr_place *p,
                          unsigned level)
{
    return p->known ? &l->slots[p->slot[level]].known
                    : &l->slots[p->slot[level]].connections;
}

void addr_limits_enter(struct addr_limits *l, const struct addr_place *p)
{
    for (unsigned i = 0; i < p->levels; i++)
        (*count_of(l, p, i))++;
}

void addr_limits_leave(struct addr_limits *l, const struct addr_place *p)
{
    for (unsigned i = 0; i < p->levels; i++)
        (*count_of(l, p, i))--;
}

bool addr_limits_is_full(struct addr_limits *l, const struct addr_place *p,
                         uint32_t max)
{
    for (unsigned i = 0; i < p->levels; i++)
        if (*count_of(l, p, i) >= max << 2 * i)
            return true;
    return false;
}

void addr_limits_visit(struct addr_limits *l, const struct addr_place *p, bool begins)
{
    for (unsigned i = 0; i < p->levels; i++)
        l->slots[p->slot[i]].visitors += begins ? 1 : -1u;
}

void addr_limits_wait(struct addr_limits *l, const struct addr_place *p, bool begins)
{
    for (unsigned i = 0; i < p->levels; i++)
        l->slots[p->slot[i]].waiting += begins ? 1 : -1u;
}

uint32_t addr_limits_weight(const struct addr_limits *l, const struct addr_place *p)
{
    uint32_t most = 0;
    for (unsigned i = 0; i < p->levels; i++) {
        uint32_t all = l->slots[p->slot[i]].connections + l->slots[p->slot[i]].known +
                       l->slots[p->slot[i]].visitors;
        if (all >> 2 * i > most)
            most = all >> 2 * i;
    }
    return most;
}

uint32_t addr_limits_waiting(const struct addr_limits *l, const struct addr_place *p)
{
    uint32_t most = 0;
    for (unsigned i = 0; i < p->levels; i++)
        if (l->slots[p->slot[i]].waiting >> 2 * i > most)
            most = l->slots[p->slot[i]].waiting >> 2 * i;
    return most;
}

void addr_limits_note_spared(struct addr_limits *l, const struct addr_place *p,
                             uint64_t now_ms)
{
    for (unsigned i = 0; i < p->levels; i++)
        l->slots[p->slot[i]].spared_ms = now_ms;
}

int addr_limits_spared_cmp(const struct addr_limits *l, const struct addr_place *a,
                           const struct addr_place *b)
{
    for (unsigned i = ADDR_LEVELS; i-- > 0;) { /* the widest block first */
        uint64_t x = i < a->levels ? l->slots[a->slot[i]].spared_ms : 0;
        uint64_t y = i < b->levels ? l->slots[b->slot[i]].spared_ms : 0;
        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

/* Takes `amount` from the buckets at `offset`: of each block, or stops. */
static bool take_each(struct addr_limits *l, const struct addr_place *p, size_t offset,
                      struct bucket_rate rate, uint64_t now_ms, uint32_t amount)
{
    for (unsigned i = 0; i < p->levels; i++) {
        struct bucket *b = (void *)((char *)&l->slots[p->slot[i]] + offset);
        struct bucket_rate wide = {rate.per_s << 2 * i, rate.burst << 2 * i};
        if (!bucket_take(b, wide, now_ms, amount) || b->level + amount == 0)
            return false;
    }
    return true;
}

/* One of each block, or none of any. */
static bool take(struct addr_limits *l, const struct addr_place *p, size_t offset,
                 struct bucket_rate rate, uint64_t now_ms)
{
    return take_each(l, p, offset, rate, now_ms, 0) &&
           take_each(l, p, offset, rate, now_ms, 1);
}

bool addr_limits_connect(struct addr_limits *l, const struct addr_place *p,
                         uint64_t now_ms)
{
    size_t at = (size_t)((char *)&l->slots[0].connect - (char *)&l->slots[0]);
    return take(l, p, at, LIMIT_RATE_CONNECT, now_ms);
}

bool addr_limits_badge(struct addr_limits *l, const struct addr_place *p,
                       uint64_t now_ms)
{
    size_t at = (size_t)((char *)&l->slots[0].badges - (char *)&l->slots[0]);
    return take(l, p, at, LIMIT_RATE_BADGES_ADDRESS, now_ms);
}

bool addr_limits_stun(struct addr_limits *l, const struct addr_place *p,
                      uint64_t now_ms)
{
    size_t at = (size_t)((char *)&l->slots[0].stun - (char *)&l->slots[0]);
    return take(l, p, at, LIMIT_RATE_STUN, now_ms);
}

/* One of those who share: a device of an address, an address of a block, and so on. */
struct sharer {
    struct bucket *left, *pool; /* its own slow count; what they share */
    struct bucket_rate slow, wide;
};

static struct sharer sharer_at(struct addr_limits *l, const struct addr_place *p,
                               unsigned level, uint32_t device)
{
    struct bucket_rate rate = LIMIT_RATE_STUN;
    unsigned own = level > 0 ? 2 * (level - 1) : 0; /* what its own share is more */
    return (struct sharer){
        .left = level > 0
                    ? &l->slots[p->slot[level - 1]].stun_left
                    : &l->stun_devices[(device ^ p->slot[0]) % ADDR_LIMITS_DEVICES],
        .pool = &l->slots[p->slot[level]].stun_proven,
        .slow = {1u << own, rate.burst << own},
        .wide = {rate.per_s << 2 * level, (rate.burst + LIMIT_STUN_SPARED)
                                              << 2 * level},
    };
}

bool addr_limits_stun_proven(struct addr_limits *l, const struct addr_place *p,
                             uint32_t device, uint64_t now_ms)
{
    uint64_t slow_ms = now_ms * 1000 / LIMIT_STUN_FORGET_MS;
    for (unsigned i = 0; i < p->levels; i++) {
        struct sharer s = sharer_at(l, p, i, device);
        (void)bucket_take(s.left, s.slow, slow_ms, 0);
        (void)bucket_take(s.pool, s.wide, now_ms, 0);
        uint32_t used = s.slow.burst - s.left->level;
        uint32_t spared = LIMIT_STUN_SPARED << 2 * i;
        if (s.pool->level < 1 + spared * used / s.slow.burst)
            return false;
    }
    for (unsigned i = 0; i < p->levels; i++) {
        struct sharer s = sharer_at(l, p, i, device);
        (void)bucket_take(s.left, s.slow, slow_ms, 1); /* at 0 it has used all */
        (void)bucket_take(s.pool, s.wide, now_ms, 1);
    }
    return true;
}

bool addr_limits_introduce(struct addr_limits *l, const struct addr_place *p,
                           uint64_t now_ms)
{
    size_t at = (size_t)((char *)&l->slots[0].introduce - (char *)&l->slots[0]);
    return take(l, p, at, LIMIT_RATE_INTRODUCE_ADDRESS, now_ms);
}
