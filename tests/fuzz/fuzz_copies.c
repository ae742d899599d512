/*
 * Hostile early copies: raw packets, packets with a right tag and anything in them, and
 * any order of copies and QUIC's own bytes for who hands them out.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/copies.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AD_LEN = 5, TAG_LEN = 16 };

static const uint8_t key[COPY_KEY_LEN] = {1, 2, 3};

static void take(struct copies_in *in, const uint8_t *buf, size_t len)
{
    struct copy c;
    uint32_t number = 0;
    if (copy_open(&c, &number, key, buf, len) != 0)
        return;
    if (number == 0 || c.len == 0 || c.len > COPY_DATA_MAX)
        abort();
    uint64_t before = in->delivered;
    size_t known = copies_on_copy(in, c.offset, c.len);
    if (known > c.len || in->delivered != before + (c.len - known) ||
        in->delivered > in->carried + COPY_AHEAD_MAX)
        abort();
    if (known < c.len && c.offset + known != before)
        abort(); /* a gap, or something twice */
}

static void take_sealed(struct copies_in *in, const uint8_t *data, size_t len)
{
    uint8_t buf[COPY_LEN_MAX] = {COPY_FIRST_BYTE, 0, 0, 0, 1}, nonce[12] = {0};
    unsigned long long sealed = 0;
    if (len > sizeof(buf) - AD_LEN - TAG_LEN)
        return;
    nonce[11] = 1;
    (void)crypto_aead_chacha20poly1305_ietf_encrypt(buf + AD_LEN, &sealed, data, len,
                                                    buf, AD_LEN, NULL, nonce, key);
    take(in, buf, AD_LEN + (size_t)sealed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct copies_in in = {0};
    while (size >= 3) {
        size_t len = (size_t)(data[1] << 8 | data[2]) % 1100;
        uint8_t what = data[0];
        data += 3;
        size -= 3;
        len = len < size ? len : size;
        if (what % 4 == 0) {
            take(&in, data, len);
        } else if (what % 4 < 3) {
            take_sealed(&in, data, len);
        } else {
            uint64_t before = in.delivered, from = in.carried;
            size_t known = copies_on_quic(&in, from, len, false);
            if (known > len || in.carried != from + len ||
                in.delivered != (before > in.carried ? before : in.carried))
                abort();
        }
        data += len;
        size -= len;
    }
    return 0;
}
