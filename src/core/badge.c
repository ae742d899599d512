/* libsodium's crypto_secretbox and keyed BLAKE2b; see badge.h. */
#include "core/badge.h"

#include <string.h>

#include <sodium.h>

#include "core/wire.h"

enum { HOUR_S = 3600, DAY_S = 24 * HOUR_S, PLAIN_LEN = KEY_LEN + 4, DAY_LEN = 4 };
enum { HOST_MAC_LEN = BADGE_HOST_LEN - DAY_LEN };
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

void badge_host_secret(uint8_t secret[static BADGE_SECRET_LEN],
                       const struct keypair *own)
{
    static const char use[] = "postern host badge";
    key_hash(secret, use, sizeof(use) - 1, own->seed, sizeof(own->seed));
}

static void host_badge_of(uint8_t badge[static BADGE_HOST_LEN], const uint8_t *secret,
                          const uint8_t *host, const uint8_t *device, uint32_t day)
{
    uint8_t text[2 * KEY_LEN + DAY_LEN], mac[32];
    struct wire_writer w = wire_writer(text, sizeof(text));
    wire_put_bytes(&w, host, KEY_LEN);
    wire_put_bytes(&w, device, KEY_LEN);
    wire_put_u32(&w, day);
    key_hash(mac, text, sizeof(text), secret, BADGE_SECRET_LEN);
    memcpy(badge, text + sizeof(text) - DAY_LEN, DAY_LEN);
    memcpy(badge + DAY_LEN, mac, HOST_MAC_LEN);
}

void badge_host_make(uint8_t badge[static BADGE_HOST_LEN],
                     const uint8_t secret[static BADGE_SECRET_LEN],
                     const uint8_t host[static KEY_LEN],
                     const uint8_t device[static KEY_LEN], uint64_t now_s)
{
    host_badge_of(badge, secret, host, device, (uint32_t)(now_s / DAY_S));
}

bool badge_host_is(const uint8_t *badge, size_t len,
                   const uint8_t secret[static BADGE_SECRET_LEN],
                   const uint8_t host[static KEY_LEN],
                   const uint8_t device[static KEY_LEN], uint64_t now_s)
{
    uint8_t own[BADGE_HOST_LEN];
    if (len != BADGE_HOST_LEN)
        return false;
    struct wire_reader r = wire_reader(badge, len);
    uint32_t day = wire_get_u32(&r);
    host_badge_of(own, secret, host, device, day);
    uint32_t age = (uint32_t)(now_s / DAY_S) + 1 - day; /* 1: skew */
    return sodium_memcmp(own, badge, sizeof(own)) == 0 && age <= BADGE_DAYS;
}
