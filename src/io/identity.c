/* Device keys in GnuTLS's terms (RFC 7250, RFC 8410); knows no peer's meaning. */
#include "io/identity.h"

#include <string.h>

#include <gnutls/abstract.h>

/* SubjectPublicKeyInfo of Ed25519: fixed prefix, then the key (RFC 8410 section 4). */
static const uint8_t spki_prefix[12] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                        0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

int identity_credentials(gnutls_certificate_credentials_t *out,
                         const struct keypair *kp)
{
    gnutls_certificate_credentials_t cred = NULL;
    gnutls_privkey_t priv = NULL;
    gnutls_pubkey_t pub = NULL;
    gnutls_pcert_st pcert;
    gnutls_datum_t x = {.data = (unsigned char *)kp->pub, .size = KEY_LEN};
    gnutls_datum_t k = {.data = (unsigned char *)kp->seed, .size = KEY_LEN};
    int rc = POSTERN_ERR_NOMEM;

    memset(&pcert, 0, sizeof(pcert));
    if (gnutls_privkey_init(&priv) != 0 || gnutls_pubkey_init(&pub) != 0 ||
        gnutls_certificate_allocate_credentials(&cred) != 0)
        goto out;
    rc = POSTERN_ERR_KEY;
    if (gnutls_privkey_import_ecc_raw(priv, GNUTLS_ECC_CURVE_ED25519, &x, NULL, &k) !=
            0 ||
        gnutls_pubkey_import_ecc_raw(pub, GNUTLS_ECC_CURVE_ED25519, &x, NULL) != 0 ||
        gnutls_pcert_import_rawpk(&pcert, pub, 0) != 0)
        goto out;
    pub = NULL; /* owned by pcert now */
    if (gnutls_certificate_set_key(cred, NULL, 0, &pcert, 1, priv) < 0) {
        gnutls_pcert_deinit(&pcert);
        goto out;
    }
    priv = NULL; /* owned by cred now, as is what pcert points to */
    *out = cred;
    cred = NULL;
    rc = 0;
out:
    if (cred != NULL)
        gnutls_certificate_free_credentials(cred);
    if (priv != NULL)
        gnutls_privkey_deinit(priv);
    if (pub != NULL)
        gnutls_pubkey_deinit(pub);
    return rc;
}

int identity_peer_key(gnutls_session_t s, uint8_t key[static KEY_LEN])
{
    unsigned count = 0;
    const gnutls_datum_t *spki = gnutls_certificate_get_peers(s, &count);
    if (spki == NULL || count == 0 || spki->size != sizeof(spki_prefix) + KEY_LEN ||
        memcmp(spki->data, spki_prefix, sizeof(spki_prefix)) != 0)
        return POSTERN_ERR_KEY;
    memcpy(key, spki->data + sizeof(spki_prefix), KEY_LEN);
    return 0;
}
