/* A sealed Offer opens for its addressee, of its sender, in its own approach only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "path/offer.h"

static size_t seal(uint8_t *out, size_t cap, const struct keypair *from,
                   const struct keypair *to, const uint8_t conv[static CONV_LEN])
{
    static const uint8_t nonce[SEAL_NONCE_LEN] = {7};
    uint8_t plain[256];
    Offer o = {.generation = 3, .fresh = true};
    memcpy(o.conv, conv, CONV_LEN);
    int n = proto_encode_offer(plain, sizeof(plain), &o);
    assert_true(n > 0);
    n = key_seal(out, cap, plain, (size_t)n, from, to->pub, nonce);
    assert_true(n > 0);
    return (size_t)n;
}

static void test_offer_is_bound(void **state)
{
    static const uint8_t conv[CONV_LEN] = {1, 2, 3}, other[CONV_LEN] = {1, 2, 4};
    static const uint8_t seeds[3][KEY_LEN] = {{1}, {2}, {3}};
    uint8_t box[512];
    struct keypair client, host, third;
    Offer o;
    (void)state;
    keypair_from_seed(&client, seeds[0]);
    keypair_from_seed(&host, seeds[1]);
    keypair_from_seed(&third, seeds[2]);
    size_t len = seal(box, sizeof(box), &client, &host, conv);
    assert_int_equal(offer_open(&o, &host, client.pub, conv, box, len), 0);
    assert_int_equal(o.generation, 3);
    assert_int_equal(offer_open(&o, &host, client.pub, other, box, len),
                     POSTERN_ERR_PROTO);
    assert_true(offer_open(&o, &host, third.pub, conv, box, len) < 0);
    assert_true(offer_open(&o, &third, client.pub, conv, box, len) < 0);
    box[len - 1] ^= 1;
    assert_true(offer_open(&o, &host, client.pub, conv, box, len) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_offer_is_bound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
