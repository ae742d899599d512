/*
 * A build without libipsec-mb: there is no engine, and so nobody ever has a key to call
 * the rest with.
 */
#include "session/gcm.h"

#include <stdlib.h>
#include <string.h>

struct gcm_engine *gcm_engine_new(void)
{
    return NULL;
}

void gcm_engine_free(struct gcm_engine *e)
{
    (void)e;
}

const char *gcm_engine_name(const struct gcm_engine *e)
{
    (void)e;
    return "";
}

const char *gcm_engine_lack(void)
{
    return "this build is without libipsec-mb";
}

struct gcm_key *gcm_key_new(const struct gcm_engine *e,
                            const uint8_t key[static GCM_KEY_LEN])
{
    (void)e, (void)key;
    return NULL;
}

void gcm_key_free(struct gcm_key *k)
{
    (void)k;
}

struct gcm_mask *gcm_mask_new(const struct gcm_engine *e,
                              const uint8_t key[static GCM_KEY_LEN])
{
    (void)e, (void)key;
    return NULL;
}

void gcm_mask_free(struct gcm_mask *m)
{
    (void)m;
}

void gcm_seal(struct gcm_key *k, uint8_t *dest, const uint8_t *plain, size_t len,
              const uint8_t nonce[static GCM_NONCE_LEN], const uint8_t *ad,
              size_t ad_len)
{
    (void)k, (void)dest, (void)plain, (void)len, (void)nonce, (void)ad, (void)ad_len;
    abort();
}

int gcm_open(struct gcm_key *k, uint8_t *dest, const uint8_t *sealed, size_t len,
             const uint8_t nonce[static GCM_NONCE_LEN], const uint8_t *ad,
             size_t ad_len)
{
    (void)k, (void)dest, (void)sealed, (void)len, (void)nonce, (void)ad, (void)ad_len;
    return POSTERN_ERR_KEY;
}

void gcm_mask_make(const struct gcm_mask *m, uint8_t mask[static GCM_BLOCK_LEN],
                   const uint8_t sample[static GCM_BLOCK_LEN])
{
    (void)m, (void)sample;
    memset(mask, 0, GCM_BLOCK_LEN);
}
