/*
 * Databases and the state directory when files go wrong: newer, damaged, read-only,
 * full disk, two processes at once. No fault may change the file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/db.h"
#include "io/statedir.h"
#include "scratch.h"

static const char *const v1[] = {"CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)"};
static const char *const v2[] = {"CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)",
                                 "ALTER TABLE t ADD COLUMN y TEXT; "
                                 "UPDATE t SET y = 'old'"};
static const char *const v2_broken[] = {
    "CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)",
    "ALTER TABLE t ADD COLUMN y TEXT; NONSENSE"};

static int setup(void **state)
{
    char *dir = malloc(SCRATCH_LEN);
    if (dir == NULL || scratch_make(dir) != 0)
        return -1;
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    scratch_remove(*state);
    free(*state);
    return 0;
}

static void insert(struct db *db, const void *bytes, size_t len)
{
    struct db_stmt s = db_prepare(db, "INSERT INTO t(x) VALUES(?)");
    db_bind_blob(&s, bytes, len);
    assert_int_equal(db_exec(&s), 0);
}

static int64_t count(struct db *db)
{
    struct db_stmt s = db_prepare(db, "SELECT count(*) FROM t");
    assert_true(db_step(&s));
    int64_t n = db_column_int(&s, 0);
    assert_int_equal(db_finish(&s), 0);
    return n;
}

static void test_migrations(void **state)
{
    struct db *db;
    struct fault f = {0};
    struct stat st;
    char path[256];
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
    insert(db, "one", 3);
    db_close(db);
    (void)snprintf(path, sizeof(path), "%s/a.db", (char *)*state);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* a step that fails leaves all as it was */
    assert_true(db_open(&db, *state, "a.db", v2_broken, 2, &f) < 0);
    assert_int_equal(db_open(&db, *state, "a.db", v2, 2, &f), 0);
    struct db_stmt s = db_prepare(db, "SELECT x, y FROM t");
    char x[3];
    assert_true(db_step(&s));
    db_column_blob(&s, 0, x, 3);
    assert_memory_equal(x, "one", 3);
    assert_string_equal(db_column_text(&s, 1), "old");
    assert_false(db_step(&s));
    assert_int_equal(db_finish(&s), 0);
    db_close(db);
    /* now it is newer than what knows one step only */
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), POSTERN_ERR_NEWER);
    assert_non_null(strstr(f.what, "newer"));
    assert_int_equal(db_open(&db, *state, "a.db", v2, 2, &f), 0);
    assert_int_equal(count(db), 1);
    db_close(db);
}

static void test_sticky(void **state)
{
    struct db *db;
    struct fault f = {0};
    char x[2];
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
    struct db_stmt s = db_prepare(db, "SELECT nothing FROM nowhere");
    db_bind_int(&s, 1);
    assert_false(db_step(&s));
    assert_string_equal(db_column_text(&s, 0), "");
    assert_true(db_finish(&s) < 0);
    insert(db, "abc", 3);
    s = db_prepare(db, "SELECT x FROM t");
    assert_true(db_step(&s));
    db_column_blob(&s, 0, x, sizeof(x)); /* three bytes where two are expected */
    assert_int_equal(db_finish(&s), POSTERN_ERR_CORRUPT);
    assert_int_equal(db_begin(db), 0);
    insert(db, "x", 1);
    assert_int_equal(db_end(db, POSTERN_ERR_DENIED), POSTERN_ERR_DENIED);
    assert_int_equal(count(db), 1);
    db_close(db);
}

static off_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : -1;
}

static void fill_table(const char *dir)
{
    struct db *db;
    struct fault f = {0};
    uint8_t bytes[1000];
    memset(bytes, 7, sizeof(bytes));
    assert_int_equal(db_open(&db, dir, "a.db", v1, 1, &f), 0);
    for (int i = 0; i < 100; i++)
        insert(db, bytes, sizeof(bytes));
    db_close(db);
}

/* Overwrites some bytes; a hash of the result tells whether it changed. */
static void damage(const char *path, off_t at, size_t len, uint8_t hash[32])
{
    static uint8_t all[1 << 20];
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    memset(all, 0x5a, len);
    assert_int_equal(pwrite(fd, all, len, at), len);
    ssize_t n = pread(fd, all, sizeof(all), 0);
    assert_true(n > 0);
    (void)close(fd);
    key_hash(hash, all, (size_t)n, NULL, 0);
}

/* Statements are used again: nothing of one use is seen in the next. */
static void test_again(void **state)
{
    static const char by_x[] = "SELECT id FROM t WHERE x IS ?";
    struct db *db;
    struct fault f = {0};
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
    for (int i = 0; i < 20; i++)
        insert(db, i % 2 == 0 ? "even" : "odd ", 4);
    struct db_stmt outer = db_prepare(db, by_x);
    db_bind_blob(&outer, "even", 4);
    for (int i = 0; i < 10; i++) {
        assert_true(db_step(&outer));
        assert_int_equal(db_column_int(&outer, 0), 2 * i + 1);
        struct db_stmt inner = db_prepare(db, by_x); /* inside of itself */
        db_bind_blob(&inner, "odd ", 4);
        assert_true(db_step(&inner));
        assert_int_equal(db_column_int(&inner, 0), 2);
        assert_int_equal(db_finish(&inner), 0); /* with rows left */
    }
    assert_false(db_step(&outer));
    assert_int_equal(db_finish(&outer), 0);
    struct db_stmt unbound = db_prepare(db, by_x); /* NULL, not what was bound before */
    assert_false(db_step(&unbound));
    assert_int_equal(db_finish(&unbound), 0);
    db_close(db);
}

static void test_damaged(void **state)
{
    static const struct {
        off_t at;
        size_t len;
    } where[] = {{0, 100}, {4096, 3000}, {4096 * 3, 4096 * 4}};
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/a.db", (char *)*state);
    for (size_t i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
        uint8_t before[32], after[32];
        struct db *db;
        struct fault f = {0};
        (void)unlink(path);
        fill_table(*state);
        damage(path, where[i].at, where[i].len, before);
        assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), POSTERN_ERR_CORRUPT);
        assert_non_null(strstr(f.what, "a.db"));
        assert_true(f.advice[0] != '\0');
        damage(path, where[i].at, where[i].len, after);
        assert_memory_equal(before, after, sizeof(before));
    }
    struct db *db;
    static const off_t cuts[] = {4096 * 5, 4096, 1000, 99, 0};
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        (void)unlink(path);
        fill_table(*state);
        assert_int_equal(truncate(path, cuts[i]), 0);
        assert_int_equal(db_open(&db, *state, "a.db", v1, 1, NULL),
                         POSTERN_ERR_CORRUPT);
        assert_int_equal(file_size(path), cuts[i]);
    }
    /* somebody else's database */
    (void)unlink(path);
    sqlite3 *raw;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, "CREATE TABLE theirs(x)", NULL, NULL, NULL), 0);
    (void)sqlite3_close(raw);
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, NULL), POSTERN_ERR_CORRUPT);
    (void)unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, NULL), POSTERN_ERR_CORRUPT);
}

/* A tiny file system of its own, or a skip when the kernel does not let us. */
static void mount_or_skip(const char *dir, const char *options)
{
    if (mount("none", dir, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0) {
        print_message("skipped: cannot mount a tmpfs: %s\n", strerror(errno));
        skip();
    }
}

static void fill_disk(const char *dir)
{
    char path[256], block[4096];
    (void)snprintf(path, sizeof(path), "%s/filler", dir);
    memset(block, 1, sizeof(block));
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    while (write(fd, block, sizeof(block)) > 0)
        ;
    (void)close(fd);
}

static void check_full(const char *dir)
{
    struct db *db;
    struct fault f = {0};
    uint8_t bytes[20000];
    char path[256];
    memset(bytes, 3, sizeof(bytes));
    assert_int_equal(db_open(&db, dir, "a.db", v1, 1, &f), 0);
    insert(db, "kept", 4);
    fill_disk(dir);
    struct db *reader;
    assert_int_equal(db_open(&reader, dir, "a.db", v1, 1, &f), 0);
    assert_int_equal(count(reader), 1);
    db_close(reader);
    int err = 0;
    for (int i = 0; i < 100 && err == 0; i++) {
        struct db_stmt s = db_prepare(db, "INSERT INTO t(x) VALUES(?)");
        db_bind_blob(&s, bytes, sizeof(bytes));
        err = db_exec(&s);
    }
    assert_int_equal(err, POSTERN_ERR_FULL);
    assert_int_equal(db_fault(db, err, &f), POSTERN_ERR_FULL);
    assert_non_null(strstr(f.what, "full"));
    db_close(db);
    assert_int_equal(db_open(&db, dir, "b.db", v1, 1, &f), POSTERN_ERR_FULL);
    (void)snprintf(path, sizeof(path), "%s/filler", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(db_open(&db, dir, "a.db", v1, 1, &f), 0);
    assert_true(count(db) >= 1);
    db_close(db);
    assert_int_equal(db_open(&db, dir, "b.db", v1, 1, &f), 0);
    db_close(db);
}

static void check_read_only(const char *dir)
{
    struct db *db;
    struct fault f = {0};
    struct statedir s;
    struct keypair kp, before;
    int lock = -1, other = -1;
    assert_int_equal(statedir_open(&s, dir, &f), 0);
    assert_int_equal(statedir_key(&s, &before, &f), 0);
    assert_int_equal(db_open(&db, dir, "a.db", v1, 1, &f), 0);
    insert(db, "one", 3);
    db_close(db);
    assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(db_open(&db, dir, "new.db", v1, 1, &f), POSTERN_ERR_PERM);
    assert_int_equal(db_open(&db, dir, "a.db", v1, 1, &f), 0); /* to read */
    assert_int_equal(count(db), 1);
    assert_int_equal(db_run(db, "DELETE FROM t"), POSTERN_ERR_PERM);
    db_close(db);
    assert_int_equal(statedir_open(&s, dir, &f), 0);
    assert_int_equal(statedir_key(&s, &kp, &f), 0);
    assert_memory_equal(&kp, &before, sizeof(kp));
    assert_int_equal(statedir_lock(&s, "serve", &lock, &f), 0);
    assert_int_equal(statedir_lock(&s, "serve", &other, &f), POSTERN_ERR_INUSE);
}

/* Runs the check in a child, so that the mount goes even when an assertion fails. */
static void on_small_disk(const char *dir, const char *options,
                          void (*check)(const char *dir))
{
    mount_or_skip(dir, options);
    pid_t pid = fork();
    if (pid == 0) {
        check(dir);
        _exit(0);
    }
    int status = -1;
    (void)waitpid(pid, &status, 0);
    (void)umount2(dir, MNT_DETACH);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_full_disk(void **state)
{
    on_small_disk(*state, "size=256k,mode=700", check_full);
}

static void test_read_only(void **state)
{
    on_small_disk(*state, "size=256k,mode=700", check_read_only);
}

/* Many processes open a fresh file at once and each adds its row. */
static void test_processes(void **state)
{
    enum { PROCESSES = 12 };
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct db *db;
            struct fault f = {0};
            if (db_open(&db, *state, "a.db", v2, 2, &f) != 0)
                _exit(1);
            struct db_stmt s = db_prepare(db, "INSERT INTO t(y) VALUES('x')");
            int err = db_exec(&s);
            db_close(db);
            _exit(err == 0 ? 0 : 2);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;
        (void)waitpid(pids[i], &status, 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    struct db *db;
    assert_int_equal(db_open(&db, *state, "a.db", v2, 2, NULL), 0);
    assert_int_equal(count(db), PROCESSES);
    int64_t version = db_data_version(db);
    if (fork() == 0) {
        struct db *other;
        if (db_open(&other, *state, "a.db", v2, 2, NULL) != 0)
            _exit(1);
        struct db_stmt s = db_prepare(other, "DELETE FROM t");
        _exit(db_exec(&s) == 0 ? 0 : 1);
    }
    int status = -1;
    (void)wait(&status);
    assert_int_equal(status, 0);
    assert_true(db_data_version(db) != version);
    db_close(db);
}

static void test_statedir(void **state)
{
    char path[300], socket[STATEDIR_SOCKET_LEN];
    struct statedir s;
    struct fault f = {0};
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/deep/er", (char *)*state);
    assert_int_equal(statedir_open(&s, path, &f), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    statedir_socket(&s, "serve", socket);
    assert_int_equal(strncmp(socket, path, strlen(path)), 0);
    assert_int_equal(chmod(path, 0777), 0);
    assert_int_equal(statedir_open(&s, path, &f), POSTERN_ERR_PERM);
    (void)snprintf(path, sizeof(path), "%s/file", (char *)*state);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(statedir_open(&s, path, &f), POSTERN_ERR_INVALID);
    assert_true(f.advice[0] != '\0');
    (void)snprintf(path, sizeof(path), "%s/file/below", (char *)*state);
    assert_int_equal(statedir_open(&s, path, &f), POSTERN_ERR_INVALID);
    (void)snprintf(path, sizeof(path), "%s/%0200d", (char *)*state, 0);
    assert_int_equal(statedir_open(&s, path, &f), 0);
    statedir_socket(&s, "serve", socket); /* too long for sun_path: io/local's affair */
    assert_int_equal(strncmp(socket, path, strlen(path)), 0);
    assert_int_equal(statedir_open(&s, "", &f), POSTERN_ERR_INVALID);
}

static void test_lock(void **state)
{
    struct statedir s;
    struct fault f = {0};
    int fd, second;
    assert_int_equal(statedir_open(&s, *state, &f), 0);
    assert_int_equal(statedir_lock(&s, "serve", &fd, &f), 0);
    assert_int_equal(statedir_lock(&s, "serve", &second, &f), POSTERN_ERR_INUSE);
    char pid[24];
    (void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    assert_non_null(strstr(f.what, pid));
    assert_int_equal(statedir_lock(&s, "up", &second, &f), 0);
    (void)close(second);
    (void)close(fd);
    assert_int_equal(statedir_lock(&s, "serve", &fd, &f), 0);
    (void)close(fd);
}

/* The directory is moved away, and a copy takes its place: nobody holds that yet. */
static void test_lock_moved(void **state)
{
    char path[300], away[304];
    struct statedir s;
    struct fault f = {0};
    int fd, second, third;
    bool moved;
    (void)snprintf(path, sizeof(path), "%s/place", (char *)*state);
    (void)snprintf(away, sizeof(away), "%s.old", path);
    assert_int_equal(statedir_open(&s, path, &f), 0);
    assert_int_equal(statedir_lock(&s, "serve", &fd, &f), 0);
    assert_int_equal(statedir_lock_keep(&s, "serve", &fd, &moved, &f), 0);
    assert_false(moved);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(statedir_lock_keep(&s, "serve", &fd, &moved, &f), 0);
    assert_false(moved); /* it is not made anew */
    assert_int_equal(statedir_open(&s, path, &f), 0);
    assert_int_equal(statedir_lock_keep(&s, "serve", &fd, &moved, &f), 0);
    assert_true(moved);
    assert_int_equal(statedir_lock(&s, "serve", &second, &f), POSTERN_ERR_INUSE);
    /* another was faster */
    (void)snprintf(away, sizeof(away), "%.280s.older", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(statedir_open(&s, path, &f), 0);
    assert_int_equal(statedir_lock(&s, "serve", &third, &f), 0);
    assert_int_equal(statedir_lock_keep(&s, "serve", &fd, &moved, &f),
                     POSTERN_ERR_INUSE);
    assert_false(moved);
    (void)close(third);
    (void)close(fd);
}

static void test_keys(void **state)
{
    struct statedir s;
    struct fault f = {0};
    struct keypair a, b, c, old[4];
    assert_int_equal(statedir_open(&s, *state, &f), 0);
    assert_int_equal(statedir_key(&s, &a, &f), 0);
    assert_int_equal(statedir_key(&s, &b, &f), 0);
    assert_memory_equal(&a, &b, sizeof(a));
    assert_int_equal(statedir_key_rotate(&s, &b, 5, &f), 0);
    assert_memory_not_equal(a.pub, b.pub, KEY_LEN);
    assert_int_equal(statedir_key_rotate(&s, &c, 6, &f), 0);
    assert_int_equal(statedir_old_keys(&s, old, 4, &f), 2);
    assert_memory_equal(old[0].pub, b.pub, KEY_LEN);
    assert_memory_equal(old[1].pub, a.pub, KEY_LEN);
    assert_int_equal(statedir_old_keys(&s, old, 1, &f), 1);
    assert_int_equal(statedir_key(&s, &a, &f), 0);
    assert_memory_equal(a.pub, c.pub, KEY_LEN);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/* A file of its own with so many rows. */
static void make_other(const char *dir, const char *name, int rows)
{
    struct db *db;
    struct fault f = {0};
    assert_int_equal(db_open(&db, dir, name, v1, 1, &f), 0);
    for (int i = 0; i < rows; i++)
        insert(db, "other", 5);
    db_close(db);
}

static void put_in_place(const char *dir, const char *from, const char *to)
{
    char a[256], b[256];
    (void)snprintf(a, sizeof(a), "%s/%s", dir, from);
    (void)snprintf(b, sizeof(b), "%s/%s", dir, to);
    assert_int_equal(rename(a, b), 0);
}

/* Restored by rename under who has it open: what is read and written is the new one. */
static void test_replaced(void **state)
{
    struct db *db;
    struct fault f = {0};
    for (int fast = 0; fast < 2; fast++) {
        make_other(*state, "a.db", 1);
        assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
        if (fast)
            assert_int_equal(db_set_fast(db), 0);
        insert(db, "x", 1);
        int64_t before = db_data_version(db);
        make_other(*state, "b.db", 4);
        put_in_place(*state, "b.db", "a.db");
        assert_true(db_data_version(db) > before);
        assert_int_equal(count(db), 4);
        assert_int_equal(db_begin(db), 0);
        insert(db, "y", 1);
        assert_int_equal(db_end(db, 0), 0);
        db_close(db);
        assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
        assert_int_equal(count(db), 5);
        db_close(db);
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/a.db", (char *)*state);
        assert_int_equal(unlink(path), 0);
    }
}

/* Another file there that is none of ours: the old one is read, nothing is written. */
static void test_replaced_by_a_bad_one(void **state)
{
    struct db *db;
    struct fault f = {0};
    char path[256];
    make_other(*state, "a.db", 2);
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
    (void)snprintf(path, sizeof(path), "%s/a.db", (char *)*state);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(db_check(db, &f), POSTERN_ERR_CORRUPT);
    assert_non_null(strstr(f.what, "was removed"));
    make_other(*state, "b.db", 3);
    (void)snprintf(path, sizeof(path), "%s/b.db", (char *)*state);
    assert_int_equal(truncate(path, 600), 0);
    put_in_place(*state, "b.db", "a.db");
    assert_int_equal(db_check(db, &f), POSTERN_ERR_CORRUPT);
    assert_int_equal(count(db), 2);
    assert_int_equal(db_begin(db), POSTERN_ERR_CORRUPT);
    struct db_stmt s = db_prepare(db, "INSERT INTO t(x) VALUES('lost')");
    assert_int_equal(db_exec(&s), POSTERN_ERR_CORRUPT);
    db_close(db);
}

/* Emptied in its place, and whole again. */
static void test_emptied_and_restored(void **state)
{
    struct db *db;
    struct fault f = {0};
    char path[256], bytes[16384];
    make_other(*state, "a.db", 2);
    (void)snprintf(path, sizeof(path), "%s/a.db", (char *)*state);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t n = read(fd, bytes, sizeof(bytes));
    assert_true(n > 0 && n < (ssize_t)sizeof(bytes));
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
    assert_int_equal(count(db), 2);
    assert_int_equal(ftruncate(fd, 0), 0);
    struct db_stmt s = db_prepare(db, "SELECT count(*) FROM t");
    assert_false(db_step(&s));
    assert_int_equal(db_finish(&s), POSTERN_ERR_CORRUPT);
    assert_int_equal(db_fault(db, POSTERN_ERR_CORRUPT, &f), POSTERN_ERR_CORRUPT);
    assert_non_null(strstr(f.what, "was emptied"));
    assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
    (void)close(fd);
    assert_int_equal(db_check(db, &f), 0);
    assert_int_equal(count(db), 2);
    insert(db, "x", 1);
    assert_int_equal(count(db), 3);
    db_close(db);
}

/* A daemon goes by what stood in the file, whatever is done to it in its place. */
static void test_copy(void **state)
{
    struct db *db;
    struct fault f = {0};
    char path[256], bytes[16384], junk[4096];
    (void)snprintf(path, sizeof(path), "%s/a.db", (char *)*state);
    assert_int_equal(db_open(&db, *state, "a.db", v1, 1, &f), 0);
    db_keep_copy(db);
    insert(db, "x", 1);
    assert_int_equal(count(db), 1);
    insert(db, "y", 1);
    assert_int_equal(count(db), 2);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t n = read(fd, bytes, sizeof(bytes));
    assert_true(n > 4096 && n < (ssize_t)sizeof(bytes));
    memset(junk, 0xa5, sizeof(junk));
    for (int how = 0; how < 3; how++) {
        if (how == 0)
            assert_int_equal(ftruncate(fd, 0), 0);
        else if (how == 1)
            assert_int_equal(ftruncate(fd, 4096), 0);
        else
            assert_int_equal(pwrite(fd, junk, sizeof(junk), 0), sizeof(junk));
        assert_int_equal(count(db), 2);
        assert_int_equal(count(db), 2);
        assert_int_equal(db_check(db, &f), POSTERN_ERR_CORRUPT);
        struct db_stmt s = db_prepare(db, "INSERT INTO t(x) VALUES('lost')");
        assert_int_equal(db_exec(&s), POSTERN_ERR_CORRUPT);
        assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
        assert_int_equal(db_check(db, &f), 0);
        assert_int_equal(count(db), 2);
    }
    insert(db, "z", 1);
    assert_int_equal(count(db), 3);
    (void)close(fd);
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_migrations),
        IN_SCRATCH(test_sticky),
        IN_SCRATCH(test_again),
        IN_SCRATCH(test_damaged),
        IN_SCRATCH(test_full_disk),
        IN_SCRATCH(test_read_only),
        IN_SCRATCH(test_processes),
        IN_SCRATCH(test_statedir),
        IN_SCRATCH(test_lock),
        IN_SCRATCH(test_lock_moved),
        IN_SCRATCH(test_keys),
        IN_SCRATCH(test_replaced),
        IN_SCRATCH(test_replaced_by_a_bad_one),
        IN_SCRATCH(test_emptied_and_restored),
        IN_SCRATCH(test_copy),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
