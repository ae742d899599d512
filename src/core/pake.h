/*
 * Two who know the same few words agree on a key, and whoever stands between them may
 * guess once an exchange: CPace over ristretto255 with SHA-512, in the order of an
 * initiator and a responder (draft-irtf-cfrg-cpace). The group, its map and the hash
 * are libsodium's; no library that the distributions have offers a whole exchange.
 * Randomness is an argument.
 */
#ifndef POSTERN_CORE_PAKE_H
#define POSTERN_CORE_PAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define PAKE_SHARE_LEN 32
#define PAKE_SCALAR_LEN 32
#define PAKE_SID_LEN 16
#define PAKE_KEY_LEN 64
#define PAKE_TEXT_MAX 64 /* of each text that goes into it */

struct pake {
    uint8_t sid[PAKE_SID_LEN];
    uint8_t scalar[PAKE_SCALAR_LEN]; /* secret */
    uint8_t share[PAKE_SHARE_LEN];   /* what the other gets */
    bool first;
};

struct pake_texts {
    const char *words;                /* the secret of both */
    const char *about;                /* the same at both: CI, what this is for */
    const char *by_first, *by_second; /* ADa, ADb */
};

/*
 * `scalar` is random and of this exchange alone, `sid` not yet used and the same at
 * both ends. POSTERN_ERR_INVALID: a text is too long, or the scalar zero.
 */
MUST_CHECK int pake_begin(struct pake *p, bool first, const struct pake_texts *t,
                          const uint8_t sid[static PAKE_SID_LEN],
                          const uint8_t scalar[static PAKE_SCALAR_LEN]);
/*
 * With the other's share, once; the same at both ends only where the words were, which
 * is still to be proven. POSTERN_ERR_PROTO when it is no share.
 */
MUST_CHECK int pake_key(struct pake *p, const struct pake_texts *t,
                        const uint8_t other[static PAKE_SHARE_LEN],
                        uint8_t key[static PAKE_KEY_LEN]);

#endif
