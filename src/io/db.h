/*
 * A database file in the state directory: opening it safely, and statements with
 * sticky errors. It knows SQLite and how files go wrong, and no table.
 *
 *   struct db_stmt s = db_prepare(db, "SELECT name FROM host WHERE key = ?");
 *   db_bind_blob(&s, key, KEY_LEN);
 *   while (db_step(&s))
 *       ... db_column_text(&s, 0) ...
 *   int r = db_finish(&s);
 *
 * A struct db belongs to one thread. Several processes may use one file.
 *
 * A file that is replaced at its path while it is open (a backup restored, rsync) is
 * noticed by the next db_prepare or db_begin outside of a transaction, and opened anew.
 * When what stands there now is faulty that is said once by log_error; the old file can
 * be read still, while all that would write gets the fault. What was emptied or damaged
 * in its place can be neither read, but from a db_keep_copy, nor written until it is
 * whole again.
 */
#ifndef POSTERN_IO_DB_H
#define POSTERN_IO_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct db;
struct sqlite3_stmt;

/*
 * Opens or creates `dir`/`file` with mode 0600 and applies the `migrations` that it
 * lacks, all of them or none; user_version is their number. A file appears with all its
 * tables at once, so one that is there without them lost what was in it: it is an
 * error, and never a beginning. Every commit reaches the disk before it returns. What
 * stands in the file can be read on a disk that is full or read-only: the journal is
 * made by who writes. Faults: POSTERN_ERR_NEWER (more migrations than we know),
 * _CORRUPT (also emptied, or something else), _FULL, _PERM (no access, or read-only),
 * _INUSE (locked for over five seconds), _IO. A faulty file is never changed or
 * replaced.
 */
MUST_CHECK int db_open(struct db **out, const char *dir, const char *file,
                       const char *const *migrations, size_t n, struct fault *f);
/*
 * Opens the file as it is on the disk, only to read, where not even the companions of
 * a reader can be written (a full or read-only disk). What a killed writer left beside
 * it is not seen. POSTERN_ERR_NOTFOUND when there is no such file.
 */
MUST_CHECK int db_open_still(struct db **out, const char *dir, const char *file,
                             struct fault *f);
/*
 * For what is written often and may lose its latest entries in a power cut: commits do
 * not wait for the disk. Such a file needs room on its disk to be opened (WAL).
 */
MUST_CHECK int db_set_fast(struct db *db);
/*
 * For daemons: what stands in the file is held in memory too, and read there while the
 * file is damaged or emptied in its place, if it is not above 4 MiB. What others wrote
 * is held from the next db_prepare on.
 */
void db_keep_copy(struct db *db);
/* NULL is fine. All statements must be finished. */
void db_close(struct db *db);

/*
 * Runs SQL that has no parameters and no rows. db_begin takes the write lock at
 * once, so that what is read inside cannot have changed at commit. db_end commits
 * when `err` is 0 and rolls back otherwise; it returns `err` or the commit's error.
 */
MUST_CHECK int db_run(struct db *db, const char *sql);
MUST_CHECK int db_begin(struct db *db);
MUST_CHECK int db_end(struct db *db, int err);

struct db_stmt {
    struct db *db;            /* borrowed */
    struct sqlite3_stmt *raw; /* owned until db_finish */
    int err;                  /* sticky: 0 or negative enum postern_err */
    int bound;
};

struct db_stmt db_prepare(struct db *db, const char *sql);
/* Bind the next parameter, from the left. What is bound is borrowed until db_finish. */
void db_bind_int(struct db_stmt *s, int64_t v);
void db_bind_text(struct db_stmt *s, const char *text);
void db_bind_blob(struct db_stmt *s, const void *bytes, size_t len);
/* True when there is a row; false at the end and after an error. */
bool db_step(struct db_stmt *s);
int64_t db_column_int(struct db_stmt *s, int column);
/* Borrowed until the next step; "" for NULL. */
const char *db_column_text(struct db_stmt *s, int column);
/* Copies and cuts to `cap`, NUL-terminated. */
void db_column_copy(struct db_stmt *s, int column, char *buf, size_t cap);
/* Exactly `len` bytes, else the statement fails with POSTERN_ERR_CORRUPT. */
void db_column_blob(struct db_stmt *s, int column, void *bytes, size_t len);
/* Releases the statement; returns its sticky error. */
MUST_CHECK int db_finish(struct db_stmt *s);
/* Steps through to the end and finishes: for statements that return no rows. */
MUST_CHECK int db_exec(struct db_stmt *s);
/* Rows that the last INSERT, UPDATE or DELETE changed. */
int64_t db_changes(const struct db *db);
int64_t db_last_id(const struct db *db);
/* Grows when any process, this one excepted, changed or replaced the file. */
int64_t db_data_version(struct db *db);

/*
 * 0 when the file at the path is the one that is open, if need be from now on; else why
 * it is not, with `f` filled.
 */
MUST_CHECK int db_check(struct db *db, struct fault *f);
/* Fills `f` with what a person must know about error `err` of this file. */
int db_fault(const struct db *db, int err, struct fault *f);

#endif
