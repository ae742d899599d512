/*
 * AES-128-GCM by libipsec-mb, one packet at a time. Its manager, 200 KB for many at a
 * time, is only asked for the functions that suit this processor, and given back. They
 * take no branch and read no table by what is secret: AES and the multiplication are
 * the processor's own instructions. Without those the library would compute both in
 * software; then, as without the library, there is no engine.
 */
#include "session/gcm.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>

enum { ALIGN = 64, ROUND_KEYS = 11 };

struct gcm_engine {
    aes_gcm_pre_t expand;
    aes_gcm_enc_dec_t seal, open;
    keyexp_t expand_mask;
    aes_cfb_t mask;
    char name[64];
};

struct gcm_key {
    struct gcm_key_data data; /* wants the alignment */
    struct gcm_context_data scratch;
    const struct gcm_engine *engine;
};

struct gcm_mask {
    uint8_t round_keys[ROUND_KEYS * GCM_BLOCK_LEN];
    const struct gcm_engine *engine;
};

static bool is_fit(const IMB_MGR *m)
{
    const uint64_t wanted = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ |
                            IMB_FEATURE_AVX2 | IMB_FEATURE_SELF_TEST_PASS |
                            IMB_FEATURE_SAFE_DATA;
    return (m->features & wanted) == wanted && m->imb_errno == 0 &&
           m->used_arch >= IMB_ARCH_AVX2;
}

static void name_it(struct gcm_engine *e, const IMB_MGR *m)
{
    const uint64_t wide = IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;
    (void)snprintf(e->name, sizeof(e->name), "libipsec-mb %u.%u.%u with %s%s",
                   imb_get_version() >> 16, imb_get_version() >> 8 & 0xff,
                   imb_get_version() & 0xff,
                   m->used_arch == IMB_ARCH_AVX512 ? "AVX-512" : "AVX2",
                   (m->features & wide) == wide ? " and VAES" : "");
}

struct gcm_engine *gcm_engine_new(void)
{
    struct gcm_engine *e = NULL;
    IMB_MGR *m = alloc_mb_mgr(0);
    if (m == NULL)
        return NULL;
    init_mb_mgr_auto(m, NULL);
    if (is_fit(m))
        e = malloc(sizeof(*e));
    if (e != NULL) {
        *e = (struct gcm_engine){.expand = m->gcm128_pre,
                                 .seal = m->gcm128_enc,
                                 .open = m->gcm128_dec,
                                 .expand_mask = m->keyexp_128,
                                 .mask = m->aes128_cfb_one};
        name_it(e, m);
    }
    free_mb_mgr(m);
    return e;
}

void gcm_engine_free(struct gcm_engine *e)
{
    free(e);
}

const char *gcm_engine_name(const struct gcm_engine *e)
{
    return e->name;
}

const char *gcm_engine_lack(void)
{
    return "this processor lacks AES-NI or AVX2";
}

/* Memory that holds no key when it is given back. */
static void *new_aligned(size_t len)
{
    void *p = aligned_alloc(ALIGN, (len + ALIGN - 1) / ALIGN * ALIGN);
    if (p != NULL)
        memset(p, 0, len);
    return p;
}

struct gcm_key *gcm_key_new(const struct gcm_engine *e,
                            const uint8_t key[static GCM_KEY_LEN])
{
    struct gcm_key *k = new_aligned(sizeof(*k));
    if (k == NULL)
        return NULL;
    k->engine = e;
    e->expand(key, &k->data);
    return k;
}

void gcm_key_free(struct gcm_key *k)
{
    if (k != NULL)
        sodium_memzero(k, sizeof(*k));
    free(k);
}

struct gcm_mask *gcm_mask_new(const struct gcm_engine *e,
                              const uint8_t key[static GCM_KEY_LEN])
{
    uint8_t decrypting[sizeof(((struct gcm_mask *)NULL)->round_keys)];
    struct gcm_mask *m = new_aligned(sizeof(*m));
    if (m == NULL)
        return NULL;
    m->engine = e;
    e->expand_mask(key, m->round_keys, decrypting);
    sodium_memzero(decrypting, sizeof(decrypting));
    return m;
}

void gcm_mask_free(struct gcm_mask *m)
{
    if (m != NULL)
        sodium_memzero(m, sizeof(*m));
    free(m);
}

void gcm_seal(struct gcm_key *k, uint8_t *dest, const uint8_t *plain, size_t len,
              const uint8_t nonce[static GCM_NONCE_LEN], const uint8_t *ad,
              size_t ad_len)
{
    k->engine->seal(&k->data, &k->scratch, dest, plain, len, nonce, ad, ad_len,
                    dest + len, GCM_TAG_LEN);
}

int gcm_open(struct gcm_key *k, uint8_t *dest, const uint8_t *sealed, size_t len,
             const uint8_t nonce[static GCM_NONCE_LEN], const uint8_t *ad,
             size_t ad_len)
{
    uint8_t tag[GCM_TAG_LEN], claimed[GCM_TAG_LEN];
    if (len < GCM_TAG_LEN)
        return POSTERN_ERR_KEY;
    len -= GCM_TAG_LEN;
    memcpy(claimed, sealed + len, GCM_TAG_LEN);
    k->engine->open(&k->data, &k->scratch, dest, sealed, len, nonce, ad, ad_len, tag,
                    GCM_TAG_LEN);
    return sodium_memcmp(tag, claimed, GCM_TAG_LEN) == 0 ? 0 : POSTERN_ERR_KEY;
}

/* CFB of one block: the sample's block, over zeros. */
void gcm_mask_make(const struct gcm_mask *m, uint8_t mask[static GCM_BLOCK_LEN],
                   const uint8_t sample[static GCM_BLOCK_LEN])
{
    static const uint8_t zeros[GCM_BLOCK_LEN];
    m->engine->mask(mask, zeros, sample, m->round_keys, GCM_BLOCK_LEN);
}
