/*
 * The first 16 bytes each way on a fresh TCP connection between two devices, before
 * the session's packets: they show that the other end belongs to this approach, so that
 * a stranger is known by its first message and sent away. The session's handshake, not
 * this, authenticates the device.
 *
 * keyed BLAKE2b, cut to 16, with the approach's check key, over "postern greeting",
 * 1 byte: 1 from the client, 2 from the host, and the name of the path kind.
 */
#ifndef POSTERN_CORE_GREETING_H
#define POSTERN_CORE_GREETING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/kinds.h"

#define GREETING_LEN 16
#define GREETING_KEY_LEN 16

void greeting_make(uint8_t out[static GREETING_LEN],
                   const uint8_t key[static GREETING_KEY_LEN], bool from_client,
                   enum path_kind kind);
/* In constant time. */
bool greeting_is(const uint8_t got[static GREETING_LEN],
                 const uint8_t key[static GREETING_KEY_LEN], bool from_client,
                 enum path_kind kind);

#endif
