/* libsodium's crypto_secretbox over key and hour; see badge.h. */
#include "core/badge.h"

#include <string.h>

#include <sodium.h>

#include "core/wire.h"

enum { HOUR_S = 3600, PLAIN_LEN = KEY_LEN + 4 };
_Static_assert(BADGE_NONCE_LEN == crypto_secretbox_NONCEBYTES, "the box's nonce");
_Static_assert(BADGE_SECRET_LEN == crypto_secretbox_KEYBYTES, "the box's key");
_Static_assert(BADGE_LEN == BADGE_NONCE_LEN + crypto_secretbox_MACBYTES + PLAIN_LEN,
               "a badge is nonce and box");

void badge_secret(uint8_t secret[static BADGE_SECRET_LEN], const struct keypair *own)
{
    static const char use[] = "postern badge";
    key_hash(secret, use, sizeof(use) - 1, own->seed, sizeof(own->seed));
}

void badge_make(uint8_t badge[static BADGE_LEN],
                const uint8_t secret[static BADGE_SECRET_LEN],
                const uint8_t nonce[static BADGE_NONCE_LEN],
                const uint8_t device[static KEY_LEN], uint64_t now_s)
{
    uint8_t plain[PLAIN_LEN];
    struct wire_writer w = wire_writer(plain, sizeof(plain));
    wire_put_bytes(&w, device, KEY_LEN);
    wire_put_u32(&w, (uint32_t)(now_s / HOUR_S));
    memcpy(badge, nonce, BADGE_NONCE_LEN);
    (void)crypto_secretbox_easy(badge + BADGE_NONCE_LEN, plain, sizeof(plain), nonce,
                                secret);
}

int badge_open(uint8_t device[static KEY_LEN], const uint8_t *badge, size_t len,
               const uint8_t secret[static BADGE_SECRET_LEN], uint64_t now_s)
{
    uint8_t plain[PLAIN_LEN];
    if (len != BADGE_LEN ||
        crypto_secretbox_open_easy(plain, badge + BADGE_NONCE_LEN,
                                   BADGE_LEN - BADGE_NONCE_LEN, badge, secret) != 0)
        return POSTERN_ERR_DENIED;
    struct wire_reader r = wire_reader(plain, sizeof(plain));
    memcpy(device, wire_get_bytes(&r, KEY_LEN), KEY_LEN);
    uint32_t age_h = (uint32_t)(now_s / HOUR_S) + 1 - wire_get_u32(&r); /* 1: skew */
    return age_h <= BADGE_DAYS * 24 ? 0 : POSTERN_ERR_DENIED;
}
