/* One table; see login_book.h. Errors cost people a login, never the other way round.
 */
#include "portal/login_book.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/db.h"
#include "io/log.h"
#include "io/statedir.h"

#define FILE_NAME "portal.db"

/* clang-format off */
static const char *const migrations[] = {
    "CREATE TABLE login(hash BLOB PRIMARY KEY, account TEXT NOT NULL,"
    "                   since_s INTEGER NOT NULL, used_s INTEGER NOT NULL,"
    "                   host_count INTEGER NOT NULL, hosts BLOB NOT NULL) WITHOUT ROWID;",
};
/* clang-format on */

struct login_book {
    struct db *db; /* NULL: it went */
    char dir[STATEDIR_PATH_LEN];
};

struct login_book *login_book_open(const char *dir)
{
    struct fault f = {0};
    struct login_book *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return NULL;
    (void)snprintf(b->dir, sizeof(b->dir), "%s", dir);
    if (db_open(&b->db, dir, FILE_NAME, migrations,
                sizeof(migrations) / sizeof(migrations[0]), &f) == 0)
        return b;
    log_warn("logins at the portal end with this broker: %s", f.what);
    free(b);
    return NULL;
}

void login_book_close(struct login_book *b)
{
    if (b == NULL)
        return;
    db_close(b->db);
    free(b);
}

/* Nobody may be let in again by what could not be taken out. */
static void give_up(struct login_book *b, int err)
{
    static const char *const ends[] = {"", "-journal", "-wal", "-shm"};
    struct fault f = {0};
    (void)db_fault(b->db, err, &f);
    db_close(b->db);
    b->db = NULL;
    bool gone = true;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        char path[STATEDIR_PATH_LEN + 32];
        (void)snprintf(path, sizeof(path), "%s/" FILE_NAME "%s", b->dir, ends[i]);
        gone = (unlink(path) == 0 || access(path, F_OK) != 0) && gone;
    }
    if (gone)
        log_warn("logins at the portal end with this broker: %s", f.what);
    else
        log_error("a login that has ended is still in %.200s/" FILE_NAME
                  ", and is good again after a restart; remove that file (%s)",
                  b->dir, f.what);
}

static void finish(struct login_book *b, struct db_stmt *s)
{
    int err = db_exec(s);
    if (err != 0)
        give_up(b, err);
}

void login_book_add(struct login_book *b, const struct login_row *row)
{
    if (b == NULL || b->db == NULL)
        return;
    struct db_stmt s =
        db_prepare(b->db, "INSERT OR REPLACE INTO login VALUES(?, ?, ?, ?, ?, ?)");
    db_bind_blob(&s, row->cookie_hash, sizeof(row->cookie_hash));
    db_bind_text(&s, row->account);
    db_bind_int(&s, row->since_s);
    db_bind_int(&s, row->used_s);
    db_bind_int(&s, (int64_t)row->host_count);
    db_bind_blob(&s, row->hosts, sizeof(row->hosts));
    finish(b, &s);
}

void login_book_remove(struct login_book *b, const uint8_t hash[static LOGIN_HASH_LEN])
{
    if (b == NULL || b->db == NULL)
        return;
    struct db_stmt s = db_prepare(b->db, "DELETE FROM login WHERE hash = ?");
    db_bind_blob(&s, hash, LOGIN_HASH_LEN);
    finish(b, &s);
}

void login_book_used(struct login_book *b, const uint8_t hash[static LOGIN_HASH_LEN],
                     int64_t used_s)
{
    if (b == NULL || b->db == NULL)
        return;
    struct db_stmt s = db_prepare(b->db, "UPDATE login SET used_s = ? WHERE hash = ?");
    db_bind_int(&s, used_s);
    db_bind_blob(&s, hash, LOGIN_HASH_LEN);
    finish(b, &s);
}

static void drop_others(struct login_book *b, const struct login_span *good)
{
    struct db_stmt s = db_prepare(
        b->db, "DELETE FROM login WHERE since_s <= ? OR used_s <= ? OR since_s > ?");
    db_bind_int(&s, good->since_s);
    db_bind_int(&s, good->used_s);
    db_bind_int(&s, good->now_s);
    finish(b, &s);
}

void login_book_each(struct login_book *b, const struct login_span *good, size_t max,
                     void (*take)(void *ctx, const struct login_row *row), void *ctx)
{
    struct login_row row;
    if (b != NULL && b->db != NULL)
        drop_others(b, good);
    if (b == NULL || b->db == NULL)
        return;
    struct db_stmt s =
        db_prepare(b->db, "SELECT hash, account, since_s, used_s, host_count, hosts "
                          "FROM login ORDER BY since_s LIMIT ?");
    db_bind_int(&s, (int64_t)max);
    while (db_step(&s)) {
        memset(&row, 0, sizeof(row));
        db_column_blob(&s, 0, row.cookie_hash, sizeof(row.cookie_hash));
        db_column_copy(&s, 1, row.account, sizeof(row.account));
        row.since_s = db_column_int(&s, 2);
        row.used_s = db_column_int(&s, 3);
        int64_t count = db_column_int(&s, 4);
        db_column_blob(&s, 5, row.hosts, sizeof(row.hosts));
        if (s.err != 0 || count <= 0 || count > LOGIN_HOSTS_MAX)
            continue;
        row.host_count = (size_t)count;
        take(ctx, &row);
    }
    int err = db_finish(&s);
    if (err != 0)
        give_up(b, err);
}
