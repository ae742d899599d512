/* Keyed hashes of addresses and times. */
#include "core/vouch_mark.h"

#include <string.h>

#include <sodium.h>

#include "core/wire.h"

/* Of what is written, which begins with a word, since the secret has other uses. */
static void keyed(uint8_t out[static VOUCH_MARK_LEN],
                  const uint8_t secret[static VOUCH_SECRET_LEN], struct wire_writer *w,
                  uint64_t bucket)
{
    uint8_t hash[32];
    wire_put_u32(w, (uint32_t)(bucket >> 32));
    wire_put_u32(w, (uint32_t)bucket);
    key_hash(hash, w->at - w->used, w->used, secret, VOUCH_SECRET_LEN);
    memcpy(out, hash, VOUCH_MARK_LEN);
}

static void mark_of(uint8_t mark[static VOUCH_MARK_LEN],
                    const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                    uint64_t bucket)
{
    uint8_t msg[48];
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    wire_put_bytes(&w, "postern mark", 12);
    wire_put_u8(&w, a->family);
    wire_put_u16(&w, a->port);
    wire_put_bytes(&w, a->ip, sizeof(a->ip));
    keyed(mark, secret, &w, bucket);
}

void vouch_mark(uint8_t mark[static VOUCH_MARK_LEN],
                const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                uint64_t now_s)
{
    mark_of(mark, secret, a, now_s / VOUCH_BUCKET_S);
}

enum { DEVICE_LEN = 4 }; /* of a proof: whose it is */

static void put_block(struct wire_writer *w, const struct addr *a)
{
    wire_put_u8(w, a->family);
    wire_put_bytes(w, a->ip, a->family == ADDR_V6 ? 8 : 4); /* a /64 is one */
}

/* What follows the bytes of the device, which are in `proof` already. */
static void sign_proof(uint8_t proof[static VOUCH_MARK_LEN],
                       const uint8_t secret[static VOUCH_SECRET_LEN],
                       const struct addr *a, uint64_t bucket)
{
    uint8_t msg[48], hash[VOUCH_MARK_LEN];
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    wire_put_bytes(&w, "postern proof", 13);
    put_block(&w, a);
    wire_put_bytes(&w, proof, DEVICE_LEN);
    keyed(hash, secret, &w, bucket);
    memcpy(proof + DEVICE_LEN, hash, VOUCH_MARK_LEN - DEVICE_LEN);
}

void vouch_proof(uint8_t proof[static VOUCH_MARK_LEN],
                 const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                 const uint8_t key[static KEY_LEN], uint64_t now_s)
{
    uint8_t msg[80];
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    uint64_t bucket = now_s / VOUCH_PROOF_BUCKET_S;
    wire_put_bytes(&w, "postern proof of device", 23);
    put_block(&w, a);
    wire_put_bytes(&w, key, KEY_LEN);
    keyed(proof, secret, &w, bucket);
    sign_proof(proof, secret, a, bucket);
}

bool vouch_proves(const uint8_t proof[static VOUCH_MARK_LEN],
                  const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                  uint64_t now_s, uint32_t *device)
{
    uint8_t want[VOUCH_MARK_LEN];
    uint64_t bucket = now_s / VOUCH_PROOF_BUCKET_S;
    memcpy(want, proof, DEVICE_LEN);
    for (uint64_t back = 0; back < 2 && back <= bucket; back++) {
        sign_proof(want, secret, a, bucket - back);
        if (sodium_memcmp(want, proof, VOUCH_MARK_LEN) != 0)
            continue;
        memcpy(device, proof, DEVICE_LEN);
        return true;
    }
    return false;
}

bool vouch_check(const uint8_t *mark, size_t len,
                 const uint8_t secret[static VOUCH_SECRET_LEN], const struct addr *a,
                 uint64_t now_s)
{
    uint8_t want[VOUCH_MARK_LEN];
    uint64_t bucket = now_s / VOUCH_BUCKET_S;
    if (len != VOUCH_MARK_LEN)
        return false;
    mark_of(want, secret, a, bucket);
    if (sodium_memcmp(want, mark, VOUCH_MARK_LEN) == 0)
        return true;
    if (bucket == 0)
        return false;
    mark_of(want, secret, a, bucket - 1);
    return sodium_memcmp(want, mark, VOUCH_MARK_LEN) == 0;
}
