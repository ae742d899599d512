/* What HTTPS_PROXY and NO_PROXY say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/reach.h"

static int ask(const char *proxy, const char *no_proxy, const char *host,
               struct proxy *p)
{
    struct fault f = {0};
    (void)unsetenv("https_proxy");
    (void)unsetenv("no_proxy");
    (void)setenv("HTTPS_PROXY", proxy, 1);
    (void)setenv("NO_PROXY", no_proxy, 1);
    int rc = proxy_from_env(p, host, &f);
    assert_int_equal(rc < 0, f.what[0] != '\0');
    return rc;
}

static void test_forms(void **state)
{
    struct proxy p;
    (void)state;
    assert_int_equal(ask("", "", "b.example", &p), 0);
    assert_int_equal(ask("http://proxy.example:3128", "", "b.example", &p), 1);
    assert_string_equal(p.host, "proxy.example");
    assert_int_equal(p.port, 3128);
    assert_string_equal(p.credentials, "");
    assert_int_equal(ask("proxy.example", "", "b.example", &p), 1);
    assert_int_equal(p.port, 8080);
    assert_int_equal(ask("http://[2001:db8::1]:99/", "", "b.example", &p), 1);
    assert_string_equal(p.host, "2001:db8::1");
    assert_int_equal(p.port, 99);
    assert_int_equal(ask("http://al%40ice:p@ss:w@10.0.0.1:1", "", "b.example", &p), 1);
    assert_string_equal(p.host, "10.0.0.1");
    assert_string_equal(p.credentials, "YWxAaWNlOnBAc3M6dw=="); /* al@ice:p@ss:w */
}

static void test_wrong_ones_are_told(void **state)
{
    static const char *const bad[] = {
        "socks5://h:1",   "http://",      "http://h:",   "http://h:0",
        "http://h:70000", "http://h:12x", "http://[::1", "http://:80",
    };
    struct proxy p;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ask(bad[i], "", "b.example", &p), POSTERN_ERR_USAGE);
}

static void test_exempt_hosts(void **state)
{
    struct proxy p;
    const char *proxy = "http://h:1";
    (void)state;
    assert_int_equal(ask(proxy, "b.example", "b.example", &p), 0);
    assert_int_equal(ask(proxy, "x.org, .example", "b.example", &p), 0);
    assert_int_equal(ask(proxy, "example", "b.example", &p), 0);
    assert_int_equal(ask(proxy, "ample", "b.example", &p), 1);
    assert_int_equal(ask(proxy, "*", "b.example", &p), 0);
    assert_int_equal(ask(proxy, "192.0.2.1", "192.0.2.10", &p), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_wrong_ones_are_told),
        cmocka_unit_test(test_exempt_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
