/*
 * Two of libsodium's functions, defined anew as libc's are: what they gave for the same
 * keys before, they give again. Each Offer is sealed and opened with the same keys,
 * both by one process here; to compute them anew each time was a tenth of a run.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

enum { KNOWN = 128, IN_MAX = 64, OUT_LEN = 32 };

struct known {
    bool is_set;
    uint8_t in[IN_MAX], out[OUT_LEN];
};

static void *sodium_own(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (p == NULL)
        abort();
    return p;
}

/* Where the answer for that stands, or will; `in` is as good as random. */
static struct known *place_of(struct known *all, const uint8_t in[static IN_MAX])
{
    uint32_t a, b;
    memcpy(&a, in, sizeof(a));
    memcpy(&b, in + IN_MAX / 2, sizeof(b));
    return &all[(a ^ b) % KNOWN];
}

static bool is_known(const struct known *k, const uint8_t in[static IN_MAX],
                     uint8_t *out)
{
    if (!k->is_set || memcmp(k->in, in, IN_MAX) != 0)
        return false;
    memcpy(out, k->out, OUT_LEN);
    return true;
}

static void note(struct known *k, const uint8_t in[static IN_MAX], const uint8_t *out)
{
    k->is_set = true;
    memcpy(k->in, in, IN_MAX);
    memcpy(k->out, out, OUT_LEN);
}

int crypto_sign_ed25519_pk_to_curve25519(unsigned char *out, const unsigned char *pk)
{
    static struct known all[KNOWN];
    static int (*own)(unsigned char *, const unsigned char *);
    uint8_t in[IN_MAX] = {0};
    memcpy(in, pk, crypto_sign_ed25519_PUBLICKEYBYTES);
    struct known *k = place_of(all, in);
    if (is_known(k, in, out))
        return 0;
    if (own == NULL)
        *(void **)&own = sodium_own("crypto_sign_ed25519_pk_to_curve25519");
    int rc = own(out, pk);
    if (rc == 0)
        note(k, in, out);
    return rc;
}

int crypto_box_beforenm(unsigned char *out, const unsigned char *pk,
                        const unsigned char *sk)
{
    static struct known all[KNOWN];
    static int (*own)(unsigned char *, const unsigned char *, const unsigned char *);
    uint8_t in[IN_MAX];
    memcpy(in, pk, crypto_box_PUBLICKEYBYTES);
    memcpy(in + IN_MAX / 2, sk, crypto_box_SECRETKEYBYTES);
    struct known *k = place_of(all, in);
    if (is_known(k, in, out))
        return 0;
    if (own == NULL)
        *(void **)&own = sodium_own("crypto_box_beforenm");
    int rc = own(out, pk, sk);
    if (rc == 0)
        note(k, in, out);
    return rc;
}
