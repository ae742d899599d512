/* Addresses, cursors, keys, links and messages: all lengths, mangled and random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/addr.h"
#include "core/key.h"
#include "core/kinds.h"
#include "core/link.h"
#include "core/proto.h"
#include "core/rng.h"
#include "core/wire.h"

static void fill(uint64_t *rng, void *at, size_t len)
{
    uint8_t *p = at;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)rng_next(rng);
}

/* ---------------------------------------------------------------------------- addr */

static void test_addr_text(void **state)
{
    (void)state;
    static const char *good[] = {"1.2.3.4:5",
                                 "255.255.255.255:65535",
                                 "0.0.0.0:0",
                                 "[::1]:5",
                                 "[2001:db8::1]:443",
                                 "[::]:0",
                                 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"};
    static const char *bad[] = {"",
                                ":",
                                "1.2.3.4",
                                "1.2.3.4:",
                                "1.2.3.4:-1",
                                "1.2.3.4:+1",
                                "1.2.3.4: 1",
                                "1.2.3.4:1 ",
                                "1.2.3:5",
                                "1.2.3.4.5:6",
                                "256.1.1.1:1",
                                "::1:5",
                                "[::1]",
                                "[::1]5",
                                "[::1:5",
                                "[]:5",
                                "host:5",
                                "[::1]:65536",
                                "1.2.3.4:99999999999999",
                                "1.2.3.4:0x5"};
    char buf[ADDR_TEXT_LEN], longest[400];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct addr a;
        assert_int_equal(addr_parse(&a, good[i]), 0);
        assert_string_equal(addr_format(&a, buf), good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct addr a = {.port = 77};
        assert_int_equal(addr_parse(&a, bad[i]), POSTERN_ERR_INVALID);
        assert_int_equal(a.port, 77); /* untouched on failure */
    }
    memset(longest, '1', sizeof(longest));
    memcpy(longest + sizeof(longest) - 3, ":5", 3);
    struct addr a;
    assert_int_equal(addr_parse(&a, longest), POSTERN_ERR_INVALID);
    memset(&a, 0, sizeof(a));
    assert_string_equal(addr_format(&a, buf), "none");
    assert_string_equal(addr_format_ip(&a, buf), "none");
    assert_int_equal(addr_ip_len(&a), 0);
}

static void test_addr_bytes(void **state)
{
    (void)state;
    uint8_t ip[20] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 9, 8, 7, 6};
    char buf[ADDR_TEXT_LEN];
    for (size_t len = 0; len <= sizeof(ip); len++) {
        struct addr a;
        int want = len == 4 || len == 16 ? 0 : POSTERN_ERR_INVALID;
        assert_int_equal(addr_from_bytes(&a, ip, len, 1), want);
    }
    struct addr a, b;
    assert_int_equal(addr_from_bytes(&a, ip, 16, 80), 0);
    assert_string_equal(addr_format(&a, buf), "9.8.7.6:80");
    assert_int_equal(addr_from_bytes(&b, ip + 12, 4, 80), 0);
    assert_true(addr_equal(&a, &b));
    assert_int_equal(addr_from_bytes(&b, ip + 12, 4, 65536), POSTERN_ERR_INVALID);
    assert_int_equal(addr_from_bytes(&b, ip + 12, 4, 81), 0);
    assert_false(addr_equal(&a, &b));
    assert_true(addr_ip_equal(&a, &b));
}

static void test_addr_scope(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum addr_scope scope;
    } rows[] = {
        {"1.1.1.1:0", ADDR_SCOPE_UNUSABLE},
        {"0.1.2.3:1", ADDR_SCOPE_UNUSABLE},
        {"224.0.0.1:1", ADDR_SCOPE_UNUSABLE},
        {"255.255.255.255:1", ADDR_SCOPE_UNUSABLE},
        {"127.9.9.9:1", ADDR_SCOPE_LOOPBACK},
        {"169.254.1.1:1", ADDR_SCOPE_LINK},
        {"10.0.0.1:1", ADDR_SCOPE_PRIVATE},
        {"172.16.0.1:1", ADDR_SCOPE_PRIVATE},
        {"172.32.0.1:1", ADDR_SCOPE_GLOBAL},
        {"192.168.0.1:1", ADDR_SCOPE_PRIVATE},
        {"100.64.0.1:1", ADDR_SCOPE_PRIVATE},
        {"100.128.0.1:1", ADDR_SCOPE_GLOBAL},
        {"9.9.9.9:1", ADDR_SCOPE_GLOBAL},
        {"[::]:1", ADDR_SCOPE_UNUSABLE},
        {"[::2]:1", ADDR_SCOPE_UNUSABLE},
        {"[::1]:1", ADDR_SCOPE_LOOPBACK},
        {"[ff02::1]:1", ADDR_SCOPE_UNUSABLE},
        {"[fe80::1]:1", ADDR_SCOPE_LINK},
        {"[febf::1]:1", ADDR_SCOPE_LINK},
        {"[fd00::1]:1", ADDR_SCOPE_PRIVATE},
        {"[2001:db8::1]:1", ADDR_SCOPE_GLOBAL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr a;
        assert_int_equal(addr_parse(&a, rows[i].text), 0);
        assert_int_equal(addr_scope_of(&a), rows[i].scope);
    }
    struct addr none = {0};
    assert_int_equal(addr_scope_of(&none), ADDR_SCOPE_UNUSABLE);
}

/* Ports are guessed only there: fake addresses of proxies and 464XLAT's are nobody's.
 */
static void test_addr_of_internet(void **state)
{
    static const struct {
        const char *to, *broker;
        bool is;
    } rows[] = {
        {"198.18.0.1:1", "192.0.2.10:443", false},
        {"198.19.255.255:1", "192.0.2.10:443", false},
        {"198.17.255.255:1", "192.0.2.10:443", true},
        {"198.20.0.1:1", "192.0.2.10:443", true},
        {"192.0.0.4:1", "203.0.113.1:443", false},
        {"192.0.1.4:1", "203.0.113.1:443", true},
        {"192.88.99.7:1", "[2001:db8::1]:443", false},
        {"[2001:db8::c612:1]:1", "192.0.2.10:443", true},
        {"198.18.7.1:1", "198.18.9.2:443", true},
        {"198.18.7.1:1", "192.0.0.9:443", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr to, broker;
        assert_int_equal(addr_parse(&to, rows[i].to), 0);
        assert_int_equal(addr_parse(&broker, rows[i].broker), 0);
        assert_int_equal(addr_is_of_internet(&to, &broker), rows[i].is);
    }
}

/* ---------------------------------------------------------------------------- wire */

static void test_wire(void **state)
{
    (void)state;
    uint8_t buf[20];
    for (size_t cap = 0; cap <= sizeof(buf); cap++) {
        struct wire_writer w = wire_writer(buf, cap);
        wire_put_u8(&w, 0x01);
        wire_put_u16(&w, 0x0203);
        wire_put_u32(&w, 0x04050607);
        wire_put_u64(&w, 0x08090a0b0c0d0e0f);
        wire_put_bytes(&w, "xy", 2);
        wire_put_bytes(&w, NULL, 0);
        assert_int_equal(w.failed, cap < 17);
        assert_true(w.used <= cap);
    }
    for (size_t i = 0; i < 15; i++)
        assert_int_equal(buf[i], i + 1);
    for (size_t len = 0; len <= 18; len++) {
        struct wire_reader r = wire_reader(buf, len);
        uint8_t a = wire_get_u8(&r);
        uint16_t b = wire_get_u16(&r);
        uint32_t c = wire_get_u32(&r);
        uint64_t d = wire_get_u64(&r);
        const uint8_t *e = wire_get_bytes(&r, 2);
        assert_int_equal(a, len >= 1 ? 0x01 : 0);
        assert_int_equal(b, len >= 3 ? 0x0203 : 0);
        assert_int_equal(c, len >= 7 ? 0x04050607 : 0);
        assert_int_equal(d, len >= 15 ? 0x08090a0b0c0d0e0f : 0);
        assert_int_equal(e != NULL, len >= 17);
        assert_int_equal(wire_end(&r), len == 17 ? 0 : POSTERN_ERR_PROTO);
        if (r.failed) { /* sticky: nothing more, though bytes are left */
            assert_null(wire_get_bytes(&r, 0));
            assert_int_equal(wire_get_u8(&r), 0);
        }
    }
    struct wire_reader r = wire_reader(buf, 4);
    assert_null(wire_get_bytes(&r, SIZE_MAX));
    struct wire_writer w = wire_writer(buf, 4);
    wire_put_bytes(&w, buf, SIZE_MAX);
    assert_true(w.failed);
}

/* ----------------------------------------------------------------------------- key */

static void test_base32(void **state)
{
    (void)state;
    uint64_t rng = 1;
    uint8_t in[64] = {0}, out[64];
    char text[104], mangled[104];
    for (size_t len = 0; len <= sizeof(in); len++) {
        fill(&rng, in, len);
        base32_encode(in, len, text);
        assert_int_equal(strlen(text), (len * 8 + 4) / 5);
        assert_int_equal(base32_decode(out, sizeof(out), text), len);
        assert_memory_equal(in, out, len);
        if (len == 0)
            continue;
        assert_true(base32_decode(out, len - 1, text) < 0);
        for (char *p = text; *p != '\0'; p++)
            if (*p >= 'a')
                *p = (char)(*p - 32);
        assert_int_equal(base32_decode(out, sizeof(out), text), len);
        memcpy(mangled, text, sizeof(text));
        mangled[rng_below(&rng, strlen(text))] = "018 =\n\x80-"[rng_below(&rng, 8)];
        assert_true(base32_decode(out, sizeof(out), mangled) < 0);
    }
    base32_encode((const uint8_t *)"foobar", 6, text);
    assert_string_equal(text, "mzxw6ytboi"); /* RFC 4648 section 10 */
    assert_true(base32_decode(out, sizeof(out), "a") < 0);
    assert_true(base32_decode(out, sizeof(out), "ab") < 0); /* stray bits set */
    assert_int_equal(base32_decode(out, sizeof(out), "aa"), 1);
}

static struct keypair pair_of(uint8_t n)
{
    struct keypair kp;
    uint8_t seed[KEY_LEN];
    memset(seed, n, sizeof(seed));
    keypair_from_seed(&kp, seed);
    return kp;
}

static void test_key_text(void **state)
{
    (void)state;
    struct keypair kp = pair_of(1);
    uint8_t back[KEY_LEN];
    char text[KEY_TEXT_LEN], brief[KEY_SHORT_LEN];
    assert_int_equal(strlen(key_format(kp.pub, text)), KEY_TEXT_LEN - 1);
    assert_int_equal(key_parse(back, text), 0);
    assert_memory_equal(back, kp.pub, KEY_LEN);
    assert_int_equal(strlen(key_short(kp.pub, brief)), KEY_SHORT_LEN - 1);
    assert_int_equal(strncmp(brief, text, KEY_SHORT_LEN - 1), 0);
    for (size_t cut = 0; cut < KEY_TEXT_LEN - 1; cut++) {
        char part[KEY_TEXT_LEN] = {0};
        memcpy(part, text, cut);
        assert_int_equal(key_parse(back, part), POSTERN_ERR_INVALID);
    }
}

static void test_seal(void **state)
{
    (void)state;
    struct keypair a = pair_of(1), b = pair_of(2), c = pair_of(3);
    uint8_t nonce[SEAL_NONCE_LEN] = {9}, msg[200], box[300], out[300];
    uint64_t rng = 5;
    fill(&rng, msg, sizeof(msg));
    for (size_t len = 0; len <= sizeof(msg); len++) {
        int n = key_seal(box, sizeof(box), msg, len, &a, b.pub, nonce);
        assert_int_equal(n, len + SEAL_OVERHEAD);
        assert_int_equal(key_open(out, sizeof(out), box, (size_t)n, &b, a.pub), len);
        assert_memory_equal(out, msg, len);
        assert_int_equal(key_open(out, sizeof(out), box, (size_t)n, &c, a.pub),
                         POSTERN_ERR_PROTO);
        assert_int_equal(key_open(out, sizeof(out), box, (size_t)n, &b, c.pub),
                         POSTERN_ERR_PROTO);
        /* turned round by who carries it, it is not the other's word */
        assert_int_equal(key_open(out, sizeof(out), box, (size_t)n, &a, b.pub),
                         POSTERN_ERR_PROTO);
        box[rng_below(&rng, (uint64_t)n)] ^= 0x40;
        assert_int_equal(key_open(out, sizeof(out), box, (size_t)n, &b, a.pub),
                         POSTERN_ERR_PROTO);
    }
    int n = key_seal(box, sizeof(box), msg, 100, &a, b.pub, nonce);
    for (size_t cut = 0; cut < (size_t)n; cut++)
        assert_int_equal(key_open(out, sizeof(out), box, cut, &b, a.pub),
                         POSTERN_ERR_PROTO);
    assert_int_equal(key_open(out, 99, box, (size_t)n, &b, a.pub), POSTERN_ERR_PROTO);
    assert_true(key_seal(box, SEAL_OVERHEAD - 1, msg, 0, &a, b.pub, nonce) < 0);
    assert_true(key_seal(box, sizeof(box), msg, SIZE_MAX - 3, &a, b.pub, nonce) < 0);
    uint8_t zero[KEY_LEN] = {0};
    assert_true(key_seal(box, sizeof(box), msg, 1, &a, zero, nonce) < 0);
    assert_true(key_open(out, sizeof(out), box, (size_t)n, &b, zero) < 0);
}

static void test_sign(void **state)
{
    (void)state;
    struct keypair a = pair_of(1), b = pair_of(2);
    uint8_t sig[KEY_SIG_LEN];
    key_sign(sig, "hello", 5, &a);
    assert_int_equal(key_verify(sig, "hello", 5, a.pub), 0);
    assert_int_equal(key_verify(sig, "hellO", 5, a.pub), POSTERN_ERR_KEY);
    assert_int_equal(key_verify(sig, "hello", 4, a.pub), POSTERN_ERR_KEY);
    assert_int_equal(key_verify(sig, "hello", 5, b.pub), POSTERN_ERR_KEY);
    sig[63] ^= 1;
    assert_int_equal(key_verify(sig, "hello", 5, a.pub), POSTERN_ERR_KEY);
}

static void test_sign_rotation(void **state)
{
    (void)state;
    struct keypair a = pair_of(1), b = pair_of(2), c = pair_of(3);
    uint8_t sig[KEY_SIG_LEN], text[14 + KEY_LEN] = "postern rotate";
    memcpy(text + 14, b.pub, KEY_LEN);
    key_sign_rotation(sig, b.pub, &a);
    /* what docs/PROTOCOL.md says */
    assert_int_equal(key_verify(sig, text, sizeof(text), a.pub), 0);
    assert_int_equal(key_verify_rotation(sig, b.pub, a.pub), 0);
    assert_int_equal(key_verify_rotation(sig, c.pub, a.pub), POSTERN_ERR_KEY);
    assert_int_equal(key_verify_rotation(sig, b.pub, c.pub), POSTERN_ERR_KEY);
    assert_int_equal(key_verify_proof(sig, b.pub, a.pub), POSTERN_ERR_KEY);
    key_prove_rotation(sig, a.pub, &b);
    assert_int_equal(key_verify_proof(sig, a.pub, b.pub), 0);
    assert_int_equal(key_verify_proof(sig, c.pub, b.pub), POSTERN_ERR_KEY);
    assert_int_equal(key_verify_rotation(sig, a.pub, b.pub), POSTERN_ERR_KEY);
}

/* ---------------------------------------------------------------------------- link */

static struct link link_like(uint64_t *rng, enum link_type type, const char *host)
{
    struct link l = {.type = type, .port = (uint16_t)(1 + rng_below(rng, 65535))};
    (void)snprintf(l.host, sizeof(l.host), "%s", host);
    fill(rng, l.broker_key, KEY_LEN);
    if (type == LINK_INVITE) {
        fill(rng, l.host_key, KEY_LEN);
        fill(rng, l.secret, LINK_SECRET_LEN);
    } else if (rng_below(rng, 2) == 0) {
        l.has_token = true;
        fill(rng, l.token, LINK_SECRET_LEN);
    }
    return l;
}

static void test_link_round_trip(void **state)
{
    (void)state;
    static const char *hosts[] = {"a", "broker.example.org", "192.0.2.1",
                                  "2001:db8::1"};
    uint64_t rng = 7;
    char text[LINK_TEXT_LEN], longest[LINK_HOST_LEN];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    for (int i = 0; i < 200; i++) {
        enum link_type type = i % 3 == 0   ? LINK_BROKER
                              : i % 3 == 1 ? LINK_AGENT
                                           : LINK_INVITE;
        struct link l = link_like(&rng, type, i % 5 == 4 ? longest : hosts[i % 5]),
                    back;
        struct fault f = {0};
        link_format(&l, text);
        assert_int_equal(link_parse(&back, text, &f), 0);
        assert_memory_equal(&l, &back, sizeof(l));
        assert_int_equal(strncmp(text, "postern://", 10), 0);
        assert_int_equal(link_check_broker(&back, &f),
                         type == LINK_BROKER ? 0 : POSTERN_ERR_USAGE);
    }
}

static void expect_bad_link(const char *text)
{
    struct link l = {.port = 1};
    struct fault f = {0};
    int rc = link_parse(&l, text, &f);
    assert_true(rc == POSTERN_ERR_INVALID || rc == POSTERN_ERR_NEWER);
    assert_int_equal(f.code, rc);
    assert_true(strlen(f.what) > 10 && strlen(f.advice) > 5);
    assert_null(strchr(f.what, '\n'));
    assert_int_equal(l.port, 1);
    assert_true(link_parse(&l, text, NULL) < 0);
}

static void test_link_mangled(void **state)
{
    (void)state;
    uint64_t rng = 11;
    char text[LINK_TEXT_LEN], bad[LINK_TEXT_LEN + 8];
    struct link l = link_like(&rng, LINK_INVITE, "broker.example.org");
    link_format(&l, text);
    size_t len = strlen(text);
    for (size_t cut = 0; cut < len; cut++) {
        memcpy(bad, text, cut);
        bad[cut] = '\0';
        expect_bad_link(bad);
    }
    /* A scheme that is mangled is none, and needs not be there. */
    for (size_t i = strlen("postern://"); i < len; i++)
        for (unsigned v = 1; v < 256; v++) {
            memcpy(bad, text, len + 1);
            if (bad[i] == (char)v || tolower((unsigned char)v) == bad[i])
                continue; /* either case will do */
            bad[i] = (char)v;
            expect_bad_link(bad);
        }
    for (size_t i = strlen("postern://"); i < len; i++) { /* one lost, or doubled */
        memcpy(bad, text, i);
        memcpy(bad + i, text + i + 1, len - i);
        if (text[i] != text[i + 1])
            expect_bad_link(bad);
        memcpy(bad, text, i + 1);
        memcpy(bad + i + 1, text + i, len + 1 - i);
        expect_bad_link(bad);
    }
    struct link back;
    (void)snprintf(bad, sizeof(bad), " %s\r\n", text); /* white space is no harm */
    assert_int_equal(link_parse(&back, bad, NULL), 0);
    assert_memory_equal(&l, &back, sizeof(l));
    for (size_t i = 0; i <= len; i++) /* as a scanner may give it */
        bad[i] = (char)toupper((unsigned char)text[i]);
    assert_int_equal(link_parse(&back, bad, NULL), 0);
    assert_memory_equal(&l, &back, sizeof(l));
    (void)snprintf(bad, sizeof(bad), "%sx", text);
    expect_bad_link(bad);
    char longest[4096];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    memcpy(longest, "postern://", 10);
    expect_bad_link(longest);
    memcpy(longest, "postern://h:1/b/", 16);
    expect_bad_link(longest);
}

/* As mails, word processors, chats and telephones give it. */
static void test_link_copied(void **state)
{
    (void)state;
    uint64_t rng = 13;
    char text[LINK_TEXT_LEN], other[LINK_TEXT_LEN], bad[4 * LINK_TEXT_LEN];
    static const char *const around[][2] = {
        {"<", ">"},
        {"\"", "\","},
        {"'", "'."},
        {"**", "**"},
        {"(", ")!"},
        {"\xe2\x80\x9c", "\xe2\x80\x9d\xe2\x80\xa6"},
        {"\xc2\xab\xc2\xa0", "\xc2\xa0\xc2\xbb"},
        {"\xef\xbb\xbf", "\r\n"},
        {"Hi Anna,\nthis is it: ", "\nSee you"},
        {"see postern:// and ", " please"},
        {"run 'postern join ", "'"},
        {"<a href=\"", "\">this</a>"},
        {"https://example.org/x ", ""},
    };
    static const char *const inside[] = {
        " ",    "\n", "\r\n", "\n> ",         "=\n",
        "\\\n", "\t", "\n  ", "\xe2\x80\x8b", "\xc2\xad"};
    for (int i = 0; i < 60; i++) {
        enum link_type type = i % 3 == 0   ? LINK_BROKER
                              : i % 3 == 1 ? LINK_AGENT
                                           : LINK_INVITE;
        struct link l = link_like(&rng, type,
                                  i % 2 ? "Meet.example.org" : "2001:db8::1"),
                    back;
        link_format(&l, text);
        for (size_t k = 0; k < sizeof(around) / sizeof(around[0]); k++) {
            (void)snprintf(bad, sizeof(bad), "%s%s%s", around[k][0], text,
                           around[k][1]);
            assert_int_equal(link_parse(&back, bad, NULL), 0);
            assert_memory_equal(&l, &back, sizeof(l));
        }
        for (size_t k = 0; k < sizeof(inside) / sizeof(inside[0]); k++)
            for (size_t at = 1; at < strlen(text); at++) {
                (void)snprintf(bad, sizeof(bad), "<%.*s%s%s> see you", (int)at, text,
                               inside[k], text + at);
                assert_int_equal(link_parse(&back, bad, NULL), 0);
                assert_memory_equal(&l, &back, sizeof(l));
            }
        (void)snprintf(bad, sizeof(bad), "https%s", text + strlen("postern"));
        assert_int_equal(link_parse(&back, bad, NULL), 0);
        assert_memory_equal(&l, &back, sizeof(l));
        struct link wrong = l;
        wrong.port ^= 1; /* the first whole one is taken */
        link_format(&wrong, other);
        other[strlen(other) - 1] = other[strlen(other) - 1] == 'a' ? 'q' : 'a';
        (void)snprintf(bad, sizeof(bad), "%s\n%s", other, text);
        assert_int_equal(link_parse(&back, bad, NULL), 0);
        assert_memory_equal(&l, &back, sizeof(l));
    }
}

static void test_link_of_a_web_page(void **state)
{
    (void)state;
    uint64_t rng = 17;
    char text[LINK_TEXT_LEN], bad[2 * LINK_TEXT_LEN];
    struct link l = link_like(&rng, LINK_INVITE, "meet.example.org"), back;
    l.port = 443;
    link_format(&l, text);
    const char *letters = strstr(text, "/i/") + 3;
    static const char *const heads[] = {
        "https://meet.example.org/i/", "https://meet.example.org/#i/",
        "HTTPS://Meet.Example.org:443/#i/", "http://meet.example.org:443/i/"};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        (void)snprintf(bad, sizeof(bad), "%s%s.", heads[i], letters);
        assert_int_equal(link_parse(&back, bad, NULL), 0);
        assert_memory_equal(&l, &back, sizeof(l));
    }
    expect_bad_link("https://meet.example.org/");
    expect_bad_link("https://meet.example.org/i/abcd");
    expect_bad_link("https://[::1]x/i/abcd");
    expect_bad_link("https:///i/abcd");
    expect_bad_link("https://");
}

/* As web forms and chats hand it on, and where its beginning was not copied. */
static void test_link_without_its_punctuation(void **state)
{
    (void)state;
    uint64_t rng = 23;
    char text[LINK_TEXT_LEN], given[2 * LINK_TEXT_LEN];
    struct link l = link_like(&rng, LINK_INVITE, "meet.example.org"), back;
    l.port = 443;
    link_format(&l, text);
    const char *letters = strstr(text, "/i/") + 3;
    static const char *const heads[] = {
        "postern%3A%2F%2Fmeet.example.org%3A443%2Fi%2F",
        "postern%3a//meet.example.org%3a443/i/",
        "postern%253A%252F%252Fmeet.example.org%253A443%252Fi%252F",
        "https://safe.example.com/?url=postern%3A%2F%2Fmeet.example.org%3A443%2Fi%2F",
        "%3Cpostern://meet.example.org:443/i/",
        "meet.example.org:443/i/",
        "//meet.example.org:443/i/",
        "postern:meet.example.org:443/i/",
        "ostern://Meet.example.org:443/i/",
        "://meet.example.org:443/i/",
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        (void)snprintf(given, sizeof(given), "%s%s", heads[i], letters);
        assert_int_equal(link_parse(&back, given, NULL), 0);
        assert_memory_equal(&l, &back, sizeof(l));
        given[strlen(given) - 3] = '\0';
        expect_bad_link(given);
    }
    expect_bad_link("meet.example.org:443/i/");
    expect_bad_link("meet.example.org/x/abc");
    expect_bad_link("%3A%2");
    expect_bad_link("%");
}

/* However long, and whatever it is made of, it is looked at once and in no time. */
static void test_link_in_too_much(void **state)
{
    (void)state;
    uint64_t rng = 19;
    static char all[3 * LINK_INPUT_MAX];
    struct link l = link_like(&rng, LINK_INVITE, "meet.example.org"), back;
    memset(all, ' ', sizeof(all));
    link_format(&l, all + LINK_INPUT_MAX - 400);
    assert_int_equal(link_parse(&back, all, NULL), 0);
    memset(all, ' ', sizeof(all));
    link_format(&l, all + LINK_INPUT_MAX);
    expect_bad_link(all);
    for (size_t i = 0; i + 16 < LINK_INPUT_MAX; i += 16)
        memcpy(all + i, "postern://a:1/i/", 17);
    expect_bad_link(all);
    for (size_t i = 0; i + 8 < sizeof(all); i += 8)
        memcpy(all + i, "https://", 9);
    expect_bad_link(all);
}

static void test_link_random(void **state)
{
    (void)state;
    static const char letters[] = "postern://[]:.0123456789abcdefghz/bi-_ %\xff";
    uint64_t rng = 13;
    for (int i = 0; i < 20000; i++) {
        char text[300] = "postern://";
        size_t from = i % 2 ? 10 : 0, len = from + rng_below(&rng, sizeof(text) - 11);
        for (size_t j = from; j < len; j++)
            text[j] = letters[rng_below(&rng, sizeof(letters) - 1)];
        text[len] = '\0';
        expect_bad_link(text);
    }
}

static void test_invite_words(void **state)
{
    (void)state;
    uint8_t s1[LINK_SECRET_LEN] = {1}, s2[LINK_SECRET_LEN] = {2};
    uint8_t a[INVITE_ID_LEN], b[INVITE_ID_LEN], p[32], q[32];
    link_invite_id(a, s1);
    link_invite_id(b, s2);
    assert_memory_not_equal(a, b, INVITE_ID_LEN);
    assert_memory_not_equal(a, s1, INVITE_ID_LEN);
    link_invite_proof(p, s1, (const uint8_t *)"one", 3);
    link_invite_proof(q, s1, (const uint8_t *)"two", 3);
    assert_memory_not_equal(p, q, 32);
    link_invite_proof(q, s2, (const uint8_t *)"one", 3);
    assert_memory_not_equal(p, q, 32);
}

/* --------------------------------------------------------------------------- proto */

static void test_proto_round_trip(void **state)
{
    (void)state;
    static uint8_t buf[PROTO_FRAME_MAX];
    uint64_t rng = 17;
    Offer o = Offer_init_zero, back;
    o.generation = 3;
    o.candidates_count = 16;
    for (int i = 0; i < 16; i++) {
        o.candidates[i].type = CAND_HOST;
        o.candidates[i].port = (uint32_t)i;
        o.candidates[i].ip.size = i % 2 ? 4 : 16;
        fill(&rng, o.candidates[i].ip.bytes, o.candidates[i].ip.size);
    }
    o.check_key.size = 16;
    o.complete = true;
    int n = proto_encode_offer(buf, sizeof(buf), &o);
    assert_true(n > 0);
    assert_int_equal(proto_decode_offer(&back, buf, (size_t)n), 0);
    assert_memory_equal(&o, &back, sizeof(o));
    for (size_t cap = 0; cap < (size_t)n; cap++)
        assert_int_equal(proto_encode_offer(buf, cap, &o), POSTERN_ERR_LIMIT);
    /* the worst that fits in Introduce.sealed once boxed */
    assert_true((size_t)n + SEAL_OVERHEAD <= 1024);
}

static void test_proto_hostile(void **state)
{
    (void)state;
    static uint8_t buf[PROTO_FRAME_MAX];
    uint64_t rng = 19;
    Control c = Control_init_zero;
    c.which_body = Control_introduce_tag;
    c.peer[0] = c.conv[0] = 1;
    c.body.introduce.sealed.size = 600;
    c.body.introduce.early.size = 1200;
    fill(&rng, c.body.introduce.sealed.bytes, 600);
    int n = proto_encode_control(buf, sizeof(buf), &c);
    assert_true(n > 1800);
    Control *out = malloc(sizeof(*out));
    Meta *meta = malloc(sizeof(*meta));
    Offer *offer = malloc(sizeof(*offer));
    assert_true(out != NULL && meta != NULL && offer != NULL);
    assert_int_equal(proto_decode_control(out, buf, (size_t)n), 0);
    assert_int_equal(out->which_body, Control_introduce_tag);
    static const uint8_t nobody[KEY_LEN];
    for (size_t cut = 1; cut < (size_t)n;
         cut++) /* what is whole but of nobody, or none */
        assert_true(proto_decode_control(out, buf, cut) == POSTERN_ERR_PROTO ||
                    memcmp(out->peer, nobody, KEY_LEN) == 0 ||
                    memcmp(out->conv, nobody, CONV_LEN) == 0);
    for (int i = 0; i < 20000; i++) { /* never a crash, nothing over its bound */
        size_t len = rng_below(&rng, 200);
        fill(&rng, buf, len);
        if (proto_decode_control(out, buf, len) == 0 &&
            out->which_body == Control_introduce_tag)
            assert_true(out->body.introduce.sealed.size <= 1024);
        if (proto_decode_offer(offer, buf, len) == 0)
            assert_true(offer->candidates_count <= 16);
        if (proto_decode_meta(meta, buf, len) == 0 &&
            meta->which_body == Meta_services_tag)
            assert_true(meta->body.services.services_count <= 64);
    }
    free(out);
    free(meta);
    free(offer);
}

static void test_proto_frames(void **state)
{
    (void)state;
    uint8_t buf[64];
    Meta m = Meta_init_zero;
    m.which_body = Meta_ping_tag;
    m.body.ping.nonce = 77;
    int n = proto_encode_frame(buf, sizeof(buf), Meta_fields, &m);
    assert_true(n > PROTO_FRAME_HEADER);
    for (size_t len = 0; len < (size_t)n; len++)
        assert_int_equal(proto_frame_size(buf, len, 1000), 0);
    assert_int_equal(proto_frame_size(buf, sizeof(buf), 1000), n);
    size_t body = (size_t)n - PROTO_FRAME_HEADER;
    assert_int_equal(proto_frame_size(buf, sizeof(buf), body), n);
    assert_int_equal(proto_frame_size(buf, sizeof(buf), body - 1), POSTERN_ERR_PROTO);
    memset(buf, 0xff, sizeof(buf));
    assert_int_equal(proto_frame_size(buf, sizeof(buf), PROTO_FRAME_MAX),
                     POSTERN_ERR_PROTO);
    for (size_t cap = 0; cap < (size_t)n; cap++)
        assert_int_equal(proto_encode_frame(buf, cap, Meta_fields, &m),
                         POSTERN_ERR_LIMIT);
}

/* ------------------------------------------------------------------- kinds, errors */

static void test_kinds(void **state)
{
    (void)state;
    struct fault f;
    uint32_t mask = 0;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        const char *name = path_kind_name((enum path_kind)k);
        assert_int_equal(path_kind_from_name(name), k);
        assert_int_equal(path_kinds_parse(&mask, name, &f), 0);
        assert_int_equal(mask, 1u << k);
    }
    assert_int_equal(path_kinds_parse(&mask, "relay,udp-punch", &f), 0);
    assert_int_equal(mask, 1u << PATH_RELAY | 1u << PATH_UDP_PUNCH);
    static const char *bad[] = {"",
                                ",",
                                "relay,",
                                ",relay",
                                "relay,,relay",
                                "Relay",
                                "nonsense",
                                "relay relay",
                                "a-name-that-is-much-too-long-for-any-kind"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        mask = 99;
        assert_int_equal(path_kinds_parse(&mask, bad[i], &f), POSTERN_ERR_USAGE);
        assert_int_equal(mask, 99);
        assert_true(f.what[0] != '\0' && f.advice[0] != '\0');
    }
    assert_string_equal(path_kind_name(PATH_KIND_NONE), "none");
    assert_false(path_kind_is_direct(PATH_RELAY));
    assert_true(path_kind_is_direct(PATH_UDP_PUNCH));
}

static void test_err(void **state)
{
    (void)state;
    struct fault f;
    for (int e = POSTERN_ERR_USAGE; e <= 0; e++)
        assert_string_not_equal(postern_strerror(e), "unknown error");
    assert_string_equal(postern_strerror(1), "unknown error");
    assert_int_equal(fault_set(NULL, -3, "x", "y %d", 1), -3);
    assert_int_equal(fault_set(&f, -3, NULL, "y %d", 1), -3);
    assert_string_equal(f.what, "y 1");
    assert_string_equal(f.advice, "");
}

/* Times are subtracted from one another: none is so late that this overflows. */
static void test_proto_times_are_bounded(void **state)
{
    uint8_t buf[256];
    Control in = Control_init_zero, out;
    (void)state;
    for (int late = 0; late < 2; late++) {
        in.which_body = Control_welcome_tag;
        in.body.welcome = (Welcome)Welcome_init_zero;
        in.body.welcome.time_s = PROTO_TIME_MAX_S + (unsigned)late;
        int n = proto_encode_control(buf, sizeof(buf), &in);
        assert_true(n > 0);
        assert_int_equal(proto_decode_control(&out, buf, (size_t)n),
                         late ? POSTERN_ERR_PROTO : 0);
        in.which_body = Control_portal_account_tag;
        in.body.portal_account = (PortalAccount)PortalAccount_init_zero;
        in.body.portal_account.expires_s = late ? UINT64_MAX : 0;
        n = proto_encode_control(buf, sizeof(buf), &in);
        assert_true(n > 0);
        assert_int_equal(proto_decode_control(&out, buf, (size_t)n),
                         late ? POSTERN_ERR_PROTO : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addr_of_internet),
        cmocka_unit_test(test_addr_text),
        cmocka_unit_test(test_addr_bytes),
        cmocka_unit_test(test_addr_scope),
        cmocka_unit_test(test_wire),
        cmocka_unit_test(test_base32),
        cmocka_unit_test(test_key_text),
        cmocka_unit_test(test_seal),
        cmocka_unit_test(test_sign),
        cmocka_unit_test(test_sign_rotation),
        cmocka_unit_test(test_link_round_trip),
        cmocka_unit_test(test_link_mangled),
        cmocka_unit_test(test_link_copied),
        cmocka_unit_test(test_link_of_a_web_page),
        cmocka_unit_test(test_link_without_its_punctuation),
        cmocka_unit_test(test_link_in_too_much),
        cmocka_unit_test(test_link_random),
        cmocka_unit_test(test_invite_words),
        cmocka_unit_test(test_proto_round_trip),
        cmocka_unit_test(test_proto_hostile),
        cmocka_unit_test(test_proto_frames),
        cmocka_unit_test(test_proto_times_are_bounded),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_err),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
