/*
 * The portal's certificate: the operator's files, or a self-signed one that is made at
 * the first start and stays. It covers the portal and, for the names of services, as
 * much as a wildcard can; those names' own TLS is the hosts' (names.h).
 */
#ifndef POSTERN_PORTAL_WEB_TLS_H
#define POSTERN_PORTAL_WEB_TLS_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct rooms;

enum { WEB_FINGERPRINT_LEN = 96 };

/* Certificate and key as they are now, if they belong together; owned. */
MUST_CHECK int web_credentials(const struct rooms *rooms,
                               gnutls_certificate_credentials_t *out, struct fault *f);
/* SHA-256 of the portal's own certificate as browsers show it (AB:CD:...), which they
 * warn of; false where the operator has given one, or there is none yet. */
bool web_own_fingerprint(const struct rooms *rooms,
                         char out[static WEB_FINGERPRINT_LEN]);
/* Changes when the operator's files do. */
uint64_t web_certificate_version(const struct rooms *rooms);

#endif
