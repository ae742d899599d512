/*
 * What a TLS connection asks for before anything is decrypted: the server name (RFC
 * 6066 section 3), the application protocols (RFC 7301) and the badge (core/badge.h) of
 * the ClientHello (RFC 8446 section 4.1.2). One port serves several protocols by them.
 */
#ifndef POSTERN_CORE_CLIENT_HELLO_H
#define POSTERN_CORE_CLIENT_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define CLIENT_HELLO_MAX 16389 /* one whole record */
#define SERVER_NAME_MAX 255

struct client_hello {
    char server_name[SERVER_NAME_MAX + 1]; /* lower case; empty: none */
    const uint8_t *protocols;              /* inside the buffer; NULL: none */
    size_t protocols_len;
    const uint8_t *badge; /* of core/badge.h, likewise */
    size_t badge_len;
};

/*
 * 0; or how many bytes must be there before it is worth trying again; or
 * POSTERN_ERR_PROTO when it is no ClientHello in one record.
 */
MUST_CHECK int client_hello_parse(struct client_hello *h, const uint8_t *buf,
                                  size_t len);
bool client_hello_offers(const struct client_hello *h, const char *protocol);

#endif
