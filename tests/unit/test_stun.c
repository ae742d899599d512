/* STUN against the vectors of RFC 5769, and the rules of a binding server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/stun.h"
#include "core/vouch_mark.h"

/* clang-format off */
/* RFC 5769 section 2.1 */
static const uint8_t sample_request[] = {
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42,
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    0x80, 0x22, 0x00, 0x10,
    0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73,
    0x74, 0x20, 0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74,
    0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff,
    0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36,
    0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76,
    0x59, 0x20, 0x20, 0x20,
    0x00, 0x08, 0x00, 0x14,
    0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e,
    0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2,
    0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
};
/* section 2.2: 192.0.2.1 port 32853 */
static const uint8_t sample_ipv4[] = {
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42,
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    0x80, 0x22, 0x00, 0x0b,
    0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f, 0x72, 0x20,
    0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    0x00, 0x08, 0x00, 0x14,
    0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74,
    0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7,
    0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
};
/* section 2.3: 2001:db8:1234:5678:11:2233:4455:6677 port 32853 */
static const uint8_t sample_ipv6[] = {
    0x01, 0x01, 0x00, 0x48, 0x21, 0x12, 0xa4, 0x42,
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    0x80, 0x22, 0x00, 0x0b,
    0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f, 0x72, 0x20,
    0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47,
    0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79,
    0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
    0x00, 0x08, 0x00, 0x14,
    0xa3, 0x82, 0x95, 0x4e, 0x4b, 0xe6, 0x7b, 0xf1, 0x17, 0x84,
    0xc9, 0x7c, 0x82, 0x92, 0xc2, 0x75, 0xbf, 0xe3, 0xed, 0x41,
    0x80, 0x28, 0x00, 0x04, 0xc8, 0xfb, 0x0b, 0x4c,
};
/* clang-format on */

static const uint8_t txid[STUN_TXID_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static struct addr at(const char *text)
{
    struct addr a = {0};
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

static void assert_addr(const struct addr *a, const char *text)
{
    char buf[ADDR_TEXT_LEN];
    assert_string_equal(addr_format(a, buf), text);
}

static void test_rfc5769(void **state)
{
    (void)state;
    struct stun_message m;
    assert_true(stun_is_message(sample_request, sizeof(sample_request)));
    assert_int_equal(stun_parse(&m, sample_request, sizeof(sample_request)), 0);
    assert_int_equal(m.type, STUN_BINDING_REQUEST);
    assert_true(m.fingerprint);
    assert_int_equal(m.unknown_count, 1); /* PRIORITY, which is ICE's */
    assert_int_equal(m.unknown[0], 0x0024);

    assert_int_equal(stun_parse(&m, sample_ipv4, sizeof(sample_ipv4)), 0);
    assert_int_equal(m.type, STUN_BINDING_SUCCESS);
    assert_true(m.fingerprint);
    assert_true(stun_is_response_to(&m, sample_request + 8));
    assert_addr(&m.mapped, "192.0.2.1:32853");

    assert_int_equal(stun_parse(&m, sample_ipv6, sizeof(sample_ipv6)), 0);
    assert_addr(&m.mapped, "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
}

static void test_every_flip_is_noticed(void **state)
{
    (void)state;
    uint8_t buf[sizeof(sample_ipv4)];
    struct stun_message m;
    for (size_t i = 0; i < sizeof(buf) * 8; i++) {
        memcpy(buf, sample_ipv4, sizeof(buf));
        buf[i / 8] ^= (uint8_t)(1u << (i % 8));
        int rc = stun_parse(&m, buf, sizeof(buf));
        /* A flip may hide the fingerprint in another attribute, but never keep it. */
        assert_true(rc == POSTERN_ERR_PROTO || !m.fingerprint);
    }
}

static void test_every_cut_is_noticed(void **state)
{
    (void)state;
    struct stun_message m;
    for (size_t len = 0; len < sizeof(sample_request); len++) {
        uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees the end */
        assert_non_null(exact);
        memcpy(exact, sample_request, len);
        assert_int_equal(stun_parse(&m, exact, len), POSTERN_ERR_PROTO);
        free(exact);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    struct stun_message in = {.type = STUN_BINDING_SUCCESS, .fingerprint = true}, out;
    uint8_t buf[STUN_MESSAGE_MAX];
    memcpy(in.txid, txid, sizeof(txid));
    in.mapped = at("[2001:db8::9]:65535");
    in.other = at("198.51.100.2:3479");
    in.origin = at("192.0.2.1:3478");
    in.software = "postern";
    in.padding_len = 101;
    int n = stun_build(buf, sizeof(buf), &in);
    assert_true(n > 0 && n % 4 == 0);
    assert_int_equal(stun_parse(&out, buf, (size_t)n), 0);
    assert_true(addr_equal(&in.mapped, &out.mapped));
    assert_true(addr_equal(&in.other, &out.other));
    assert_true(addr_equal(&in.origin, &out.origin));
    assert_int_equal(out.padding_len, 101);
    for (size_t cap = 0; cap < (size_t)n; cap++)
        assert_int_equal(stun_build(buf, cap, &in), POSTERN_ERR_LIMIT);

    n = stun_build_request(buf, sizeof(buf), txid, true, false);
    assert_int_equal(n, 36);
    assert_int_equal(stun_parse(&out, buf, (size_t)n), 0);
    assert_true(out.change_ip && !out.change_port && out.fingerprint);
}

static void test_not_stun(void **state)
{
    (void)state;
    uint8_t buf[STUN_HEADER_LEN] = {0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42};
    assert_true(stun_is_message(buf, sizeof(buf)));
    assert_false(stun_is_message(buf, sizeof(buf) - 1));
    buf[0] = 0xc0; /* a QUIC long header, say */
    assert_false(stun_is_message(buf, sizeof(buf)));
    buf[0] = 0;
    buf[4] = 0;
    assert_false(stun_is_message(buf, sizeof(buf)));
}

struct exchange {
    struct stun_message q, r;
    struct stun_site site;
    struct stun_answer answer;
    size_t req_len;
    bool answered;
};

static void ask(struct exchange *x)
{
    uint8_t req[STUN_MESSAGE_MAX], out[STUN_MESSAGE_MAX];
    struct addr source = at("203.0.113.5:40000");
    x->q.type = x->q.type != 0 ? x->q.type : STUN_BINDING_REQUEST;
    memcpy(x->q.txid, txid, sizeof(txid));
    int n = stun_build(req, sizeof(req), &x->q);
    assert_true(n > 0);
    x->req_len = (size_t)n;
    x->answered = stun_answer(&x->answer, out, req, (size_t)n, &source, &x->site);
    if (!x->answered)
        return;
    assert_int_equal(stun_parse(&x->r, out, x->answer.len), 0);
    assert_true(stun_is_response_to(&x->r, txid));
}

static void test_answers(void **state)
{
    (void)state;
    struct exchange x = {.site.at = at("192.0.2.1:443")};
    ask(&x);
    assert_true(x.answered);
    assert_int_equal(x.r.type, STUN_BINDING_SUCCESS);
    assert_addr(&x.r.mapped, "203.0.113.5:40000");
    assert_addr(&x.r.origin, "192.0.2.1:443");
    assert_int_equal(x.r.other.family, ADDR_NONE);
    assert_false(x.r.fingerprint); /* as the request */
    assert_addr(&x.answer.to, "203.0.113.5:40000");

    x = (struct exchange){.site.at = at("192.0.2.1:443"), .q.response_port = 555};
    ask(&x);
    assert_addr(&x.answer.to, "203.0.113.5:555");
    assert_addr(&x.r.mapped, "203.0.113.5:40000");

    x = (struct exchange){.site.at = at("192.0.2.1:443"),
                          .q.type = STUN_BINDING_INDICATION};
    ask(&x);
    assert_false(x.answered);
    x.q.type = STUN_BINDING_SUCCESS;
    ask(&x);
    assert_false(x.answered);
}

static void test_change_request(void **state)
{
    (void)state;
    struct exchange x = {.site = {at("192.0.2.1:443"), at("198.51.100.2:444")},
                         .q = {.change_ip = true, .change_port = true}};
    ask(&x);
    assert_addr(&x.answer.from, "198.51.100.2:444");
    assert_addr(&x.r.origin, "198.51.100.2:444");
    assert_addr(&x.r.other, "198.51.100.2:444");
    x.q.change_ip = false;
    ask(&x);
    assert_addr(&x.answer.from, "192.0.2.1:444");
    x.q.change_ip = true;
    x.q.change_port = false;
    ask(&x);
    assert_addr(&x.answer.from, "198.51.100.2:443");

    x.site.other = at("192.0.2.1:444"); /* a second port only */
    ask(&x);
    assert_int_equal(x.r.error_code, 420);
    assert_int_equal(x.r.unknown_count, 1);
    assert_int_equal(x.r.unknown[0], 0x0003);
    assert_addr(&x.answer.from, "192.0.2.1:443");
    x.q.change_ip = false;
    x.q.change_port = true;
    ask(&x);
    assert_addr(&x.answer.from, "192.0.2.1:444");
}

static void test_unknown_is_420(void **state)
{
    (void)state;
    struct stun_site site = {.at = at("192.0.2.1:443")};
    struct addr source = at("203.0.113.5:40000");
    struct stun_answer a;
    struct stun_message m;
    uint8_t out[STUN_MESSAGE_MAX];
    assert_true(
        stun_answer(&a, out, sample_request, sizeof(sample_request), &source, &site));
    assert_int_equal(stun_parse(&m, out, a.len), 0);
    assert_int_equal(m.type, STUN_BINDING_ERROR);
    assert_int_equal(m.error_code, 420);
    assert_int_equal(m.unknown_count, 1);
    assert_int_equal(m.unknown[0], 0x0024);
}

static void test_is_no_amplifier(void **state)
{
    (void)state;
    enum { HEADERS = 28 }; /* IPv4 and UDP */
    struct exchange x = {.site = {at("192.0.2.1:443"), at("198.51.100.2:444")}};
    ask(&x);
    assert_true((x.answer.len + HEADERS) * 10 <= (x.req_len + HEADERS) * 22);
    for (uint16_t padding = 1; padding < 2000; padding += 7) {
        x.q.padding_len = padding;
        ask(&x);
        assert_true(x.answer.len <= x.req_len || x.answer.len <= 100);
    }
    x.q.response_port = 9;
    ask(&x);
    assert_int_equal(x.r.error_code, 400);
}

static bool proves(const uint8_t *proof, const char *from, uint64_t now_s)
{
    static const uint8_t secret[VOUCH_SECRET_LEN] = {1};
    struct addr a;
    uint32_t device;
    assert_int_equal(addr_parse(&a, from), 0);
    return vouch_proves(proof, secret, &a, now_s, &device);
}

static void test_proof_of_an_address(void **state)
{
    static const struct {
        const char *given, *shown;
        uint64_t at_s, later_s;
        bool good;
    } cases[] = {
        {"192.0.2.1:5", "192.0.2.1:7", 10, 10, true},
        {"192.0.2.1:5", "192.0.2.1:7", 10, 600, true},
        {"192.0.2.1:5", "192.0.2.1:7", 600, 1799, true},
        {"192.0.2.1:5", "192.0.2.1:7", 600, 1800, false}, /* too old */
        {"192.0.2.1:5", "192.0.2.1:7", 600, 10, false},
        {"192.0.2.1:5", "192.0.2.2:5", 10, 10, false},
        {"[2001:db8:1:2::1]:5", "[2001:db8:1:2:ffff::9]:7", 10, 10, true},
        {"[2001:db8:1:2::1]:5", "[2001:db8:1:3::1]:5", 10, 10, false},
    };
    uint8_t proof[VOUCH_MARK_LEN], none[VOUCH_MARK_LEN] = {0};
    static const uint8_t key[KEY_LEN] = {3};
    static const uint8_t secret[VOUCH_SECRET_LEN] = {1}, other[VOUCH_SECRET_LEN] = {2};
    struct addr a;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(addr_parse(&a, cases[i].given), 0);
        vouch_proof(proof, secret, &a, key, cases[i].at_s);
        assert_int_equal(proves(proof, cases[i].shown, cases[i].later_s),
                         cases[i].good);
        assert_false(proves(none, cases[i].shown, cases[i].later_s));
    }
    vouch_proof(proof, other, &a, key, 10);
    assert_false(proves(proof, "[2001:db8:1:2::1]:5", 10));
    vouch_mark(proof, secret, &a, 10); /* which an answer shows, is none */
    assert_false(proves(proof, "[2001:db8:1:2::1]:5", 10));
}

/* By what a proof given at a time is known a little later. */
static uint32_t device_of(const char *from, uint8_t key, uint64_t at_s)
{
    static const uint8_t secret[VOUCH_SECRET_LEN] = {1};
    struct addr a = at(from);
    uint8_t proof[VOUCH_MARK_LEN], device_key[KEY_LEN] = {key};
    uint32_t device = 0, wrong = 0;
    vouch_proof(proof, secret, &a, device_key, at_s);
    assert_true(vouch_proves(proof, secret, &a, at_s + 600, &device));
    for (size_t i = 0; i < sizeof(proof); i++) { /* nor can anybody name another */
        proof[i] ^= 1;
        assert_false(vouch_proves(proof, secret, &a, at_s, &wrong));
        proof[i] ^= 1;
    }
    return device;
}

/* Of one address and time: at others nobody can tell that it is the same. */
static void test_proof_names_its_device(void **state)
{
    (void)state;
    uint32_t first = device_of("192.0.2.1:5", 1, 10);
    assert_int_equal(device_of("192.0.2.1:7", 1, 500), first);
    assert_int_not_equal(device_of("192.0.2.1:5", 2, 10), first);
    assert_int_not_equal(device_of("192.0.2.2:5", 1, 10), first);
    assert_int_not_equal(device_of("192.0.2.1:5", 1, 600), first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proof_of_an_address),
        cmocka_unit_test(test_proof_names_its_device),
        cmocka_unit_test(test_rfc5769),
        cmocka_unit_test(test_every_flip_is_noticed),
        cmocka_unit_test(test_every_cut_is_noticed),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_not_stun),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_change_request),
        cmocka_unit_test(test_unknown_is_420),
        cmocka_unit_test(test_is_no_amplifier),
    };
    return cmocka_run_group_tests_name("stun", tests, NULL, NULL);
}
