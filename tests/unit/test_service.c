/* SERVICE texts: what is understood, what is refused and how, what is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/service.h"

static void test_forms(void **state)
{
    static const struct {
        const char *text, *name, *host;
        uint16_t port;
        bool udp;
        uint8_t targets;
    } cases[] = {
        {"22", "22", "127.0.0.1", 22, false, 2},
        {"web=8080", "web", "127.0.0.1", 8080, false, 2},
        {"Web-2=tcp:8080", "web-2", "127.0.0.1", 8080, false, 2},
        {"dns=udp:53", "dns", "127.0.0.1", 53, true, 1},
        {"udp:53", "udp:53", "127.0.0.1", 53, true, 1},
        {"cam=192.168.1.20:554", "cam", "192.168.1.20", 554, false, 1},
        {"192.168.1.20:554", "554", "192.168.1.20", 554, false, 1},
        {"app=10.0.0.2:80,10.0.0.3:81", "app", "10.0.0.2", 80, false, 2},
        {"six=[2001:db8::5]:80", "six", "2001:db8::5", 80, false, 1},
        {"nas=nas.local:445", "nas", "nas.local", 445, false, 1},
        {"x=80,nas:80,[::1]:80", "x", "127.0.0.1", 80, false, 3},
        {"app=Blue@10.0.0.2:80,green@10.0.0.3:80", "app", "10.0.0.2", 80, false, 2},
        {"app=blue@8080", "app", "127.0.0.1", 8080, false, 2},
        {"blue@10.0.0.2:80,10.0.0.3:80", "80", "10.0.0.2", 80, false, 2},
        {"app=six@[2001:db8::5]:80", "app", "2001:db8::5", 80, false, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct service s;
        struct fault f = {0};
        assert_int_equal(service_parse(&s, cases[i].text, &f), 0);
        assert_string_equal(s.name, cases[i].name);
        assert_string_equal(s.targets[0].host, cases[i].host);
        assert_int_equal(s.port, cases[i].port);
        assert_int_equal(s.udp, cases[i].udp);
        assert_int_equal(s.target_count, cases[i].targets);
    }
}

static void test_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "0",
        "65536",
        "-1",
        "web=",
        "=80",
        "we b=80",
        "22=80",
        "web=80,",
        "web=,80",
        "web=:80",
        "web=a:b",
        "web=::1:80",
        "web=[::1]",
        "web=[1.2.3.4]:80",
        "web=1.2.3.400:80",
        "web=a_b*c:80",
        "web=host:0",
        "udp:",
        "web=99999999999999999999",
        "a=1,2,3,4,5,6,7,8,9",
        "web=[::1:80",
        " web=80",
        "-web=80",
        "app=@10.0.0.2:80",
        "app=blue@",
        "app=blue@,green@80",
        "app=7@10.0.0.2:80",
        "app=a/b@10.0.0.2:80",
        "app=a b@10.0.0.2:80",
        "app=a@b@10.0.0.2:80",
        "app=a@10.0.0.2:80,A@10.0.0.3:80",
        "app/blue=10.0.0.2:80",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct service s;
        struct fault f = {0};
        if (service_parse(&s, texts[i], &f) == 0)
            fail_msg("'%s' was accepted", texts[i]);
        assert_true(f.what[0] != '\0' && f.advice[0] != '\0');
    }
    char longest[400];
    struct service s;
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    memcpy(longest + 300, ":80", 4);
    assert_true(service_parse(&s, longest, NULL) < 0);
    memcpy(longest + 70, "=80", 4);
    assert_true(service_parse(&s, longest, NULL) < 0);
    memset(longest, 'a', sizeof(longest) - 1);
    memcpy(longest + 30, "=", 1);
    memcpy(longest + 63, "@80", 4); /* 30 and 32: with the slash the longest */
    assert_int_equal(service_parse(&s, longest, NULL), 0);
    memset(longest, 'a', sizeof(longest) - 1);
    memcpy(longest + 30, "=", 1);
    memcpy(longest + 64, "@80", 4);
    assert_true(service_parse(&s, longest, NULL) < 0);
}

static void test_list(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "22",        "web=8080",          "dns=udp:53",       "tcp53=53",
        "alt=udp:9", "cam1=10.0.0.2:554", "cam2=10.0.0.3:554"};
    struct service_list l;
    struct fault f = {0};
    assert_int_equal(service_list_parse(&l, texts, 7, &f), 0);
    assert_string_equal(service_find(&l, "WEB")->name, "web");
    assert_string_equal(service_find(&l, "8080")->name, "web");
    assert_string_equal(service_find(&l, "22")->name, "22");
    assert_string_equal(service_find(&l, "53")->name, "tcp53");
    assert_string_equal(service_find(&l, "udp:53")->name, "dns");
    assert_string_equal(service_find(&l, "9")->name, "alt");
    assert_string_equal(service_find(&l, "554")->name, "cam1");
    assert_null(service_find(&l, "tcp:9"));
    assert_null(service_find(&l, "81"));
    assert_null(service_find(&l, ""));
    assert_true(service_allowed("", &l.items[0]));
    assert_true(service_allowed("dns,22", &l.items[0]));
    assert_true(service_allowed("8080", &l.items[1]));
    assert_true(service_allowed("udp:53", &l.items[2]));
    assert_false(service_allowed("dns,22", &l.items[1]));
    assert_false(service_allowed("we", &l.items[1]));
    assert_false(service_allowed("udp:53", &l.items[3]));
    service_list_fini(&l);
}

static void test_doubles(void **state)
{
    (void)state;
    static const char *const names[] = {"web=80", "Web=81"};
    static const char *const ports[] = {"22", "22"};
    struct service_list l;
    struct fault f = {0};
    assert_true(service_list_parse(&l, names, 2, &f) < 0);
    assert_non_null(strstr(f.what, "web"));
    assert_null(l.items);
    assert_true(service_list_parse(&l, ports, 2, &f) < 0);
    assert_int_equal(service_list_parse_lines(&l, "web=80\n22\n", &f), 0);
    assert_int_equal(l.count, 2);
    service_list_fini(&l);
}

/* What a client that asks for `name` and may use `allowed` reaches: hosts, joined. */
static const char *reached(const struct service_list *l, const char *name,
                           const char *allowed)
{
    static char text[256];
    const struct service *found = service_find(l, name);
    struct service s;
    size_t used = 0;
    if (found == NULL)
        return "none";
    s = *found;
    assert_int_equal(service_allowed(allowed, &s), service_narrow(&s, "", allowed));
    s = *found;
    if (!service_narrow(&s, name, allowed))
        return "denied";
    for (size_t i = 0; i < s.target_count; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s",
                                 i > 0 ? " " : "", s.targets[i].host);
    return text;
}

static void test_instances(void **state)
{
    (void)state;
    static const char *const texts[] = {"app=blue@10.0.0.2:80,green@10.0.0.3:80,nas:80",
                                        "web=local@8080", "22"};
    struct service_list l;
    struct fault f = {0};
    assert_int_equal(service_list_parse(&l, texts, 3, &f), 0);
    assert_string_equal(reached(&l, "app", ""), "10.0.0.2 10.0.0.3 nas");
    assert_string_equal(reached(&l, "app/blue", ""), "10.0.0.2");
    assert_string_equal(reached(&l, "APP/Green", ""), "10.0.0.3");
    assert_string_equal(reached(&l, "80/green", ""), "10.0.0.3");
    assert_string_equal(reached(&l, "web/local", ""), "127.0.0.1 ::1");
    assert_string_equal(reached(&l, "app/red", ""), "none");
    assert_string_equal(reached(&l, "app/", ""), "none");
    assert_string_equal(reached(&l, "app/blue/green", ""), "none");
    assert_string_equal(reached(&l, "/blue", ""), "none");
    assert_string_equal(reached(&l, "22/", ""), "none");
    assert_string_equal(reached(&l, "app", "app/blue"), "10.0.0.2");
    assert_string_equal(reached(&l, "app/blue", "app/blue"), "10.0.0.2");
    assert_string_equal(reached(&l, "app/green", "app/blue"), "denied");
    assert_string_equal(reached(&l, "app", "22,app/green,app/blue"),
                        "10.0.0.2 10.0.0.3");
    assert_string_equal(reached(&l, "app", "80/GREEN"), "10.0.0.3");
    assert_string_equal(reached(&l, "app/green", "app"), "10.0.0.3");
    assert_string_equal(reached(&l, "app", "app/red"), "denied");
    assert_string_equal(reached(&l, "app", "app/"), "denied");
    assert_string_equal(reached(&l, "app", "web/blue"), "denied");
    assert_string_equal(reached(&l, "web", "web/local,app/blue"), "127.0.0.1 ::1");
    assert_string_equal(reached(&l, "22", "app/blue"), "denied");
    service_list_fini(&l);
}

static void test_commas(void **state)
{
    (void)state;
    static const char *const texts[] = {"2222,udp:53,8000-8001 Mine", "web=80,81",
                                        "10.0.0.2:90,10.0.0.3:90"};
    static const char *const names[] = {"2222", "udp:53", "8000", "8001", "web", "90"};
    static const char *const mixed[] = {"22,10.0.0.2:80"}, *const open_end[] = {"22,"};
    struct service_list l;
    struct fault f = {0};
    assert_int_equal(service_list_parse(&l, texts, 3, &f), 0);
    assert_int_equal(l.count, sizeof(names) / sizeof(names[0]));
    for (size_t i = 0; i < l.count; i++)
        assert_string_equal(l.items[i].name, names[i]);
    assert_string_equal(l.items[3].title, "Mine");
    assert_string_equal(reached(&l, "2222", ""), "127.0.0.1 ::1");
    assert_string_equal(reached(&l, "web", ""), "127.0.0.1 127.0.0.1");
    assert_string_equal(reached(&l, "90", ""), "10.0.0.2 10.0.0.3");
    service_list_fini(&l);
    assert_int_equal(service_list_parse(&l, mixed, 1, &f), POSTERN_ERR_INVALID);
    assert_string_equal(f.what, "'22,10.0.0.2:80' has ports and more without a name");
    assert_int_equal(service_list_parse(&l, open_end, 1, &f), POSTERN_ERR_INVALID);
}

static void test_choose(void **state)
{
    (void)state;
    static const char *const texts[] = {"web=8080", "dns=udp:53", "app=a@1.2.3.4:80"};
    struct service_list l;
    struct fault f = {0};
    char out[64], small[12];
    assert_int_equal(service_list_parse(&l, texts, 3, NULL), 0);
    assert_int_equal(service_choose(&l, " 8080, udp:53 ,app/a", out, sizeof(out), &f),
                     0);
    assert_string_equal(out, "web,dns,app/a");
    assert_int_equal(service_choose(&l, NULL, out, sizeof(out), &f), 0);
    assert_string_equal(out, "");
    assert_int_equal(service_choose(&l, ", ,", out, sizeof(out), &f), 0);
    assert_string_equal(out, "");
    assert_int_equal(service_choose(&l, "web,nope", out, sizeof(out), &f),
                     POSTERN_ERR_NOTFOUND);
    assert_non_null(strstr(f.what, "'nope'"));
    assert_int_equal(service_choose(&l, "web,dns,web,dns", small, sizeof(small), &f),
                     POSTERN_ERR_LIMIT);
    service_list_fini(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_list),      cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_instances), cmocka_unit_test(test_commas),
        cmocka_unit_test(test_choose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
