/*
 * TLS put around a byte stream: what is written to one descriptor comes out encrypted
 * on another, and the other way round. It runs and ends by itself: when either end
 * closes, what is under way is sent and the other is closed.
 */
#ifndef POSTERN_IO_TLSPIPE_H
#define POSTERN_IO_TLSPIPE_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <uv.h>

#include "core/err.h"
#include "core/key.h"

struct tlspipe_config {
    uv_loop_t *loop;
    const char *protocol; /* ALPN, the only one */
    /*
     * A server for the web: its credentials are an X.509 certificate, clients show
     * none, TLS 1.2 and no ALPN are fine too. A close_notify is half-close, and is
     * carried as one; an end without one ends both.
     */
    bool web;
    /* Client: the key that the other end must hold; NULL: this is the server. */
    const uint8_t *expect;
    /* Borrowed while the pipe runs; a client's may be NULL: it shows no key. */
    gnutls_certificate_credentials_t credentials;
    /* May be NULL. The pipe has ended, or never began: `credentials` are not used. */
    void (*on_end)(void *ctx);
    void *ctx;
};

/*
 * Returns the plain end, non-blocking, the caller's; or an error, and then `fd` is
 * closed. `fd`: connected and non-blocking, taken over.
 */
MUST_CHECK int tlspipe_open(const struct tlspipe_config *c, int fd);
/*
 * The same with a plain end that is there already. Both are connected, non-blocking
 * stream sockets and are taken over, also on failure.
 */
MUST_CHECK int tlspipe_join(const struct tlspipe_config *c, int fd, int plain);

#endif
