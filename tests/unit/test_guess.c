/* Which word was meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/guess.h"

static const char *const known[] = {"serve", "status", "connect", "join", "up", "home"};

static void expect(const char *word, const char *meant)
{
    struct guess g;
    char advice[80], want[80];
    guess_begin(&g, word);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        guess_offer(&g, known[i]);
    guess_advice(&g, advice, sizeof(advice), "see the list");
    (void)snprintf(want, sizeof(want), "%s%s%ssee the list",
                   meant ? "did you mean '" : "", meant ? meant : "",
                   meant ? "'? " : "");
    assert_string_equal(advice, want);
}

static void test_near(void **state)
{
    (void)state;
    expect("srve", "serve");
    expect("serv", "serve");
    expect("sevre", "serve");
    expect("Serves", "serve");
    expect("conect", "connect");
    expect("stat", "status");
    expect("hoem", "home");
    expect("jion", "join");
    expect("HOMR", "home");
}

static void test_far(void **state)
{
    (void)state;
    char longest[3 * GUESS_LEN];
    expect("", NULL);
    expect("x", NULL);
    expect("xx", NULL);
    expect("nothing", NULL);
    expect("office", NULL);
    expect("-h", NULL);
    for (size_t len = 1; len < sizeof(longest); len++) {
        memset(longest, 's', len);
        longest[len] = '\0';
        expect(longest, NULL);
    }
    struct guess g;
    guess_begin(&g, "serve");
    guess_offer(&g, longest);
    assert_string_equal(g.best, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near),
        cmocka_unit_test(test_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
