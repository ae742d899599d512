/*
 * The copy in memory by which a daemon goes on while its file is damaged or emptied in
 * its place. Knows when to take one, and nothing of what stands in it.
 */
#include "io/db_internal.h"

#include <sys/stat.h>

#include "io/log.h"

/* A check and a copy of that take some 10 ms, once for each change. */
enum { COPY_MAX_BYTES = 4 << 20 };

/* SQLite's backup holds a read lock for as long as it copies: no half of a write. */
static int take(struct db *db)
{
    sqlite3 *fresh = NULL;
    int r = sqlite3_open_v2(":memory:", &fresh,
                            SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    sqlite3_backup *b =
        r == SQLITE_OK ? sqlite3_backup_init(fresh, "main", db->raw, "main") : NULL;
    if (b != NULL) {
        (void)sqlite3_backup_step(b, -1);
        r = sqlite3_backup_finish(b);
    }
    if (b == NULL || r != SQLITE_OK) {
        (void)sqlite3_close(fresh);
        return POSTERN_ERR_IO;
    }
    db_drop_copy(db);
    db->copy = fresh;
    return 0;
}

void db_drop_copy(struct db *db)
{
    (void)sqlite3_close(db->copy);
    db->copy = NULL;
}

static bool has_changed(const struct db *db, const struct stat *st)
{
    return st->st_size != db->copied_size ||
           st->st_mtim.tv_sec != db->copied_at.tv_sec ||
           st->st_mtim.tv_nsec != db->copied_at.tv_nsec;
}

bool db_follow_copy(struct db *db)
{
    struct stat st;
    if (!db->copies || db->looking || stat(db->path, &st) != 0 || !has_changed(db, &st))
        return true;
    if (st.st_size > COPY_MAX_BYTES) {
        db_drop_copy(db);
        return true;
    }
    db->looking = true; /* the check asks the database too */
    int err = db_quick_check(db);
    if (err == 0 && take(db) == 0) {
        db->copied_size = st.st_size;
        db->copied_at = st.st_mtim;
    }
    db->looking = false;
    return err != POSTERN_ERR_CORRUPT;
}

void db_keep_copy(struct db *db)
{
    db->copies = true;
    db->copied_size = -1;
    (void)db_follow(db);
}
