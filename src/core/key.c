/* Identities and boxes over libsodium; draws no randomness itself. */
#include "core/key.h"

#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "core/wire.h"

static const char base32_alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

void keypair_from_seed(struct keypair *kp, const uint8_t seed[static KEY_LEN])
{
    uint8_t sk[crypto_sign_SECRETKEYBYTES];
    uint8_t own[KEY_LEN];
    memcpy(own, seed, KEY_LEN);
    (void)crypto_sign_seed_keypair(kp->pub, sk, own);
    memcpy(kp->seed, own, KEY_LEN);
    sodium_memzero(sk, sizeof(sk));
    sodium_memzero(own, sizeof(own));
}

void base32_encode(const uint8_t *bytes, size_t len, char *text)
{
    unsigned acc = 0, bits = 0;
    for (size_t i = 0; i < len; i++) {
        acc = acc << 8 | bytes[i];
        bits += 8;
        while (bits >= 5) {
            bits -= 5;
            *text++ = base32_alphabet[acc >> bits & 31];
        }
        acc &= (1u << bits) - 1;
    }
    if (bits > 0)
        *text++ = base32_alphabet[acc << (5 - bits) & 31];
    *text = '\0';
}

int base32_decode(uint8_t *bytes, size_t cap, const char *text)
{
    unsigned acc = 0, bits = 0;
    size_t used = 0;
    for (; *text != '\0'; text++) {
        char c = *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
        const char *at = strchr(base32_alphabet, c);
        if (at == NULL)
            return POSTERN_ERR_INVALID;
        acc = acc << 5 | (unsigned)(at - base32_alphabet);
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            if (used == cap)
                return POSTERN_ERR_INVALID;
            bytes[used++] = (uint8_t)(acc >> bits);
            acc &= (1u << bits) - 1;
        }
    }
    if (bits >= 5 || acc != 0)
        return POSTERN_ERR_INVALID; /* stray character, or bits that mean nothing */
    return (int)used;
}

const char *key_format(const uint8_t key[static KEY_LEN],
                       char text[static KEY_TEXT_LEN])
{
    base32_encode(key, KEY_LEN, text);
    return text;
}

const char *key_short(const uint8_t key[static KEY_LEN],
                      char text[static KEY_SHORT_LEN])
{
    char full[KEY_TEXT_LEN];
    key_format(key, full);
    memcpy(text, full, KEY_SHORT_LEN - 1);
    text[KEY_SHORT_LEN - 1] = '\0';
    return text;
}

int key_parse(uint8_t key[static KEY_LEN], const char *text)
{
    uint8_t tmp[KEY_LEN];
    if (strlen(text) != KEY_TEXT_LEN - 1 ||
        base32_decode(tmp, sizeof(tmp), text) != KEY_LEN)
        return POSTERN_ERR_INVALID;
    memcpy(key, tmp, KEY_LEN);
    return 0;
}

/* The X25519 halves of two Ed25519 identities. */
static int box_keys(uint8_t sk[static 32], uint8_t pk[static 32],
                    const struct keypair *own, const uint8_t other[static KEY_LEN])
{
    uint8_t ed[crypto_sign_SECRETKEYBYTES];
    memcpy(ed, own->seed, KEY_LEN);
    memcpy(ed + KEY_LEN, own->pub, KEY_LEN);
    int rc = crypto_sign_ed25519_sk_to_curve25519(sk, ed);
    sodium_memzero(ed, sizeof(ed));
    if (rc != 0 || crypto_sign_ed25519_pk_to_curve25519(pk, other) != 0)
        return POSTERN_ERR_KEY;
    return 0;
}

/*
 * One key for each direction between two devices. X25519 gives both the same secret,
 * and a box made with that alone opens for its own maker too: whoever carries it could
 * turn it round and have a device take its own words for the other's.
 */
static int direction_key(uint8_t out[static crypto_secretbox_KEYBYTES],
                         const struct keypair *own, const uint8_t other[static KEY_LEN],
                         bool outbound)
{
    uint8_t sk[32], pk[32], shared[crypto_box_BEFORENMBYTES], way[2 * KEY_LEN];
    memcpy(way, outbound ? own->pub : other, KEY_LEN);
    memcpy(way + KEY_LEN, outbound ? other : own->pub, KEY_LEN);
    int rc = box_keys(sk, pk, own, other);
    if (rc == 0 && crypto_box_beforenm(shared, pk, sk) != 0)
        rc = POSTERN_ERR_KEY;
    if (rc == 0)
        key_hash(out, way, sizeof(way), shared, sizeof(shared));
    sodium_memzero(sk, sizeof(sk));
    sodium_memzero(shared, sizeof(shared));
    return rc;
}

int key_seal(uint8_t *out, size_t cap, const void *msg, size_t len,
             const struct keypair *from, const uint8_t to[static KEY_LEN],
             const uint8_t nonce[static SEAL_NONCE_LEN])
{
    uint8_t key[crypto_secretbox_KEYBYTES];
    if (cap < SEAL_OVERHEAD || len > cap - SEAL_OVERHEAD)
        return POSTERN_ERR_INVALID;
    if (direction_key(key, from, to, true) != 0)
        return POSTERN_ERR_KEY;
    memcpy(out, nonce, SEAL_NONCE_LEN);
    int rc = crypto_secretbox_easy(out + SEAL_NONCE_LEN, msg, len, nonce, key);
    sodium_memzero(key, sizeof(key));
    return rc == 0 ? (int)(len + SEAL_OVERHEAD) : POSTERN_ERR_KEY;
}

int key_open(uint8_t *out, size_t cap, const uint8_t *box, size_t len,
             const struct keypair *to, const uint8_t from[static KEY_LEN])
{
    uint8_t key[crypto_secretbox_KEYBYTES];
    if (len < SEAL_OVERHEAD || len - SEAL_OVERHEAD > cap)
        return POSTERN_ERR_PROTO;
    if (direction_key(key, to, from, false) != 0)
        return POSTERN_ERR_PROTO;
    int rc = crypto_secretbox_open_easy(out, box + SEAL_NONCE_LEN, len - SEAL_NONCE_LEN,
                                        box, key);
    sodium_memzero(key, sizeof(key));
    return rc == 0 ? (int)(len - SEAL_OVERHEAD) : POSTERN_ERR_PROTO;
}

void key_sign(uint8_t sig[static KEY_SIG_LEN], const void *msg, size_t len,
              const struct keypair *kp)
{
    uint8_t ed[crypto_sign_SECRETKEYBYTES];
    memcpy(ed, kp->seed, KEY_LEN);
    memcpy(ed + KEY_LEN, kp->pub, KEY_LEN);
    (void)crypto_sign_detached(sig, NULL, msg, len, ed);
    sodium_memzero(ed, sizeof(ed));
}

int key_verify(const uint8_t sig[static KEY_SIG_LEN], const void *msg, size_t len,
               const uint8_t pub[static KEY_LEN])
{
    return crypto_sign_verify_detached(sig, msg, len, pub) == 0 ? 0 : POSTERN_ERR_KEY;
}

enum { ROTATION_MAX = 15 + KEY_LEN };

static const char says_newer[] = "postern rotate", says_older[] = "postern rotated";

static size_t rotation_text(uint8_t text[static ROTATION_MAX], const char *word,
                            const uint8_t other[static KEY_LEN])
{
    struct wire_writer w = wire_writer(text, ROTATION_MAX);
    wire_put_bytes(&w, word, strlen(word));
    wire_put_bytes(&w, other, KEY_LEN);
    return w.used;
}

void key_sign_rotation(uint8_t sig[static KEY_SIG_LEN],
                       const uint8_t newer[static KEY_LEN], const struct keypair *old)
{
    uint8_t text[ROTATION_MAX];
    key_sign(sig, text, rotation_text(text, says_newer, newer), old);
}

int key_verify_rotation(const uint8_t sig[static KEY_SIG_LEN],
                        const uint8_t newer[static KEY_LEN],
                        const uint8_t old[static KEY_LEN])
{
    uint8_t text[ROTATION_MAX];
    return key_verify(sig, text, rotation_text(text, says_newer, newer), old);
}

void key_prove_rotation(uint8_t proof[static KEY_SIG_LEN],
                        const uint8_t old[static KEY_LEN], const struct keypair *newer)
{
    uint8_t text[ROTATION_MAX];
    key_sign(proof, text, rotation_text(text, says_older, old), newer);
}

int key_verify_proof(const uint8_t proof[static KEY_SIG_LEN],
                     const uint8_t old[static KEY_LEN],
                     const uint8_t newer[static KEY_LEN])
{
    uint8_t text[ROTATION_MAX];
    return key_verify(proof, text, rotation_text(text, says_older, old), newer);
}

void key_hash(uint8_t out[static 32], const void *msg, size_t len, const void *key,
              size_t key_len)
{
    (void)crypto_generichash(out, 32, msg, len, key, key_len);
}
