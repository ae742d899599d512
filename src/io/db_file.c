/*
 * The file behind a database: made whole, checked, migrated, and opened anew when
 * others have put another in its place. Knows nothing of statements.
 */
#include "io/db_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/lack.h"
#include "io/log.h"
#include "io/own_dir.h"
#include "io/own_file.h"
#include "io/rename_new.h"

enum { DB_BUSY_MS = 15000, DB_CHECK_MAX_BYTES = 16 << 20, DB_BUSY_TRIES = 300 };

const char db_removed[] = "was removed";

static void dir_of(const struct db *db, char dir[static PATH_MAX])
{
    (void)snprintf(dir, PATH_MAX, "%s", db->path);
    *strrchr(dir, '/') = '\0'; /* it has one: db_open put it there */
}

/* What stands at the path is to be opened: nothing of others, and nothing elsewhere. */
static int check_place(struct db *db)
{
    char dir[PATH_MAX];
    dir_of(db, dir);
    db->misplaced = (struct fault){0};
    int err = own_file_check(dir, db->path, &db->misplaced);
    if (err == 0 && db->owner != OWN_DIR_ANYBODY)
        err = own_dir_check(dir, db->owner, &db->misplaced);
    return err;
}

/* A file that is there holds our tables: it got its name when they stood in it. */
static int check_file(struct db *db)
{
    struct stat st = {0};
    int err = check_place(db);
    if (err != 0)
        return err;
    if (stat(db->path, &st) != 0 && errno != ENOENT)
        return db_from_errno(errno);
    if (st.st_nlink == 0)
        db->trouble = db_removed;
    else if (!S_ISREG(st.st_mode))
        db->trouble = "is no file";
    else if (st.st_size == 0)
        db->trouble = "was emptied";
    if (db->trouble != NULL)
        return POSTERN_ERR_CORRUPT;
    return access(db->path, R_OK) == 0 ? 0 : db_from_errno(errno);
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

int db_quick_check(struct db *db)
{
    struct stat st;
    if (stat(db->path, &st) != 0)
        return db_from_errno(errno);
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

/*
 * SQLite's way to the files, but for one: a journal beside a database may name another
 * file anywhere, which is deleted once the journal was played back (a transaction over
 * several databases, of which we have none). So whoever owns a directory in which root
 * works would choose what root deletes.
 */
static sqlite3_vfs *usual, only_ours;

static int open_ours(sqlite3_vfs *v, const char *name, sqlite3_file *file, int flags,
                     int *got)
{
    (void)v;
    return (flags & SQLITE_OPEN_MASTER_JOURNAL) != 0
               ? SQLITE_CANTOPEN
               : usual->xOpen(usual, name, file, flags, got);
}

static void make_vfs(void)
{
    usual = sqlite3_vfs_find(NULL);
    if (usual == NULL)
        return;
    only_ours = *usual;
    only_ours.zName = "postern";
    only_ours.pNext = NULL;
    only_ours.xOpen = open_ours;
    (void)sqlite3_vfs_register(&only_ours, 0); /* else nothing by that name is opened */
}

static const char *vfs_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_vfs);
    return "postern";
}

static int open_raw(struct db *db, const char *path)
{
    int r = sqlite3_open_v2(path, &db->raw,
                            SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                                SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOFOLLOW,
                            vfs_name());
    if (r == SQLITE_OK)
        (void)sqlite3_busy_timeout(db->raw, DB_BUSY_MS);
    return db_checked(db, r);
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
    if (rename_new(AT_FDCWD, made, AT_FDCWD, path) == 0)
        return 0;
    if (errno != EEXIST && link(made, path) == 0) { /* a file system without that */
        (void)unlink(made);
        return 0;
    }
    int err = errno;
    (void)unlink(made);
    return err == EEXIST ? 0 : db_from_errno(err);
}

static void give_to_owner(const struct db *db, int fd)
{
    char dir[PATH_MAX];
    dir_of(db, dir);
    own_file_give(dir, fd);
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
        return db_from_errno(errno);
    give_to_owner(db, fd);
    (void)close(fd);
    int err = open_raw(db, made);
    if (err == 0)
        err = db_begin(db);
    if (err == 0)
        err = db_end(db, run_migrations(db, migrations, 0, n));
    db_close_raw(db);
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

/* Between the look and the opening its owner may have put another there. */
static int check_opened(struct db *db)
{
    int moved = 0;
    int err = check_place(db);
    (void)sqlite3_file_control(db->raw, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return err != 0 ? err : moved != 0 ? POSTERN_ERR_INUSE : 0;
}

static int prepare_file(struct db *db, const char *const *migrations, size_t n)
{
    int64_t version;
    int err = check_file(db);
    if (err == 0)
        err = open_raw(db, db->path);
    if (err == 0) /* it is still what was looked at */
        err = check_opened(db);
    if (err == 0)
        err = check_version(db, n, &version);
    if (err == 0)
        err = db_quick_check(db);
    if (err == 0)
        err = db_run(db, "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF");
    return err != 0 ? err : migrate(db, migrations, n);
}

/* ------------------------------------------------------ a file that others replace */

/* Which journal is ours: it stays as long as the file is open. */
static void note_journal(struct db *db)
{
    char path[PATH_MAX + 8];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s-wal", db->path);
    db->wal = stat(path, &st) == 0 ? st.st_ino : 0;
}

int db_apply_fast(struct db *db)
{
    int err = set_journal(db, "wal");
    note_journal(db);
    return err != 0 ? err : db_run(db, "PRAGMA synchronous=NORMAL");
}

/* From now on db_prepare and db_begin look whether it is still the one at its path. */
static void begin_following(struct db *db, const char *const *migrations, size_t n)
{
    char dir[PATH_MAX];
    struct stat st = {0};
    dir_of(db, dir);
    if (db->owner == OWN_DIR_ANYBODY && stat(dir, &st) == 0)
        db->owner = st.st_uid;
    (void)stat(db->path, &st);
    db->dev = st.st_dev;
    db->ino = st.st_ino;
    db->migrations = migrations;
    db->migration_count = n;
}

/* `same`: whatever stands at the path, it is the file that is open. */
static bool is_current(const struct db *db, bool *same)
{
    struct stat st;
    int moved = 0;
    *same = false;
    if (stat(db->path, &st) != 0)
        return false;
    (void)sqlite3_file_control(db->raw, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    *same = moved == 0 && st.st_dev == db->dev && st.st_ino == db->ino;
    return *same && st.st_size > 0 && !db->suspect;
}

/* A replaced file's journal would be played into the one that took its place. */
static void drop_journal(struct db *db)
{
    char path[PATH_MAX + 8];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s-wal", db->path);
    if (db->wal == 0 || access(db->path, F_OK) != 0 || stat(path, &st) != 0 ||
        st.st_ino != db->wal)
        return;
    db->suspect = true; /* without it, should it come back */
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s-shm", db->path);
    (void)unlink(path);
}

/* The file at the path in place of the open one, when it is good. */
static int open_anew(struct db *db)
{
    struct db *fresh = calloc(1, sizeof(*fresh));
    if (fresh == NULL)
        return POSTERN_ERR_NOMEM;
    memcpy(fresh->path, db->path, sizeof(db->path));
    fresh->owner = db->owner;
    int err = prepare_file(fresh, db->migrations, db->migration_count);
    if (err == 0 && db->fast)
        err = db_apply_fast(fresh);
    db->trouble = fresh->trouble;
    db->misplaced = fresh->misplaced;
    if (err == 0) {
        db_close_raw(db);
        db->raw = fresh->raw;
        fresh->raw = NULL;
        db->wal = fresh->wal;
        begin_following(db, db->migrations, db->migration_count);
        db->version += (int64_t)1 << 32;
        db->copied_size = -1; /* of the other file */
        db->suspect = false;
    }
    db_close(fresh);
    return err;
}

static void tell_refusal(const struct db *db, int err, bool same)
{
    struct fault f = {0};
    const bool misplaced = err == db->misplaced.code;
    (void)db_fault(db, err, &f);
    log_error("%s%s%s; %s%s", misplaced ? strrchr(db->path, '/') + 1 : "",
              misplaced ? " is not taken up: " : "", f.what, f.advice,
              same && db->copy == NULL ? "" : " (what it held before still counts)");
}

/* Backups are restored and files are copied beside programs that run. */
int db_follow(struct db *db)
{
    bool same;
    if (db->migrations == NULL || sqlite3_get_autocommit(db->raw) == 0 ||
        db->in_use > 0)
        return 0;
    const char *trouble = db->trouble;
    int err = 0;
    bool current = is_current(db, &same);
    if (current && !db_follow_copy(db)) {
        db->suspect = true;
        current = false;
    }
    if (current) {
        if (db->fast && db->wal == 0)
            note_journal(db);
    } else {
        if (!same)
            drop_journal(db);
        err = open_anew(db);
        if (err == 0)
            log_info("%s was replaced, and is opened anew", db->path);
    }
    if (err != 0 && (err != db->refused || trouble != db->trouble))
        tell_refusal(db, err, same);
    if (err == 0) {
        db->trouble = NULL;
        db->misplaced = (struct fault){0};
    }
    /* SQLite would play a journal that it finds at that path into the open file */
    db->unreadable =
        err != 0 && (same || (db->misplaced.code != 0 && db->copy != NULL));
    db->refused = err;
    return err;
}

/* SQLite takes a path with a link in it for one that leads elsewhere. */
static int name_file(struct db *db, const char *dir, const char *file)
{
    char real[PATH_MAX];
    db->owner = OWN_DIR_ANYBODY;
    int len = snprintf(db->path, sizeof(db->path), "%s/%s",
                       realpath(dir, real) != NULL ? real : dir, file);
    return len < 0 || (size_t)len >= sizeof(db->path) - 32 ? POSTERN_ERR_INVALID : 0;
}

int db_open(struct db **out, const char *dir, const char *file,
            const char *const *migrations, size_t n, struct fault *f)
{
    struct db *db = calloc(1, sizeof(*db));
    if (db == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int err = name_file(db, dir, file);
    if (err == 0 && access(db->path, F_OK) != 0 && errno == ENOENT)
        err = make_file(db, migrations, n);
    if (err == 0)
        err = prepare_file(db, migrations, n);
    if (err != 0) {
        (void)db_fault(db, err, f);
        db_close(db);
        return err;
    }
    begin_following(db, migrations, n);
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
    int err = name_file(db, dir, file);
    still_uri(uri, sizeof(uri), db->path);
    if (err == 0)
        err = access(db->path, F_OK) == 0 ? check_file(db) : POSTERN_ERR_NOTFOUND;
    if (err == 0)
        err = db_checked(db, sqlite3_open_v2(uri, &db->raw,
                                             SQLITE_OPEN_READONLY | SQLITE_OPEN_URI |
                                                 SQLITE_OPEN_NOMUTEX |
                                                 SQLITE_OPEN_NOFOLLOW |
                                                 SQLITE_OPEN_EXRESCODE,
                                             vfs_name()));
    if (err == 0)
        err = db_quick_check(db);
    if (err != 0) {
        (void)db_fault(db, err, f);
        db_close(db);
        return err;
    }
    *out = db;
    return 0;
}
