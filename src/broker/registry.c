/* Two tables in SQLite; see registry.h. */
#include "broker/registry.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "io/db.h"
#include "io/lack.h"

struct registry {
    struct db *db;
};

/* clang-format off */
static const char *const migrations[] = {
    "CREATE TABLE identity(id INTEGER PRIMARY KEY CHECK(id = 1),"
    "                      seed BLOB NOT NULL, token BLOB NOT NULL);"
    "CREATE TABLE device(key BLOB PRIMARY KEY, name TEXT NOT NULL,"
    "                    enrolled_s INTEGER NOT NULL) WITHOUT ROWID;",
};
/* clang-format on */

int registry_open(struct registry **out, const char *dir, struct fault *f)
{
    struct registry *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int rc = db_open(&r->db, dir, "broker.db", migrations,
                     sizeof(migrations) / sizeof(migrations[0]), f);
    if (rc != 0) {
        free(r);
        return rc;
    }
    db_keep_copy(r->db);
    *out = r;
    return 0;
}

void registry_close(struct registry *r)
{
    if (r == NULL)
        return;
    db_close(r->db);
    free(r);
}

/* What the public key is made of, which costs something. */
struct secrets {
    uint8_t seed[KEY_LEN], token[LINK_SECRET_LEN];
};

static int read_secrets(struct registry *r, struct secrets *out, bool *found)
{
    struct db_stmt s = db_prepare(r->db, "SELECT seed, token FROM identity");
    *found = db_step(&s);
    if (*found) {
        db_column_blob(&s, 0, out->seed, sizeof(out->seed));
        db_column_blob(&s, 1, out->token, sizeof(out->token));
    }
    return db_finish(&s);
}

static int read_identity(struct registry *r, struct registry_identity *id, bool *found)
{
    struct secrets there = {0};
    int rc = read_secrets(r, &there, found);
    if (*found) {
        keypair_from_seed(&id->key, there.seed);
        memcpy(id->token, there.token, sizeof(id->token));
    }
    sodium_memzero(&there, sizeof(there));
    return rc;
}

static int make_identity(struct registry *r, struct registry_identity *id)
{
    uint8_t seed[KEY_LEN];
    randombytes_buf(seed, sizeof(seed));
    randombytes_buf(id->token, sizeof(id->token));
    keypair_from_seed(&id->key, seed);
    struct db_stmt s = db_prepare(r->db, "INSERT INTO identity VALUES(1, ?, ?)");
    db_bind_blob(&s, seed, sizeof(seed));
    db_bind_blob(&s, id->token, sizeof(id->token));
    int rc = db_exec(&s);
    sodium_memzero(seed, sizeof(seed));
    return rc;
}

int registry_identity(struct registry *r, struct registry_identity *id, struct fault *f)
{
    bool found = false;
    int rc = db_begin(r->db);
    if (rc != 0)
        return db_fault(r->db, rc, f);
    rc = read_identity(r, id, &found);
    if (rc == 0 && !found)
        rc = make_identity(r, id);
    id->made = !found;
    rc = db_end(r->db, rc);
    return rc == 0 ? 0 : db_fault(r->db, rc, f);
}

bool registry_is_ours(struct registry *r, const struct registry_identity *id)
{
    struct secrets there = {0};
    bool found = false;
    bool ours =
        read_secrets(r, &there, &found) != 0 ||
        (found && sodium_memcmp(there.token, id->token, sizeof(id->token)) == 0 &&
         sodium_memcmp(there.seed, id->key.seed, sizeof(there.seed)) == 0);
    sodium_memzero(&there, sizeof(there));
    return ours;
}

bool registry_is_enrolled(struct registry *r, const uint8_t key[static KEY_LEN])
{
    struct db_stmt s = db_prepare(r->db, "SELECT 1 FROM device WHERE key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    bool found = db_step(&s);
    return db_finish(&s) == 0 && found;
}

int registry_enrol(struct registry *r, const uint8_t key[static KEY_LEN],
                   const char *name, int64_t now_s)
{
    struct db_stmt s =
        db_prepare(r->db, "INSERT INTO device VALUES(?, ?, ?) ON CONFLICT DO NOTHING");
    db_bind_blob(&s, key, KEY_LEN);
    db_bind_text(&s, name);
    db_bind_int(&s, now_s);
    return db_exec(&s);
}
