/* The check packet of core/punch.h on the wire: encoding, and proof of its key. */
#ifndef POSTERN_CORE_PUNCH_WIRE_H
#define POSTERN_CORE_PUNCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

#define PUNCH_FIRST_BYTE 0x2a
#define PUNCH_KEY_LEN 16
#define PUNCH_REQUEST_LEN 30
#define PUNCH_PACKET_MAX 49

struct punch_check {
    bool response;
    bool controlling; /* sent by the controlling side */
    uint32_t generation;
    uint64_t id;
    struct addr seen; /* response only */
};

/* Returns the length, at most PUNCH_PACKET_MAX. */
size_t punch_check_encode(const struct punch_check *c,
                          const uint8_t key[static PUNCH_KEY_LEN],
                          uint8_t buf[static PUNCH_PACKET_MAX]);
/* 0, or POSTERN_ERR_PROTO when it is not a whole, authentic check. */
MUST_CHECK int punch_check_decode(struct punch_check *c,
                                  const uint8_t key[static PUNCH_KEY_LEN],
                                  const uint8_t *buf, size_t len);

#endif
