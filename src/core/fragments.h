/*
 * Datagrams that are larger than a packet, in fragments: how one is written, which of
 * them the other end has, and the putting together of what comes, in any order and more
 * than once. Knows bytes, numbers and the time that it is told; no session, no packet.
 *
 * A datagram is counted in cells of 64 bytes. A fragment is some of them in a row, so
 * its borders may be chosen when it leaves, as the path is then, and another one may
 * say a part of it again.
 */
#ifndef POSTERN_CORE_FRAGMENTS_H
#define POSTERN_CORE_FRAGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/list.h"

enum {
    FRAGMENT_CELL = 64,
    FRAGMENT_WHOLE_MAX = 65535,
    FRAGMENT_HEAD_LEN = 8,
    CELL_WORDS_MAX = 16, /* of 64 cells each */
    /* Of one peer: */
    PARTIALS_MAX = 64,
    PARTIALS_BYTES_MAX = 512 * 1024,
    PARTIALS_SCARCE_BYTES = 64 * 1024, /* when all hold too much */
    PARTIALS_ALL_MAX = 16 * 1024 * 1024,
    PARTIALS_LIVE_MS = 1000,
};

/* ---------------------------------------------------------------------------- cells */

/* How many words of 64 cells one of `len` bytes has. */
size_t cells_words(size_t len);
/* All of a datagram of `len` bytes. */
void cells_fill(uint64_t *cells, size_t len);
/* Sets or clears those of `len` bytes from `from` on; returns how many that changed. */
unsigned cells_set(uint64_t *cells, size_t from, size_t len, bool on);
/*
 * The first that are set, in a row and with no more than `most` bytes: the first byte,
 * and *len how many, of a datagram of `whole`; *len is 0 when none is set.
 */
size_t cells_first(const uint64_t *cells, size_t whole, size_t most, size_t *len);

/* ------------------------------------------------------------------------- the wire */

struct fragment {
    uint32_t number; /* of the datagram, by its sender */
    size_t from, len, whole;
    const uint8_t *data; /* of the frame that was read */
};

void fragment_put(uint8_t buf[static FRAGMENT_HEAD_LEN], uint32_t number, size_t from,
                  size_t whole);
/* POSTERN_ERR_PROTO of what cannot be one. */
MUST_CHECK int fragment_get(struct fragment *f, const uint8_t *buf, size_t len);

/* ------------------------------------------------------------------ putting together
 */

struct partial {
    struct list link;
    uint64_t flow;
    uint32_t number;
    size_t len;
    uint64_t begun_ms;
    uint64_t lacks[CELL_WORDS_MAX];
    unsigned lacking; /* cells */
    uint8_t data[];
};

struct partials {
    struct list list; /* struct partial, the oldest first */
    unsigned count;
    size_t bytes, *all; /* the latter of all that share a process; borrowed */
    bool any;           /* one was ever completed: */
    uint32_t newest;    /* the highest number of those */
    uint64_t completed; /* and of the 64 up to it each that was */
    uint64_t given_up;  /* how many were dropped before they were whole */
};

void partials_init(struct partials *p, size_t *all);
void partials_fini(struct partials *p);
/*
 * Takes one that came for `flow`. The datagram when it is whole by that, the caller's
 * to free(); else NULL. What is full drops its oldest.
 */
struct partial *partials_take(struct partials *p, uint64_t flow,
                              const struct fragment *f, uint64_t now_ms);
/* Drops those that have waited for too long. */
void partials_expire(struct partials *p, uint64_t now_ms);
/* When to call that; UINT64_MAX: there are none. */
uint64_t partials_deadline_ms(const struct partials *p);

#endif
