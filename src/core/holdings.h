/*
 * Shares of what is scarce: who holds how many pieces of it. While there is enough,
 * everybody takes; when it is used up, who holds most gives, and never to make room for
 * itself. Knows holders by key and pieces by what they are worth; knows no piece.
 */
#ifndef POSTERN_CORE_HOLDINGS_H
#define POSTERN_CORE_HOLDINGS_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"

struct holder;

/* Part of a piece, owned by it; all zero while it holds nothing. */
struct holding {
    struct holder *holder;
    struct holding *prev, *next;
};

struct holdings {
    struct holder *first;
    size_t count, max;
    /* What a piece has proven: the least goes first, the oldest among equals. */
    uint64_t (*worth)(const struct holding *e);
};

void holdings_init(struct holdings *s, size_t max,
                   uint64_t (*worth)(const struct holding *e));
/*
 * One more piece for `key`. When all are taken, `leaves` is one that must be ended now:
 * it is given back already. POSTERN_ERR_LIMIT: `key` itself holds as many as anybody.
 * POSTERN_ERR_NOMEM.
 */
MUST_CHECK int holdings_take(struct holdings *s, struct holding *e,
                             const uint8_t key[static KEY_LEN],
                             struct holding **leaves);
/* Holding nothing is fine. */
void holdings_give_back(struct holdings *s, struct holding *e);
/*
 * The piece worth least of whoever holds most; NULL when `key`, with one more, would
 * hold as many.
 */
struct holding *holdings_weakest(const struct holdings *s,
                                 const uint8_t key[static KEY_LEN]);

#endif
