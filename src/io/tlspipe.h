/*
 * TLS 1.3 put around a byte stream: what is written to one end of a socket pair comes
 * out encrypted on a TCP connection, and the other way round. It runs and ends by
 * itself: when either end closes, what is under way is sent and the other is closed.
 * One of tlspipe_join carries each direction's end by itself, and tells a broken
 * connection from one that ended.
 */
#ifndef POSTERN_IO_TLSPIPE_H
#define POSTERN_IO_TLSPIPE_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/key.h"
#include "io/loop.h"

struct tlspipe_config {
    struct loop *loop;
    const char *protocol; /* ALPN, the only one */
    /*
     * A server for the web, joined: its credentials are an X.509 certificate, clients
     * show none, TLS 1.2 and no ALPN are fine too. A service that takes no more may
     * still answer.
     */
    bool web;
    /* Client: the key that the other end must hold; NULL: this is the server. */
    const uint8_t *expect;
    const uint8_t *badge; /* of a client (core/badge.h), copied in the call; or NULL */
    /* Borrowed while the pipe runs; a client's may be NULL: it shows no key. */
    gnutls_certificate_credentials_t credentials;
    /*
     * IDENTITY_TLS_PRIORITY parsed, or TLS_WEB_PRIORITY; borrowed in the call.
     * NULL: the pipe parses its own, which costs 9 KB for each.
     */
    gnutls_priority_t priority;
};

/*
 * Returns the plain end, non-blocking, the caller's; or an error, and then `fd` is
 * closed. `fd`: connected and non-blocking, taken over.
 */
MUST_CHECK int tlspipe_open(const struct tlspipe_config *c, int fd);

struct tlspipe;

struct tlspipe_join {
    struct tlspipe_config config;
    int fd;    /* connected, non-blocking; taken over */
    int plain; /* a stream socket, non-blocking; taken over */
    /* As one of tlspipe_open: what ends either side ends both, nothing is reset. */
    bool whole;
    /*
     * Of a whole one, unless NULL: looks at what came from `fd` and returns how much of
     * it `plain` may have. When that is not all, `plain` gets no more, and when it has
     * ended its answers `refusal` goes out behind them, and the connection ends.
     */
    size_t (*look)(void *ctx, const uint8_t *data, size_t len);
    const char *refusal; /* borrowed */
    /*
     * From the loop, when all is over and the pipe is gone. `broken`: not by both
     * sides' orderly ends; then both sockets are reset. `plain` is still open.
     */
    void (*on_end)(void *ctx, bool broken);
    void *ctx;
};

/* On failure both descriptors are closed. */
MUST_CHECK int tlspipe_join(struct tlspipe **out, const struct tlspipe_join *j);
/* Breaks both sides at once; on_end is not called. NULL is fine. */
void tlspipe_break(struct tlspipe *p);

#endif
