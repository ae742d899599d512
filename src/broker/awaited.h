/*
 * Who asked for a host that was not here, so that he can be told when it comes. Knows
 * keys and times; sends nothing. Bounded: a client's own oldest gives way; in all, the
 * oldest of those that were the most of their client's when they were noted.
 */
#ifndef POSTERN_BROKER_AWAITED_H
#define POSTERN_BROKER_AWAITED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/key.h"
#include "core/proto.h"

#define AWAITED_MAX 1024      /* of one thread */
#define AWAITED_EACH 16       /* of one client */
#define AWAITED_FOR_MS 60000u /* who still waits has asked again by then */

struct awaited_ask {
    uint8_t host[KEY_LEN], client[KEY_LEN], conv[CONV_LEN];
    uint64_t at_ms; /* 0: free */
    uint8_t before; /* how many of this client's stood when it was noted */
};

struct awaited {
    struct awaited_ask asks[AWAITED_MAX];
    size_t count; /* that are not free */
};

void awaited_note(struct awaited *a, const struct awaited_ask *ask);
/* The next one that waits for this host, and forgets it; false: none is left. */
bool awaited_take(struct awaited *a, const uint8_t host[static KEY_LEN],
                  uint64_t now_ms, struct awaited_ask *out);

#endif
