/* The block in a hosts file: its text, and how the file is replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/hosts_text.h"
#include "io/hosts_file.h"
#include "scratch.h"

static const struct hosts_name two[] = {
    {"home", {.family = ADDR_V4, .ip = {127, 80, 1, 2}}},
    {"office", {.family = ADDR_V4, .ip = {127, 80, 254, 9}}},
};
#define BEGIN_A "# BEGIN 'postern up' of /a (it takes these lines away)\n"
#define BLOCK_A                                                                        \
    BEGIN_A "127.80.1.2 home.postern\n127.80.254.9 office.postern\n"                   \
            "# END 'postern up' of /a\n"

static void check(const char *text, const char *owner, size_t n, const char *want)
{
    char *out = NULL;
    size_t len = 0;
    assert_int_equal(hosts_text_set(&out, &len, text, strlen(text), owner, two, n), 0);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(out, want, len);
    free(out);
}

static void test_text(void **state)
{
    (void)state;
    check("", "/a", 0, "");
    check("", "/a", 2, BLOCK_A);
    check("1 a\n", "/a", 2, "1 a\n" BLOCK_A);
    check("1 a", "/a", 2, "1 a\n" BLOCK_A);
    check("1 a\r\n\n" BLOCK_A "2 b", "/a", 0, "1 a\r\n\n2 b");
    check("1 a\n" BLOCK_A BLOCK_A "2 b\n", "/a", 2, "1 a\n2 b\n" BLOCK_A);
    check("1 a\n" BLOCK_A, "/b", 0, "1 a\n" BLOCK_A); /* another's */
}

static void test_block_without_its_end(void **state)
{
    (void)state;
    check(BEGIN_A "127.80.1.2 home.postern\n127.80.1.2 mine\n2 b\n", "/a", 0,
          "127.80.1.2 mine\n2 b\n");
    check(BEGIN_A, "/a", 0, "");
    check("1 a\n# END 'postern up' of /a\n", "/a", 0,
          "1 a\n# END 'postern up' of /a\n");
}

static void test_owner_is_one_line(void **state)
{
    char *out = NULL, owner[5000];
    size_t len = 0;
    (void)state;
    check("", "/a\n127.0.0.1 bank", 0, "");
    memset(owner, '\n', sizeof(owner) - 1);
    owner[sizeof(owner) - 1] = '\0';
    assert_int_equal(hosts_text_set(&out, &len, "", 0, owner, two, 1), 0);
    size_t lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += out[i] == '\n';
    assert_int_equal(lines, 3);
    free(out);
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static void assert_file(const char *path, const char *want)
{
    char text[1024];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    assert_string_equal(text, want);
    (void)fclose(f);
}

static void test_file(void **state)
{
    char dir[SCRATCH_LEN], path[128], link[128];
    struct stat first, st;
    struct fault f;
    (void)state;
    assert_int_equal(scratch_make(dir), 0);
    (void)snprintf(path, sizeof(path), "%s/hosts", dir);
    assert_int_equal(hosts_file_set(path, "/a", two, 2, &f), POSTERN_ERR_NOTFOUND);
    put(path, "1 a\n");
    assert_int_equal(chmod(path, 0604), 0);
    assert_int_equal(hosts_file_set(path, "/a", two, 2, &f), 0);
    assert_file(path, "1 a\n" BLOCK_A);
    assert_int_equal(stat(path, &first), 0);
    assert_int_equal(first.st_mode & 07777, 0604);
    assert_int_equal(hosts_file_set(path, "/a", two, 2, &f), 0); /* nothing to do */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_ino, first.st_ino);
    assert_int_equal(hosts_file_set(path, "/a", NULL, 0, &f), 0);
    assert_file(path, "1 a\n");
    (void)snprintf(link, sizeof(link), "%s/link", dir);
    assert_int_equal(symlink("hosts", link), 0);
    assert_int_equal(hosts_file_set(link, "/a", two, 2, &f), 0);
    assert_file(path, "1 a\n" BLOCK_A);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    assert_int_equal(hosts_file_set(link, "/a", two, 2, &f), POSTERN_ERR_INVALID);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(mkfifo(link, 0600), 0);
    assert_int_equal(hosts_file_set(link, "/a", two, 2, &f), POSTERN_ERR_INVALID);
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_block_without_its_end),
        cmocka_unit_test(test_owner_is_one_line),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
