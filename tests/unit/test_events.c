/* Events as JSON and as words, and what happens when stdout goes away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/events.h"

static void make_path(struct event *e)
{
    struct addr a;
    assert_int_equal(addr_parse(&a, "192.0.2.1:4000"), 0);
    event_begin(e, "path");
    event_text(e, "peer", "home");
    event_text(e, "kind", "udp-punch");
    event_text(e, "local", NULL);
    event_addr(e, "remote", &a);
    event_ms(e, "rtt_ms", 12345);
    event_ms(e, "elapsed_ms", 80000);
}

static void test_both_forms(void **state)
{
    (void)state;
    struct event e;
    char words[512];
    make_path(&e);
    static const char json[] =
        "{\"event\":\"path\",\"peer\":\"home\",\"kind\":\"udp-punch\",\"local\":null,"
        "\"remote\":\"192.0.2.1:4000\",\"rtt_ms\":12.345,\"elapsed_ms\":80}";
    assert_string_equal(event_end(&e), json);
    assert_string_equal(event_end(&e), json);
    event_text(&e, "late", "x"); /* after the end nothing changes */
    assert_string_equal(event_end(&e), json);
    events_words(json, words, sizeof(words));
    assert_string_equal(words, "home: udp-punch to 192.0.2.1:4000, 12.345 ms round "
                               "trip, chosen after 80 ms");
    events_words("{\"event\":\"path\",\"peer\":\"home\",\"kind\":\"relay\","
                 "\"elapsed_ms\":497939.4}",
                 words, sizeof(words));
    assert_string_equal(words,
                        "home: relay, chosen 8 min 17 s after the session began");
}

static void test_unknown_event(void **state)
{
    (void)state;
    char words[128];
    events_words("{\"event\":\"novel\",\"a\":1,\"b\":\"x\"}", words, sizeof(words));
    assert_string_equal(words, "novel  a 1  b x");
    events_words("garbage", words, sizeof(words));
    assert_string_equal(words, "?");
}

/* For every length of buffer: terminated, within it. */
static void test_words_bounds(void **state)
{
    (void)state;
    char buf[128];
    struct event e;
    make_path(&e);
    const char *json = event_end(&e);
    for (size_t cap = 1; cap < sizeof(buf); cap++) {
        memset(buf, '#', sizeof(buf));
        events_words(json, buf, cap);
        assert_true(strlen(buf) < cap);
        assert_int_equal(buf[cap], '#');
    }
}

static void test_too_long(void **state)
{
    (void)state;
    struct event e;
    char text[2 * EVENT_TEXT_LEN];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    event_begin(&e, "path");
    event_text(&e, "peer", text);
    assert_string_equal(event_end(&e), "{\"event\":\"path\",\"truncated\":true}");
}

static void test_printing(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    struct event e;
    struct events out = {.json = true, .out = open_memstream(&text, &len)};
    assert_non_null(out.out);
    event_begin(&e, "ready");
    event_text(&e, "host", "home");
    events_print(&out, &e);
    out.json = false;
    events_print_json(&out, "{\"event\":\"ready\",\"host\":\"a\nb\"}");
    events_print(NULL, &e);
    (void)fclose(out.out);
    assert_string_equal(text, "{\"event\":\"ready\",\"host\":\"home\"}\n"
                              "ready: publishing as a?b\n");
    free(text);
}

/* What the shell sees of a child whose reader went away, or whose disk is full. */
static int child_status(FILE *to)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct events out = {.json = true, .out = to};
        struct event e;
        (void)signal(SIGPIPE, SIG_IGN);
        (void)close(STDERR_FILENO);
        event_begin(&e, "ready");
        events_print(&out, &e);
        _exit(42);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_output_gone(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    (void)close(ends[0]);
    FILE *to = fdopen(ends[1], "w");
    assert_non_null(to);
    assert_int_equal(child_status(to), 0);
    (void)fclose(to);
    to = fopen("/dev/full", "w");
    assert_non_null(to);
    assert_int_equal(child_status(to), 1);
    (void)fclose(to);
    /* a terminal that was closed: a reader that went away */
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    to = fopen(ptsname(master), "w");
    assert_non_null(to);
    (void)close(master);
    assert_int_equal(child_status(to), 0);
    (void)fclose(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms),   cmocka_unit_test(test_unknown_event),
        cmocka_unit_test(test_words_bounds), cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_printing),     cmocka_unit_test(test_output_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
