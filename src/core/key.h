/*
 * Device keys (Ed25519) as identities: their text form, and boxes that only the
 * other device can open. The broker carries the boxes and cannot read them.
 */
#ifndef POSTERN_CORE_KEY_H
#define POSTERN_CORE_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define KEY_LEN 32       /* Ed25519 public key, and seed */
#define KEY_TEXT_LEN 53  /* RFC 4648 base32, lower case, no padding, with NUL */
#define KEY_SHORT_LEN 11 /* what people see: the first 10 characters, with NUL */
#define KEY_SIG_LEN 64
#define SEAL_NONCE_LEN 24
#define SEAL_OVERHEAD (SEAL_NONCE_LEN + 16)

struct keypair {
    uint8_t pub[KEY_LEN];
    uint8_t seed[KEY_LEN]; /* secret */
};

/* Derives the public half from `seed` (32 random bytes). */
void keypair_from_seed(struct keypair *kp, const uint8_t seed[static KEY_LEN]);

const char *key_format(const uint8_t key[static KEY_LEN],
                       char text[static KEY_TEXT_LEN]);
const char *key_short(const uint8_t key[static KEY_LEN],
                      char text[static KEY_SHORT_LEN]);
MUST_CHECK int key_parse(uint8_t key[static KEY_LEN], const char *text);

/* Lower-case base32 of any bytes; `text` holds (len * 8 + 4) / 5 + 1 characters. */
void base32_encode(const uint8_t *bytes, size_t len, char *text);
/* Decodes exactly; returns the number of bytes or POSTERN_ERR_INVALID. */
MUST_CHECK int base32_decode(uint8_t *bytes, size_t cap, const char *text);

/*
 * Box from `from` to `to`: X25519 of the device keys, hashed (keyed BLAKE2b) with both
 * public keys in that order, XSalsa20-Poly1305. Opens only with the other's seed and
 * proves who made it: it does not open for its own maker. `nonce` is random and never
 * repeats. `out` holds len + SEAL_OVERHEAD bytes; returns that length.
 */
MUST_CHECK int key_seal(uint8_t *out, size_t cap, const void *msg, size_t len,
                        const struct keypair *from, const uint8_t to[static KEY_LEN],
                        const uint8_t nonce[static SEAL_NONCE_LEN]);
/* Returns the length of the message, or POSTERN_ERR_PROTO when it is not genuine. */
MUST_CHECK int key_open(uint8_t *out, size_t cap, const uint8_t *box, size_t len,
                        const struct keypair *to, const uint8_t from[static KEY_LEN]);

void key_sign(uint8_t sig[static KEY_SIG_LEN], const void *msg, size_t len,
              const struct keypair *kp);
MUST_CHECK int key_verify(const uint8_t sig[static KEY_SIG_LEN], const void *msg,
                          size_t len, const uint8_t pub[static KEY_LEN]);

/*
 * A key rotation: `old` says that `newer` is the same device from now on
 * (docs/PROTOCOL.md, Rotate). The verifier returns 0, or POSTERN_ERR_KEY when `old` did
 * not say so.
 */
void key_sign_rotation(uint8_t sig[static KEY_SIG_LEN],
                       const uint8_t newer[static KEY_LEN], const struct keypair *old);
MUST_CHECK int key_verify_rotation(const uint8_t sig[static KEY_SIG_LEN],
                                   const uint8_t newer[static KEY_LEN],
                                   const uint8_t old[static KEY_LEN]);
/*
 * And that the device has the newer one: else a device could say that another's is its
 * own. The verifier as above.
 */
void key_prove_rotation(uint8_t proof[static KEY_SIG_LEN],
                        const uint8_t old[static KEY_LEN], const struct keypair *newer);
MUST_CHECK int key_verify_proof(const uint8_t proof[static KEY_SIG_LEN],
                                const uint8_t old[static KEY_LEN],
                                const uint8_t newer[static KEY_LEN]);

/* Keyed BLAKE2b-256 of `msg`; `key` may be NULL with key_len 0. */
void key_hash(uint8_t out[static 32], const void *msg, size_t len, const void *key,
              size_t key_len);

#endif
