/* The audit log: order, cleaning, the bound, and two writers at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/audit.h"
#include "io/db.h"
#include "scratch.h"

struct fixture {
    char dir[SCRATCH_LEN];
    struct audit *a;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    if (x == NULL || scratch_make(x->dir) != 0)
        return -1;
    return audit_open(&x->a, x->dir, NULL);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    audit_close(x->a);
    scratch_remove(x->dir);
    free(x);
    return 0;
}

static void test_order_and_fields(void **state)
{
    struct fixture *x = *state;
    struct audit_entry out[3];
    audit_add(x->a, &(struct audit_entry){.time_s = 5,
                                          .what = "opened",
                                          .who = "anna",
                                          .from = "192.0.2.1:5",
                                          .object = "web",
                                          .detail = "why"});
    audit_once(x->dir, &(struct audit_entry){.time_s = 4, .what = "closed"});
    audit_add(NULL, &(struct audit_entry){.what = "nothing"});
    assert_int_equal(audit_list(x->a, out, 3), 2);
    assert_string_equal(out[0].what, "closed"); /* the last written, not the latest */
    assert_string_equal(out[0].who, "");
    assert_int_equal(out[1].time_s, 5);
    assert_string_equal(out[1].who, "anna");
    assert_string_equal(out[1].from, "192.0.2.1:5");
    assert_string_equal(out[1].object, "web");
    assert_string_equal(out[1].detail, "why");
    assert_int_equal(audit_list(x->a, out, 1), 1);
    assert_string_equal(out[0].what, "closed");
}

static void test_cleaning(void **state)
{
    struct fixture *x = *state;
    struct audit_entry e = {.what = "a\nb\033[2J"}, out;
    memset(e.who, 'x', sizeof(e.who)); /* no end: cut */
    memcpy(e.who + sizeof(e.who) - 2, "\xc3\xa4", 2);
    e.from[0] = '\0';
    audit_add(x->a, &e);
    assert_int_equal(audit_list(x->a, &out, 1), 1);
    assert_string_equal(out.what, "a?b?[2J");
    assert_int_equal(strlen(out.who), sizeof(out.who) - 2); /* no half character */
    assert_true(out.who[sizeof(out.who) - 3] == 'x');
}

static void test_bound(void **state)
{
    struct fixture *x = *state;
    struct audit_entry out[3];
    struct db *db = NULL;
    audit_add(x->a, &(struct audit_entry){.what = "old"});
    audit_add(x->a, &(struct audit_entry){.what = "second"});
    audit_add(x->a, &(struct audit_entry){.what = "closed"});
    assert_int_equal(
        db_open(&db, x->dir, "audit.db", (const char *[]){"", ""}, 2, NULL), 0);
    /* as if AUDIT_KEPT_CONNECTIONS more had come */
    assert_int_equal(
        db_run(db, "UPDATE sqlite_sequence SET seq = 10003 WHERE name = 'entry'"), 0);
    audit_add(x->a, &(struct audit_entry){.what = "between"});
    assert_int_equal(audit_list(x->a, out, 2), 2);
    assert_string_equal(out[1].what, "second");
    /* as if AUDIT_KEPT - 1 more had come */
    assert_int_equal(
        db_run(db, "UPDATE sqlite_sequence SET seq = 100000 WHERE name = 'entry'"), 0);
    db_close(db);
    audit_add(x->a, &(struct audit_entry){.what = "new"}); /* number 100001 */
    assert_int_equal(audit_list(x->a, out, 3), 3);
    assert_string_equal(out[0].what, "new");
    assert_string_equal(out[1].what, "between");
    assert_string_equal(out[2].what, "second");
    audit_add(x->a, &(struct audit_entry){.what = "newer"});
    assert_int_equal(audit_list(x->a, out, 3), 3);
    assert_string_equal(out[2].what, "between");
}

static void test_event(void **state)
{
    struct event e;
    char words[256];
    struct audit_entry entry = {.time_s = 1767322845, .what = "opened", .who = "anna"};
    (void)state;
    audit_event(&e, &entry);
    assert_string_equal(
        event_end(&e),
        "{\"event\":\"audit\",\"time\":\"2026-01-02T03:00:45Z\",\"what\":"
        "\"opened\",\"who\":\"anna\",\"from\":null,\"object\":null,"
        "\"detail\":null}");
    events_words(e.text, words, sizeof(words));
    assert_string_equal(words, "2026-01-02T03:00:45Z opened by anna");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order_and_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cleaning, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound, setup, teardown),
        cmocka_unit_test(test_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
