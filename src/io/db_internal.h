/* What db.c and db_file.c share, and nobody else may include. */
#ifndef POSTERN_IO_DB_INTERNAL_H
#define POSTERN_IO_DB_INTERNAL_H

#include <limits.h>
#include <sqlite3.h>
#include <sys/types.h>
#include <time.h>

#include "io/db.h"

enum { DB_KEPT = 8 };

struct db {
    sqlite3 *raw;
    sqlite3_stmt *kept[DB_KEPT]; /* finished, to be used again; the latest first */
    int in_use;                  /* statements that are not finished */
    char path[PATH_MAX];
    struct fault misplaced; /* why what stands at the path is not to be opened */
    uid_t owner;            /* of its directory, when it was opened */
    const char *trouble;    /* what is wrong with a file that is no database of ours */
    const char *const *migrations; /* NULL: the file at the path is not followed */
    size_t migration_count;
    dev_t dev; /* of the open file */
    ino_t ino;
    ino_t wal;       /* the journal of a fast one; 0: not known */
    int64_t version; /* added to SQLite's, which begins anew with each file */
    int refused;     /* why the file at the path is not the one in use; 0: it is */
    bool fast, suspect, unreadable;
    /* db_copy.c */
    sqlite3 *copy; /* NULL: none yet */
    off_t copied_size;
    struct timespec copied_at; /* the file's time of change, then */
    bool copies, looking;
};

extern const char db_removed[]; /* a `trouble` */

/* db.c */
int db_from_errno(int e);
/* SQLite's result as ours, logged at debug. */
int db_checked(struct db *db, int r);
/* Closes `raw` and what was kept of its statements. */
void db_close_raw(struct db *db);
/* The one integer that a statement without parameters gives. */
int db_read_int(struct db *db, const char *sql, int64_t *v);

/* db_file.c */
/*
 * What is open may no longer be what everybody else sees at the path: then that is
 * opened in its place. Returns why nothing may be written, or 0; `unreadable` says
 * whether it cannot be read either. Does nothing inside a transaction.
 */
int db_follow(struct db *db);
int db_apply_fast(struct db *db);
int db_quick_check(struct db *db);

/* db_copy.c */
/*
 * Takes a copy when the file has changed. False: what stands there now is damaged, and
 * the copy is what it was before.
 */
bool db_follow_copy(struct db *db);
void db_drop_copy(struct db *db);

#endif
