/*
 * AES-128-GCM by libipsec-mb, where this build has it and the processor bears it: three
 * times as fast as GnuTLS on packets. Knows keys and bytes, neither QUIC nor sessions.
 * What it computes is what GnuTLS does (tests/unit/test_gcm.c).
 */
#ifndef POSTERN_SESSION_GCM_H
#define POSTERN_SESSION_GCM_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

enum { GCM_KEY_LEN = 16, GCM_NONCE_LEN = 12, GCM_TAG_LEN = 16, GCM_BLOCK_LEN = 16 };

struct gcm_engine; /* how to compute; holds no key */
struct gcm_key;    /* one direction's packets; of one thread at a time */
struct gcm_mask;   /* one direction's header protection */

/* NULL where there is none, or no memory: GnuTLS is to do it. Takes 0.3 ms. */
struct gcm_engine *gcm_engine_new(void);
/* After all of its keys. NULL is fine. */
void gcm_engine_free(struct gcm_engine *e);
/* For a person: the library and what of the processor it uses. */
const char *gcm_engine_name(const struct gcm_engine *e);
/* Why there is none, for a person. */
const char *gcm_engine_lack(void);

/* NULL without memory. Freed, keys are wiped. */
struct gcm_key *gcm_key_new(const struct gcm_engine *e,
                            const uint8_t key[static GCM_KEY_LEN]);
void gcm_key_free(struct gcm_key *k);
struct gcm_mask *gcm_mask_new(const struct gcm_engine *e,
                              const uint8_t key[static GCM_KEY_LEN]);
void gcm_mask_free(struct gcm_mask *m);

/* Writes `len` bytes and the tag to `dest`, which may be `plain`, and overlap it in no
 * other way. */
void gcm_seal(struct gcm_key *k, uint8_t *dest, const uint8_t *plain, size_t len,
              const uint8_t nonce[static GCM_NONCE_LEN], const uint8_t *ad,
              size_t ad_len);
/*
 * `len` with the tag; writes as many bytes less to `dest`. POSTERN_ERR_KEY when it was
 * not sealed so: what stands in `dest` then is nothing.
 */
MUST_CHECK int gcm_open(struct gcm_key *k, uint8_t *dest, const uint8_t *sealed,
                        size_t len, const uint8_t nonce[static GCM_NONCE_LEN],
                        const uint8_t *ad, size_t ad_len);
/* The block of `sample`, of which header protection takes the first bytes. */
void gcm_mask_make(const struct gcm_mask *m, uint8_t mask[static GCM_BLOCK_LEN],
                   const uint8_t sample[static GCM_BLOCK_LEN]);

#endif
