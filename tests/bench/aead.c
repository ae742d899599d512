/*
 * How fast packets are encrypted: GnuTLS, and the engine of sessions where there is
 * one, a line of JSON for each and each length. One core's processor time, best of
 * three; key, nonce and header as QUIC has them, in place.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sodium.h>

#include "session/gcm.h"

enum { LEN_MAX = 16384, HEADER_LEN = 13, ROUNDS = 3, BYTES = 200 * 1000 * 1000 };

struct ends {
    struct gcm_engine *engine;
    struct gcm_key *key;
    struct gcm_mask *mask;
    gnutls_aead_cipher_hd_t aead;
    gnutls_cipher_hd_t cipher;
    uint8_t packet[LEN_MAX + GCM_TAG_LEN], nonce[GCM_NONCE_LEN], header[HEADER_LEN];
};

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One packet as ngtcp2 has it made: sealed, and its header's mask. */
static void one(struct ends *e, bool engine, size_t len)
{
    static const uint8_t zeros[GCM_BLOCK_LEN];
    uint8_t mask[GCM_BLOCK_LEN];
    size_t out = len + GCM_TAG_LEN;
    e->nonce[0]++;
    if (engine) {
        gcm_seal(e->key, e->packet, e->packet, len, e->nonce, e->header, HEADER_LEN);
        gcm_mask_make(e->mask, mask, e->packet);
        return;
    }
    if (gnutls_aead_cipher_encrypt(e->aead, e->nonce, GCM_NONCE_LEN, e->header,
                                   HEADER_LEN, GCM_TAG_LEN, e->packet, len, e->packet,
                                   &out) != 0)
        abort();
    gnutls_cipher_set_iv(e->cipher, (void *)zeros, sizeof(zeros));
    if (gnutls_cipher_encrypt2(e->cipher, e->packet, GCM_BLOCK_LEN, mask,
                               sizeof(mask)) != 0)
        abort();
}

static void measure(struct ends *e, bool engine, size_t len)
{
    double best = 0;
    size_t count = BYTES / len;
    for (int round = 0; round < ROUNDS; round++) {
        double began = now_s();
        for (size_t i = 0; i < count; i++)
            one(e, engine, len);
        double took = now_s() - began;
        if (best == 0 || took < best)
            best = took;
    }
    printf("{\"event\":\"aead\",\"by\":\"%s\",\"bytes\":%zu,\"gb_per_s\":%.2f,"
           "\"ns\":%.0f}\n",
           engine ? gcm_engine_name(e->engine) : "GnuTLS", len,
           (double)(count * len) / best / 1e9, best / (double)count * 1e9);
}

int main(void)
{
    static struct ends e;
    static const size_t lens[] = {1400, LEN_MAX};
    uint8_t key[GCM_KEY_LEN];
    gnutls_datum_t k = {key, sizeof(key)};
    if (sodium_init() < 0)
        return 1;
    randombytes_buf(key, sizeof(key));
    if (gnutls_aead_cipher_init(&e.aead, GNUTLS_CIPHER_AES_128_GCM, &k) != 0 ||
        gnutls_cipher_init(&e.cipher, GNUTLS_CIPHER_AES_128_CBC, &k, NULL) != 0)
        return 1;
    e.engine = gcm_engine_new();
    if (e.engine != NULL) {
        e.key = gcm_key_new(e.engine, key);
        e.mask = gcm_mask_new(e.engine, key);
    }
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        measure(&e, false, lens[i]);
        if (e.key != NULL && e.mask != NULL)
            measure(&e, true, lens[i]);
    }
    gcm_mask_free(e.mask);
    gcm_key_free(e.key);
    gcm_engine_free(e.engine);
    gnutls_cipher_deinit(e.cipher);
    gnutls_aead_cipher_deinit(e.aead);
    return 0;
}
