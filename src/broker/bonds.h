/*
 * With whom a host has sessions that have no relay pair, by its own word: who they are
 * that must hear when its connection ends. Belongs to that connection, and ends with
 * it. Bounded: the oldest gives way.
 */
#ifndef POSTERN_BROKER_BONDS_H
#define POSTERN_BROKER_BONDS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/key.h"
#include "core/proto.h"

struct bond {
    uint8_t client[KEY_LEN], conv[CONV_LEN];
};

/* All zero is empty. */
struct bonds {
    struct bond *list;
    uint32_t count, room;
    uint32_t oldest; /* gives way when LIMIT_BONDS_PER_HOST stand */
};

/* Once is enough; again is fine. Out of memory it is not noted. */
void bonds_note(struct bonds *b, const uint8_t client[static KEY_LEN],
                const uint8_t conv[static CONV_LEN]);
bool bonds_has(const struct bonds *b, const uint8_t client[static KEY_LEN],
               const uint8_t conv[static CONV_LEN]);
/* That session has ended, or has a pair. */
void bonds_drop(struct bonds *b, const uint8_t client[static KEY_LEN],
                const uint8_t conv[static CONV_LEN]);
void bonds_fini(struct bonds *b);

#endif
