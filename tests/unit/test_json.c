/* The JSON writer and reader: escapes, bad UTF-8, bounds, broken input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/json.h"
#include "core/utf8.h"

static void test_object(void **state)
{
    (void)state;
    char buf[256];
    struct json j = json_writer(buf, sizeof(buf));
    json_object_begin(&j, NULL);
    json_text(&j, "a", "x\"\\\n\t\x01y");
    json_int(&j, "b", -5);
    json_real(&j, "c", 1.5, 3);
    json_real(&j, "d", 20, 3);
    json_bool(&j, "e", true);
    json_text(&j, "f", NULL);
    json_array_begin(&j, "g");
    json_int(&j, NULL, 1);
    json_text(&j, NULL, "two");
    json_object_begin(&j, NULL);
    json_object_end(&j);
    json_array_end(&j);
    json_object_end(&j);
    assert_int_equal(json_end(&j), strlen(buf));
    assert_string_equal(
        buf, "{\"a\":\"x\\\"\\\\\\n\\t\\u0001y\",\"b\":-5,\"c\":1.5,\"d\":20,"
             "\"e\":true,\"f\":null,\"g\":[1,\"two\",{}]}");
}

static void test_bad_utf8(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"caf\xc3\xa9", "\"caf\xc3\xa9\""},
        {"\xf0\x9f\x9a\xaa", "\"\xf0\x9f\x9a\xaa\""},
        {"a\xff"
         "b",
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"x\xe2\x82", "\"x\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\x7f", "\"\\u007f\""},
        {"\xc2\x9b\xc2\xa0", "\"\\u009b\xc2\xa0\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char buf[64];
        struct json j = json_writer(buf, sizeof(buf));
        json_text(&j, NULL, cases[i].in);
        assert_true(json_end(&j) > 0);
        assert_string_equal(buf, cases[i].out);
    }
}

/* Every size of buffer up to what is needed fails, and none is overrun. */
static void test_bounds(void **state)
{
    (void)state;
    char buf[64], whole[] = "{\"name\":\"a\\nb\",\"n\":12}";
    for (size_t cap = 0; cap < sizeof(buf); cap++) {
        memset(buf, '#', sizeof(buf));
        struct json j = json_writer(buf, cap);
        json_object_begin(&j, NULL);
        json_text(&j, "name", "a\nb");
        json_int(&j, "n", 12);
        json_object_end(&j);
        bool fits = cap > strlen(whole);
        assert_int_equal(json_end(&j), fits ? (int)strlen(whole) : POSTERN_ERR_LIMIT);
        for (size_t i = cap; i < sizeof(buf); i++)
            assert_int_equal(buf[i], '#');
        if (fits)
            assert_string_equal(buf, whole);
    }
}

static void test_real(void **state)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0, "0"},        {0.1234, "0.123"},   {100, "100"},
                 {1e300, "null"}, {0.0 / 0.0, "null"}, {12.340, "12.34"}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char buf[32];
        struct json j = json_writer(buf, sizeof(buf));
        json_real(&j, NULL, cases[i].v, 3);
        assert_string_equal(buf, cases[i].text);
    }
}

static void test_find(void **state)
{
    (void)state;
    static const char text[] =
        "{ \"event\" : \"path\", \"peer\":\"a\\\"}\\u0041\\n\", \"n\": -1.5e3,\n"
        "\"deep\":{\"n\":[1,{\"}\":2}]}, \"list\":[\"a\", 2 ,true], \"no\":null}";
    struct json_value v;
    char buf[64];
    assert_int_equal(json_find(&v, text, "peer"), 0);
    json_value_words(&v, buf, sizeof(buf));
    assert_string_equal(buf, "a\"}A ");
    assert_int_equal(json_find(&v, text, "n"), 0);
    assert_int_equal(v.type, JSON_NUMBER);
    json_value_words(&v, buf, sizeof(buf));
    assert_string_equal(buf, "-1.5e3");
    assert_int_equal(json_find(&v, text, "list"), 0);
    json_value_words(&v, buf, sizeof(buf));
    assert_string_equal(buf, "a, 2, true");
    assert_int_equal(json_find(&v, text, "no"), 0);
    assert_int_equal(v.type, JSON_NULL);
    assert_int_equal(json_find(&v, text, "missing"), POSTERN_ERR_NOTFOUND);
}

/* No cut of a good text makes the reader run over its end. */
static void test_broken(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":\"b\\u00e9\",\"c\":[1,{\"d\":2}],\"e\":true}";
    struct json_value v;
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *cut = strndup(text, len);
        assert_non_null(cut);
        assert_true(json_find(&v, cut, "zz") < 0);
        free(cut);
    }
    assert_true(json_find(&v, "[]", "a") < 0);
    assert_true(json_find(&v, "{a:1}", "a") < 0);
    assert_true(json_find(&v, "{\"a\" 1}", "a") < 0);
    assert_true(json_find(&v, "{\"a\":}", "a") < 0);
}

static void test_words_cut(void **state)
{
    (void)state;
    struct json_value v = {.type = JSON_TEXT, .at = "ab\xc3\xa9z", .len = 5};
    char buf[4];
    json_value_words(&v, buf, sizeof(buf));
    assert_string_equal(buf, "ab"); /* never half a character */
}

static void test_words_that_a_terminal_obeys(void **state)
{
    char text[] = "a\x1b[2J\x07\n\xc2\x9b"
                  "b\xc3\xa9\xff\x7f\xc2";
    (void)state;
    utf8_make_plain(text);
    assert_string_equal(text, "a?[2J????b\xc3\xa9???");
    struct fault f;
    (void)fault_set(&f, POSTERN_ERR_DENIED, "\r\ndo", "home: %s", "\x1b]0;pwn\x07");
    assert_string_equal(f.what, "home: ?]0;pwn?");
    assert_string_equal(f.advice, "??do");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_object),
        cmocka_unit_test(test_bad_utf8),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_words_cut),
        cmocka_unit_test(test_words_that_a_terminal_obeys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
