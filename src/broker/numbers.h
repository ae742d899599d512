/*
 * The numbers of spoken codes (core/spoken.h): which are taken, by whom, and who asked
 * for one. Knows keys, times and blocks of addresses, and no words: these never come
 * here. Bounded: a giver's own oldest number gives way, and in all the oldest of the
 * address with most.
 */
#ifndef POSTERN_BROKER_NUMBERS_H
#define POSTERN_BROKER_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/limits.h"
#include "core/key.h"
#include "core/proto.h"

enum {
    NUMBERS_MAX = 512,      /* of the whole broker */
    NUMBERS_EACH = 4,       /* of one giver */
    NUMBERS_ASKERS = 8,     /* of one number, the latest */
    NUMBERS_TRIES = 64,     /* of which it is known from where: a giver takes no more */
    NUMBERS_TRIES_EACH = 4, /* of one address; each block around it: twice as many */
    NUMBERS_FOR_MS = 3600000, /* and no longer, if the giver does not end it */
};

struct numbers {
    struct number {
        unsigned number; /* 0: free */
        uint8_t giver[KEY_LEN];
        uint64_t at_ms;
        struct number_asker {
            uint8_t taker[KEY_LEN], conv[CONV_LEN];
        } askers[NUMBERS_ASKERS];
        size_t next; /* of them */
        struct addr_place from, tries[NUMBERS_TRIES];
        unsigned tried;
    } list[NUMBERS_MAX];
};

/*
 * One for `giver`, who is there, small if possible: `wanted` if that is its own or free
 * (0: any). `seed` is random.
 */
unsigned numbers_take(struct numbers *n, const uint8_t giver[static KEY_LEN],
                      const struct addr_place *from, unsigned wanted, uint64_t seed,
                      uint64_t now_ms);
/* Frees it, if it is that giver's. */
void numbers_end(struct numbers *n, const uint8_t giver[static KEY_LEN],
                 unsigned number);
/*
 * Whose it is, who may answer this approach from now on; NULL: nobody's, or (`over`)
 * one for which this address has asked too often. A place without levels may.
 */
const uint8_t *numbers_ask(struct numbers *n, unsigned number,
                           const struct number_asker *who,
                           const struct addr_place *from, uint64_t now_ms, bool *over);
/* Whether he asked for that giver's number, of late. */
bool numbers_may_answer(const struct numbers *n, const uint8_t giver[static KEY_LEN],
                        unsigned number, const struct number_asker *who,
                        uint64_t now_ms);

#endif
