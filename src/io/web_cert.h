/*
 * Looks at the certificate of a web server: until when it is good, and whether this
 * machine's list of authorities vouches for it. Nothing is sent but the handshake.
 */
#ifndef POSTERN_IO_WEB_CERT_H
#define POSTERN_IO_WEB_CERT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct web_cert {
    int64_t expires_s; /* of its own certificate */
    bool vouched;      /* for that name, and now */
    bool own;          /* by itself: self-signed */
};

/*
 * Waits for it, `timeout_ms` at most, through the proxy where one is set.
 * POSTERN_ERR_PROTO: what answers there shows no certificate; else as of dial_cb.
 */
MUST_CHECK int web_cert_look(struct web_cert *out, const char *host, uint16_t port,
                             unsigned timeout_ms);

#endif
