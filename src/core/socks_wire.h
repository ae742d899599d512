/* SOCKS5 messages (RFC 1928), without a socket: bytes in, bytes out. */
#ifndef POSTERN_CORE_SOCKS_WIRE_H
#define POSTERN_CORE_SOCKS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

#define SOCKS_NAME_LEN 256
#define SOCKS_REQUEST_MAX 262
#define SOCKS_REPLY_MAX 22
#define SOCKS_UDP_HEADER_MAX 262

enum socks_command { SOCKS_CONNECT = 1, SOCKS_BIND = 2, SOCKS_UDP_ASSOCIATE = 3 };

enum socks_code {
    SOCKS_OK = 0,
    SOCKS_FAILED = 1,
    SOCKS_NOT_ALLOWED = 2,
    SOCKS_NET_UNREACHABLE = 3,
    SOCKS_HOST_UNREACHABLE = 4,
    SOCKS_REFUSED = 5,
    SOCKS_TTL = 6,
    SOCKS_COMMAND = 7,
    SOCKS_ADDRESS = 8,
};

/* A destination: a name, or a numeric address in text. */
struct socks_target {
    char host[SOCKS_NAME_LEN];
    uint16_t port;
};

/*
 * The client's greeting at the start of `buf`: returns its length, 0 when more bytes
 * are needed, POSTERN_ERR_PROTO when it is no SOCKS5. `*no_auth`: it offers to come
 * without authentication.
 */
MUST_CHECK int socks_parse_greeting(const uint8_t *buf, size_t len, bool *no_auth);
/*
 * The request, as above; any command. A wrong address type gives POSTERN_ERR_INVALID.
 */
MUST_CHECK int socks_parse_request(const uint8_t *buf, size_t len, uint8_t *command,
                                   struct socks_target *t);
/* Writes a reply; `bound` may be ADDR_NONE. Returns its length. */
size_t socks_build_reply(uint8_t out[static SOCKS_REPLY_MAX], enum socks_code code,
                         const struct addr *bound);
/*
 * The header of a UDP datagram (section 7): returns its length; POSTERN_ERR_PROTO when
 * it is malformed or a fragment.
 */
MUST_CHECK int socks_parse_udp(const uint8_t *buf, size_t len, struct socks_target *t);
/* A header that names `t`. Returns its length, POSTERN_ERR_LIMIT for a long name. */
MUST_CHECK int socks_build_udp(uint8_t out[static SOCKS_UDP_HEADER_MAX],
                               const struct socks_target *t);

#endif
