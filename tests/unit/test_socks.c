/* SOCKS5's messages, byte by byte (RFC 1928). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/socks_wire.h"

static void test_greeting(void **state)
{
    static const uint8_t hello[] = {5, 2, 2, 0}, password[] = {5, 1, 2};
    static const uint8_t old[] = {4, 1, 0};
    bool no_auth = false;
    (void)state;
    for (size_t len = 0; len < sizeof(hello); len++)
        assert_int_equal(socks_parse_greeting(hello, len, &no_auth), 0);
    assert_int_equal(socks_parse_greeting(hello, sizeof(hello), &no_auth), 4);
    assert_true(no_auth);
    assert_int_equal(socks_parse_greeting(password, sizeof(password), &no_auth), 3);
    assert_false(no_auth);
    assert_int_equal(socks_parse_greeting(old, sizeof(old), &no_auth),
                     POSTERN_ERR_PROTO);
}

static void expect(const uint8_t *buf, size_t len, uint8_t command, const char *host,
                   uint16_t port)
{
    struct socks_target t;
    uint8_t got = 0;
    for (size_t part = 0; part < len; part++)
        assert_int_equal(socks_parse_request(buf, part, &got, &t), 0);
    assert_int_equal(socks_parse_request(buf, len, &got, &t), len);
    assert_int_equal(got, command);
    assert_string_equal(t.host, host);
    assert_int_equal(t.port, port);
}

static void test_request(void **state)
{
    static const uint8_t name[] = {5, 1, 0, 3, 4, 'h', 'o', 'm', 'e', 0, 22};
    static const uint8_t v4[] = {5, 3, 0, 1, 127, 0, 0, 1, 0x1f, 0x90};
    static const uint8_t v6[22] = {5, 1, 0, 4, [19] = 1, [21] = 80};
    static const uint8_t type[] = {5, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7};
    static const uint8_t zero[] = {5, 1, 0, 3, 4, 'h', 0, 'm', 'e', 0, 22};
    struct socks_target t;
    uint8_t command;
    (void)state;
    expect(name, sizeof(name), SOCKS_CONNECT, "home", 22);
    expect(v4, sizeof(v4), SOCKS_UDP_ASSOCIATE, "127.0.0.1", 8080);
    expect(v6, sizeof(v6), SOCKS_CONNECT, "::1", 80);
    assert_int_equal(socks_parse_request(type, sizeof(type), &command, &t),
                     POSTERN_ERR_INVALID);
    assert_true(socks_parse_request(zero, sizeof(zero), &command, &t) < 0);
}

static void test_reply(void **state)
{
    static const struct addr bound = {
        .family = ADDR_V4, .port = 1080, .ip = {127, 0, 0, 1}};
    static const uint8_t want[] = {5, 0, 0, 1, 127, 0, 0, 1, 4, 0x38};
    static const struct addr none;
    uint8_t out[SOCKS_REPLY_MAX];
    (void)state;
    assert_int_equal(socks_build_reply(out, SOCKS_OK, &bound), sizeof(want));
    assert_memory_equal(out, want, sizeof(want));
    assert_true(socks_build_reply(out, SOCKS_REFUSED, &none) >= 10);
    assert_int_equal(out[1], SOCKS_REFUSED);
}

static void test_udp_header_both_ways(void **state)
{
    struct socks_target t = {.host = "home", .port = 53}, back;
    uint8_t out[SOCKS_UDP_HEADER_MAX];
    (void)state;
    int n = socks_build_udp(out, &t);
    assert_true(n > 0);
    assert_int_equal(socks_parse_udp(out, (size_t)n, &back), n);
    assert_string_equal(back.host, "home");
    assert_int_equal(back.port, 53);
    for (int len = 0; len < n; len++)
        assert_int_equal(socks_parse_udp(out, (size_t)len, &back), POSTERN_ERR_PROTO);
    out[2] = 1; /* a fragment */
    assert_int_equal(socks_parse_udp(out, (size_t)n, &back), POSTERN_ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greeting),
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_udp_header_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
