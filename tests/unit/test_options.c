/* The parser of command lines, on the program's own tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/options.h"

static int parse(struct options *o, const char *command, const char *const *words,
                 struct fault *f)
{
    int argc = 0;
    while (words[argc] != NULL)
        argc++;
    const struct command *c = command_find(command);
    assert_non_null(c);
    return options_parse(o, c, argc, (char **)(uintptr_t)words, f);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_values(void **state)
{
    (void)state;
    struct options o;
    struct fault f = {0};
    assert_int_equal(parse(&o, "invite",
                           WORDS("--uses=3", "--expires", "15m", "--services", "a,b",
                                 "--json", "-v", "--state=/x"),
                           &f),
                     0);
    assert_int_equal(o.values[OPT_USES].number, 3);
    assert_int_equal(o.values[OPT_EXPIRES].number, 900);
    assert_string_equal(o.values[OPT_SERVICES].text, "a,b");
    assert_true(o.values[OPT_JSON].given && o.values[OPT_VERBOSE].given);
    assert_string_equal(o.values[OPT_STATE].text, "/x");
    assert_false(o.values[OPT_QR].given);
    options_fini(&o);
    assert_int_equal(
        parse(&o, "broker", WORDS("--listen", "1.2.3.4:1", "--listen=[::]:2"), &f), 0);
    assert_int_equal(o.values[OPT_LISTEN].count, 2);
    assert_string_equal(o.values[OPT_LISTEN].list[1], "[::]:2");
    options_fini(&o);
}

/* Of several links only one could count. */
static void test_a_link_is_given_once(void **state)
{
    (void)state;
    struct options o;
    struct fault f = {0};
    assert_int_equal(parse(&o, "serve", WORDS("--broker", "a", "--broker=b", "22"), &f),
                     POSTERN_ERR_USAGE);
    assert_string_equal(f.what,
                        "--broker is given twice, and only one at a time is used");
    options_fini(&o);
}

static void test_arguments(void **state)
{
    (void)state;
    struct options o;
    struct fault f = {0};
    assert_int_equal(parse(&o, "revoke", WORDS("--json", "--", "--odd"), &f), 0);
    assert_int_equal(o.arg_count, 1);
    assert_string_equal(o.args[0], "--odd");
    assert_null(o.args[1]);
    options_fini(&o);
    assert_int_equal(parse(&o, "revoke", WORDS("-", "--json"), &f), 0);
    assert_string_equal(o.args[0], "-");
    options_fini(&o);
    assert_int_equal(parse(&o, "revoke", WORDS("--help"), &f), 0);
    assert_true(o.values[OPT_HELP].given);
    options_fini(&o);
}

/* Its value is an address, or behind '='; a service is not. */
static void test_a_value_that_may_be_missing(void **state)
{
    static const struct {
        const char *words[3], *value;
        size_t args;
    } cases[] = {
        {{"--agent"}, "", 0},
        {{"--agent", "22"}, "", 1},
        {{"--agent", "web=80", "22"}, "", 2},
        {{"--agent", "--json"}, "", 0},
        {{"--agent", "nas:80"}, "", 1},
        {{"--agent", "192.168.1.2:4480", "22"}, "192.168.1.2:4480", 1},
        {{"--agent", "[::1]:4480"}, "[::1]:4480", 0},
        {{"--agent=x", "22"}, "x", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        const char *words[4] = {NULL};
        struct fault f = {0};
        memcpy(words, cases[i].words, sizeof(cases[i].words));
        assert_int_equal(parse(&o, "serve", words, &f), 0);
        assert_string_equal(o.values[OPT_AGENT].text, cases[i].value);
        assert_int_equal(o.arg_count, cases[i].args);
        options_fini(&o);
    }
}

static void test_wrong(void **state)
{
    static const struct {
        const char *command, *words[6];
    } cases[] = {
        {"revoke", {NULL}},
        {"revoke", {"a", "b"}},
        {"revoke", {"a", "--nonsense"}},
        {"revoke", {"a", "--listen", "x"}},
        {"revoke", {"a", "-x"}},
        {"revoke", {"a", "--state"}},
        {"revoke", {"a", "--state="}},
        {"revoke", {"a", "--json=yes"}},
        {"serve", {"--agent=", "22"}},
        {"serve", {"--via"}},
        {"invite", {"--uses", "0"}},
        {"invite", {"--uses", "10001"}},
        {"invite", {"--uses", "1x"}},
        {"invite", {"--uses", "-1"}},
        {"invite", {"--uses", "99999999999999999999999"}},
        {"invite", {"--expires", "0s"}},
        {"invite", {"--expires", "400d"}},
        {"invite", {"--expires", "1h2"}},
        {"invite", {"--expires", "h"}},
        {"invite", {"--use", "1"}},
        {"broker",
         {"--listen=1", "--listen=2", "--listen=3", "--listen=4", "--listen=5"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        struct fault f = {0};
        assert_int_equal(parse(&o, cases[i].command, cases[i].words, &f),
                         POSTERN_ERR_USAGE);
        assert_true(f.what[0] != '\0' && f.advice[0] != '\0');
        assert_null(strchr(f.what, '\n'));
        options_fini(&o);
    }
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } cases[] = {
        {"90s", 90}, {"15m", 900}, {"1h", 3600}, {"7d", 604800},      {"5", 5},
        {"", -1},    {"0", -1},    {"s", -1},    {"1w", -1},          {"1.5h", -1},
        {"-1h", -1}, {" 1h", -1},  {"1h ", -1},  {"99999999999d", -1}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t v = -1;
        int err = options_parse_duration(&v, cases[i].text);
        assert_int_equal(err == 0, cases[i].seconds > 0);
        assert_int_equal(v, cases[i].seconds);
    }
}

/* Everything that a newcomer needs stands in the tables. */
static void test_tables(void **state)
{
    (void)state;
    for (const struct command *c = commands; c->name != NULL; c++) {
        char *text = NULL;
        size_t len = 0;
        char start[64];
        FILE *out = open_memstream(&text, &len);
        assert_non_null(out);
        assert_non_null(c->run);
        assert_true(c->args_min == 0 || c->args_fault != NULL);
        assert_true(c->args_max >= c->args_min);
        (void)snprintf(start, sizeof(start), "postern %s", c->name);
        assert_int_equal(strncmp(c->example, start, strlen(start)), 0);
        help_print_command(out, c);
        (void)fclose(out);
        assert_non_null(strstr(text, c->example));
        assert_non_null(strstr(text, "--state DIR"));
        for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
            if (strlen(line) > 110)
                fail_msg("too wide: %s", line);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_a_link_is_given_once),
        cmocka_unit_test(test_a_value_that_may_be_missing),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
