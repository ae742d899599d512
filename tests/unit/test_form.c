/* Form bodies, cookies, origins and paths, as browsers and attackers send them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/form.h"

enum { CAP = 16 };

struct form {
    char name[CAP], password[CAP];
    struct form_field fields[2];
};

static int parse_len(struct form *f, const char *body, size_t len)
{
    memset(f, 'x', sizeof(*f)); /* what stood there before does not matter */
    f->fields[0] = (struct form_field){"name", f->name, CAP, 77, true};
    f->fields[1] = (struct form_field){"password", f->password, CAP, 77, true};
    return form_parse(body, len, f->fields, 2);
}

static int parse(struct form *f, const char *body)
{
    return parse_len(f, body, strlen(body));
}

static void test_reads_a_form(void **state)
{
    static const struct {
        const char *body, *name, *password; /* NULL: not present */
    } cases[] = {
        {"name=amy&password=secret", "amy", "secret"},
        {"password=secret&name=amy", "amy", "secret"},
        {"", NULL, NULL},
        {"&&", NULL, NULL},
        {"name", "", NULL},
        {"name=", "", NULL},
        {"=amy", NULL, NULL},
        {"name=a=b", "a=b", NULL},
        {"name=a+b%20c", "a b c", NULL},
        {"name=%2B%26%3d%25", "+&=%", NULL},
        {"n%61me=amy", "amy", NULL},
        {"name=%C3%A4%E2%82%AC%F0%9F%98%80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
         NULL},
        {"name=\xc3\xa4", "\xc3\xa4", NULL},
        {"Name=amy&names=bob&nam=eve", NULL, NULL},
        {"other=1&name=amy&other=2&x", "amy", NULL},
        {"name=123456789012345", "123456789012345", NULL}, /* CAP - 1 */
        {"o=12345678901234567890", NULL, NULL},
    };
    struct form f;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse(&f, cases[i].body), 0);
        const char *want[2] = {cases[i].name, cases[i].password};
        for (int k = 0; k < 2; k++) {
            assert_int_equal(f.fields[k].present, want[k] != NULL);
            assert_string_equal(f.fields[k].value, want[k] != NULL ? want[k] : "");
            assert_int_equal(f.fields[k].len, strlen(f.fields[k].value));
        }
    }
}

static void assert_nothing(const struct form *f)
{
    static const char zero[CAP];
    assert_memory_equal(f->name, zero, CAP);
    assert_memory_equal(f->password, zero, CAP);
    assert_false(f->fields[0].present || f->fields[1].present);
}

static void test_refuses_bad_forms(void **state)
{
    static const char *const bad[] = {
        "name=%", "name=%4", "name=%4g", "name=%g4", "name=a%", "n%=a", "x=%", "%zz",
        /* control characters, also in what nobody wants */
        "name=a%00b", "name=%0a", "name=%0D", "name=%7f", "name=\t", "name=%C2%80",
        "name=%C2%9F", "x=%00", "%00=1", "name=\n",
        /* not UTF-8: alone, cut off, overlong, surrogate, too high */
        "name=%80", "name=%C3", "name=%C3a", "name=%E2%82", "name=%C0%AF",
        "name=%C1%81", "name=%E0%80%AF", "name=%ED%A0%80", "name=%F4%90%80%80",
        "name=%F5%80%80%80", "name=%F0%80%80%80", "name=%FF", "x=%FF", "name=\xff",
        "name=%C3&password=%A4",
        /* twice */
        "name=a&name=a", "name&name", "name=a&x=1&n%61me=b"};
    struct form f;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse(&f, bad[i]), POSTERN_ERR_INVALID);
        assert_nothing(&f);
    }
    assert_int_equal(parse(&f, "password=p&name=1234567890123456"), POSTERN_ERR_LIMIT);
    assert_nothing(&f);
    assert_int_equal(parse_len(&f, "name=a\0b", 8), POSTERN_ERR_INVALID);
    assert_int_equal(parse_len(&f, "name=%41", 7), POSTERN_ERR_INVALID);
    static char large[FORM_BODY_MAX + 1];
    memset(large, 'a', sizeof(large));
    assert_int_equal(parse_len(&f, large, FORM_BODY_MAX), 0);
    assert_int_equal(parse_len(&f, large, FORM_BODY_MAX + 1), POSTERN_ERR_LIMIT);
}

static void test_finds_a_cookie(void **state)
{
    static const struct {
        const char *header;
        int want;
        const char *value;
    } cases[] = {
        {"sid=abc", 0, "abc"},
        {"a=1; sid=abc; b=2", 0, "abc"},
        {"a=1;sid=abc", 0, "abc"},
        {" \tsid=abc \t; a", 0, "abc"},
        {"sid=\"abc\"", 0, "abc"},
        {"sid=", 0, ""},
        {"sid=a=b", 0, "a=b"},
        {"", POSTERN_ERR_NOTFOUND, ""},
        {"sid", POSTERN_ERR_NOTFOUND, ""},
        {"SID=abc; xsid=1; sidx=2; sid =3", POSTERN_ERR_NOTFOUND, ""},
        {"sid=abc; sid=abc", POSTERN_ERR_INVALID, ""},
        {"sid=a b", POSTERN_ERR_INVALID, ""},
        {"sid=a,b", POSTERN_ERR_INVALID, ""},
        {"sid=a\\b", POSTERN_ERR_INVALID, ""},
        {"sid=\"abc", POSTERN_ERR_INVALID, ""},
        {"sid=\"", POSTERN_ERR_INVALID, ""},
        {"sid=a\x01", POSTERN_ERR_INVALID, ""},
        {"sid=\xc3\xa4", POSTERN_ERR_INVALID, ""},
        {"sid=1234567", 0, "1234567"},
        {"sid=12345678", POSTERN_ERR_LIMIT, ""},
        {"x=\x01\xff; ;;=; sid=abc", 0, "abc"}, /* others may be odd */
    };
    char value[8];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(value, 'x', sizeof(value));
        assert_int_equal(form_cookie(cases[i].header, strlen(cases[i].header), "sid",
                                     value, sizeof(value)),
                         cases[i].want);
        assert_string_equal(value, cases[i].value);
    }
    assert_int_equal(form_cookie("sid=abc", 6, "sid", value, sizeof(value)), 0);
    assert_string_equal(value, "ab");
}

static void test_compares_origins(void **state)
{
    static const struct {
        const char *origin, *host;
        bool same;
    } cases[] = {
        {"https://broker.example", "broker.example", true},
        {"https://broker.example", "broker.example:443", true},
        {"https://broker.example:443", "broker.example", true},
        {"https://Broker.Example", "bROKER.eXAMPLE", true},
        {"https://broker.example:8443", "broker.example:8443", true},
        {"https://[2001:db8::1]:8443", "[2001:DB8::1]:8443", true},
        {"https://192.0.2.1", "192.0.2.1", true},
        {"https://broker.example:8443", "broker.example", false},
        {"https://broker.example", "broker.example:8443", false},
        {"http://broker.example", "broker.example", false},
        {"https://evil.example", "broker.example", false},
        {"https://broker.example.evil.example", "broker.example", false},
        {"https://broker.exampl", "broker.example", false},
        {"https://broker.example/", "broker.example", false},
        {"https://broker.example https://evil.example", "broker.example", false},
        {"https://a@broker.example", "broker.example", false},
        {"https://", "", false},
        {"https://broker.example:", "broker.example:", false},
        {"https://broker.example:0", "broker.example:0", false},
        {"https://broker.example:65979", "broker.example", false},
        {"https://broker.example:+443", "broker.example", false},
        {"https://[::1", "[::1", false},
        {"https://[::1]x", "[::1]x", false},
        {"null", "null", false},
        {"", "broker.example", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(form_same_origin(cases[i].origin, strlen(cases[i].origin),
                                          cases[i].host, strlen(cases[i].host)),
                         cases[i].same);
}

static void test_reads_a_host(void **state)
{
    char name[10];
    unsigned port;
    (void)state;
    assert_int_equal(form_host("A.b-c:80", 8, name, sizeof(name), &port), 0);
    assert_string_equal(name, "a.b-c");
    assert_int_equal(port, 80);
    assert_int_equal(form_host("[::1]", 5, name, sizeof(name), &port), 0);
    assert_string_equal(name, "::1");
    assert_int_equal(port, 0);
    assert_int_equal(form_host("123456789", 9, name, sizeof(name), NULL), 0);
    assert_int_equal(form_host("1234567890", 10, name, sizeof(name), NULL),
                     POSTERN_ERR_LIMIT);
    assert_string_equal(name, "");
    static const char *const bad[] = {"",     ":80", "[]",      "[]:80",
                                      "a b",  "a/b", "a%41",    "a:b:c",
                                      "[a]b", "[g]", "a:70000", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(form_host(bad[i], strlen(bad[i]), name, sizeof(name), &port),
                         POSTERN_ERR_INVALID);
}

static void test_splits_paths(void **state)
{
    static const struct {
        const char *target;
        int want;
        size_t count;
        const char *first, *last, *query;
    } cases[] = {
        {"/", 0, 0, NULL, NULL, NULL},
        {"/?a=1", 0, 0, NULL, NULL, "a=1"},
        {"/login", 0, 1, "login", "login", NULL},
        {"/login?", 0, 1, "login", "login", ""},
        {"/host/KEY/revoke?x=/..//", 0, 3, "host", "revoke", "x=/..//"},
        {"/a%20b+c%C3%A4/d", 0, 2, "a b+c\xc3\xa4", "d", NULL},
        {"/1/2/3/4/5/6/7/8", 0, 8, "1", "8", NULL},
        {"/1/2/3/4/5/6/7/8/9", POSTERN_ERR_LIMIT, 0, NULL, NULL, NULL},
        {"", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"*", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"login", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"http://a/b", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"//", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"//a", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a/", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a//b", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/.", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a/..", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/%2e%2E/a", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%2Fb", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%5cb", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a\\b", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%00", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%0a", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a%C3/%A4", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a#b", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a?b#c", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/a b", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/\xc3\xa4", POSTERN_ERR_INVALID, 0, NULL, NULL, NULL},
        {"/...", 0, 1, "...", "...", NULL},
    };
    struct form_path p;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&p, 'x', sizeof(p));
        assert_int_equal(form_split_path(&p, cases[i].target, strlen(cases[i].target)),
                         cases[i].want);
        assert_int_equal(p.count, cases[i].count);
        if (p.count > 0) {
            assert_string_equal(p.segments[0], cases[i].first);
            assert_string_equal(p.segments[p.count - 1], cases[i].last);
        }
        assert_int_equal(p.query != NULL, cases[i].query != NULL);
        if (p.query != NULL) {
            assert_int_equal(p.query_len, strlen(cases[i].query));
            assert_memory_equal(p.query, cases[i].query, p.query_len);
        }
    }
}

static void test_bounds_of_a_path(void **state)
{
    char target[FORM_TARGET_MAX + 2];
    struct form_path p;
    (void)state;
    memset(target, 'a', sizeof(target));
    target[0] = '/';
    assert_int_equal(form_split_path(&p, target, FORM_SEGMENT_LEN), 0);
    assert_int_equal(strlen(p.segments[0]), FORM_SEGMENT_LEN - 1);
    assert_int_equal(form_split_path(&p, target, FORM_SEGMENT_LEN + 1),
                     POSTERN_ERR_LIMIT);
    target[1] = '?';
    assert_int_equal(form_split_path(&p, target, FORM_TARGET_MAX), 0);
    assert_int_equal(p.query_len, FORM_TARGET_MAX - 2);
    assert_int_equal(form_split_path(&p, target, FORM_TARGET_MAX + 1),
                     POSTERN_ERR_LIMIT);
}

static void test_knows_local_paths(void **state)
{
    static const char *const good[] = {"/", "/a", "/host/KEY?x=1&y=%20", "/a//b"};
    static const char *const bad[] = {
        "",      "a",    "//evil.example", "/\\evil", "/a b",
        "/a\\b", "/a\n", "https://a/",     "/a#b",    "/\xc3\xa4"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(form_local_path(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(form_local_path(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_a_form),
        cmocka_unit_test(test_refuses_bad_forms),
        cmocka_unit_test(test_finds_a_cookie),
        cmocka_unit_test(test_compares_origins),
        cmocka_unit_test(test_reads_a_host),
        cmocka_unit_test(test_splits_paths),
        cmocka_unit_test(test_bounds_of_a_path),
        cmocka_unit_test(test_knows_local_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
