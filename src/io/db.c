/*
 * SQLite behind sticky statements. Every SQLite result becomes an enum postern_err
 * here and nowhere else; what stands in the tables is not known, nor how a file comes
 * to be open (db_file.c).
 */
#include "io/db_internal.h"

#include <errno.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "io/lack.h"
#include "io/log.h"
#include "io/own_file.h"

int db_from_errno(int e)
{
    switch (e) {
    case EMFILE:
    case ENFILE:
        return POSTERN_ERR_LIMIT;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
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
        int err = db_from_errno(sqlite3_system_errno(db->raw));
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

int db_checked(struct db *db, int r)
{
    int err = from_sqlite(db, r);
    if (err != 0)
        log_debug("%s: %s", db->path, sqlite3_errmsg(db->raw));
    if (err == POSTERN_ERR_CORRUPT || (r & 0xff) == SQLITE_ERROR) /* or has no table */
        db->suspect = true;
    return err;
}

/* The file is this user's, and its mode keeps him out all the same. */
static bool db_is_own(const struct db *db)
{
    struct stat st;
    return stat(db->path, &st) == 0 && st.st_uid == geteuid() &&
           (st.st_mode & (S_IRUSR | S_IWUSR)) != (S_IRUSR | S_IWUSR);
}

static bool is_on_read_only_disk(const char *path)
{
    char dir[PATH_MAX];
    struct statvfs v;
    (void)snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash != NULL)
        *slash = '\0';
    return (statvfs(path, &v) == 0 || statvfs(dir, &v) == 0) &&
           (v.f_flag & ST_RDONLY) != 0;
}

int db_fault(const struct db *db, int err, struct fault *f)
{
    const char *path = db->path;
    if (err != 0 && err == db->misplaced.code) {
        if (f != NULL)
            *f = db->misplaced;
        return err;
    }
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
        if (db->trouble == db_removed)
            return fault_set(
                f, err,
                "restore it from a backup, or start Postern again to begin "
                "anew without what was in it",
                "%.250s %s", path, db_removed);
        return fault_set(f, err,
                         "restore it from a backup, or move it away to begin anew "
                         "without what was in it",
                         "%.250s %s; nothing in it was changed", path,
                         db->trouble != NULL ? db->trouble : "is damaged");
    case POSTERN_ERR_FULL:
        return fault_set(f, err, "free some space there and try again",
                         "the disk is full: %.250s cannot be written", path);
    case POSTERN_ERR_PERM:
        if (db_is_own(db))
            return fault_set(f, err, "'chmod u+rw' gives it back its mode",
                             "%.250s is this user's, and its mode forbids to use it",
                             path);
        if (own_file_of_another(path, f) != 0)
            return err;
        if (is_on_read_only_disk(path))
            return fault_set(f, err, "mount it for writing, or choose --state",
                             "%.250s is on a read-only disk", path);
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

int db_read_int(struct db *db, const char *sql, int64_t *v)
{
    struct db_stmt s = db_prepare(db, sql);
    *v = db_step(&s) ? db_column_int(&s, 0) : 0;
    return db_finish(&s);
}

int db_set_fast(struct db *db)
{
    db->fast = true;
    return db_apply_fast(db);
}

void db_close(struct db *db)
{
    if (db == NULL)
        return;
    db_drop_copy(db);
    db_close_raw(db);
    free(db);
}

int db_run(struct db *db, const char *sql)
{
    return db_checked(db, sqlite3_exec(db->raw, sql, NULL, NULL, NULL));
}

int db_begin(struct db *db)
{
    int err = db_follow(db);
    return err != 0 ? err : db_run(db, "BEGIN IMMEDIATE");
}

int db_end(struct db *db, int err)
{
    if (err == 0)
        err = db_run(db, "COMMIT");
    if (err != 0 && sqlite3_get_autocommit(db->raw) == 0)
        (void)sqlite3_exec(db->raw, "ROLLBACK", NULL, NULL, NULL);
    return err;
}

/*
 * Parsing costs ten times as much as running what a host asks for each connection, so
 * statements are kept when they are finished. SQLite parses them anew by itself when
 * the schema has changed.
 */
static void keep(struct db *db, sqlite3_stmt *raw)
{
    (void)sqlite3_finalize(db->kept[DB_KEPT - 1]);
    for (size_t i = DB_KEPT - 1; i > 0; i--)
        db->kept[i] = db->kept[i - 1];
    db->kept[0] = raw;
}

static sqlite3_stmt *take_kept(struct db *db, const char *sql)
{
    for (size_t i = 0; i < DB_KEPT; i++) {
        sqlite3_stmt *raw = db->kept[i];
        if (raw == NULL || strcmp(sqlite3_sql(raw), sql) != 0)
            continue;
        for (; i + 1 < DB_KEPT; i++)
            db->kept[i] = db->kept[i + 1];
        db->kept[DB_KEPT - 1] = NULL;
        return raw;
    }
    return NULL;
}

void db_close_raw(struct db *db)
{
    for (size_t i = 0; i < DB_KEPT; i++) {
        (void)sqlite3_finalize(db->kept[i]);
        db->kept[i] = NULL;
    }
    (void)sqlite3_close(db->raw);
    db->raw = NULL;
}

struct db_stmt db_prepare(struct db *db, const char *sql)
{
    struct db_stmt s = {.db = db};
    int refused = db_follow(db);
    db->in_use++;
    if (db->unreadable && db->copy == NULL) {
        s.err = refused;
        return s;
    }
    sqlite3 *at = db->unreadable ? db->copy : db->raw;
    s.raw = at == db->raw ? take_kept(db, sql) : NULL;
    if (s.raw == NULL)
        s.err =
            db_checked(db, sqlite3_prepare_v3(at, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                              &s.raw, NULL));
    if (s.err == 0 && refused != 0 && sqlite3_stmt_readonly(s.raw) == 0)
        s.err = refused; /* what is written to the old file nobody would read */
    return s;
}

static void bind_result(struct db_stmt *s, int r)
{
    if (s->err == 0)
        s->err = db_checked(s->db, r);
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
    if (s->raw != NULL && s->err == 0 && s->db->migrations != NULL &&
        sqlite3_db_handle(s->raw) == s->db->raw && sqlite3_reset(s->raw) == SQLITE_OK &&
        sqlite3_clear_bindings(s->raw) == SQLITE_OK)
        keep(s->db, s->raw);
    else
        (void)sqlite3_finalize(s->raw);
    s->raw = NULL;
    s->db->in_use--;
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

int db_check(struct db *db, struct fault *f)
{
    return db_fault(db, db_follow(db), f);
}

int64_t db_data_version(struct db *db)
{
    int64_t v = 0;
    return db_read_int(db, "PRAGMA data_version", &v) == 0 ? db->version + v : 0;
}
