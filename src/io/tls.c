/* How a TLS session is set up; knows neither who speaks nor what is said. */
#include "io/tls.h"

#include <stdlib.h>
#include <string.h>

#include "core/badge.h"
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

static int say_badge(gnutls_session_t tls, gnutls_buffer_t out)
{
    gnutls_ext_priv_data_t badge;
    if (gnutls_ext_get_data(tls, BADGE_EXTENSION, &badge) != 0)
        return 0;
    int rc = gnutls_buffer_append_data(out, badge, BADGE_LEN);
    return rc < 0 ? rc : BADGE_LEN;
}

/* Nobody answers with one. */
static int hear_badge(gnutls_session_t tls, const unsigned char *data, size_t len)
{
    (void)tls, (void)data, (void)len;
    return 0;
}

static int show_badge(gnutls_session_t tls, const uint8_t *badge)
{
    uint8_t *own = malloc(BADGE_LEN);
    if (own == NULL ||
        gnutls_session_ext_register(
            tls, "badge", BADGE_EXTENSION, GNUTLS_EXT_TLS, hear_badge, say_badge, free,
            NULL, NULL, GNUTLS_EXT_FLAG_CLIENT_HELLO | GNUTLS_EXT_FLAG_TLS) != 0) {
        free(own);
        return POSTERN_ERR_NOMEM;
    }
    memcpy(own, badge, BADGE_LEN);
    gnutls_ext_set_data(tls, BADGE_EXTENSION, own);
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
    if (err == 0 && c->badge != NULL)
        err = show_badge(tls, c->badge);
    if (err != 0)
        gnutls_deinit(tls);
    else
        *out = tls;
    return err;
}
