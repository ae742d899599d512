/* Accounts and public services of a host: what may be stored, and what it then allows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "host/access.h"
#include "scratch.h"

struct fixture {
    char dir[SCRATCH_LEN];
    struct access *a;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    if (x == NULL || scratch_make(x->dir) != 0)
        return -1;
    return access_open(&x->a, x->dir, NULL);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    access_close(x->a);
    scratch_remove(x->dir);
    free(x);
    return 0;
}

static struct access_account account(const char *name, const char *services)
{
    struct access_account a = {.hash = "$argon2id$"};
    (void)snprintf(a.name, sizeof(a.name), "%s", name);
    (void)snprintf(a.services, sizeof(a.services), "%s", services);
    return a;
}

static void test_accounts(void **state)
{
    struct fixture *x = *state;
    struct access_account in = account("Anna", "web"), out[3];
    struct fault f = {0};
    assert_false(access_is_open(x->a));
    in.code = true;
    memset(in.totp, 7, sizeof(in.totp));
    in.expires_s = 99;
    in.owner = true;
    assert_int_equal(access_put(x->a, &in, false, &f), 0);
    assert_true(access_is_open(x->a));
    assert_int_equal(access_find(x->a, "anna", &out[0], NULL), 0);
    assert_string_equal(out[0].name, "Anna");
    assert_string_equal(out[0].hash, "$argon2id$");
    assert_true(out[0].code && out[0].owner);
    assert_memory_equal(out[0].totp, in.totp, sizeof(in.totp));
    assert_int_equal(out[0].expires_s, 99);
    /* no second one, in whatever case */
    in = account("ANNA", "all");
    assert_int_equal(access_put(x->a, &in, false, &f), POSTERN_ERR_INUSE);
    assert_non_null(strstr(f.what, "Anna")); /* the one that is there */
    /* a change shows in the serial, and takes what is new */
    in = account("Anna", "all");
    assert_int_equal(access_put(x->a, &in, true, &f), 0);
    assert_int_equal(access_find(x->a, "Anna", &out[1], NULL), 0);
    assert_true(out[1].serial > out[0].serial);
    assert_false(out[1].code || out[1].owner);
    assert_string_equal(out[1].services, "all");
    in = account("bob", "web");
    assert_int_equal(access_put(x->a, &in, true, &f), POSTERN_ERR_NOTFOUND);
    assert_int_equal(access_put(x->a, &in, false, &f), 0);
    assert_int_equal(access_accounts(x->a, out, 3), 2);
    assert_string_equal(out[0].name, "Anna");
    assert_string_equal(out[1].name, "bob");
    assert_int_equal(access_remove(x->a, "ANNA", &f), 0);
    assert_int_equal(access_remove(x->a, "ANNA", &f), POSTERN_ERR_NOTFOUND);
    assert_int_equal(access_find(x->a, "Anna", &out[0], &f), POSTERN_ERR_NOTFOUND);
    /* made again it is another one */
    in = account("bob", "web");
    assert_int_equal(access_remove(x->a, "bob", NULL), 0);
    assert_false(access_is_open(x->a));
    assert_int_equal(access_put(x->a, &in, false, NULL), 0);
    assert_int_equal(access_find(x->a, "bob", &out[2], NULL), 0);
    assert_true(out[2].serial > out[1].serial);
}

static void test_names(void **state)
{
    struct fixture *x = *state;
    static const char *const bad[] = {"",    "a b", "a/b",  "a\n", "\xc3\xa4",
                                      "a,b", "a:b", "a\"b", "<a>"};
    struct fault f = {0};
    struct access_account in = account("a.B_1-2@example.org", "web");
    assert_int_equal(access_put(x->a, &in, false, &f), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        in = account(bad[i], "web");
        assert_int_equal(access_put(x->a, &in, false, &f), POSTERN_ERR_USAGE);
    }
    memset(in.name, 'x', sizeof(in.name) - 1);
    in.name[sizeof(in.name) - 1] = '\0';
    assert_int_equal(access_put(x->a, &in, false, &f), 0);
}

static void test_limit(void **state)
{
    struct fixture *x = *state;
    struct fault f = {0};
    struct access_account in;
    for (int i = 0; i <= ACCESS_ACCOUNTS_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "n%d", i);
        in = account(name, "web");
        assert_int_equal(access_put(x->a, &in, false, &f),
                         i < ACCESS_ACCOUNTS_MAX ? 0 : POSTERN_ERR_LIMIT);
    }
    in = account("n3", "all"); /* a change needs no room */
    assert_int_equal(access_put(x->a, &in, true, &f), 0);
    assert_int_equal(access_accounts(x->a, NULL, 0), ACCESS_ACCOUNTS_MAX);
}

static void test_allows(void **state)
{
    struct service web, cam;
    struct access_account a = account("a", "web,22");
    (void)state;
    assert_int_equal(service_parse(&web, "web=8080", NULL), 0);
    assert_int_equal(service_parse(&cam, "cam=554", NULL), 0);
    assert_true(access_allows(&a, &web, 100));
    assert_false(access_allows(&a, &cam, 100));
    a.expires_s = 100;
    assert_true(access_allows(&a, &web, 99));
    assert_false(access_allows(&a, &web, 100));
    a = account("a", ACCESS_ALL);
    assert_true(access_allows(&a, &cam, 100));
    a = account("a", ""); /* is nothing here, not all */
    assert_false(access_allows(&a, &web, 100));
}

static void test_public(void **state)
{
    struct fixture *x = *state;
    char names[2][SERVICE_NAME_LEN];
    bool changed;
    int64_t before;
    struct access *other = NULL;
    assert_int_equal(access_set_public(x->a, "web", true, &changed, NULL), 0);
    assert_true(changed && access_is_open(x->a));
    assert_int_equal(access_set_public(x->a, "WEB", true, &changed, NULL), 0);
    assert_false(changed);
    assert_true(access_is_public(x->a, "web"));
    assert_false(access_is_public(x->a, "cam"));
    assert_int_equal(access_publics(x->a, names, 2), 1);
    assert_string_equal(names[0], "web");
    before = access_version(x->a);
    assert_int_equal(access_open(&other, x->dir, NULL), 0);
    assert_int_equal(access_set_public(other, "web", false, &changed, NULL), 0);
    assert_true(changed);
    assert_int_not_equal(access_version(x->a), before);
    assert_false(access_is_public(x->a, "web") || access_is_open(x->a));
    access_close(other);
}

static void test_hash(void **state)
{
    char hash[ACCESS_HASH_LEN];
    (void)state;
    assert_int_equal(access_hash(hash, "correct horse"), 0);
    assert_non_null(strstr(hash, "$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_int_equal(crypto_pwhash_str_verify(hash, "correct horse", 13), 0);
    assert_int_not_equal(crypto_pwhash_str_verify(hash, "correct horsf", 13), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_accounts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
        cmocka_unit_test(test_allows),
        cmocka_unit_test_setup_teardown(test_public, setup, teardown),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
