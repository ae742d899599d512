/*
 * Whose turn it is, when more strangers want to log in than may be tried.
 *
 * A /24 (IPv6: /48) is new until it had TURNS_NEW turns in a day. Who comes from a new
 * one goes before all others: first those that had fewest turns, then those of which a
 * wider block had no more, then those whose neighbours had fewest. Of the rest those go
 * first whose neighbourhood had its turn longest ago. So who sends tries from few
 * addresses or many soon stands in line with himself, and one who comes from elsewhere
 * does not stand behind him: not in the same /16 either, if he has another /24.
 *
 * The line is short; when it is full, one who is not new makes way, of the most crowded
 * neighbourhood, and else a new one. The table of turns has a fixed size, keeps keyed
 * hashes only, and forgets who had fewest turns first. Pure: time is an argument.
 */
#ifndef POSTERN_CORE_TURNS_H
#define POSTERN_CORE_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

#define TURNS_SECRET_LEN 16

enum {
    TURNS_LEVELS = 4,    /* IPv4: /16, /24 (twice), address; IPv6: /32, /40, /48, /64 */
    TURNS_NEW_LEVEL = 2, /* /24, /48: what one customer has */
    TURNS_NEW = 3,
    TURNS_MAX = 64,
    TURNS_SETS = 2048,
    TURNS_WAYS = 8,
    TURNS_FORGET_MS = 24 * 3600 * 1000,
    TURNS_PATIENCE_MS = 30 * 1000,
};

struct turn {
    void *who;
    uint64_t since_ms;
    bool again;                    /* had one for this try already */
    uint64_t blocks[TURNS_LEVELS]; /* the widest first */
};

struct turns_slot {
    uint64_t block; /* 0: the slot is free */
    uint64_t at_ms; /* the last turn */
    uint32_t count;
};

/* 400 KiB: part of something allocated, not of a stack. */
struct turns {
    uint8_t secret[TURNS_SECRET_LEN];
    struct turn line[TURNS_MAX + 1]; /* by start; the last is for a moment only */
    size_t count;
    struct turns_slot slots[TURNS_SETS][TURNS_WAYS];
};

void turns_init(struct turns *t, const uint8_t secret[static TURNS_SECRET_LEN]);
/*
 * Stands in line; `again`: what he had a turn for goes on. When the line is full, one
 * goes: it is returned and may be `who`; else NULL.
 */
void *turns_enter(struct turns *t, void *who, const struct addr *from, bool again,
                  uint64_t now_ms);
/* May he be tried now, who is `new` or not? */
typedef bool (*turns_may)(void *ctx, void *who, bool new);
/* Takes the next of those for whom `may` says yes out of the line; NULL: nobody. */
void *turns_next(struct turns *t, turns_may may, void *ctx, uint64_t now_ms);
/* Takes one out that came more than `patience_ms` ago, or NULL. */
void *turns_overdue(struct turns *t, uint64_t patience_ms, uint64_t now_ms);
/* He was let in: that was no guess, and his neighbours are as new as before. */
void turns_return(struct turns *t, const struct addr *from, uint64_t now_ms);

#endif
