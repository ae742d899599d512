/*
 * The engine that encrypts packets gives what GnuTLS gives, refuses what was changed,
 * and leaves no key in memory. Skipped where this build or processor has none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gnutls/crypto.h>
#include <sodium.h>

#include "session/gcm.h"

enum { PLAIN_MAX = 17000, AD_MAX = 600 };

static struct gcm_engine *engine;

/* ------------------------------------------------------------- beside the reference */

static void reference_seal(const uint8_t *key, uint8_t *dest, const uint8_t *plain,
                           size_t len, const uint8_t *nonce, const uint8_t *ad,
                           size_t ad_len)
{
    gnutls_aead_cipher_hd_t h;
    gnutls_datum_t k = {(unsigned char *)key, GCM_KEY_LEN};
    size_t out = len + GCM_TAG_LEN;
    assert_int_equal(gnutls_aead_cipher_init(&h, GNUTLS_CIPHER_AES_128_GCM, &k), 0);
    assert_int_equal(gnutls_aead_cipher_encrypt(h, nonce, GCM_NONCE_LEN, ad, ad_len,
                                                GCM_TAG_LEN, plain, len, dest, &out),
                     0);
    assert_int_equal(out, len + GCM_TAG_LEN);
    gnutls_aead_cipher_deinit(h);
}

struct bytes {
    uint8_t plain[PLAIN_MAX], sealed[PLAIN_MAX + GCM_TAG_LEN],
        wanted[PLAIN_MAX + GCM_TAG_LEN], opened[PLAIN_MAX];
    uint8_t ad[AD_MAX], nonce[GCM_NONCE_LEN], key[GCM_KEY_LEN];
};

/* Sealed and opened, to another place and in its own, at an uneven address. */
static void compare(struct bytes *b, struct gcm_key *k, size_t len, size_t ad_len)
{
    uint8_t *odd = b->opened + 1;
    reference_seal(b->key, b->wanted, b->plain, len, b->nonce, b->ad, ad_len);
    memset(b->sealed, 0xaa, sizeof(b->sealed));
    gcm_seal(k, b->sealed, b->plain, len, b->nonce, b->ad, ad_len);
    assert_memory_equal(b->sealed, b->wanted, len + GCM_TAG_LEN);
    if (len + GCM_TAG_LEN < sizeof(b->sealed))
        assert_int_equal(b->sealed[len + GCM_TAG_LEN], 0xaa);
    if (len + GCM_TAG_LEN + 1 > sizeof(b->opened))
        return;
    memcpy(odd, b->plain, len);
    gcm_seal(k, odd, odd, len, b->nonce, b->ad, ad_len);
    assert_memory_equal(odd, b->wanted, len + GCM_TAG_LEN);
    assert_int_equal(gcm_open(k, odd, odd, len + GCM_TAG_LEN, b->nonce, b->ad, ad_len),
                     0);
    assert_memory_equal(odd, b->plain, len);
    memset(b->opened, 0, sizeof(b->opened));
    assert_int_equal(
        gcm_open(k, b->opened, b->wanted, len + GCM_TAG_LEN, b->nonce, b->ad, ad_len),
        0);
    assert_memory_equal(b->opened, b->plain, len);
}

static void new_key(struct bytes *b, struct gcm_key **k)
{
    gcm_key_free(*k);
    randombytes_buf(b->key, sizeof(b->key));
    *k = gcm_key_new(engine, b->key);
    assert_non_null(*k);
}

static void test_same_as_gnutls(void **state)
{
    struct bytes *b = malloc(sizeof(*b));
    struct gcm_key *k = NULL;
    (void)state;
    if (engine == NULL)
        skip();
    assert_non_null(b);
    randombytes_buf(b, sizeof(*b));
    /* each length around every width that an implementation may take at once */
    for (size_t len = 0; len <= 1100; len++) {
        if (len % 64 == 0)
            new_key(b, &k);
        randombytes_buf(b->nonce, sizeof(b->nonce));
        compare(b, k, len, len % (AD_MAX + 1));
    }
    for (size_t ad_len = 0; ad_len <= AD_MAX; ad_len++)
        compare(b, k, 40, ad_len);
    for (int i = 0; i < 500; i++) { /* as packets are */
        new_key(b, &k);
        randombytes_buf(b->nonce, sizeof(b->nonce));
        compare(b, k, randombytes_uniform(PLAIN_MAX + 1), randombytes_uniform(30));
    }
    gcm_key_free(k);
    free(b);
}

/* Any bit of what was sealed, its nonce or its header is another. */
static void test_changed_is_refused(void **state)
{
    struct bytes *b = malloc(sizeof(*b));
    struct gcm_key *k = NULL;
    enum { LEN = 83, ALL = LEN + GCM_TAG_LEN, AD = 21 };
    (void)state;
    if (engine == NULL)
        skip();
    assert_non_null(b);
    randombytes_buf(b, sizeof(*b));
    new_key(b, &k);
    gcm_seal(k, b->sealed, b->plain, LEN, b->nonce, b->ad, AD);
    for (size_t i = 0; i < 8 * (ALL + AD + GCM_NONCE_LEN); i++) {
        size_t at = i / 8;
        uint8_t *byte = at < ALL        ? &b->sealed[at]
                        : at < ALL + AD ? &b->ad[at - ALL]
                                        : &b->nonce[at - ALL - AD];
        *byte ^= (uint8_t)(1 << i % 8);
        assert_int_equal(gcm_open(k, b->opened, b->sealed, ALL, b->nonce, b->ad, AD),
                         POSTERN_ERR_KEY);
        *byte ^= (uint8_t)(1 << i % 8);
    }
    for (size_t len = 0; len < ALL; len++) /* cut off anywhere */
        assert_int_equal(gcm_open(k, b->opened, b->sealed, len, b->nonce, b->ad, AD),
                         POSTERN_ERR_KEY);
    assert_int_equal(gcm_open(k, b->opened, b->sealed, ALL, b->nonce, b->ad, AD), 0);
    gcm_key_free(k);
    free(b);
}

static void test_mask_same_as_gnutls(void **state)
{
    (void)state;
    if (engine == NULL)
        skip();
    for (int i = 0; i < 300; i++) {
        uint8_t key[GCM_KEY_LEN], sample[GCM_BLOCK_LEN], mask[GCM_BLOCK_LEN];
        uint8_t zeros[GCM_BLOCK_LEN] = {0}, wanted[GCM_BLOCK_LEN];
        gnutls_datum_t k = {key, sizeof(key)};
        gnutls_cipher_hd_t h;
        randombytes_buf(key, sizeof(key));
        randombytes_buf(sample, sizeof(sample));
        assert_int_equal(gnutls_cipher_init(&h, GNUTLS_CIPHER_AES_128_CBC, &k, NULL),
                         0);
        gnutls_cipher_set_iv(h, zeros, sizeof(zeros));
        assert_int_equal(
            gnutls_cipher_encrypt2(h, sample, sizeof(sample), wanted, sizeof(wanted)),
            0);
        gnutls_cipher_deinit(h);
        struct gcm_mask *m = gcm_mask_new(engine, key);
        assert_non_null(m);
        gcm_mask_make(m, mask, sample);
        assert_memory_equal(mask, wanted, sizeof(mask));
        gcm_mask_free(m);
    }
}

/* RFC 9001, appendix A.2: the header protection of a client's first packet. */
static void test_mask_of_the_rfc(void **state)
{
    static const uint8_t key[] = {0x9f, 0x50, 0x44, 0x9e, 0x04, 0xa0, 0xe8, 0x10,
                                  0x28, 0x3a, 0x1e, 0x99, 0x33, 0xad, 0xed, 0xd2};
    static const uint8_t sample[] = {0xd1, 0xb1, 0xc9, 0x8d, 0xd7, 0x68, 0x9f, 0xb8,
                                     0xec, 0x11, 0xd2, 0x42, 0xb1, 0x23, 0xdc, 0x9b};
    static const uint8_t wanted[] = {0x43, 0x7b, 0x9a, 0xec, 0x36};
    uint8_t mask[GCM_BLOCK_LEN];
    (void)state;
    if (engine == NULL)
        skip();
    struct gcm_mask *m = gcm_mask_new(engine, key);
    assert_non_null(m);
    gcm_mask_make(m, mask, sample);
    assert_memory_equal(mask, wanted, sizeof(wanted));
    gcm_mask_free(m);
}

/* ----------------------------------------------------------------------- Wycheproof */

#define WYCHEPROOF GCM_CASES "/aes_gcm_wycheproof.txt"

/* A word of hexadecimal digits, "-" for none; the number of bytes. */
static size_t read_hex(const char *word, uint8_t *out, size_t max)
{
    size_t len = 0;
    if (strcmp(word, "-") == 0)
        return 0;
    assert_int_equal(sodium_hex2bin(out, max, word, strlen(word), NULL, &len, NULL), 0);
    return len;
}

static void try_case(char *line)
{
    uint8_t key[GCM_KEY_LEN], nonce[GCM_NONCE_LEN], ad[512], plain[512], sealed[512],
        out[512];
    char *word[7], *rest = NULL;
    for (int i = 0; i < 7; i++) {
        word[i] = strtok_r(i == 0 ? line : NULL, " \n", &rest);
        assert_non_null(word[i]);
    }
    bool valid = strcmp(word[0], "valid") == 0;
    assert_int_equal(read_hex(word[1], key, sizeof(key)), sizeof(key));
    assert_int_equal(read_hex(word[2], nonce, sizeof(nonce)), sizeof(nonce));
    size_t ad_len = read_hex(word[3], ad, sizeof(ad));
    size_t len = read_hex(word[4], plain, sizeof(plain));
    assert_int_equal(read_hex(word[5], sealed, sizeof(sealed)), len);
    assert_int_equal(read_hex(word[6], sealed + len, sizeof(sealed) - len),
                     GCM_TAG_LEN);
    struct gcm_key *k = gcm_key_new(engine, key);
    assert_non_null(k);
    assert_int_equal(gcm_open(k, out, sealed, len + GCM_TAG_LEN, nonce, ad, ad_len),
                     valid ? 0 : POSTERN_ERR_KEY);
    if (valid) {
        assert_memory_equal(out, plain, len);
        gcm_seal(k, out, plain, len, nonce, ad, ad_len);
        assert_memory_equal(out, sealed, len + GCM_TAG_LEN);
    }
    gcm_key_free(k);
}

static void test_wycheproof(void **state)
{
    char line[4096];
    unsigned count = 0;
    (void)state;
    if (engine == NULL)
        skip();
    FILE *f = fopen(WYCHEPROOF, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        try_case(line);
        count++;
    }
    (void)fclose(f);
    assert_true(count >= 30);
}

/* ------------------------------------------------------------------------- the end */

void __real_free(void *p);
void __wrap_free(void *p);

static void *watched;
static size_t watched_len;
static bool was_clean;

void __wrap_free(void *p)
{
    if (p != NULL && p == watched) {
        was_clean = sodium_is_zero(p, watched_len);
        watched = NULL;
    }
    __real_free(p);
}

static void test_keys_are_wiped(void **state)
{
    uint8_t key[GCM_KEY_LEN], dest[4 + GCM_TAG_LEN], nonce[GCM_NONCE_LEN] = {0};
    (void)state;
    if (engine == NULL)
        skip();
    randombytes_buf(key, sizeof(key));
    struct gcm_key *k = gcm_key_new(engine, key);
    assert_non_null(k);
    gcm_seal(k, dest, (const uint8_t *)"text", 4, nonce, key, 0);
    watched = k;
    watched_len = 1008; /* of the library's key data, at least */
    assert_false(sodium_is_zero((const uint8_t *)k, watched_len));
    gcm_key_free(k);
    assert_null(watched);
    assert_true(was_clean);
    struct gcm_mask *m = gcm_mask_new(engine, key);
    assert_non_null(m);
    watched = m;
    watched_len = 176;
    was_clean = false;
    gcm_mask_free(m);
    assert_null(watched);
    assert_true(was_clean);
    gcm_key_free(NULL);
    gcm_mask_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_gnutls),
        cmocka_unit_test(test_changed_is_refused),
        cmocka_unit_test(test_mask_same_as_gnutls),
        cmocka_unit_test(test_mask_of_the_rfc),
        cmocka_unit_test(test_wycheproof),
        cmocka_unit_test(test_keys_are_wiped),
    };
    if (sodium_init() < 0)
        return 1;
    engine = gcm_engine_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gcm_engine_free(engine);
    return failed;
}
