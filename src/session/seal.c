/*
 * Who encrypts the packets. GnuTLS makes the handshake and all its secrets, and
 * protects the handshake's own packets; those of the session are the engine's
 * (session/gcm.h), where there is one and both sides agreed on AES-128-GCM, else
 * GnuTLS's by ngtcp2's callbacks. Both give the same bytes: the other end cannot tell.
 *
 * ngtcp2 keeps a pointer for each key and hands it to callbacks that are not told which
 * session nor which level it is of. What memory it points to is aligned, so its lowest
 * bit is free, and is set in those that are the engine's.
 */
#include "session/internal.h"

#include <string.h>

#include <sodium.h>

#include "session/gcm.h"

enum { SECRET_LEN = 32 }; /* of SHA-256, which goes with AES-128-GCM */

static void *mark(void *key)
{
    return (void *)((uintptr_t)key | 1);
}

static bool is_marked(const void *handle)
{
    return ((uintptr_t)handle & 1) != 0;
}

/* The engine's key behind it, or NULL when it is GnuTLS's. */
static void *unmark(void *handle)
{
    return is_marked(handle) ? (void *)((uintptr_t)handle & ~(uintptr_t)1) : NULL;
}

/* -------------------------------------------------------------------------- packets */

int seal_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                 const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plain,
                 size_t plain_len, const uint8_t *nonce, size_t nonce_len,
                 const uint8_t *ad, size_t ad_len)
{
    struct gcm_key *k = unmark(ctx->native_handle);
    if (k == NULL)
        return ngtcp2_crypto_encrypt_cb(dest, aead, ctx, plain, plain_len, nonce,
                                        nonce_len, ad, ad_len);
    gcm_seal(k, dest, plain, plain_len, nonce, ad, ad_len);
    return 0;
}

int seal_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                 const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *sealed,
                 size_t sealed_len, const uint8_t *nonce, size_t nonce_len,
                 const uint8_t *ad, size_t ad_len)
{
    struct gcm_key *k = unmark(ctx->native_handle);
    if (k == NULL)
        return ngtcp2_crypto_decrypt_cb(dest, aead, ctx, sealed, sealed_len, nonce,
                                        nonce_len, ad, ad_len);
    return gcm_open(k, dest, sealed, sealed_len, nonce, ad, ad_len) == 0
               ? 0
               : NGTCP2_ERR_DECRYPT;
}

/* `dest` has room for the whole block (ngtcp2_hp_mask). */
int seal_mask(uint8_t *dest, const ngtcp2_crypto_cipher *hp,
              const ngtcp2_crypto_cipher_ctx *ctx, const uint8_t *sample)
{
    struct gcm_mask *m = unmark(ctx->native_handle);
    if (m == NULL)
        return ngtcp2_crypto_hp_mask_cb(dest, hp, ctx, sample);
    gcm_mask_make(m, dest, sample);
    return 0;
}

void seal_delete_key(ngtcp2_conn *conn, ngtcp2_crypto_aead_ctx *ctx, void *user_data)
{
    if (is_marked(ctx->native_handle))
        gcm_key_free(unmark(ctx->native_handle));
    else
        ngtcp2_crypto_delete_crypto_aead_ctx_cb(conn, ctx, user_data);
}

void seal_delete_mask(ngtcp2_conn *conn, ngtcp2_crypto_cipher_ctx *ctx, void *user_data)
{
    if (is_marked(ctx->native_handle))
        gcm_mask_free(unmark(ctx->native_handle));
    else
        ngtcp2_crypto_delete_crypto_cipher_ctx_cb(conn, ctx, user_data);
}

/* ----------------------------------------------------------------------------- keys */

/* RFC 9001 section 5.1: HKDF-Expand-Label of TLS 1.3, without a context. */
static int expand(const ngtcp2_crypto_ctx *crypto, const uint8_t *secret,
                  const char *label, uint8_t *out, size_t len)
{
    uint8_t info[32] = {0, (uint8_t)len};
    size_t label_len = strlen(label), at = 2;
    if (label_len + 4 > sizeof(info))
        return POSTERN_ERR_INVALID;
    info[at++] = (uint8_t)label_len;
    memcpy(info + at, label, label_len);
    at += label_len;
    info[at++] = 0; /* length of the context */
    return ngtcp2_crypto_hkdf_expand(out, len, &crypto->md, secret, SECRET_LEN, info,
                                     at) == 0
               ? 0
               : POSTERN_ERR_NOMEM;
}

/* What encrypts this session's packets, once its handshake has chosen; NULL: GnuTLS. */
static const struct gcm_engine *engine_of(const struct session *s)
{
    return gnutls_cipher_get(s->tls) == GNUTLS_CIPHER_AES_128_GCM ? s->env->gcm : NULL;
}

/* One direction's key and first nonce from its secret. */
static int make_key(struct session *s, const uint8_t *secret,
                    ngtcp2_crypto_aead_ctx *out, uint8_t iv[static GCM_NONCE_LEN])
{
    const ngtcp2_crypto_ctx *crypto = ngtcp2_conn_get_crypto_ctx(s->conn);
    uint8_t key[GCM_KEY_LEN];
    struct gcm_key *k = NULL;
    if (expand(crypto, secret, "tls13 quic key", key, sizeof(key)) == 0 &&
        expand(crypto, secret, "tls13 quic iv", iv, GCM_NONCE_LEN) == 0)
        k = gcm_key_new(engine_of(s), key);
    sodium_memzero(key, sizeof(key));
    if (k == NULL)
        return POSTERN_ERR_NOMEM;
    out->native_handle = mark(k);
    return 0;
}

static int make_mask(struct session *s, const uint8_t *secret,
                     ngtcp2_crypto_cipher_ctx *out)
{
    const ngtcp2_crypto_ctx *crypto = ngtcp2_conn_get_crypto_ctx(s->conn);
    uint8_t key[GCM_KEY_LEN];
    struct gcm_mask *m = NULL;
    if (expand(crypto, secret, "tls13 quic hp", key, sizeof(key)) == 0)
        m = gcm_mask_new(engine_of(s), key);
    sodium_memzero(key, sizeof(key));
    if (m == NULL)
        return POSTERN_ERR_NOMEM;
    out->native_handle = mark(m);
    return 0;
}

typedef int install_fn(ngtcp2_conn *conn, const uint8_t *secret, size_t secret_len,
                       const ngtcp2_crypto_aead_ctx *key, const uint8_t *iv,
                       size_t iv_len, const ngtcp2_crypto_cipher_ctx *mask);

/* The keys of one direction of the session itself. */
static int install(struct session *s, const uint8_t *secret, install_fn *give)
{
    ngtcp2_crypto_aead_ctx key = {0};
    ngtcp2_crypto_cipher_ctx mask = {0};
    uint8_t iv[GCM_NONCE_LEN];
    int rc = make_key(s, secret, &key, iv);
    if (rc == 0)
        rc = make_mask(s, secret, &mask);
    if (rc == 0 && give(s->conn, secret, SECRET_LEN, &key, iv, sizeof(iv), &mask) != 0)
        rc = POSTERN_ERR_NOMEM;
    if (rc != 0) {
        gcm_mask_free(unmark(mask.native_handle));
        gcm_key_free(unmark(key.native_handle));
    }
    return rc;
}

/* GnuTLS has a secret for one or both directions. */
static int on_secret(gnutls_session_t tls, gnutls_record_encryption_level_t tls_level,
                     const void *rx, const void *tx, size_t len)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(tls);
    struct session *s = ref->user_data;
    ngtcp2_encryption_level level =
        ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(tls_level);
    if (level == NGTCP2_ENCRYPTION_LEVEL_1RTT && len == SECRET_LEN &&
        engine_of(s) != NULL) {
        if (rx != NULL && install(s, rx, ngtcp2_conn_install_rx_key) != 0)
            return -1;
        return tx != NULL && install(s, tx, ngtcp2_conn_install_tx_key) != 0 ? -1 : 0;
    }
    if (rx != NULL && ngtcp2_crypto_derive_and_install_rx_key(s->conn, NULL, NULL, NULL,
                                                              level, rx, len) != 0)
        return -1;
    if (tx != NULL && ngtcp2_crypto_derive_and_install_tx_key(s->conn, NULL, NULL, NULL,
                                                              level, tx, len) != 0)
        return -1;
    return 0;
}

void seal_setup(struct session *s)
{
    gnutls_handshake_set_secret_function(s->tls, on_secret);
}

/* RFC 9001 section 6.1; header protection stays. */
int seal_update(ngtcp2_conn *conn, uint8_t *rx_secret, uint8_t *tx_secret,
                ngtcp2_crypto_aead_ctx *rx, uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx,
                uint8_t *tx_iv, const uint8_t *rx_old, const uint8_t *tx_old,
                size_t len, void *user_data)
{
    struct session *s = user_data;
    if (engine_of(s) == NULL)
        return ngtcp2_crypto_update_key_cb(conn, rx_secret, tx_secret, rx, rx_iv, tx,
                                           tx_iv, rx_old, tx_old, len, user_data);
    const ngtcp2_crypto_ctx *crypto = ngtcp2_conn_get_crypto_ctx(conn);
    if (expand(crypto, rx_old, "tls13 quic ku", rx_secret, len) != 0 ||
        expand(crypto, tx_old, "tls13 quic ku", tx_secret, len) != 0 ||
        make_key(s, rx_secret, rx, rx_iv) != 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    if (make_key(s, tx_secret, tx, tx_iv) == 0)
        return 0;
    gcm_key_free(unmark(rx->native_handle));
    rx->native_handle = NULL;
    return NGTCP2_ERR_CALLBACK_FAILURE;
}

/*
 * ngtcp2 begins new keys at the limit of the cipher alone, at either end, and where the
 * ones before are not used by both by then the session ends. So the client begins them
 * long before, and the host follows: never both at once. Refused while the ones before
 * are young, it is tried again with the next packets.
 */
void seal_renew(struct session *s, uint64_t ts)
{
    if (s->is_client && s->confirmed && s->keyed_packets >= s->env->key_packets &&
        ngtcp2_conn_initiate_key_update(s->conn, ts) == 0)
        s->keyed_packets = 0;
}
