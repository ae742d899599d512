/*
 * access.db. A change is a new row with a new serial, so that whoever looks again sees
 * that the account is not the one that it knew. Knows no portal.
 */
#include "host/access.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/db.h"
#include "io/lack.h"

enum { HASH_PASSES = 2, HASH_BYTES = 19922944 };

_Static_assert(ACCESS_HASH_LEN == crypto_pwhash_STRBYTES, "as libsodium writes it");

struct access {
    struct db *db;
};

// clang-format off
static const char *const access_migrations[] = {
    "CREATE TABLE account ("
    " serial INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL UNIQUE COLLATE NOCASE,"
    " hash TEXT NOT NULL,"
    " totp BLOB,"                 /* NULL: no code is asked for */
    " services TEXT NOT NULL,"    /* comma-separated, or "all" */
    " expires_s INTEGER NOT NULL,"
    " owner INTEGER NOT NULL);"
    "CREATE TABLE public ("
    " service TEXT PRIMARY KEY COLLATE NOCASE);",
    "CREATE TABLE tls ("
    " service TEXT PRIMARY KEY COLLATE NOCASE,"
    " certificate TEXT NOT NULL," /* '' is the command's */
    " key TEXT NOT NULL);"
    "CREATE TABLE tls_command ("
    " one INTEGER PRIMARY KEY CHECK(one = 1),"
    " command TEXT NOT NULL);",
};
// clang-format on

int access_open(struct access **out, const char *dir, struct fault *f)
{
    struct access *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int err = db_open(&a->db, dir, "access.db", access_migrations,
                      sizeof(access_migrations) / sizeof(access_migrations[0]), f);
    if (err != 0) {
        free(a);
        return err;
    }
    *out = a;
    return 0;
}

void access_close(struct access *a)
{
    if (a == NULL)
        return;
    db_close(a->db);
    free(a);
}

/* ------------------------------------------------------------------------ accounts */

#define ACCOUNT_COLUMNS                                                                \
    "name, hash, services, expires_s, owner, serial, totp IS NOT NULL, totp"

static void read_account(struct db_stmt *s, struct access_account *a)
{
    *a = (struct access_account){0};
    db_column_copy(s, 0, a->name, sizeof(a->name));
    db_column_copy(s, 1, a->hash, sizeof(a->hash));
    db_column_copy(s, 2, a->services, sizeof(a->services));
    a->expires_s = db_column_int(s, 3);
    a->owner = db_column_int(s, 4) != 0;
    a->serial = db_column_int(s, 5);
    a->code = db_column_int(s, 6) != 0;
    if (a->code)
        db_column_blob(s, 7, a->totp, sizeof(a->totp));
}

static int check_name(const char *name, struct fault *f)
{
    size_t len = strlen(name);
    bool good = len > 0 && len < ACCESS_NAME_LEN;
    for (const char *c = name; *c != '\0'; c++)
        good = good && (isalnum((unsigned char)*c) || strchr("._-@", *c) != NULL);
    if (good)
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE,
                     "use 1 to 63 letters, digits and the characters . _ - @",
                     "'%.60s' cannot be an account's name", name);
}

int access_find(struct access *a, const char *name, struct access_account *out,
                struct fault *f)
{
    struct db_stmt s =
        db_prepare(a->db, "SELECT " ACCOUNT_COLUMNS " FROM account WHERE name = ?");
    db_bind_text(&s, name);
    bool row = db_step(&s);
    if (row)
        read_account(&s, out);
    int err = db_finish(&s);
    if (err != 0)
        return db_fault(a->db, err, f);
    if (row)
        return 0;
    return fault_set(f, POSTERN_ERR_NOTFOUND, "'postern access' lists those that exist",
                     "there is no account '%.60s'", name);
}

static int delete_account(struct access *a, const char *name)
{
    struct db_stmt s = db_prepare(a->db, "DELETE FROM account WHERE name = ?");
    db_bind_text(&s, name);
    return db_exec(&s);
}

static int insert_account(struct access *a, const struct access_account *account)
{
    struct db_stmt s =
        db_prepare(a->db, "INSERT INTO account(name, hash, services, expires_s, owner, "
                          "totp) VALUES(?, ?, ?, ?, ?, ?)");
    db_bind_text(&s, account->name);
    db_bind_text(&s, account->hash);
    db_bind_text(&s, account->services);
    db_bind_int(&s, account->expires_s);
    db_bind_int(&s, account->owner);
    db_bind_blob(&s, account->code ? account->totp : NULL,
                 account->code ? sizeof(account->totp) : 0); /* NULL binds NULL */
    return db_exec(&s);
}

int access_check_new(struct access *a, const char *name, struct fault *f)
{
    struct access_account before;
    int err = check_name(name, f);
    if (err != 0)
        return err;
    err = access_find(a, name, &before, NULL);
    if (err == 0)
        (void)fault_set(f, POSTERN_ERR_INUSE,
                        "use 'postern access passwd' or 'set' to change it",
                        "there is an account '%.60s' already", before.name);
    sodium_memzero(&before, sizeof(before));
    if (err == 0)
        return POSTERN_ERR_INUSE;
    if (err == POSTERN_ERR_NOTFOUND)
        err = access_accounts(a, NULL, 0);
    if (err < 0)
        return db_fault(a->db, err, f);
    return err < ACCESS_ACCOUNTS_MAX
               ? 0
               : fault_set(f, POSTERN_ERR_LIMIT, "remove one that is not used",
                           "a host has at most %d accounts", ACCESS_ACCOUNTS_MAX);
}

static int put(struct access *a, const struct access_account *account, bool change,
               struct fault *f)
{
    struct access_account before;
    int err = change ? access_find(a, account->name, &before, f)
                     : access_check_new(a, account->name, f);
    if (change)
        sodium_memzero(&before, sizeof(before));
    if (err != 0)
        return err;
    if (change)
        err = delete_account(a, account->name);
    if (err == 0)
        err = insert_account(a, account);
    return db_fault(a->db, err, f);
}

int access_put(struct access *a, const struct access_account *account, bool change,
               struct fault *f)
{
    int err = check_name(account->name, f);
    if (err != 0)
        return err;
    err = db_begin(a->db);
    if (err != 0)
        return db_fault(a->db, err, f);
    err = put(a, account, change, f);
    int end = db_end(a->db, err);
    return err != 0 ? err : db_fault(a->db, end, f);
}

int access_remove(struct access *a, const char *name, struct fault *f)
{
    int err = delete_account(a, name);
    if (err != 0)
        return db_fault(a->db, err, f);
    if (db_changes(a->db) > 0)
        return 0;
    return fault_set(f, POSTERN_ERR_NOTFOUND, "'postern access' lists those that exist",
                     "there is no account '%.60s'", name);
}

int access_accounts(struct access *a, struct access_account *out, size_t max)
{
    size_t n = 0;
    struct db_stmt s =
        db_prepare(a->db, "SELECT " ACCOUNT_COLUMNS " FROM account ORDER BY name");
    while (db_step(&s)) {
        if (n < max)
            read_account(&s, &out[n]);
        n++;
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

bool access_allows(const struct access_account *account, const struct service *s,
                   int64_t now_s)
{
    if (account->expires_s != 0 && account->expires_s <= now_s)
        return false;
    if (s->audience[0] != '\0')
        return service_is_for(s, account->name, "");
    if (strcmp(account->services, ACCESS_ALL) == 0)
        return true;
    return account->services[0] != '\0' && service_allowed(account->services, s);
}

bool access_narrow(const struct access_account *account, struct service *s,
                   const char *name, int64_t now_s)
{
    bool all = s->audience[0] != '\0' || strcmp(account->services, ACCESS_ALL) == 0;
    return access_allows(account, s, now_s) &&
           service_narrow(s, name, all ? "" : account->services);
}

/* -------------------------------------------------------------------------- public */

int access_set_public(struct access *a, const char *service, bool open, bool *changed,
                      struct fault *f)
{
    struct db_stmt s =
        db_prepare(a->db, open ? "INSERT OR IGNORE INTO public(service) VALUES(?)"
                               : "DELETE FROM public WHERE service = ?");
    db_bind_text(&s, service);
    int err = db_exec(&s);
    *changed = err == 0 && db_changes(a->db) > 0;
    return db_fault(a->db, err, f);
}

bool access_is_public(struct access *a, const char *service)
{
    struct db_stmt s = db_prepare(a->db, "SELECT 1 FROM public WHERE service = ?");
    db_bind_text(&s, service);
    bool row = db_step(&s);
    return db_finish(&s) == 0 && row;
}

int access_publics(struct access *a, char (*out)[SERVICE_NAME_LEN], size_t max)
{
    size_t n = 0;
    struct db_stmt s = db_prepare(a->db, "SELECT service FROM public ORDER BY service");
    while (db_step(&s)) {
        if (n < max)
            db_column_copy(&s, 0, out[n], SERVICE_NAME_LEN);
        n++;
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

/* ----------------------------------------------------------------------------- tls */

static int put_tls(struct access *a, const struct access_tls *t)
{
    struct db_stmt s = db_prepare(
        a->db, "INSERT OR REPLACE INTO tls(service, certificate, key) VALUES(?, ?, ?)");
    db_bind_text(&s, t->service);
    db_bind_text(&s, t->certificate);
    db_bind_text(&s, t->key);
    return db_exec(&s);
}

int access_set_tls(struct access *a, const struct access_tls *list, size_t n,
                   struct fault *f)
{
    int err = db_begin(a->db);
    if (err == 0) {
        err = db_run(a->db, "DELETE FROM tls");
        for (size_t i = 0; i < n && err == 0; i++)
            err = put_tls(a, &list[i]);
        err = db_end(a->db, err);
    }
    return db_fault(a->db, err, f);
}

int access_tls(struct access *a, struct access_tls *out, size_t max)
{
    size_t n = 0;
    struct db_stmt s =
        db_prepare(a->db, "SELECT service, certificate, key FROM tls ORDER BY service");
    while (db_step(&s)) {
        if (n < max) {
            db_column_copy(&s, 0, out[n].service, sizeof(out[n].service));
            db_column_copy(&s, 1, out[n].certificate, sizeof(out[n].certificate));
            db_column_copy(&s, 2, out[n].key, sizeof(out[n].key));
        }
        n++;
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

int access_set_tls_command(struct access *a, const char *command, struct fault *f)
{
    struct db_stmt s = db_prepare(
        a->db, "INSERT OR REPLACE INTO tls_command(one, command) VALUES(1, ?)");
    db_bind_text(&s, command);
    return db_fault(a->db, db_exec(&s), f);
}

int access_tls_command(struct access *a, char out[static ACCESS_COMMAND_LEN])
{
    struct db_stmt s = db_prepare(a->db, "SELECT command FROM tls_command");
    out[0] = '\0';
    if (db_step(&s))
        db_column_copy(&s, 0, out, ACCESS_COMMAND_LEN);
    return db_finish(&s);
}

/* ----------------------------------------------------------------------- the whole */

bool access_is_open(struct access *a)
{
    struct db_stmt s = db_prepare(a->db, "SELECT 1 WHERE EXISTS(SELECT 1 FROM account) "
                                         "OR EXISTS(SELECT 1 FROM public)");
    bool row = db_step(&s);
    return db_finish(&s) == 0 && row;
}

int64_t access_version(struct access *a)
{
    return db_data_version(a->db);
}

void access_keep_copy(struct access *a)
{
    db_keep_copy(a->db);
}

int access_check(struct access *a, struct fault *f)
{
    return db_check(a->db, f);
}

int access_fault(const struct access *a, int err, struct fault *f)
{
    return db_fault(a->db, err, f);
}

int access_hash(char hash[static ACCESS_HASH_LEN], const char *password)
{
    return crypto_pwhash_str_alg(hash, password, strlen(password), HASH_PASSES,
                                 HASH_BYTES, crypto_pwhash_ALG_ARGON2ID13) == 0
               ? 0
               : POSTERN_ERR_NOMEM;
}
