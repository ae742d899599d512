/*
 * Whose turn it is, when more strangers want to log in than may be tried: those whose
 * neighbourhood had a turn longest ago, or never, go first; one of which some found the
 * line full is no longer one that never had a turn. So who sends tries from
 * ever new addresses stands in line with himself, and one who comes from elsewhere
 * does not stand behind him. Pure but for memory: time is an argument.
 */
#ifndef POSTERN_PORTAL_TURNS_H
#define POSTERN_PORTAL_TURNS_H

#include "broker/ledger.h"
#include "core/addr.h"

enum {
    TURNS_LEVELS = 3, /* IPv4: /16, /24, address; IPv6: /32, /48, /64 */
    TURNS_MAX = 64,
    TURNS_SERVED_MAX = 4096, /* blocks whose last turn is remembered */
    TURNS_PATIENCE_MS = 30 * 1000,
};

struct turn {
    void *who;
    uint64_t since_ms;
    uint8_t blocks[TURNS_LEVELS][KEY_LEN]; /* the widest first */
};

struct turns {
    struct turn line[TURNS_MAX + 1]; /* by start; the last is for a moment only */
    size_t count;
    struct ledger served; /* by block: when it had its last turn */
};

MUST_CHECK int turns_init(struct turns *t,
                          const uint8_t secret[static KEYMAP_SECRET_LEN]);
/* Nobody may stand in line any more. Harmless when all is zero. */
void turns_fini(struct turns *t);
/*
 * Stands in line. When that is full, one of the most crowded neighbourhood goes, the
 * last that came: it is returned and may be `who`; else NULL.
 */
void *turns_enter(struct turns *t, void *who, const struct addr *from, uint64_t now_ms);
/* Takes the next of those for whom `may` says yes out of the line; NULL: nobody. */
void *turns_next(struct turns *t, bool (*may)(void *ctx, void *who), void *ctx,
                 uint64_t now_ms);
/* Takes one out that came more than `patience_ms` ago, or NULL. */
void *turns_overdue(struct turns *t, uint64_t patience_ms, uint64_t now_ms);

#endif
