/*
 * A TLS session on a non-blocking TCP socket: the one place where GnuTLS is told how we
 * speak. What passes through the session is its owner's.
 */
#ifndef POSTERN_IO_TLS_H
#define POSTERN_IO_TLS_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct tls_config {
    bool is_client;
    bool web;             /* X.509 and TLS 1.2 are fine, and so is no ALPN */
    const char *protocol; /* ALPN, the only one offered */
    gnutls_certificate_credentials_t credentials; /* borrowed while the session lives */
    /*
     * IDENTITY_TLS_PRIORITY parsed, or of the web TLS_WEB_PRIORITY; borrowed in the
     * call. NULL: the session parses its own, which costs 9 KB for each.
     */
    gnutls_priority_t priority;
    /* A client shows it in its first message; copied in the call. NULL: none. */
    const uint8_t *badge; /* BADGE_LEN of core/badge.h */
    int fd;               /* borrowed while the session lives */
    void *owner;          /* gnutls_session_get_ptr() in a verify function */
};

/* What browsers and other clients of today speak. */
#define TLS_WEB_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* The caller ends it with gnutls_deinit. POSTERN_ERR_NOMEM, _IO. */
MUST_CHECK int tls_begin(gnutls_session_t *out, const struct tls_config *c);

#endif
