/* HOTP's truncation and TOTP's counter; GnuTLS computes the hash. */
#include "core/totp.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <sodium.h>

#include "core/key.h"
#include "core/wire.h"

enum { MODULUS = 1000000, SECRET_MAX = 64, BASE32_MAX = (SECRET_MAX * 8 + 4) / 5 + 1 };

/* RFC 4226 section 5.3. */
static uint32_t hotp(const uint8_t *secret, size_t len, uint64_t counter)
{
    uint8_t text[8], mac[20];
    struct wire_writer w = wire_writer(text, sizeof(text));
    wire_put_u32(&w, (uint32_t)(counter >> 32));
    wire_put_u32(&w, (uint32_t)counter);
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA1, secret, len, text, sizeof(text), mac) != 0)
        return UINT32_MAX; /* no code has so many digits: nothing fits */
    size_t at = mac[19] & 0xf;
    uint32_t v = (uint32_t)(mac[at] & 0x7f) << 24 | (uint32_t)mac[at + 1] << 16 |
                 (uint32_t)mac[at + 2] << 8 | mac[at + 3];
    sodium_memzero(mac, sizeof(mac));
    return v % MODULUS;
}

uint32_t totp_code(const uint8_t *secret, size_t len, int64_t time_s)
{
    return hotp(secret, len, (uint64_t)time_s / TOTP_STEP_S);
}

/* Six digits among spaces, or UINT32_MAX - 1, which no code is. */
static uint32_t read_code(const char *text)
{
    uint32_t v = 0;
    size_t digits = 0;
    for (; *text != '\0'; text++) {
        if (*text == ' ')
            continue;
        if (*text < '0' || *text > '9' || digits++ == TOTP_DIGITS)
            return UINT32_MAX - 1;
        v = v * 10 + (uint32_t)(*text - '0');
    }
    return digits == TOTP_DIGITS ? v : UINT32_MAX - 1;
}

int64_t totp_check(const uint8_t *secret, size_t len, int64_t time_s, const char *text)
{
    const int64_t now = time_s / TOTP_STEP_S;
    const uint32_t given = read_code(text);
    int64_t found = POSTERN_ERR_DENIED;
    for (int64_t step = now - 1; step <= now + 1; step++) /* always all three */
        if (step > 0 && hotp(secret, len, (uint64_t)step) == given)
            found = step;
    return found;
}

/* RFC 3986 section 2.1: what is not unreserved becomes %XX. */
static void escape(char *out, size_t cap, size_t *used, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (; *text != '\0' && *used + 4 <= cap; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-._~", c) != NULL) {
            out[(*used)++] = (char)c;
        } else {
            out[(*used)++] = '%';
            out[(*used)++] = hex[c >> 4];
            out[(*used)++] = hex[c & 15];
        }
    }
    if (*text != '\0')
        *used = cap;
}

int totp_uri(char *out, size_t cap, const uint8_t *secret, size_t len, const char *name,
             const char *host)
{
    char base32[BASE32_MAX], label[256];
    size_t used = 0;
    if (len > SECRET_MAX || cap == 0)
        return POSTERN_ERR_LIMIT;
    escape(label, sizeof(label), &used, name);
    escape(label, sizeof(label), &used, "@");
    escape(label, sizeof(label), &used, host);
    if (used >= sizeof(label))
        return POSTERN_ERR_LIMIT;
    label[used] = '\0';
    base32_encode(secret, len, base32);
    for (char *c = base32; *c != '\0'; c++) /* some apps know capitals only */
        *c = (char)toupper((unsigned char)*c);
    int n = snprintf(out, cap,
                     "otpauth://totp/Postern:%s?secret=%s&issuer=Postern&algorithm=SHA1"
                     "&digits=%d&period=%d",
                     label, base32, TOTP_DIGITS, TOTP_STEP_S);
    sodium_memzero(base32, sizeof(base32));
    return n > 0 && (size_t)n < cap ? 0 : POSTERN_ERR_LIMIT;
}
