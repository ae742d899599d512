/*
 * The probe: a packet of one path of an open session that asks whether that path
 * carries packets of its length to the peer and back. Encoding and proof of its key;
 * what is asked when stands in core/paths.h. The first byte tells it from QUIC (bit
 * 0x40, RFC 9000 section 17), STUN (0x00-0x03) and the check of core/punch_wire.h.
 *
 *   0      0x2b
 *   1      flags
 *   2-3    length of the whole packet, big-endian
 *   4-7    transaction: in a response that of the request
 *   8-11   use: the client's count of choices of a path, as the sender knows it
 *   12-27  BLAKE2b-256 of all before, keyed with the session's probe key, cut to 16
 * bytes 28-... zeroes
 */
#ifndef POSTERN_CORE_PROBE_H
#define POSTERN_CORE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define PROBE_FIRST_BYTE 0x2b
#define PROBE_KEY_LEN 16
#define PROBE_LEN_MIN 28
#define PROBE_LEN_BASE 1200       /* what every path must carry (RFC 9000 section 14) */
#define PROBE_LEN_STREAM 1500     /* over TCP: fills a segment, which must pass */
#define PROBE_LEN_STREAM_MAX 3000 /* is answered there: what was asked with once */
#define PROBE_LEN_MAX 16384

enum probe_flag {
    PROBE_RESPONSE = 0x01,
    PROBE_CLIENT = 0x02,  /* its sender is the session's client */
    PROBE_USE = 0x04,     /* client: send on this path from now on */
    PROBE_TROUBLE = 0x08, /* host: the path in use does not answer me */
    PROBE_RENEW = 0x10, /* host: large packets are lost, or nothing moves: begin anew */
};

struct path_probe {
    uint8_t flags;
    uint16_t len; /* of the packet, PROBE_LEN_MIN..PROBE_LEN_MAX */
    uint32_t txn, use;
};

/* Writes probe->len bytes; `buf` has room for them. */
void probe_encode(const struct path_probe *p, const uint8_t key[static PROBE_KEY_LEN],
                  uint8_t *buf);
/* 0, or POSTERN_ERR_PROTO when it is not a whole, authentic probe. */
MUST_CHECK int probe_decode(struct path_probe *p,
                            const uint8_t key[static PROBE_KEY_LEN], const uint8_t *buf,
                            size_t len);

#endif
