/*
 * SQLite behind sticky statements. Every SQLite result becomes an enum postern_err
 * here and nowhere else; what stands in the tables is not known.
 */
#include "io/db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/lack.h"
#include "io/log.h"

enum { DB_BUSY_MS = 15000, DB_CHECK_MAX_BYTES = 16 << 20, DB_BUSY_TRIES = 300 };

struct db {
    sqlite3 *raw;
    char path[PATH_MAX];
    const char *trouble; /* what is wrong with a file that is no database of ours */
};

static int from_errno(int e)
{
    switch (e) {
    case EMFILE:
    case ENFILE:
        return POSTERN_ERR_LIMIT;
    case ENOSPC:
    case EDQUOT:
        return POSTERN_ERR_FULL;
    case EACCES:
    case EPERM:
    case EROFS:
        return POSTERN_ERR_PERM;
    default:
        return POSTERN_ERR_IO;
    }
}

static int from_sqlite(struct db *db, int r)
{
    switch (r & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return POSTERN_ERR_FULL;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return POSTERN_ERR_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return POSTERN_ERR_INUSE;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return POSTERN_ERR_PERM;
    case SQLITE_NOMEM:
        return POSTERN_ERR_NOMEM;
    case SQLITE_CONSTRAINT:
        return POSTERN_ERR_INVALID;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: {
        int err = from_errno(sqlite3_system_errno(db->raw));
        if (err == POSTERN_ERR_IO && lack_of_descriptors())
            err = POSTERN_ERR_LIMIT;
        else if (err == POSTERN_ERR_IO && (r & 0xff) == SQLITE_CANTOPEN)
            err = POSTERN_ERR_PERM;
        return err;
    }
    default:
        return POSTERN_ERR_IO;
    }
}

static int checked(struct db *db, int r)
{
    int err = from_sqlite(db, r);
    if (err != 0)
        log_debug("%s: %s", db->path, sqlite3_errmsg(db->raw));
    return err;
}

int db_fault(const struct db *db, int err, struct fault *f)
{
    const char *path = db->path;
    switch (err) {
    case 0:
        return 0;
    case POSTERN_ERR_LIMIT:
        errno = EMFILE; /* whatever else happened since */
        return fault_lack(f, err);
    case POSTERN_ERR_NEWER:
        return fault_set(f, err,
                         "update Postern, or use another directory with --state",
                         "%.250s was written by a newer version of Postern", path);
    case POSTERN_ERR_CORRUPT:
        return fault_set(f, err,
                         "restore it from a backup, or move it away to begin anew "
                         "without what was in it",
                         "%.250s %s; nothing in it was changed", path,
                         db->trouble != NULL ? db->trouble : "is damaged");
    case POSTERN_ERR_FULL:
        return fault_set(f, err, "free some space there and try again",
                         "the disk is full: %.250s cannot be written", path);
    case POSTERN_ERR_PERM:
        return fault_set(f, err,
                         "run as the user who owns it, or use another directory with "
                         "--state",
                         "no permission to write %.250s", path);
    case POSTERN_ERR_INUSE:
        return fault_set(f, err, "end the other program that uses it and try again",
                         "%.250s stays locked", path);
    default:
        return fault_set(f, err, "check the disk and try again",
                         "%.200s cannot be used: %s", path,
                         db->raw != NULL ? sqlite3_errmsg(db->raw) : strerror(errno));
    }
}

/* A file that is there holds our tables: it got its name when they stood in it. */
static int check_file(struct db *db)
{
    struct stat st;
    if (stat(db->path, &st) != 0)
        return from_errno(errno);
    if (!S_ISREG(st.st_mode))
        db->trouble = "is no file";
    else if (st.st_size == 0)
        db->trouble = "was emptied";
    if (db->trouble != NULL)
        return POSTERN_ERR_CORRUPT;
    return access(db->path, R_OK) == 0 ? 0 : from_errno(errno);
}

static int db_read_int(struct db *db, const char *sql, int64_t *v)
{
    struct db_stmt s = db_prepare(db, sql);
    *v = db_step(&s) ? db_column_int(&s, 0) : 0;
    return db_finish(&s);
}

static int check_version(struct db *db, size_t n, int64_t *version)
{
    int err = db_read_int(db, "PRAGMA user_version", version);
    if (err == 0 && (*version < 0 || (uint64_t)*version > n))
        err = POSTERN_ERR_NEWER;
    if (err == 0 && *version == 0 && n > 0) {
        db->trouble = "holds none of Postern's tables";
        err = POSTERN_ERR_CORRUPT;
    }
    return err;
}

static int quick_check(struct db *db)
{
    struct stat st;
    if (stat(db->path, &st) != 0)
        return from_errno(errno);
    if (st.st_size > DB_CHECK_MAX_BYTES)
        return 0;
    struct db_stmt s = db_prepare(db, "PRAGMA quick_check(1)");
    bool good = db_step(&s) && strcmp(db_column_text(&s, 0), "ok") == 0;
    int err = db_finish(&s);
    return err != 0 ? err : good ? 0 : POSTERN_ERR_CORRUPT;
}

/*
 * Two processes that do this at once: it answers BUSY without asking the busy handler,
 * so this waits here.
 */
static int set_journal(struct db *db, const char *mode)
{
    char sql[64];
    int err = 0;
    (void)snprintf(sql, sizeof(sql), "PRAGMA journal_mode=%s", mode);
    for (int i = 0; i < DB_BUSY_TRIES; i++) {
        struct db_stmt s = db_prepare(db, sql);
        bool done = db_step(&s) && strcmp(db_column_text(&s, 0), mode) == 0;
        err = db_finish(&s);
        if (err == 0)
            return done ? 0 : POSTERN_ERR_IO;
        if (err != POSTERN_ERR_INUSE)
            return err;
        struct timespec pause = {.tv_nsec = DB_BUSY_MS / DB_BUSY_TRIES * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
    return err;
}

static int open_raw(struct db *db, const char *path)
{
    int r = sqlite3_open_v2(
        path, &db->raw,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (r == SQLITE_OK)
        (void)sqlite3_busy_timeout(db->raw, DB_BUSY_MS);
    return checked(db, r);
}

static void close_raw(struct db *db)
{
    (void)sqlite3_close(db->raw);
    db->raw = NULL;
}

static int run_migrations(struct db *db, const char *const *migrations, size_t from,
                          size_t n)
{
    char sql[64];
    int err = 0;
    for (size_t i = from; err == 0 && i < n; i++)
        err = db_run(db, migrations[i]);
    (void)snprintf(sql, sizeof(sql), "PRAGMA user_version = %zu", n);
    return err != 0 ? err : db_run(db, sql);
}

/* Gives the finished file its name, unless another process was faster. */
static int take_name(const char *made, const char *path)
{
    if (renameat2(AT_FDCWD, made, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EEXIST && link(made, path) == 0) { /* a file system without that */
        (void)unlink(made);
        return 0;
    }
    int err = errno;
    (void)unlink(made);
    return err == EEXIST ? 0 : from_errno(err);
}

/* Makes the file beside its place, whole, with a mode that companion files get too. */
static int make_file(struct db *db, const char *const *migrations, size_t n)
{
    char made[PATH_MAX];
    if ((size_t)snprintf(made, sizeof(made), "%s.%ld", db->path, (long)getpid()) >=
        sizeof(made) - 8)
        return POSTERN_ERR_INVALID;
    (void)unlink(made); /* of a process that was killed here */
    int fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return from_errno(errno);
    (void)close(fd);
    int err = open_raw(db, made);
    if (err == 0)
        err = db_begin(db);
    if (err == 0)
        err = db_end(db, run_migrations(db, migrations, 0, n));
    close_raw(db);
    if (err != 0) {
        (void)unlink(made);
        return err;
    }
    return take_name(made, db->path);
}

static int migrate(struct db *db, const char *const *migrations, size_t n)
{
    int64_t version = 0;
    int err = check_version(db, n, &version);
    if (err != 0 || (size_t)version == n)
        return err;
    err = db_begin(db);
    if (err != 0)
        return err;
    err = check_version(db, n, &version); /* another process may have been faster */
    if (err == 0)
        err = run_migrations(db, migrations, (size_t)version, n);
    return db_end(db, err);
}

static int prepare_file(struct db *db, const char *const *migrations, size_t n)
{
    int64_t version;
    int err = check_file(db);
    if (err == 0)
        err = open_raw(db, db->path);
    if (err == 0)
        err = check_version(db, n, &version);
    if (err == 0)
        err = quick_check(db);
    if (err == 0)
        err = db_run(db, "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF");
    return err != 0 ? err : migrate(db, migrations, n);
}

int db_open(struct db **out, const char *dir, const char *file,
            const char *const *migrations, size_t n, struct fault *f)
{
    struct db *db = calloc(1, sizeof(*db));
    if (db == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int len = snprintf(db->path, sizeof(db->path), "%s/%s", dir, file);
    int err = (size_t)len >= sizeof(db->path) - 32 ? POSTERN_ERR_INVALID : 0;
    if (err == 0 && access(db->path, F_OK) != 0 && errno == ENOENT)
        err = make_file(db, migrations, n);
    if (err == 0)
        err = prepare_file(db, migrations, n);
    if (err != 0) {
        (void)db_fault(db, err, f);
        db_close(db);
        return err;
    }
    *out = db;
    return 0;
}

/* The path as a URI: what has a meaning there is written as %XX. */
static void still_uri(char *uri, size_t cap, const char *path)
{
    size_t n = (size_t)snprintf(uri, cap, "file:");
    for (; *path != '\0' && n + 16 < cap; path++)
        n += (size_t)snprintf(uri + n, cap - n, strchr("?#%", *path) ? "%%%02X" : "%c",
                              (unsigned char)*path);
    (void)snprintf(uri + n, cap - n, "?immutable=1");
}

int db_open_still(struct db **out, const char *dir, const char *file, struct fault *f)
{
    char uri[3 * PATH_MAX];
    struct db *db = calloc(1, sizeof(*db));
    if (db == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    (void)snprintf(db->path, sizeof(db->path), "%s/%s", dir, file);
    still_uri(uri, sizeof(uri), db->path);
    int err = access(db->path, F_OK) == 0 ? check_file(db) : POSTERN_ERR_NOTFOUND;
    if (err == 0)
        err =
            checked(db, sqlite3_open_v2(uri, &db->raw,
                                        SQLITE_OPEN_READONLY | SQLITE_OPEN_URI |
                                            SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                                        NULL));
    if (err == 0)
        err = quick_check(db);
    if (err != 0) {
        (void)db_fault(db, err, f);
        db_close(db);
        return err;
    }
    *out = db;
    return 0;
}

int db_set_fast(struct db *db)
{
    int err = set_journal(db, "wal");
    return err != 0 ? err : db_run(db, "PRAGMA synchronous=NORMAL");
}

void db_close(struct db *db)
{
    if (db == NULL)
        return;
    (void)sqlite3_close(db->raw);
    free(db);
}

int db_run(struct db *db, const char *sql)
{
    return checked(db, sqlite3_exec(db->raw, sql, NULL, NULL, NULL));
}

int db_begin(struct db *db)
{
    return db_run(db, "BEGIN IMMEDIATE");
}

int db_end(struct db *db, int err)
{
    if (err == 0)
        err = db_run(db, "COMMIT");
    if (err != 0 && sqlite3_get_autocommit(db->raw) == 0)
        (void)sqlite3_exec(db->raw, "ROLLBACK", NULL, NULL, NULL);
    return err;
}

struct db_stmt db_prepare(struct db *db, const char *sql)
{
    struct db_stmt s = {.db = db};
    s.err = checked(db, sqlite3_prepare_v2(db->raw, sql, -1, &s.raw, NULL));
    return s;
}

static void bind_result(struct db_stmt *s, int r)
{
    if (s->err == 0)
        s->err = checked(s->db, r);
}

void db_bind_int(struct db_stmt *s, int64_t v)
{
    if (s->err == 0)
        bind_result(s, sqlite3_bind_int64(s->raw, ++s->bound, v));
}

void db_bind_text(struct db_stmt *s, const char *text)
{
    if (s->err == 0)
        bind_result(s, sqlite3_bind_text(s->raw, ++s->bound, text, -1, SQLITE_STATIC));
}

void db_bind_blob(struct db_stmt *s, const void *bytes, size_t len)
{
    if (s->err == 0)
        bind_result(s,
                    sqlite3_bind_blob64(s->raw, ++s->bound, bytes, len, SQLITE_STATIC));
}

bool db_step(struct db_stmt *s)
{
    if (s->err != 0)
        return false;
    int r = sqlite3_step(s->raw);
    if (r != SQLITE_ROW)
        bind_result(s, r);
    return r == SQLITE_ROW;
}

int64_t db_column_int(struct db_stmt *s, int column)
{
    return s->err == 0 ? sqlite3_column_int64(s->raw, column) : 0;
}

const char *db_column_text(struct db_stmt *s, int column)
{
    const char *text = NULL;
    if (s->err == 0)
        text = (const char *)sqlite3_column_text(s->raw, column);
    return text != NULL ? text : "";
}

void db_column_copy(struct db_stmt *s, int column, char *buf, size_t cap)
{
    (void)snprintf(buf, cap, "%s", db_column_text(s, column));
}

void db_column_blob(struct db_stmt *s, int column, void *bytes, size_t len)
{
    memset(bytes, 0, len);
    if (s->err != 0)
        return;
    const void *at = sqlite3_column_blob(s->raw, column);
    if (at == NULL || (size_t)sqlite3_column_bytes(s->raw, column) != len)
        s->err = POSTERN_ERR_CORRUPT;
    else
        memcpy(bytes, at, len);
}

int db_finish(struct db_stmt *s)
{
    (void)sqlite3_finalize(s->raw);
    s->raw = NULL;
    return s->err;
}

int db_exec(struct db_stmt *s)
{
    while (db_step(s))
        ;
    return db_finish(s);
}

int64_t db_changes(const struct db *db)
{
    return sqlite3_changes64(db->raw);
}

int64_t db_last_id(const struct db *db)
{
    return sqlite3_last_insert_rowid(db->raw);
}

int64_t db_data_version(struct db *db)
{
    int64_t v = 0;
    return db_read_int(db, "PRAGMA data_version", &v) == 0 ? v : 0;
}
