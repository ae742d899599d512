/* The portal's pages: hostile texts stay texts, hints, numbers, labels, QR codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "markup.h"
#include "portal/html.h"
#include "portal/picture.h"
#include "samples.h"

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define SKELETON_LEN 65536

/* Fails with the place when the page is not sound; fills `skeleton`. */
static void assert_sound(const char *name, const struct html *page, char *skeleton)
{
    size_t at;
    assert_false(page->failed);
    assert_int_equal(strlen(page->text), page->len);
    const char *wrong = markup_check(page->text, skeleton, SKELETON_LEN, &at);
    if (wrong != NULL)
        fail_msg("%s: %s: ...%.60s", name, wrong, page->text + at);
    assert_true(strlen(skeleton) < SKELETON_LEN - 256); /* none was cut */
}

static void test_samples_are_sound(void **state)
{
    (void)state;
    char *skeleton = malloc(SKELETON_LEN);
    for (const struct sample *s = samples; s->name != NULL; s++) {
        struct html page = {0};
        s->draw(&page);
        assert_sound(s->name, &page, skeleton);
        html_fini(&page);
    }
    free(skeleton);
}

/* Whatever the text is, elements and attributes are those of a harmless one. */
static void test_hostile_texts_stay_texts(void **state)
{
    static const char *const hostile[] = {
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onclick='alert(1)",
        "\" autofocus onfocus=\"alert(1)",
        "</svg><script>x</script>",
        "</title><script>x</script>",
        "&lt;script&gt;&#60;&amp",
        "javascript:alert(1)",
        "//evil.example/",
        "../../logout?x=1#y",
        "%s%n%u%",
        "\x01\x02\x1b[31m\x7f\t\r\n",
        "\xff\xfe\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82",
        "\xc2\x80\xc2\x9f\xe2\x80\xae\xe2\x81\xa6\xef\xbf\xbf\xe2\x80\x8e",
        "<!-- -->]]><![CDATA[",
        "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xf0\x9f\x9a\xaa",
    };
    (void)state;
    char *wanted = malloc(SKELETON_LEN), *got = malloc(SKELETON_LEN);
    for (unsigned which = 0; which < SAMPLE_PAGES; which++) {
        struct html page = {0};
        sample_draw_with(&page, which, "plain", 7);
        assert_sound("plain", &page, wanted);
        assert_null(strstr(wanted, "plain")); /* no text stands where names do */
        html_fini(&page);
        for (size_t i = 0; i < COUNT_OF(hostile); i++) {
            sample_draw_with(&page, which, hostile[i], 7);
            assert_sound(hostile[i], &page, got);
            assert_string_equal(got, wanted);
            html_fini(&page);
        }
    }
    free(wanted);
    free(got);
}

/* The reader would notice: each of these is refused. */
static void test_reader_refuses(void **state)
{
    static const char *const bad[] = {
        "<b>x</b>",
        "<p onclick=\"x\">x</p>",
        "<p class=x>x</p>",
        "<p class=\"x>x</p>",
        "<p>a & b</p>",
        "<p>a > b</p>",
        "<p>it's</p>",
        "<p>&copy;</p>",
        "<p>x",
        "<p>x</div>",
        "x</p>",
        "<p>\x01</p>",
        "<p>\xff</p>",
        "<p>\xc2\x85</p>",
        "<a href=\"javascript:x\">x</a>",
        "<form action=\"http://x/\"></form>",
        "<p style=\"x\">x</p>",
    };
    (void)state;
    char skeleton[1024];
    size_t at;
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        if (markup_check(bad[i], skeleton, sizeof(skeleton), &at) == NULL)
            fail_msg("taken for sound: %s", bad[i]);
    assert_null(markup_check("<p class=\"x\">a &amp; b</p>", skeleton, 1024, &at));
    assert_string_equal(skeleton, "p class x / ");
}

static void test_escapes(void **state)
{
    static const struct {
        const char *in, *text, *segment;
    } cases[] = {
        {"plain-1_2~", "plain-1_2~", "plain-1_2~"},
        {"<&>\"'", "&lt;&amp;&gt;&quot;&#39;", "%3C%26%3E%22%27"},
        {"a/../b.", "a/../b.", "a%2F%2E%2E%2Fb%2E"},
        {"a\tb\nc", "a b c", "a%09b%0Ac"},
        {"\x01\x7f", "\xef\xbf\xbd\xef\xbf\xbd", "%01%7F"},
        {"caf\xc3\xa9", "caf\xc3\xa9", "caf%C3%A9"},
        {"\xff!", "\xef\xbf\xbd!", "%FF%21"},
        {"\xc2\x9b", "\xef\xbf\xbd", "%C2%9B"},
        {"\xc2\xa0", "\xc2\xa0", "%C2%A0"},
        {"\xe2\x80\xae", "\xef\xbf\xbd", "%E2%80%AE"},
        {"\xe2\x80\xa6", "\xe2\x80\xa6", "%E2%80%A6"},
        {"", "", ""},
        {NULL, "", ""},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct html h = {0};
        char wanted[64];
        html_add(&h, "[%s]", cases[i].in);
        (void)snprintf(wanted, sizeof(wanted), "[%s]", cases[i].text);
        assert_string_equal(h.text, wanted);
        html_fini(&h);
        html_add(&h, "/");
        html_add_segment(&h, cases[i].in);
        assert_string_equal(h.text + 1, cases[i].segment);
        html_fini(&h);
    }
}

static void test_builder(void **state)
{
    (void)state;
    struct html h = {0};
    html_add(&h, "%u %zu %.1f %% %s", 7u, (size_t)8, 1.25, "x");
    assert_string_equal(h.text, "7 8 1.2 % x");
    html_fini(&h);
    assert_null(h.text);
    for (unsigned i = 0; i < 20000; i++) /* grows */
        html_add(&h, "%u,", i % 10);
    assert_int_equal(h.len, 40000);
    assert_int_equal(strlen(h.text), 40000);
    html_fini(&h);
    h = (struct html){.failed = true};
    html_add(&h, "x");
    assert_int_equal(h.len, 0); /* stays failed */
    html_fini(&h);
}

static void draw_service(struct html *page, const struct service_view *s)
{
    struct home_view v = {.state = {.account = "maria", .csrf = "token"},
                          .services = s,
                          .service_count = 1,
                          .login_ends_minutes = 61};
    html_fini(page);
    page_home(page, &v);
    assert_false(page->failed);
}

static void assert_says(const struct html *page, const char *text)
{
    if (strstr(page->text, text) == NULL)
        fail_msg("the page does not say: %s", text);
}

static void test_service_button(void **state)
{
    (void)state;
    struct html page = {0};
    struct service_view s = {.host = "home",
                             .host_key = "k",
                             .name = "web",
                             .port = 8443,
                             .up = true,
                             .url = "https://web--home.meet.example/"};
    draw_service(&page, &s);
    assert_says(&page, "href=\"https://web--home.meet.example/\"");
    assert_says(&page, "in 1\xc2\xa0h 1\xc2\xa0min.");
    assert_says(&page, "action=\"/open\""); /* by its port as well */
    static const char *const bad[] = {"http://x/", "javascript:alert(1)", "",
                                      "//x/",      "HTTPS://x",           " https://x"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) { /* never a link */
        s.url = bad[i];
        draw_service(&page, &s);
        assert_null(strstr(page.text, "alert"));
        assert_says(&page, "action=\"/open\"");
    }
    s.address = "meet.example:8443";
    s.connections = 1;
    draw_service(&page, &s);
    assert_says(&page, "action=\"/close\"");
    assert_says(&page, "1 connection<");
    html_fini(&page);
}

/* A web service without TLS is opened by its port, and by no address that browsers
 * take for TLS. */
static void test_plain_web_is_opened_by_its_port(void **state)
{
    (void)state;
    struct html page = {0};
    struct service_view s = {
        .host = "home", .host_key = "k", .name = "web", .port = 8080, .up = true};
    draw_service(&page, &s);
    assert_null(strstr(page.text, ">Open<span"));
    s.address = "meet.example:18080";
    draw_service(&page, &s);
    assert_says(&page, "href=\"http://meet.example:18080/\">Open<span");
    s.plain = "web--home.meet.example:18080";
    draw_service(&page, &s);
    assert_says(&page, "href=\"http://web--home.meet.example:18080/\">Open<span");
    s.port = 22; /* of which no browser knows what it is */
    s.name = "ssh";
    draw_service(&page, &s);
    assert_null(strstr(page.text, ">Open<span"));
    assert_says(&page, "ssh -p 18080 USER@meet.example");
    html_fini(&page);
}

/* What to type is made from the address under which the port is open. */
static void test_hints(void **state)
{
    static const struct {
        uint16_t port;
        bool udp;
        const char *name, *address, *hint;
    } cases[] = {
        {22, false, "ssh", "meet.example:22", "ssh -p 22 USER@meet.example"},
        {22, false, "shell", "meet.example:40022", "ssh -p 40022 USER@meet.example"},
        {2222, false, "ssh", "[2001:db8::1]:2222", "ssh -p 2222 USER@2001:db8::1"},
        {80, false, "www", "meet.example:8000", "http://meet.example:8000/"},
        {443, false, "x", "[2001:db8::1]:443", "https://[2001:db8::1]:443/"},
        {53, true, "names", "meet.example:53", "dig -p 53 @meet.example NAME"},
    };
    (void)state;
    struct html page = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char wanted[128];
        struct service_view s = {.host = "home",
                                 .host_key = "k",
                                 .name = cases[i].name,
                                 .port = cases[i].port,
                                 .udp = cases[i].udp,
                                 .address = cases[i].address};
        draw_service(&page, &s);
        (void)snprintf(wanted, sizeof(wanted), "<code>%s</code>", cases[i].hint);
        assert_says(&page, wanted);
        (void)snprintf(wanted, sizeof(wanted), "must let in %s port %s.",
                       cases[i].udp ? "UDP" : "TCP",
                       strrchr(cases[i].address, ':') + 1);
        assert_says(&page, wanted);
        bool clear = strstr(page.text, "can be read on its way") != NULL;
        assert_int_equal(clear, strncmp(cases[i].hint, "http://", 7) == 0);
    }
    struct service_view s = {.name = "own", .port = 9, .address = "meet.example:9"};
    draw_service(&page, &s);
    assert_says(&page, "<code>meet.example:9</code>");
    assert_null(strstr(page.text, "what to type"));
    html_fini(&page);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

/* Hosts are told by their keys: two may have one name, one may open nothing. */
static void test_hosts_are_grouped(void **state)
{
    (void)state;
    struct html page = {0};
    static const struct service_view services[] = {
        {.host = "home", .host_key = "k1", .name = "a", .port = 1},
        {.host = "home", .host_key = "k2", .name = "b", .port = 2},
        {.host = "home", .host_key = "k1", .name = "c", .port = 3},
    };
    static const struct host_view owned[] = {{"home", "k2", true},
                                             {"cabin", "k/3", false}};
    struct home_view v = {.state = {.account = "maria"},
                          .services = services,
                          .service_count = 3,
                          .owned = owned,
                          .owned_count = 2};
    page_home(&page, &v);
    assert_int_equal(count_of(page.text, "<h2>home</h2>"), 2);
    assert_int_equal(count_of(page.text, "<h2>cabin</h2>"), 1);
    assert_int_equal(count_of(page.text, "class=\"service\""), 3);
    assert_true(strstr(page.text, "<h3>c ") < strstr(page.text, "<h3>b "));
    assert_int_equal(count_of(page.text, "href=\"/host/"), 2);
    assert_says(&page, "href=\"/host/k%2F3\"");
    html_fini(&page);
}

static void test_login_steps(void **state)
{
    (void)state;
    struct html page = {0};
    struct login_view v = {.state = {.csrf = "token"}, .next = "/host/k"};
    page_login(&page, &v);
    assert_says(&page, "autocomplete=\"current-password\"");
    assert_says(&page, "name=\"next\" value=\"/host/k\"");
    assert_null(strstr(page.text, "name=\"code\""));
    html_fini(&page);
    v.ask_code = true;
    v.name = "maria";
    v.step = "proof";
    page_login(&page, &v);
    assert_says(&page, "name=\"name\" value=\"maria\"");
    assert_says(&page, "name=\"step\" value=\"proof\"");
    assert_says(&page, "autocomplete=\"one-time-code\"");
    assert_null(strstr(page.text, "type=\"password\""));
    html_fini(&page);
}

static void test_numbers(void **state)
{
    static const struct {
        double v;
        const char *rtt, *rate;
    } cases[] = {
        {0, "unknown", "0 B/s"},         {0.04, "<0.1 ms", "0 B/s"},
        {8.24, "8.2 ms", "8 B/s"},       {9.96, "10 ms", "10 B/s"},
        {48.3, "48 ms", "48 B/s"},       {999.4, "999 ms", "999 B/s"},
        {999.6, "1.0 s", "1.0 kB/s"},    {12400, "12.4 s", "12 kB/s"},
        {1.23e6, "unknown", "1.2 MB/s"}, {999499, "999.5 s", "999 kB/s"},
        {4e9, "unknown", "4.0 GB/s"},    {1e300, "unknown", "unknown"},
        {-1, "unknown", "unknown"},      {0.0 / 0.0, "unknown", "unknown"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[PICTURE_NUMBER_LEN];
        picture_format_rtt(text, cases[i].v);
        assert_string_equal(text, cases[i].rtt);
        picture_format_rate(text, cases[i].v);
        assert_string_equal(text, cases[i].rate);
    }
}

/* Any text at any width: whole characters, in bounds, an ellipsis when it was cut. */
static void test_labels_fit(void **state)
{
    char text[600] = "", label[PICTURE_LABEL_LEN];
    (void)state;
    picture_fit(label, "phone", 10000);
    assert_string_equal(label, "phone");
    picture_fit(label, "the-old-laptop", 5000);
    assert_string_equal(label, "the-ol\xe2\x80\xa6");
    picture_fit(label, NULL, 1000);
    assert_string_equal(label, "");
    for (unsigned i = 0; i < 90; i++)
        memcpy(text + i * 6, "a\xc3\xa9\xe6\x97\xa5", 7);
    for (unsigned budget = 0; budget < 200000; budget += 131) {
        char skeleton[16];
        size_t at;
        picture_fit(label, text, budget);
        assert_true(strlen(label) < PICTURE_LABEL_LEN);
        assert_null(markup_check(label, skeleton, sizeof(skeleton), &at));
        size_t len = strlen(label);
        assert_true(len >= 3);
        assert_string_equal(label + len - 3, "\xe2\x80\xa6");
    }
}

static void test_picture(void **state)
{
    struct session_view sessions[40];
    struct html page = {0};
    (void)state;
    for (unsigned i = 0; i < COUNT_OF(sessions); i++)
        sessions[i] = (struct session_view){
            "dev", i % 4 == 0 ? "relay" : "udp-punch", "192.0.2.1:1", 8.2, 1e6, 1};
    for (unsigned n = 0; n <= COUNT_OF(sessions); n++) {
        struct owner_view v = {.state = {.broker = "meet.example"},
                               .host = {"home", "k", true},
                               .sessions = sessions,
                               .session_count = n};
        unsigned drawn = n < PICTURE_SESSIONS ? n : PICTURE_SESSIONS;
        page_picture(&page, &v);
        assert_int_equal(count_of(page.text, "class=\"line "), drawn);
        assert_int_equal(count_of(page.text, "class=\"stop\""), drawn);
        assert_int_equal(count_of(page.text, "class=\"line relayed\""),
                         count_of(page.text, "class=\"dot relayed\""));
        assert_int_equal(count_of(page.text, "class=\"broker\""), n > 0);
        assert_int_equal(count_of(page.text, "scope=\"row\""), n);
        assert_null(strstr(page.text, "nan"));
        html_fini(&page);
    }
}

static void test_qr(void **state)
{
#ifdef HAVE_QRENCODE
    struct html page = {0};
    char *text = malloc(4000);
    (void)state;
    memset(text, 'x', 3999);
    text[3999] = '\0';
    assert_false(picture_qr(&page, text, "t")); /* 2953 bytes at most */
    assert_int_equal(page.len, 0);
    text[400] = '\0';
    assert_true(picture_qr(&page, text, "t<"));
    assert_says(&page, "<title id=\"qr-title\">t&lt;</title>");
    assert_says(&page, "M4 4h7v1H4z"); /* the finder, inside the quiet zone */
    html_fini(&page);
    free(text);
#else
    (void)state;
    skip();
#endif
}

static void test_files(void **state)
{
    static const char *const wanted[][2] = {
        {"/icon.svg", "image/svg+xml"},
        {"/page.js", "text/javascript; charset=utf-8"},
        {"/style.css", "text/css; charset=utf-8"},
    };
    size_t n = 0;
    (void)state;
    for (const struct page_file *f = page_files; f->path != NULL; f++, n++) {
        assert_true(n < COUNT_OF(wanted));
        assert_string_equal(f->path, wanted[n][0]);
        assert_string_equal(f->type, wanted[n][1]);
        assert_int_equal(f->len, strlen(f->text));
        assert_true(f->len > 100);
        assert_null(strstr(f->text, "@import"));
        assert_null(strstr(f->text, "url("));
        assert_null(strstr(f->text, "https:"));
    }
    assert_int_equal(n, COUNT_OF(wanted));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_are_sound),
        cmocka_unit_test(test_hostile_texts_stay_texts),
        cmocka_unit_test(test_reader_refuses),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_builder),
        cmocka_unit_test(test_service_button),
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_plain_web_is_opened_by_its_port),
        cmocka_unit_test(test_hosts_are_grouped),
        cmocka_unit_test(test_login_steps),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_labels_fit),
        cmocka_unit_test(test_picture),
        cmocka_unit_test(test_qr),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
