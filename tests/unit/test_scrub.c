/* What tells who somebody is goes, and what tells what is wrong stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/scrub.h"

static void expect(struct scrub *s, const char *text, const char *want)
{
    char out[512];
    scrub_text(s, text, out, sizeof(out));
    assert_string_equal(out, want);
}

static struct scrub *fresh(void)
{
    struct scrub *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    return s;
}

static void test_addresses(void **state)
{
    (void)state;
    struct scrub *s = fresh();
    expect(s, "to 192.0.2.1:443, from 198.51.100.7.",
           "to <address-1>:443, from <address-2>.");
    expect(s, "[2001:db8::1]:80 and 192.0.2.1", "[<address-3>]:80 and <address-1>");
    expect(s, "fe80::1%eth0 ::1 02:00:5e:10:00:01",
           "<address-4> <address-5> <address-6>");
    expect(s, "at 12:30:59, 3.7.11, Linux 6.1.0-13, 1.2.3 ms",
           "at 12:30:59, 3.7.11, Linux 6.1.0-13, 1.2.3 ms");
    free(s);
}

static void test_secrets(void **state)
{
    (void)state;
    struct scrub *s = fresh();
    expect(s, "postern://meet.example.org:443/i/AbCdEf0123 is it", "<link-1> is it");
    expect(s, "see https://a.example/x", "see <link-2>");
    expect(s, "key aaaabbbbccccddddeeeeffffgggghhhhiiiijjjjkkkkllllmmmm!",
           "key <secret-1>!");
    expect(s, "token=abc123def456abc123", "<secret-2>");
    expect(s, "address-and-port-dependent, jit-listen-client, 2026-01-02T03:04:05Z",
           "address-and-port-dependent, jit-listen-client, 2026-01-02T03:04:05Z");
    free(s);
}

static void test_names(void **state)
{
    (void)state;
    struct scrub *s = fresh();
    scrub_know(s, "user", "anna");
    scrub_know(s, "home", "/home/anna");
    scrub_know(s, "host", "anna-s-pc");
    scrub_know(s, "host", "x");
    scrub_know(s, "host", NULL);
    scrub_know(s, "host", "ANNA");
    expect(s, "Anna at anna-s-pc, in /home/anna/.local, not hanna, annas or x",
           "<user-1> at <host-1>, in <home-1>/.local, not hanna, annas or x");
    free(s);
}

static void test_bounds(void **state)
{
    (void)state;
    struct scrub *s = fresh();
    char word[SCRUB_WORD_LEN * 2], out[16], name[16];
    memset(word, 'a', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    expect(s, word, "<secret>");
    for (int i = 0; i < SCRUB_WORDS_MAX + 20; i++) {
        (void)snprintf(name, sizeof(name), "n%d", i);
        scrub_know(s, "name", name);
    }
    assert_int_equal(s->count, SCRUB_WORDS_MAX);
    expect(s, "n0 192.0.2.1", "<name-1> <address>");
    scrub_text(s, "n255 n255 n255", out, sizeof(out));
    assert_int_equal(strlen(out), sizeof(out) - 1);
    scrub_text(s, "", out, 1);
    assert_string_equal(out, "");
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
