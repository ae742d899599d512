/* One-time codes: the vectors of RFC 6238 appendix B and RFC 4226 appendix D. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/totp.h"

static const uint8_t secret[] = "12345678901234567890";
#define SECRET secret, sizeof(secret) - 1

/* The last six of the eight digits that the RFC prints. */
static void test_rfc6238(void **state)
{
    static const struct {
        int64_t time_s;
        uint32_t code;
    } cases[] = {{59, 287082},       {1111111109, 81804},  {1111111111, 50471},
                 {1234567890, 5924}, {2000000000, 279037}, {20000000000, 353130}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(totp_code(SECRET, cases[i].time_s), cases[i].code);
}

static void test_rfc4226(void **state)
{
    static const uint32_t codes[] = {755224, 287082, 359152, 969429, 338314,
                                     254676, 287922, 162583, 399871, 520489};
    (void)state;
    for (int64_t i = 0; i < 10; i++)
        assert_int_equal(totp_code(SECRET, i * TOTP_STEP_S), codes[i]);
}

static void test_check(void **state)
{
    (void)state;
    /* 969429 is step 3, from 90 s to 119 s, and good one step around that */
    assert_int_equal(totp_check(SECRET, 59, "969429"), POSTERN_ERR_DENIED);
    assert_int_equal(totp_check(SECRET, 60, "969429"), 3);
    assert_int_equal(totp_check(SECRET, 119, "969429"), 3);
    assert_int_equal(totp_check(SECRET, 149, "969 429 "), 3);
    assert_int_equal(totp_check(SECRET, 150, "969429"), POSTERN_ERR_DENIED);
    static const char *const wrong[] = {"",       "96942",   "9694290",    "969428",
                                        "96942a", "-969429", "4294967294", "969429\n"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(totp_check(SECRET, 90, wrong[i]), POSTERN_ERR_DENIED);
    assert_int_equal(totp_check(SECRET, 1111111109, "081804"), 37037036);
    assert_int_equal(totp_check(SECRET, 1111111109, "81804"), POSTERN_ERR_DENIED);
}

static void test_uri(void **state)
{
    char uri[TOTP_URI_LEN], small[40], host[300];
    (void)state;
    assert_int_equal(totp_uri(uri, sizeof(uri), SECRET, "anna", "Bob's home"), 0);
    assert_string_equal(uri,
                        "otpauth://totp/Postern:anna%40Bob%27s%20home?secret="
                        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Postern&algorithm=SHA1"
                        "&digits=6&period=30");
    assert_int_equal(totp_uri(small, sizeof(small), SECRET, "a", "b"),
                     POSTERN_ERR_LIMIT);
    memset(host, 'x', sizeof(host));
    host[sizeof(host) - 1] = '\0';
    assert_int_equal(totp_uri(uri, sizeof(uri), SECRET, "a", host), POSTERN_ERR_LIMIT);
    uint8_t long_secret[65] = {0};
    assert_int_equal(
        totp_uri(uri, sizeof(uri), long_secret, sizeof(long_secret), "a", "b"),
        POSTERN_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc6238),
        cmocka_unit_test(test_rfc4226),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_uri),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
