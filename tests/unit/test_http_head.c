/* Heads of HTTP requests: what RFC 9112 refuses, whole and in any pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/http_head.h"

#define GET "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define POST "POST /login HTTP/1.1\r\n" HOST

/* Whole heads, so that one that passes can be told from one that only goes on. */
static const char *const good[] = {
    GET HOST "\r\n",
    GET "host:a:443\r\n\r\n",
    GET "Host: [2001:db8::1]:443 \t\r\n\r\n",
    GET "Host:\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "\r\n\r\n" GET HOST "\r\n",
    "GET /%00?a=b HTTP/1.1\r\nX:\r\nY: a\tb\xc3\xa9\r\n" HOST "\r\n",
    "GET http://a/ HTTP/1.1\r\n" HOST "\r\n",
    "OPTIONS * HTTP/1.1\r\n" HOST "\r\n",
    POST "Content-Length: 3\r\n\r\na\nb" GET HOST "\r\n",
    POST "content-LENGTH:0\r\n\r\n" GET HOST "\r\n",
    POST "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    GET HOST "\r\n" GET HOST "\r\n",
    "GET / HTTP/2.0\r\n" HOST "\r\nanything", /* for who knows the versions */
};

static const char *const bad[] = {
    /* where a body ends */
    POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
    POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
    POST "Content-Length: 3, 4\r\n\r\n",
    POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
    POST "Transfer-Encoding: gzip, chunked\r\n\r\n",
    POST "Transfer-Encoding: xchunked\r\n\r\n",
    POST "Transfer-Encoding:\r\n\r\n",
    "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
    POST "Content-Length: -3\r\n\r\n",
    POST "Content-Length: +3\r\n\r\n",
    POST "Content-Length: 0x3\r\n\r\n",
    POST "Content-Length: 3 4\r\n\r\n",
    POST "Content-Length:\r\n\r\n",
    POST "Content-Length: 99999999999999999999\r\n\r\n",
    /* for whom it is */
    GET "\r\n",
    GET "X-Host: a\r\n\r\n",
    GET HOST HOST "\r\n",
    "GET / HTTP/1.0\r\n" HOST "Host: b\r\n\r\n",
    GET "Host: a b\r\n\r\n",
    GET "Host: a, b\r\n\r\n",
    GET "Host: me@a\r\n\r\n",
    GET "Host: a/b\r\n\r\n",
    /* where a line ends */
    GET HOST "X: a\rY: b\r\n\r\n",
    GET HOST "X: a\nY: b\r\n\r\n",
    GET HOST "X: a\r\rY: b\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\rHost: a\r\r",
    GET HOST "\rGET / HTTP/1.1\r\n",
    GET HOST "\n",
    GET HOST "X: a\r\n b\r\n\r\n",
    GET HOST "X: a\r\n\tb\r\n\r\n",
    GET " Host: a\r\n\r\n",
    /* what a field is */
    GET HOST "X : a\r\n\r\n",
    POST "Content-Length : 3\r\n\r\n",
    POST "Content-Length\t: 3\r\n\r\n",
    GET HOST ": a\r\n\r\n",
    GET HOST "no colon\r\n\r\n",
    GET HOST "X\r\n\r\n",
    GET HOST "(x): a\r\n\r\n",
    GET HOST "X: a\x01\r\n\r\n",
    GET HOST "X: a\x7f\r\n\r\n",
    /* what a request line is */
    "GET  / HTTP/1.1\r\n" HOST "\r\n",
    "GET / HTTP/1.1 \r\n" HOST "\r\n",
    "GET /a b HTTP/1.1\r\n" HOST "\r\n",
    "GET\t/ HTTP/1.1\r\n" HOST "\r\n",
    "GET /\r\n\r\n",
    "GET / http/1.1\r\n" HOST "\r\n",
    "GET / HTTP/1.11\r\n" HOST "\r\n",
    "GET / HTTP/11\r\n" HOST "\r\n",
    "GET /\x80 HTTP/1.1\r\n" HOST "\r\n",
    " GET / HTTP/1.1\r\n" HOST "\r\n",
    "G(T / HTTP/1.1\r\n" HOST "\r\n",
    "\n" GET HOST "\r\n",
    "\r\n\r\n\r\n\r\n\r\n" GET HOST "\r\n",
    /* the second one of a connection */
    GET HOST "\r\n" GET "\r\n",
    POST "Content-Length: 3\r\n\r\nabcd\r\n\r\n",
};

/* How much passed when it comes in pieces of `step` bytes. */
static size_t pass(struct http_head *h, const char *text, size_t step)
{
    size_t len = strlen(text), passed = 0;
    http_head_init(h);
    for (size_t at = 0; at < len; at += step) {
        size_t piece = len - at < step ? len - at : step;
        passed += http_head_pass(h, (const uint8_t *)text + at, piece);
    }
    return passed;
}

static void test_what_is_well_formed_passes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        for (size_t step = 1; step <= strlen(good[i]); step++) {
            struct http_head h;
            if (pass(&h, good[i], step) != strlen(good[i]) || h.fault != NULL)
                fail_msg("%s: %s", h.fault, good[i]);
        }
}

/* The end of the faulty head never passes, and the pieces make no difference. */
static void test_what_is_not_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct http_head h;
        size_t whole = pass(&h, bad[i], strlen(bad[i]));
        const char *fault = h.fault;
        if (fault == NULL || whole >= strlen(bad[i]))
            fail_msg("passed: %s", bad[i]);
        for (size_t step = 1; step < strlen(bad[i]); step++) {
            assert_int_equal(pass(&h, bad[i], step), whole);
            assert_ptr_equal(h.fault, fault);
        }
        assert_int_equal(http_head_pass(&h, (const uint8_t *)GET, 5), 0);
    }
}

/* Nothing that a strict reader refuses may look like a whole head to a lenient one. */
static void test_no_end_of_a_faulty_head_passes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct http_head h;
        char text[512];
        size_t passed = pass(&h, bad[i], 7);
        memcpy(text, bad[i], passed);
        text[passed] = '\0';
        const char *first = strstr(text, "\r\n\r\n"); /* of the good one before */
        if (strncmp(bad[i], GET HOST "\r\n", 27) == 0 ||
            strncmp(text, "\r\n", 2) == 0 || strstr(bad[i], "abcd") != NULL)
            continue;
        if (first != NULL || strstr(text, "\n\n") != NULL)
            fail_msg("a head passed: %s", text);
    }
}

static void test_a_long_value_ends_nothing(void **state)
{
    (void)state;
    struct http_head h;
    char *text = malloc(200000);
    assert_non_null(text);
    static const char begin[] = GET HOST "Cookie: ";
    memset(text, 'a', 100000);
    memcpy(text, begin, sizeof(begin) - 1);
    memcpy(text + 100000, "\r\n\r\n", 5);
    assert_int_equal(pass(&h, text, 4096), 100004);
    assert_null(h.fault);
    memcpy(text + strlen(GET), "Host: aaa", 9);
    memset(text + strlen(GET) + 9, 'a', 1000);
    assert_true(pass(&h, text, 4096) < 100004);
    assert_non_null(h.fault);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_well_formed_passes),
        cmocka_unit_test(test_what_is_not_is_refused),
        cmocka_unit_test(test_no_end_of_a_faulty_head_passes),
        cmocka_unit_test(test_a_long_value_ends_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
