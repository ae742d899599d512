/*
 * One-time codes from a shared secret and the time: RFC 6238 with HMAC-SHA-1 (RFC
 * 4226), steps of 30 seconds and six digits, as every authenticator app makes them.
 * Time is wall clock seconds and an argument.
 */
#ifndef POSTERN_CORE_TOTP_H
#define POSTERN_CORE_TOTP_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define TOTP_SECRET_LEN 20 /* RFC 4226 section 4, R6: the hash's length */
#define TOTP_STEP_S 30
#define TOTP_DIGITS 6
#define TOTP_URI_LEN 512

/* The code of the step that `time_s` falls into. */
uint32_t totp_code(const uint8_t *secret, size_t len, int64_t time_s);

/*
 * Does `text` hold the code of now, or of one step before or after (RFC 6238 section
 * 5.2)? Spaces in it are fine. Returns the step, above 0: a code is good once, so
 * refuse a step that is not above the last one taken. POSTERN_ERR_DENIED when it does
 * not fit.
 */
MUST_CHECK int64_t totp_check(const uint8_t *secret, size_t len, int64_t time_s,
                              const char *text);

/*
 * What an authenticator app reads from a QR code: otpauth://totp/Postern:NAME@HOST with
 * the secret, which whoever sees it has. POSTERN_ERR_LIMIT when it does not fit.
 */
MUST_CHECK int totp_uri(char *out, size_t cap, const uint8_t *secret, size_t len,
                        const char *name, const char *host);

#endif
