/*
 * What udp-knock and tcp-knock share at the host: whether a knock can reach it, and the
 * filter that waits for one.
 */
#ifndef POSTERN_PATH_KNOCK_H
#define POSTERN_PATH_KNOCK_H

#include "core/kinds.h"
#include "io/helper.h"

enum { KNOCK_ADDRESSES_MAX = 8 };

struct knock_terms {
    bool tcp;
    uint16_t port;
    uint8_t id[PRIVILEGE_KNOCK_ID_LEN];
    struct addr own[KNOCK_ADDRESSES_MAX], peers[KNOCK_ADDRESSES_MAX];
    size_t own_count, peer_count;
};

/* True, with the helper's number in `serial`; else `why` says why not. */
bool knock_begin(const struct knock_terms *t, uint32_t *serial, char *why, size_t cap,
                 helper_knock_cb cb, void *ctx);
/* Takes the filter away and says in the log how many strangers it met. 0 is fine. */
void knock_end(uint32_t *serial, enum path_kind kind);

#endif
