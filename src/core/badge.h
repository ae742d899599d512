/*
 * A badge: what a broker gives to a device that a host let in, to be shown in the first
 * message of its next connection, before anything is decrypted. By it the broker knows
 * the device again without remembering anything. Keys, nonce and time as arguments.
 *
 * It is the device's key and the hour, in a box that only this broker opens: it looks
 * random, and each one different, to everybody else.
 *
 * A badge for a host says that the host lists the device. It is only shown inside TLS,
 * by the device itself: a MAC over both keys and the day, the same for a whole day.
 */
#ifndef POSTERN_CORE_BADGE_H
#define POSTERN_CORE_BADGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"

#define BADGE_LEN 76
#define BADGE_HOST_LEN 20
#define BADGE_NONCE_LEN 24
#define BADGE_SECRET_LEN 32
#define BADGE_DAYS 90 /* it is good for */
/* The TLS extension that carries it in a ClientHello: for private use (RFC 8446). */
#define BADGE_EXTENSION 0xff50

/* The broker's secret for badges, the same after a restart. */
void badge_secret(uint8_t secret[static BADGE_SECRET_LEN], const struct keypair *own);
/* `nonce` is random, and new for each. */
void badge_make(uint8_t badge[static BADGE_LEN],
                const uint8_t secret[static BADGE_SECRET_LEN],
                const uint8_t nonce[static BADGE_NONCE_LEN],
                const uint8_t device[static KEY_LEN], uint64_t now_s);
/* Whose it is; POSTERN_ERR_DENIED when it is none of this broker's, or too old. */
MUST_CHECK int badge_open(uint8_t device[static KEY_LEN], const uint8_t *badge,
                          size_t len, const uint8_t secret[static BADGE_SECRET_LEN],
                          uint64_t now_s);

/* The broker's secret for badges for hosts, the same after a restart. */
void badge_host_secret(uint8_t secret[static BADGE_SECRET_LEN],
                       const struct keypair *own);
void badge_host_make(uint8_t badge[static BADGE_HOST_LEN],
                     const uint8_t secret[static BADGE_SECRET_LEN],
                     const uint8_t host[static KEY_LEN],
                     const uint8_t device[static KEY_LEN], uint64_t now_s);
/* Whether it says that this host lists that device, and is not too old. */
bool badge_host_is(const uint8_t *badge, size_t len,
                   const uint8_t secret[static BADGE_SECRET_LEN],
                   const uint8_t host[static KEY_LEN],
                   const uint8_t device[static KEY_LEN], uint64_t now_s);

#endif
