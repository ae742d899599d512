/* Of which approaches a client has spoken: whose, for how long, and how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/convs.h"
#include "broker/limits.h"

static const uint8_t host[KEY_LEN] = {1}, other[KEY_LEN] = {2}, nobody[KEY_LEN];

static const uint8_t *conv(unsigned n)
{
    static uint8_t bytes[CONV_LEN];
    memcpy(bytes, &n, sizeof(n));
    return bytes;
}

static void test_it_is_that_hosts_for_a_while(void **state)
{
    struct convs c = {0};
    (void)state;
    convs_note(&c, conv(0), host, 4, 1000); /* zeros are an approach like others */
    assert_true(convs_asked(&c, conv(0), host, 1000));
    assert_false(convs_asked(&c, conv(0), other, 1000));
    assert_false(convs_has(&c, conv(0), other));
    assert_false(convs_asked(&c, conv(0), host, 1000 + LIMIT_CONV_MS));
    assert_true(convs_has(&c, conv(0), host)); /* it is still this connection's */
    convs_note(&c, conv(0), host, 4, 2000 + LIMIT_CONV_MS);
    assert_true(convs_asked(&c, conv(0), host, 2000 + LIMIT_CONV_MS));
    convs_forget(&c, conv(0));
    assert_false(convs_has(&c, conv(0), host));
    convs_fini(&c);
}

/* Nor does beginning anew: a host can make a client do that. */
static void test_speaking_again_refills_nothing(void **state)
{
    const uint32_t all = LIMIT_RATE_CONVS.burst;
    struct convs c = {0};
    (void)state;
    convs_note(&c, conv(1), host, 4, 1000);
    assert_true(convs_take(&c, host, all, 1000));
    convs_note(&c, conv(1), host, 4, 1001);
    assert_false(convs_take(&c, host, 1, 1001));
    convs_forget(&c, conv(1));
    convs_note(&c, conv(2), host, 4, 1001);
    assert_false(convs_take(&c, host, 1, 1001));
    assert_true(convs_take(&c, other, all, 1001)); /* which has its own */
    assert_false(convs_take(&c, host, LIMIT_RATE_CONVS.per_s + 1, 2000));
    assert_true(convs_take(&c, host, LIMIT_RATE_CONVS.per_s, 2000));
    convs_fini(&c);
}

static void test_as_many_shares_as_are_counted(void **state)
{
    struct convs c = {0};
    (void)state;
    for (unsigned i = 0; i < LIMIT_CONVS_HOSTS + 1; i++) {
        const uint8_t key[KEY_LEN] = {1, (uint8_t)i};
        assert_true(convs_take(&c, key, LIMIT_RATE_CONVS.burst, 1000 + i));
    }
    assert_int_equal(c.share_count, LIMIT_CONVS_HOSTS);
    const uint8_t last[KEY_LEN] = {1, LIMIT_CONVS_HOSTS};
    assert_false(
        convs_take(&c, last, LIMIT_RATE_CONVS.burst, 1000 + LIMIT_CONVS_HOSTS));
    convs_fini(&c);
}

static void test_the_longest_unspoken_gives_way(void **state)
{
    struct convs c = {0};
    (void)state;
    for (unsigned i = 1; i <= 4; i++)
        convs_note(&c, conv(i), host, 4, 1000 + i);
    convs_note(&c, conv(1), host, 4, 1010);
    convs_note(&c, conv(5), host, 4, 1011);
    assert_int_equal(c.count, 4);
    assert_true(convs_has(&c, conv(1), host));
    assert_false(convs_has(&c, conv(2), host));
    convs_fini(&c);
}

static void test_of_a_spoken_code_the_giver_is_unknown(void **state)
{
    struct convs c = {0};
    (void)state;
    convs_note(&c, conv(1), nobody, 4, 1000);
    assert_true(convs_has(&c, conv(1), host)); /* its way here */
    assert_false(convs_asked(&c, conv(1), host, 1000));
    convs_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_that_hosts_for_a_while),
        cmocka_unit_test(test_speaking_again_refills_nothing),
        cmocka_unit_test(test_as_many_shares_as_are_counted),
        cmocka_unit_test(test_the_longest_unspoken_gives_way),
        cmocka_unit_test(test_of_a_spoken_code_the_giver_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
