/* Frames, names and the hash of a transfer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/transfer.h"

static void cleaned(const char *from, const char *want)
{
    char path[TRANSFER_PATH_LEN];
    (void)snprintf(path, sizeof(path), "%s", from);
    if (want == NULL) {
        assert_int_equal(transfer_clean_path(path), POSTERN_ERR_INVALID);
        return;
    }
    assert_int_equal(transfer_clean_path(path), 0);
    assert_string_equal(path, want);
}

static void test_paths(void **state)
{
    (void)state;
    char deep[TRANSFER_PATH_LEN] = "", name[300];
    cleaned("a.txt", "a.txt");
    cleaned("d/e/f", "d/e/f");
    cleaned("/etc/passwd", "etc/passwd");
    cleaned("../../x", "_./_./x");
    cleaned("a/../../x", "a/_./_./x");
    cleaned("a/./b", "a/_/b");
    cleaned("..", "_.");
    cleaned(".bashrc", "_bashrc");
    cleaned("repo/.git/config", "repo/.git/config");
    cleaned("a//b///", "a/b");
    cleaned("a\nb\x1b[1m\x7f", "a_b_[1m_");
    cleaned("\xc2\x9b\xff z\xc3\xa4", "___ z\xc3\xa4");
    cleaned("", NULL);
    cleaned("///", NULL);
    for (int i = 0; i < 511; i++)
        strncat(deep, "d/", sizeof(deep) - strlen(deep) - 1);
    strncat(deep, "f", sizeof(deep) - strlen(deep) - 1);
    cleaned(deep, deep); /* as deep as it is long */
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    (void)snprintf(deep, sizeof(deep), "%s/b", name);
    assert_int_equal(transfer_clean_path(deep), 0);
    assert_int_equal(strlen(deep), 242);
}

static void test_numbers(void **state)
{
    (void)state;
    char out[256], name[300];
    transfer_number_name(out, sizeof(out), "photo.jpg", 2);
    assert_string_equal(out, "photo (2).jpg");
    transfer_number_name(out, sizeof(out), "README", 13);
    assert_string_equal(out, "README (13)");
    transfer_number_name(out, sizeof(out), ".x", 2);
    assert_string_equal(out, ".x (2)");
    for (size_t i = 0; i + 2 < sizeof(name); i += 2)
        memcpy(name + i, "\xc3\xa4", 3);
    memcpy(name + 232, ".jpg", 5);
    transfer_number_name(out, sizeof(out), name, 999);
    assert_true(strlen(out) <= 240 && strstr(out, "\xc3\xa4 (999).jpg") != NULL);
}

static void test_frames(void **state)
{
    (void)state;
    uint8_t buf[2048], head[TRANSFER_HEAD];
    struct transfer_file f = {.mode = 0640, .size = 7, .mtime_s = -5, .path = "a/b"}, g;
    enum transfer_type type;
    size_t len = transfer_put_file(buf, sizeof(buf), &f), n;
    transfer_head(head, TRANSFER_FILE, len);
    assert_int_equal(transfer_parse_head(head, &type, &n), 0);
    assert_int_equal(type, TRANSFER_FILE);
    assert_int_equal(n, len);
    assert_int_equal(transfer_get_file(&g, buf, len), 0);
    assert_string_equal(g.path, "a/b");
    assert_true(g.size == 7 && g.mtime_s == -5 && g.mode == 0640 && !g.directory);
    for (size_t i = 0; i < 20; i++)
        assert_int_not_equal(transfer_get_file(&g, buf, i), 0);
    buf[len - 2] = '\0';
    assert_int_not_equal(transfer_get_file(&g, buf, len), 0);
    head[0] = TRANSFER_TYPE_END;
    assert_int_not_equal(transfer_parse_head(head, &type, &n), 0);
    transfer_head(head, TRANSFER_DATA, TRANSFER_FRAME_MAX + 1);
    assert_int_not_equal(transfer_parse_head(head, &type, &n), 0);
}

static void test_hash(void **state)
{
    (void)state;
    struct transfer_hash a, b;
    uint8_t x[TRANSFER_HASH_LEN], y[TRANSFER_HASH_LEN];
    uint8_t *block = calloc(1, TRANSFER_BLOCK);
    transfer_hash_begin(&a);
    transfer_hash_begin(&b);
    transfer_hash_zeros(&a, 5000);
    for (int i = 0; i < 5000; i++)
        transfer_hash_block(&b, block, i == 4999 ? 10 : TRANSFER_BLOCK);
    transfer_hash_so_far(&a, 4999ull * TRANSFER_BLOCK + 10, x);
    transfer_hash_so_far(&b, 4999ull * TRANSFER_BLOCK + 10, y);
    assert_memory_equal(x, y, sizeof(x));
    transfer_hash_so_far(&b, 4999ull * TRANSFER_BLOCK + 11, y);
    assert_memory_not_equal(x, y, sizeof(x));
    block[7] = 1;
    transfer_hash_block(&a, block, 100);
    transfer_hash_so_far(&a, 1, x);
    transfer_hash_so_far(&a, 1, y);
    assert_memory_equal(x, y, sizeof(x));
    assert_int_equal(transfer_blocks(0), 0);
    assert_int_equal(transfer_blocks(1), 1);
    assert_int_equal(transfer_blocks(TRANSFER_BLOCK), 1);
    assert_int_equal(transfer_blocks(TRANSFER_BLOCK + 1), 2);
    assert_false(transfer_is_zero(block, 100));
    assert_true(transfer_is_zero(block, 7));
    free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
