/* The draft's steps in its order; its names stand in the comments. */
#include "core/pake.h"

#include <sodium.h>
#include <string.h>

#include "core/wire.h"

enum {
    HASH_BLOCK = 128,  /* H.s_in_bytes */
    STRING_MAX = 512,  /* of five short texts */
    LENGTH_MAX = 0x7f, /* LEB128 in one byte */
};

static const char dsi[] = "CPaceRistretto255", dsi_isk[] = "CPaceRistretto255_ISK";

/* prepend_len. */
static void put(struct wire_writer *w, const void *bytes, size_t len)
{
    if (len > LENGTH_MAX)
        w->failed = true;
    wire_put_u8(w, (uint8_t)len);
    wire_put_bytes(w, bytes, len);
}

static void put_text(struct wire_writer *w, const char *text)
{
    put(w, text, strlen(text));
}

/* calculate_generator. */
static int find_generator(uint8_t g[static crypto_core_ristretto255_BYTES],
                          const struct pake_texts *t, const uint8_t *sid)
{
    static const uint8_t zeros[HASH_BLOCK];
    uint8_t text[STRING_MAX], hash[crypto_hash_sha512_BYTES];
    struct wire_writer w = wire_writer(text, sizeof(text));
    size_t used = 1 + (1 + strlen(t->words)) + (1 + strlen(dsi));
    put_text(&w, dsi);
    put_text(&w, t->words);
    put(&w, zeros, used < HASH_BLOCK ? HASH_BLOCK - used : 0);
    put_text(&w, t->about);
    put(&w, sid, PAKE_SID_LEN);
    if (w.failed)
        return POSTERN_ERR_INVALID;
    (void)crypto_hash_sha512(hash, text, w.used);
    int rc = crypto_core_ristretto255_from_hash(g, hash);
    sodium_memzero(text, sizeof(text));
    sodium_memzero(hash, sizeof(hash));
    return rc == 0 ? 0 : POSTERN_ERR_INVALID;
}

int pake_begin(struct pake *p, bool first, const struct pake_texts *t,
               const uint8_t sid[static PAKE_SID_LEN],
               const uint8_t scalar[static PAKE_SCALAR_LEN])
{
    uint8_t g[crypto_core_ristretto255_BYTES];
    p->first = first;
    memcpy(p->sid, sid, PAKE_SID_LEN);
    memcpy(p->scalar, scalar, PAKE_SCALAR_LEN);
    int rc = find_generator(g, t, sid);
    if (rc == 0 && crypto_scalarmult_ristretto255(p->share, p->scalar, g) != 0)
        rc = POSTERN_ERR_INVALID;
    sodium_memzero(g, sizeof(g));
    return rc;
}

int pake_key(struct pake *p, const struct pake_texts *t,
             const uint8_t other[static PAKE_SHARE_LEN],
             uint8_t key[static PAKE_KEY_LEN])
{
    uint8_t text[STRING_MAX], k[crypto_core_ristretto255_BYTES];
    struct wire_writer w = wire_writer(text, sizeof(text));
    /* Refuses what is no point, and the neutral element (scalar_mult_vfy). */
    if (crypto_scalarmult_ristretto255(k, p->scalar, other) != 0)
        return POSTERN_ERR_PROTO;
    sodium_memzero(p->scalar, sizeof(p->scalar));
    put_text(&w, dsi_isk);
    put(&w, p->sid, PAKE_SID_LEN);
    put(&w, k, sizeof(k));
    put(&w, p->first ? p->share : other, PAKE_SHARE_LEN); /* transcript_ir */
    put_text(&w, t->by_first);
    put(&w, p->first ? other : p->share, PAKE_SHARE_LEN);
    put_text(&w, t->by_second);
    if (!w.failed)
        (void)crypto_hash_sha512(key, text, w.used);
    sodium_memzero(text, sizeof(text));
    sodium_memzero(k, sizeof(k));
    return w.failed ? POSTERN_ERR_INVALID : 0;
}
