/*
 * TLS 1.3 put around a byte stream: what is written to one end of a socket pair comes
 * out encrypted on a TCP connection, and the other way round. It runs and ends by
 * itself: when either end closes, what is under way is sent and the other is closed.
 */
#ifndef POSTERN_IO_TLSPIPE_H
#define POSTERN_IO_TLSPIPE_H

#include <gnutls/gnutls.h>
#include <uv.h>

#include "core/err.h"
#include "core/key.h"

struct tlspipe_config {
    uv_loop_t *loop;
    const char *protocol; /* ALPN, the only one */
    /* Client: the key that the other end must hold; NULL: this is the server. */
    const uint8_t *expect;
    /* Borrowed while the pipe runs; a client's may be NULL: it shows no key. */
    gnutls_certificate_credentials_t credentials;
};

/*
 * Returns the plain end, non-blocking, the caller's; or an error, and then `fd` is
 * closed. `fd`: connected and non-blocking, taken over.
 */
MUST_CHECK int tlspipe_open(const struct tlspipe_config *c, int fd);

#endif
