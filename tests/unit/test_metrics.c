/* Figures as text, and requests for them; each byte by byte where that matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/figures.h"
#include "core/http_ask.h"
#include "core/metrics.h"

static void test_text(void **state)
{
    char text[512];
    struct metrics m = metrics_writer(text, sizeof(text));
    (void)state;
    metrics_family(&m, "a_total", METRIC_COUNTER, "Help.");
    metrics_label(&m, "x", "q\"b\\n\n");
    metrics_label(&m, "y", "2");
    metrics_count(&m, UINT64_MAX);
    metrics_count(&m, 0);
    metrics_one(&m, "b", METRIC_GAUGE, "More.", 0.25);
    static const char want[] =
        "# HELP a_total Help.\n# TYPE a_total counter\n"
        "a_total{x=\"q\\\"b\\\\n\\n\",y=\"2\"} 18446744073709551615\n"
        "a_total 0\n"
        "# HELP b More.\n# TYPE b gauge\nb 0.25\n";
    assert_int_equal(metrics_end(&m), sizeof(want) - 1);
    assert_string_equal(text, want);
}

static void test_histogram(void **state)
{
    char text[2048];
    struct metrics m = metrics_writer(text, sizeof(text));
    struct histogram h = {0}, sum = {0};
    (void)state;
    histogram_note(&h, 1000); /* the upper end is inside */
    histogram_note(&h, 1001);
    histogram_note(&h, 31000000);
    histogram_add(&sum, &h);
    histogram_add(&sum, &h);
    metrics_family(&m, "t", METRIC_HISTOGRAM, "Times.");
    metrics_label(&m, "way", "direct");
    metrics_histogram(&m, &sum);
    assert_true(metrics_end(&m) > 0);
    assert_non_null(strstr(text, "t_bucket{way=\"direct\",le=\"0.001\"} 2\n"));
    assert_non_null(strstr(text, "t_bucket{way=\"direct\",le=\"0.0025\"} 4\n"));
    assert_non_null(strstr(text, "t_bucket{way=\"direct\",le=\"30\"} 4\n"));
    assert_non_null(strstr(text, "t_bucket{way=\"direct\",le=\"+Inf\"} 6\n"));
    assert_non_null(strstr(text, "t_sum{way=\"direct\"} 62.004002\n"));
    assert_non_null(strstr(text, "t_count{way=\"direct\"} 6\n"));
}

/* Out of room anywhere: an error, and nothing behind the end. */
static void test_no_room(void **state)
{
    char text[300];
    (void)state;
    for (size_t cap = 1; cap < 130; cap++) {
        memset(text, 'x', sizeof(text));
        struct metrics m = metrics_writer(text, cap);
        metrics_one(&m, "first", METRIC_GAUGE, "One.", 1);
        metrics_one(&m, "second", METRIC_GAUGE, "Two, with many more words.", 2);
        assert_true(strlen(text) < cap);
        assert_int_equal(text[cap], 'x');
    }
    struct metrics m = metrics_writer(text, sizeof(text));
    char word[400];
    memset(word, 'w', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    metrics_family(&m, "a", METRIC_GAUGE, "A.");
    metrics_label(&m, "l", word); /* cut, and closed */
    metrics_label(&m, "m", "none");
    metrics_count(&m, 1);
    assert_true(metrics_end(&m) > 0);
    assert_non_null(strstr(text, "w\"} 1\n"));
}

/* Each row of the broker's table is its own, and all are written. */
static void test_broker_rows(void **state)
{
    static char text[65536];
    static struct figures own, shown, sum;
    (void)state;
    for (uint64_t i = 0; i < FIGURE_COUNT; i++)
        own.values[i] = 1000000 + i;
    histogram_note(&own.times[TIME_PAIR], 5);
    figures_show(&shown, &own);
    figures_add(&sum, &shown);
    struct metrics m = metrics_writer(text, sizeof(text));
    figures_write(&sum, &m);
    assert_true(metrics_end(&m) > 0);
    for (uint64_t i = 0; i < FIGURE_COUNT; i++) {
        char value[32];
        (void)snprintf(value, sizeof(value), " %llu\n",
                       (unsigned long long)(1000000 + i));
        const char *at = strstr(text, value);
        assert_non_null(at);
        assert_null(strstr(at + 1, value));
    }
    assert_non_null(strstr(text, "postern_broker_relay_setup_seconds_count 1\n"));
}

static enum http_ask ask(const char *text, char path[static HTTP_ASK_PATH_LEN])
{
    size_t len = strlen(text);
    for (size_t cut = 0; cut + 2 < len; cut++) /* no verdict before the end */
        assert_int_equal(http_ask_read(path, text, cut), HTTP_ASK_MORE);
    return http_ask_read(path, text, len);
}

static void test_asks(void **state)
{
    static const struct {
        const char *text;
        enum http_ask verdict;
        const char *path;
    } cases[] = {
        {"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_ASK_GET, "/metrics"},
        {"GET /metrics?x=1 HTTP/1.0\r\n\r\n", HTTP_ASK_GET, "/metrics"},
        {"HEAD / HTTP/1.1\n\n", HTTP_ASK_HEAD, "/"},
        {"POST / HTTP/1.1\r\n\r\n", HTTP_ASK_METHOD, ""},
        {"GET / HTTP/2.0\r\n\r\n", HTTP_ASK_BAD, ""},
        {"GET /\r\n\r\n", HTTP_ASK_BAD, ""},
        {"GET http://a/ HTTP/1.1\r\n\r\n", HTTP_ASK_BAD, ""},
        {"GET /\x7f HTTP/1.1\r\n\r\n", HTTP_ASK_BAD, ""},
        {"\x16\x03\x01\r\n\r\n", HTTP_ASK_BAD, ""},
        {"GET /0123456789012345678901234567890123456789012345678901234567890123 "
         "HTTP/1.1\r\n\r\n",
         HTTP_ASK_LONG, ""},
    };
    char path[HTTP_ASK_PATH_LEN];
    static char full[HTTP_ASK_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(ask(cases[i].text, path), cases[i].verdict);
        assert_string_equal(path, cases[i].path);
    }
    memset(full, 'a', sizeof(full));
    assert_int_equal(http_ask_read(path, full, sizeof(full) - 1), HTTP_ASK_MORE);
    assert_int_equal(http_ask_read(path, full, sizeof(full)), HTTP_ASK_LONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),    cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_no_room), cmocka_unit_test(test_broker_rows),
        cmocka_unit_test(test_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
