/*
 * What a broker can say of an address without remembering anything: a mark, given to
 * whoever asked from there where it is seen, and shown again with what is sent to
 * another device. Addresses, times and keys as arguments.
 *
 * A mark is BLAKE2b of address, port and a time of VOUCH_BUCKET_S, keyed with a secret
 * of this run of the broker, cut to 16 bytes; it is good for one to two such times.
 *
 * A proof says that a connection came from an IP address (IPv6: from its /64): who
 * shows it in a binding request from there has not made up its source. Of no port, of
 * a time of VOUCH_PROOF_BUCKET_S, and of one device: 4 bytes by which all its proofs of
 * that address and time are known, and 12 that only the broker can make of them. The 4
 * are others at another address or time, so that they tell nobody who it is.
 */
#ifndef POSTERN_CORE_VOUCH_MARK_H
#define POSTERN_CORE_VOUCH_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/key.h"

#define VOUCH_MARK_LEN 16
#define VOUCH_SECRET_LEN 16

enum { VOUCH_BUCKET_S = 600, VOUCH_PROOF_BUCKET_S = 600 };

/* `now_s` of a clock that never goes back. */
void vouch_mark(uint8_t mark[static VOUCH_MARK_LEN],
                const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                uint64_t now_s);
bool vouch_check(const uint8_t *mark, size_t len,
                 const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                 uint64_t now_s);

void vouch_proof(uint8_t proof[static VOUCH_MARK_LEN],
                 const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                 const uint8_t key[static KEY_LEN], uint64_t now_s);
/* `device` is set where it is true. */
bool vouch_proves(const uint8_t proof[static VOUCH_MARK_LEN],
                  const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                  uint64_t now_s, uint32_t *device);

#endif
