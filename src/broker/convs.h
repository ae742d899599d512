/*
 * Of which approaches one connection of a client has spoken, to which host, and what
 * that host may still say in each. Belongs to the connection, and ends with it.
 * Bounded: the one of which the client has not spoken for longest gives way.
 */
#ifndef POSTERN_BROKER_CONVS_H
#define POSTERN_BROKER_CONVS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/limits.h"
#include "core/key.h"
#include "core/proto.h"

enum { CONVS_HOST_LEN = 16 }; /* of its key: nobody makes another that begins so */

struct conv {
    uint64_t start;               /* the first of its random bytes */
    uint8_t host[CONVS_HOST_LEN]; /* zeros: whoever has the number of a spoken code */
    uint64_t at_ms;               /* the client spoke of it last */
};

/* What one host may say in all of them. */
struct convs_share {
    uint8_t host[CONVS_HOST_LEN];
    struct bucket said; /* bytes */
};

/* All zero is empty. */
struct convs {
    struct conv *list;
    struct convs_share *shares;
    uint32_t count, room;
    uint16_t share_count, share_room;
};

/* The client speaks of it, one of `max` at most. Out of memory it is not noted. */
void convs_note(struct convs *c, const uint8_t conv[static CONV_LEN],
                const uint8_t host[static KEY_LEN], uint32_t max, uint64_t now_ms);
void convs_forget(struct convs *c, const uint8_t conv[static CONV_LEN]);
/* What that host says by it is for this connection. */
bool convs_has(const struct convs *c, const uint8_t conv[static CONV_LEN],
               const uint8_t host[static KEY_LEN]);
/* The client has spoken of it to that very host, and of late. */
bool convs_asked(const struct convs *c, const uint8_t conv[static CONV_LEN],
                 const uint8_t host[static KEY_LEN], uint64_t now_ms);
/*
 * Takes it from the share of a host that was asked, or nothing and returns false. It
 * outlives the approaches: whoever makes a client begin anew has no more by that. Of
 * LIMIT_CONVS_HOSTS hosts at most; the one that said nothing for longest gives way.
 */
bool convs_take(struct convs *c, const uint8_t host[static KEY_LEN], uint32_t bytes,
                uint64_t now_ms);
void convs_fini(struct convs *c);

#endif
