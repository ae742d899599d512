/* TLS credentials made of a device key: raw public keys, TLS 1.3 only. */
#ifndef POSTERN_IO_IDENTITY_H
#define POSTERN_IO_IDENTITY_H

#include <gnutls/gnutls.h>

#include "core/err.h"
#include "core/key.h"

/* TLS 1.3, AES-128-GCM first, X25519, raw public keys both ways. */
#define IDENTITY_TLS_PRIORITY                                                          \
    "NONE:+VERS-TLS1.3:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:+AEAD:"            \
    "+GROUP-X25519:+SIGN-EDDSA-ED25519:+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK:"             \
    "%DISABLE_TLS13_COMPAT_MODE"

/* Caller frees with gnutls_certificate_free_credentials. */
MUST_CHECK int identity_credentials(gnutls_certificate_credentials_t *out,
                                    const struct keypair *kp);
/* The raw Ed25519 key that the peer of `s` proved; POSTERN_ERR_KEY if it has none. */
MUST_CHECK int identity_peer_key(gnutls_session_t s, uint8_t key[static KEY_LEN]);

#endif
