/* The client's book: names that DNS can carry, lookups, rotation, services. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/book.h"
#include "scratch.h"

struct fixture {
    char dir[SCRATCH_LEN];
    struct book *b;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    if (x == NULL || scratch_make(x->dir) != 0)
        return -1;
    struct statedir dir;
    return statedir_open(&dir, x->dir, NULL) == 0 ? book_open(&x->b, &dir, NULL) : -1;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    book_close(x->b);
    scratch_remove(x->dir);
    free(x);
    return 0;
}

static struct book_host add(struct book *b, const char *name, uint8_t n)
{
    struct book_host h = {.joined_s = 5};
    (void)snprintf(h.name, sizeof(h.name), "%s", name);
    (void)snprintf(h.broker, sizeof(h.broker), "postern://broker-%u", n);
    memset(h.key, n, KEY_LEN);
    memset(h.own_key, 0xaa, KEY_LEN);
    assert_int_equal(book_add(b, &h, NULL), 0);
    return h;
}

static void test_names(void **state)
{
    struct fixture *x = *state;
    assert_string_equal(add(x->b, "Home", 1).name, "home");
    assert_string_equal(add(x->b, "home", 2).name, "home-2");
    assert_string_equal(add(x->b, "HOME", 3).name, "home-3");
    assert_string_equal(add(x->b, "Anna's PC!", 4).name, "anna-s-pc");
    assert_string_equal(add(x->b, "\xc3\xa9\033", 5).name, "host");
    /* known by its key: the name stays, the rest is renewed */
    struct book_host again = add(x->b, "other", 1), found;
    assert_string_equal(again.name, "home");
    assert_int_equal(book_hosts(x->b, NULL, 0), 5);
    assert_int_equal(book_find(x->b, "home", &found, NULL), 0);
    assert_string_equal(found.broker, "postern://broker-1");
}

static void test_find(void **state)
{
    struct fixture *x = *state;
    struct book_host h = add(x->b, "home", 1), found;
    struct fault f = {0};
    char text[KEY_TEXT_LEN];
    static const char *const names[] = {"home", "HOME", "home.postern",
                                        "Home.Postern."};
    assert_int_equal(book_find(x->b, "work", &found, &f), POSTERN_ERR_NOTFOUND);
    assert_non_null(strstr(f.what, "home"));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(book_find(x->b, names[i], &found, &f), 0);
        assert_memory_equal(&found.key, &h.key, KEY_LEN);
    }
    (void)key_format(h.key, text);
    text[10] = '\0';
    assert_int_equal(book_find(x->b, text, &found, &f), 0);
    h.key[KEY_LEN - 1] = 7;
    (void)snprintf(h.name, sizeof(h.name), "twin");
    assert_int_equal(book_add(x->b, &h, NULL), 0);
    assert_int_equal(book_find(x->b, text, &found, &f), POSTERN_ERR_INVALID);
    assert_int_equal(book_find(x->b, "", &found, &f), POSTERN_ERR_NOTFOUND);
}

static void test_empty(void **state)
{
    struct fixture *x = *state;
    struct book_host found;
    struct fault f = {0};
    assert_int_equal(book_find(x->b, "home", &found, &f), POSTERN_ERR_NOTFOUND);
    assert_non_null(strstr(f.advice, "join"));
    assert_int_equal(book_hosts(x->b, &found, 1), 0);
}

static void test_services_and_keys(void **state)
{
    struct fixture *x = *state;
    struct book_host h = add(x->b, "home", 1), found;
    struct book_service in[2] =
        {{.name = "ssh", .port = 22},
         {.name = "dns", .title = "Names", .port = 53, .udp = true}},
                        out[4];
    uint8_t fresh[KEY_LEN], own[KEY_LEN];
    memset(fresh, 9, KEY_LEN);
    memset(own, 8, KEY_LEN);
    assert_int_equal(book_services_set(x->b, h.key, in, 2), 0);
    assert_int_equal(book_services_set(x->b, h.key, in, 2), 0);
    assert_int_equal(book_services(x->b, h.key, out, 1), 1);
    assert_int_equal(book_services(x->b, h.key, out, 4), 2);
    assert_string_equal(out[0].name, "ssh");
    assert_true(out[1].udp && out[1].port == 53);
    assert_string_equal(out[1].title, "Names");
    assert_int_equal(book_rotate(x->b, h.key, fresh), 0);
    assert_int_equal(book_find_key(x->b, h.key, &found), POSTERN_ERR_NOTFOUND);
    assert_int_equal(book_find_key(x->b, fresh, &found), 0);
    assert_string_equal(found.name, "home");
    assert_int_equal(book_services(x->b, fresh, out, 4), 2);
    assert_int_equal(book_set_own_key(x->b, fresh, own), 0);
    assert_int_equal(book_find_key(x->b, fresh, &found), 0);
    assert_memory_equal(found.own_key, own, KEY_LEN);
    assert_int_equal(book_remove(x->b, fresh), 0);
    assert_int_equal(book_services(x->b, fresh, out, 4), 0);
    assert_int_equal(book_remove(x->b, fresh), POSTERN_ERR_NOTFOUND);
}

#define WITH_BOOK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BOOK(test_names),
        WITH_BOOK(test_find),
        WITH_BOOK(test_empty),
        WITH_BOOK(test_services_and_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
