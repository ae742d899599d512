/* How a TLS session is set up; knows neither who speaks nor what is said. */
#include "io/tls.h"

#include <string.h>

#include "io/identity.h"

/*
 * No tickets: a session is proven by its key each time. No timeout of GnuTLS's own: its
 * clock is asked at each step, and the owner has a timer.
 */
static int dress(gnutls_session_t tls, const struct tls_config *c)
{
    const gnutls_datum_t alpn = {(unsigned char *)(uintptr_t)c->protocol,
                                 (unsigned)strlen(c->protocol)};
    const char *priority = c->web ? TLS_WEB_PRIORITY : IDENTITY_TLS_PRIORITY;
    int rc = c->priority != NULL ? gnutls_priority_set(tls, c->priority)
                                 : gnutls_priority_set_direct(tls, priority, NULL);
    if (rc != 0 ||
        gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, c->credentials) != 0 ||
        gnutls_alpn_set_protocols(tls, &alpn, 1, c->web ? 0 : GNUTLS_ALPN_MANDATORY) !=
            0)
        return POSTERN_ERR_IO;
    gnutls_session_set_ptr(tls, c->owner);
    gnutls_handshake_set_timeout(tls, GNUTLS_INDEFINITE_TIMEOUT);
    gnutls_transport_set_int(tls, c->fd);
    return 0;
}

int tls_begin(gnutls_session_t *out, const struct tls_config *c)
{
    gnutls_session_t tls;
    if (gnutls_init(&tls, GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_NO_SIGNAL |
                              (c->web ? 0 : GNUTLS_ENABLE_RAWPK) |
                              (c->is_client ? GNUTLS_CLIENT : GNUTLS_SERVER)) != 0)
        return POSTERN_ERR_NOMEM;
    int err = dress(tls, c);
    if (err != 0)
        gnutls_deinit(tls);
    else
        *out = tls;
    return err;
}
