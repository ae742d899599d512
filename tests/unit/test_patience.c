/* Which errors end a wait, and which are waited out: every code has its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/err.h"
#include "core/patience.h"

/* What passes by itself: an address that was lost, no route, a machine without the
 * program, a busy or silent broker, a resolver that is away. */
static const int passing[] = {POSTERN_ERR_CLOSED,      POSTERN_ERR_RESET,
                              POSTERN_ERR_UNREACHABLE, POSTERN_ERR_REFUSED,
                              POSTERN_ERR_LIMIT,       POSTERN_ERR_TIMEOUT,
                              POSTERN_ERR_DNS};

static void test_what_passes_ends_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        for (unsigned from = PATIENCE_LINE; from <= PATIENCE_HOST; from *= 2)
            assert_false(patience_ends(passing[i], (enum patience_from)from));
        for (unsigned b = 0; b < PATIENCE_BROKERS; b++)
            assert_true(patience_ms(passing[i], (enum patience_broker)b) > 0);
    }
}

/* What ends a wait is not waited for, whoever said it. */
static void test_what_ends_has_no_patience(void **state)
{
    (void)state;
    for (int err = POSTERN_ERR_RESET; err < 0; err++) {
        bool ends = patience_ends(err, PATIENCE_LINE) ||
                    patience_ends(err, PATIENCE_BROKER) ||
                    patience_ends(err, PATIENCE_HOST);
        for (unsigned b = 0; ends && b < PATIENCE_BROKERS; b++)
            assert_int_equal(patience_ms(err, (enum patience_broker)b), 0);
    }
}

static void test_it_depends_on_who_said_it(void **state)
{
    (void)state;
    assert_true(patience_ends(POSTERN_ERR_DENIED, PATIENCE_HOST));
    assert_true(patience_ends(POSTERN_ERR_DENIED, PATIENCE_BROKER));
    assert_false(patience_ends(POSTERN_ERR_DENIED, PATIENCE_LINE)); /* a proxy */
    assert_true(patience_ends(POSTERN_ERR_KEY, PATIENCE_LINE));
    assert_true(patience_ends(POSTERN_ERR_NEWER, PATIENCE_BROKER));
    assert_false(patience_ends(POSTERN_ERR_PROTO, PATIENCE_LINE)); /* a login page */
    assert_false(patience_ends(POSTERN_ERR_NOTFOUND, PATIENCE_LINE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_passes_ends_nothing),
        cmocka_unit_test(test_what_ends_has_no_patience),
        cmocka_unit_test(test_it_depends_on_who_said_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
