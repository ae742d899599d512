/*
 * The host's list in host.db. Each decision that must not race (using up an invite,
 * revoking) is one transaction that holds the write lock from its first read. Knows
 * no network and no clock.
 */
#include "host/roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/guess.h"
#include "io/db.h"
#include "io/lack.h"
#include "io/statedir.h"

struct roster {
    struct db *db;
};

// clang-format off
static const char *const roster_migrations[] = {
    "CREATE TABLE client ("
    " serial INTEGER PRIMARY KEY AUTOINCREMENT,"
    " key BLOB NOT NULL UNIQUE,"
    " name TEXT NOT NULL UNIQUE COLLATE NOCASE,"
    " allowed TEXT NOT NULL,"             /* comma-separated; '' is all */
    " added_s INTEGER NOT NULL);"
    "CREATE TABLE invite ("
    " serial INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id BLOB NOT NULL UNIQUE,"           /* link_invite_id of the secret */
    " secret BLOB NOT NULL,"
    " allowed TEXT NOT NULL,"
    " made_s INTEGER NOT NULL,"
    " expires_s INTEGER NOT NULL,"
    " uses_left INTEGER NOT NULL);"
    "CREATE TABLE revoked ("
    " key BLOB PRIMARY KEY,"
    " revoked_s INTEGER NOT NULL,"
    " last_invite INTEGER NOT NULL);"     /* older invites do not let it in again */
    "CREATE TABLE settings ("
    " one INTEGER PRIMARY KEY CHECK(one = 1),"
    " name TEXT NOT NULL,"
    " broker TEXT NOT NULL,"
    " services TEXT NOT NULL);",
    /* host/lan.c: an agent's token and hosts, and the agents of a host */
    "CREATE TABLE agent ("
    " one INTEGER PRIMARY KEY CHECK(one = 1),"
    " token BLOB NOT NULL);"
    "CREATE TABLE agent_host ("
    " serial INTEGER PRIMARY KEY AUTOINCREMENT,"
    " key BLOB NOT NULL UNIQUE,"
    " name TEXT NOT NULL UNIQUE COLLATE NOCASE,"
    " added_s INTEGER NOT NULL);"
    "CREATE TABLE via ("
    " place TEXT PRIMARY KEY,"            /* HOST:PORT */
    " link TEXT NOT NULL,"
    " used INTEGER NOT NULL);",           /* 1: 'postern serve' alone goes there */
    "ALTER TABLE settings ADD COLUMN absent_s INTEGER NOT NULL DEFAULT 0;",
    /* 1: it has published a service; those from before have */
    "ALTER TABLE agent_host ADD COLUMN published INTEGER NOT NULL DEFAULT 1;",
    /* the keys that a device had before, which are removed with it */
    "CREATE TABLE earlier ("
    " serial INTEGER PRIMARY KEY AUTOINCREMENT,"
    " key BLOB NOT NULL UNIQUE,"
    " device INTEGER NOT NULL);",         /* client.serial */
};
// clang-format on

#define INVITE_KEPT_S                                                                  \
    (30 * 24 * 3600) /* after its end: "expired" instead of unknown                    \
                      */

int roster_open(struct roster **out, const char *dir, struct fault *f)
{
    struct roster *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int err = statedir_key_first(dir, f);
    if (err == 0)
        err = db_open(&r->db, dir, "host.db", roster_migrations,
                      sizeof(roster_migrations) / sizeof(roster_migrations[0]), f);
    if (err != 0) {
        free(r);
        return err;
    }
    *out = r;
    return 0;
}

int roster_open_known(struct roster **out, const char *dir, struct fault *f)
{
    if (!statedir_has(dir, "host.db"))
        return fault_set(f, POSTERN_ERR_NOTFOUND,
                         "run 'postern serve --broker LINK SERVICE...' first",
                         "nothing is published here yet");
    return roster_open(out, dir, f);
}

void roster_close(struct roster *r)
{
    if (r == NULL)
        return;
    db_close(r->db);
    free(r);
}

static void read_client(struct db_stmt *s, struct roster_client *c)
{
    db_column_blob(s, 0, c->key, KEY_LEN);
    db_column_copy(s, 1, c->name, sizeof(c->name));
    db_column_copy(s, 2, c->allowed, sizeof(c->allowed));
    c->added_s = db_column_int(s, 3);
}

int roster_client_find(struct roster *r, const uint8_t key[static KEY_LEN],
                       struct roster_client *c)
{
    struct roster_client found;
    struct db_stmt s = db_prepare(
        r->db, "SELECT key, name, allowed, added_s FROM client WHERE key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    bool row = db_step(&s);
    if (row)
        read_client(&s, &found);
    int err = db_finish(&s);
    if (err != 0)
        return err;
    if (row && c != NULL)
        *c = found;
    return row ? 0 : POSTERN_ERR_NOTFOUND;
}

int roster_client_allowed(struct roster *r, const uint8_t key[static KEY_LEN],
                          const struct service *s)
{
    struct roster_client c;
    int err = roster_client_find(r, key, &c);
    if (err != 0)
        return err;
    return service_allowed(c.allowed, s) ? 0 : POSTERN_ERR_DENIED;
}

/* The last invite's serial when the key was revoked, or -1. */
static int revoked_since(struct roster *r, const uint8_t key[static KEY_LEN],
                         int64_t *last_invite)
{
    struct db_stmt s =
        db_prepare(r->db, "SELECT last_invite FROM revoked WHERE key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    *last_invite = db_step(&s) ? db_column_int(&s, 0) : -1;
    return db_finish(&s);
}

bool roster_is_revoked(struct roster *r, const uint8_t key[static KEY_LEN])
{
    int64_t last;
    return revoked_since(r, key, &last) == 0 && last >= 0;
}

/* Whose earlier key it is, by its serial; 0: nobody's. */
static int earlier_of(struct roster *r, const uint8_t key[static KEY_LEN],
                      int64_t *device)
{
    struct db_stmt s =
        db_prepare(r->db, "SELECT e.device FROM earlier AS e JOIN client "
                          "AS c ON c.serial = e.device WHERE e.key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    *device = db_step(&s) ? db_column_int(&s, 0) : 0;
    return db_finish(&s);
}

bool roster_is_earlier(struct roster *r, const uint8_t key[static KEY_LEN])
{
    int64_t device;
    return roster_client_find(r, key, NULL) == POSTERN_ERR_NOTFOUND &&
           earlier_of(r, key, &device) == 0 && device != 0;
}

int roster_clients(struct roster *r, struct roster_client *out, size_t max)
{
    size_t n = 0;
    struct db_stmt s = db_prepare(
        r->db, "SELECT key, name, allowed, added_s FROM client ORDER BY serial");
    while (db_step(&s)) {
        if (n < max)
            read_client(&s, &out[n]);
        n++;
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

int roster_clients_all(struct roster *r, struct roster_client **out)
{
    int n = roster_clients(r, NULL, 0);
    *out = n > 0 ? calloc((size_t)n, sizeof(**out)) : NULL;
    if (n <= 0 || *out == NULL)
        return n > 0 ? POSTERN_ERR_NOMEM : n;
    int now = roster_clients(r, *out, (size_t)n); /* another process may add one */
    return now < n ? now : n;
}

static int forget_old_invites(struct roster *r, int64_t now_s)
{
    struct db_stmt s = db_prepare(r->db, "DELETE FROM invite WHERE expires_s < ?");
    db_bind_int(&s, now_s - INVITE_KEPT_S);
    return db_exec(&s);
}

int roster_invite_new(struct roster *r, const struct roster_invite *in, int64_t now_s,
                      struct fault *f)
{
    uint8_t id[INVITE_ID_LEN];
    link_invite_id(id, in->secret);
    int err = db_begin(r->db);
    if (err == 0) {
        err = forget_old_invites(r, now_s);
        struct db_stmt s = db_prepare(r->db, "INSERT INTO invite(id, secret, allowed, "
                                             "made_s, expires_s, uses_left) "
                                             "VALUES(?, ?, ?, ?, ?, ?)");
        db_bind_blob(&s, id, sizeof(id));
        db_bind_blob(&s, in->secret, sizeof(in->secret));
        db_bind_text(&s, in->allowed);
        db_bind_int(&s, now_s);
        db_bind_int(&s, in->expires_s);
        db_bind_int(&s, in->uses_left);
        int err2 = db_exec(&s);
        err = db_end(r->db, err != 0 ? err : err2);
    }
    return db_fault(r->db, err, f);
}

static int find_invite(struct roster *r, const uint8_t id[static INVITE_ID_LEN],
                       int64_t now_s, struct roster_invite *out, int64_t *serial)
{
    struct db_stmt s =
        db_prepare(r->db, "SELECT secret, allowed, expires_s, uses_left, serial "
                          "FROM invite WHERE id = ?");
    db_bind_blob(&s, id, INVITE_ID_LEN);
    bool row = db_step(&s);
    if (row) {
        db_column_blob(&s, 0, out->secret, sizeof(out->secret));
        db_column_copy(&s, 1, out->allowed, sizeof(out->allowed));
        out->expires_s = db_column_int(&s, 2);
        out->uses_left = (int32_t)db_column_int(&s, 3);
        *serial = db_column_int(&s, 4);
    }
    int err = db_finish(&s);
    if (err != 0)
        return err;
    if (!row)
        return POSTERN_ERR_NOTFOUND;
    bool over = out->expires_s <= now_s || out->uses_left <= 0;
    return over ? POSTERN_ERR_EXPIRED : 0;
}

int roster_invite_find(struct roster *r, const uint8_t id[static INVITE_ID_LEN],
                       int64_t now_s, struct roster_invite *out)
{
    int64_t serial;
    return find_invite(r, id, now_s, out, &serial);
}

int roster_invites_open(struct roster *r, int64_t now_s,
                        uint8_t secrets[][LINK_SECRET_LEN], size_t max)
{
    size_t n = 0;
    struct db_stmt s =
        db_prepare(r->db, "SELECT secret FROM invite WHERE expires_s > ? AND "
                          "uses_left > 0 ORDER BY serial DESC LIMIT ?");
    db_bind_int(&s, now_s);
    db_bind_int(&s, (int64_t)max);
    while (n < max && db_step(&s))
        db_column_blob(&s, 0, secrets[n++], LINK_SECRET_LEN);
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

static int name_taken(struct roster *r, const char *name, bool *taken)
{
    struct db_stmt s = db_prepare(r->db, "SELECT 1 FROM client WHERE name = ?");
    db_bind_text(&s, name);
    *taken = db_step(&s);
    return db_finish(&s);
}

/* `name` without what would spoil a terminal, and with a suffix when it is taken. */
static int choose_name(struct roster *r, const char *name, char out[ROSTER_NAME_LEN])
{
    char base[ROSTER_NAME_LEN - 8] = "";
    size_t n = 0;
    for (; *name != '\0' && n < sizeof(base) - 1; name++)
        base[n++] = (unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name;
    base[n] = '\0';
    (void)snprintf(out, ROSTER_NAME_LEN, "%s", n > 0 ? base : "device");
    for (unsigned i = 2; i < 10000; i++) {
        bool taken;
        int err = name_taken(r, out, &taken);
        if (err != 0 || !taken)
            return err;
        (void)snprintf(out, ROSTER_NAME_LEN, "%s-%u", n > 0 ? base : "device", i);
    }
    return POSTERN_ERR_LIMIT;
}

/* What both lists allow together; `out` may be `b`. */
static int join_allowed(const char *a, const char *b, char out[ROSTER_ALLOWED_LEN])
{
    char all[2 * ROSTER_ALLOWED_LEN];
    if (a[0] == '\0' || b[0] == '\0' || strcmp(a, b) == 0) {
        bool same = a[0] != '\0' && b[0] != '\0';
        (void)snprintf(all, sizeof(all), "%s", same ? a : "");
    } else {
        (void)snprintf(all, sizeof(all), "%s,%s", a, b);
    }
    if (strlen(all) >= ROSTER_ALLOWED_LEN)
        return POSTERN_ERR_LIMIT;
    memcpy(out, all, strlen(all) + 1);
    return 0;
}

static int add_client(struct roster *r, const uint8_t key[static KEY_LEN],
                      const char *name, const char *allowed, int64_t now_s)
{
    struct roster_client c;
    int err = roster_client_find(r, key, &c);
    if (err == 0) {
        err = join_allowed(c.allowed, allowed, c.allowed);
        struct db_stmt s =
            db_prepare(r->db, "UPDATE client SET allowed = ? WHERE key = ?");
        db_bind_text(&s, c.allowed);
        db_bind_blob(&s, key, KEY_LEN);
        int err2 = db_exec(&s);
        return err != 0 ? err : err2;
    }
    if (err != POSTERN_ERR_NOTFOUND)
        return err;
    err = choose_name(r, name, c.name);
    if (err != 0)
        return err;
    struct db_stmt s =
        db_prepare(r->db, "INSERT INTO client(key, name, allowed, added_s) "
                          "VALUES(?, ?, ?, ?)");
    db_bind_blob(&s, key, KEY_LEN);
    db_bind_text(&s, c.name);
    db_bind_text(&s, allowed);
    db_bind_int(&s, now_s);
    return db_exec(&s);
}

static int run_key(struct roster *r, const char *sql, const uint8_t key[static KEY_LEN])
{
    struct db_stmt s = db_prepare(r->db, sql);
    db_bind_blob(&s, key, KEY_LEN);
    return db_exec(&s);
}

/* Is it on the list, and may it use all that the invite lets one use? */
static bool gains_nothing(struct roster *r, const uint8_t *key, const char *allowed)
{
    struct roster_client c;
    char joined[ROSTER_ALLOWED_LEN];
    return roster_client_find(r, key, &c) == 0 &&
           join_allowed(c.allowed, allowed, joined) == 0 &&
           strcmp(joined, c.allowed) == 0;
}

static int consume(struct roster *r, const uint8_t id[static INVITE_ID_LEN],
                   const uint8_t key[static KEY_LEN], const char *name, int64_t now_s)
{
    struct roster_invite in;
    int64_t serial, revoked;
    int err = find_invite(r, id, now_s, &in, &serial);
    if (err == 0)
        err = revoked_since(r, key, &revoked);
    if (err != 0)
        return err;
    if (revoked >= serial)
        return POSTERN_ERR_DENIED;
    if (roster_is_earlier(r, key)) /* else it would leave that device's keys */
        return POSTERN_ERR_KEY;
    if (gains_nothing(r, key, in.allowed))
        return 0; /* who is in already takes no other's place */
    struct db_stmt s =
        db_prepare(r->db, "UPDATE invite SET uses_left = uses_left - 1 WHERE id = ?");
    db_bind_blob(&s, id, INVITE_ID_LEN);
    err = db_exec(&s);
    if (err == 0)
        err = run_key(r, "DELETE FROM revoked WHERE key = ?", key);
    return err != 0 ? err : add_client(r, key, name, in.allowed, now_s);
}

int roster_invite_consume(struct roster *r, const uint8_t id[static INVITE_ID_LEN],
                          const uint8_t key[static KEY_LEN], const char *name,
                          int64_t now_s, struct fault *f)
{
    int err = db_begin(r->db);
    if (err == 0)
        err = db_end(r->db, consume(r, id, key, name, now_s));
    switch (err) {
    case 0:
        return 0;
    case POSTERN_ERR_NOTFOUND:
        return fault_set(f, err, "ask for a new invite",
                         "the host does not know this invite");
    case POSTERN_ERR_EXPIRED:
        return fault_set(f, err, "ask for a new one",
                         "the invite has expired or was used");
    case POSTERN_ERR_DENIED:
        return fault_set(f, err, "ask for a new invite",
                         "the host removed this device after it made the invite");
    case POSTERN_ERR_KEY:
        return fault_set(f, err, ROSTER_EARLIER_ADVICE, ROSTER_EARLIER);
    default:
        return db_fault(r->db, err, f);
    }
}

/* By name, else by the beginning of the key's text. */
static int match_device(struct roster *r, const char *device, struct roster_client *out,
                        size_t *matches)
{
    size_t len = strlen(device);
    bool named = false;
    *matches = 0;
    struct db_stmt s =
        db_prepare(r->db, "SELECT key, name, allowed, added_s, name = ? COLLATE NOCASE "
                          "FROM client");
    db_bind_text(&s, device);
    while (!named && db_step(&s)) {
        struct roster_client c;
        char text[KEY_TEXT_LEN];
        read_client(&s, &c);
        named = db_column_int(&s, 4) != 0;
        bool prefix = len >= 4 && strncmp(key_format(c.key, text), device, len) == 0;
        if (!named && !prefix)
            continue;
        *out = c;
        *matches = named ? 1 : *matches + 1;
    }
    return db_finish(&s);
}

/* With the keys that it had before: whoever has one of them is that device. */
static int revoke_one(struct roster *r, const uint8_t key[static KEY_LEN],
                      int64_t now_s)
{
    struct db_stmt s = db_prepare(
        r->db, "INSERT OR REPLACE INTO revoked(key, revoked_s, last_invite) "
               "SELECT own.key, ?, coalesce((SELECT seq FROM sqlite_sequence "
               "WHERE name = 'invite'), 0) FROM "
               "(SELECT serial AS device, key FROM client UNION ALL "
               "SELECT device, key FROM earlier) AS own "
               "WHERE own.device = (SELECT serial FROM client WHERE key = ?)");
    db_bind_int(&s, now_s);
    db_bind_blob(&s, key, KEY_LEN);
    int err = db_exec(&s);
    if (err == 0)
        err = run_key(r,
                      "DELETE FROM earlier WHERE device = "
                      "(SELECT serial FROM client WHERE key = ?)",
                      key);
    return err != 0 ? err : run_key(r, "DELETE FROM client WHERE key = ?", key);
}

/* A list that an earlier build wrote may have one of its keys as a device of its own.
 */
static bool find_twin(struct roster *r, const uint8_t key[static KEY_LEN],
                      uint8_t twin[static KEY_LEN])
{
    struct db_stmt s = db_prepare(
        r->db, "SELECT c.key FROM client AS c JOIN earlier AS e ON e.key = c.key "
               "WHERE e.device <> c.serial AND "
               "e.device = (SELECT serial FROM client WHERE key = ?)");
    db_bind_blob(&s, key, KEY_LEN);
    bool found = db_step(&s);
    if (found)
        db_column_blob(&s, 0, twin, KEY_LEN);
    return db_finish(&s) == 0 && found;
}

static int revoke(struct roster *r, const uint8_t key[static KEY_LEN], int64_t now_s)
{
    uint8_t twin[KEY_LEN];
    int err = 0;
    while (err == 0 && find_twin(r, key, twin))
        err = revoke_one(r, twin, now_s);
    return err != 0 ? err : revoke_one(r, key, now_s);
}

static int unknown_device(struct roster *r, const char *device, struct fault *f)
{
    struct guess g;
    char advice[160];
    struct db_stmt s = db_prepare(r->db, "SELECT name FROM client");
    guess_begin(&g, device);
    while (db_step(&s))
        guess_offer(&g, db_column_text(&s, 0));
    if (db_finish(&s) != 0)
        guess_begin(&g, device);
    guess_advice(&g, advice, sizeof(advice),
                 "see the names with 'postern ls --devices'");
    return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                     "no device called '%.60s' may enter this host", device);
}

int roster_revoke(struct roster *r, const char *device, struct roster_client *c,
                  int64_t now_s, struct fault *f)
{
    size_t matches = 0;
    int err = db_begin(r->db);
    if (err == 0) {
        err = match_device(r, device, c, &matches);
        if (err == 0 && matches == 1)
            err = revoke(r, c->key, now_s);
        err = db_end(r->db, err);
    }
    if (err != 0) {
        return db_fault(r->db, err, f);
    }
    if (matches == 0)
        return unknown_device(r, device, f);
    if (matches > 1)
        return fault_set(f, POSTERN_ERR_INVALID, "give more of its key, or its name",
                         "'%.60s' fits %zu devices", device, matches);
    return 0;
}

int roster_revoke_key(struct roster *r, const uint8_t key[static KEY_LEN],
                      struct roster_client *c, int64_t now_s, struct fault *f)
{
    int err = db_begin(r->db);
    if (err == 0) {
        err = roster_client_find(r, key, c);
        err = db_end(r->db, err != 0 ? err : revoke(r, key, now_s));
    }
    if (err == POSTERN_ERR_NOTFOUND)
        return fault_set(f, err, "see the names with 'postern ls --devices'",
                         "no device with that key may enter this host");
    return db_fault(r->db, err, f);
}

/*
 * A device that was removed under its newest key and invited again under an earlier one
 * has its newest back, as if the invite had been used with it.
 */
static int forgive(struct roster *r, const uint8_t old_key[static KEY_LEN],
                   const uint8_t new_key[static KEY_LEN])
{
    struct db_stmt s =
        db_prepare(r->db, "DELETE FROM revoked WHERE key = ? AND revoked_s <= "
                          "(SELECT added_s FROM client WHERE key = ?)");
    db_bind_blob(&s, new_key, KEY_LEN);
    db_bind_blob(&s, old_key, KEY_LEN);
    int err = db_exec(&s);
    if (err != 0)
        return err;
    return roster_is_revoked(r, new_key) ? POSTERN_ERR_DENIED : 0;
}

/*
 * None is forgotten as long as the device is on the list: with a key that fell out of
 * them somebody would stay when the device is removed.
 */
static int note_earlier(struct roster *r, int64_t device,
                        const uint8_t old_key[static KEY_LEN])
{
    struct db_stmt s =
        db_prepare(r->db, "INSERT INTO earlier(key, device) SELECT ?, ? WHERE "
                          "(SELECT count(*) FROM earlier WHERE device = ?) < ?");
    db_bind_blob(&s, old_key, KEY_LEN);
    db_bind_int(&s, device);
    db_bind_int(&s, device);
    db_bind_int(&s, ROSTER_EARLIER_MAX);
    int err = db_exec(&s);
    return err != 0 ? err : db_changes(r->db) > 0 ? 0 : POSTERN_ERR_LIMIT;
}

static int serial_of(struct roster *r, const uint8_t key[static KEY_LEN],
                     int64_t *serial)
{
    struct db_stmt s = db_prepare(r->db, "SELECT serial FROM client WHERE key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    *serial = db_step(&s) ? db_column_int(&s, 0) : 0;
    int err = db_finish(&s);
    return err != 0 ? err : *serial != 0 ? 0 : POSTERN_ERR_NOTFOUND;
}

/* One of its own from before comes back to it; another device's is that one's. */
static int rotate(struct roster *r, const uint8_t old_key[static KEY_LEN],
                  const uint8_t new_key[static KEY_LEN])
{
    int64_t device, had;
    int err = serial_of(r, old_key, &device);
    if (err == 0)
        err = earlier_of(r, new_key, &had);
    if (err == 0 && had != 0 && had != device)
        err = POSTERN_ERR_INVALID;
    if (err == 0)
        err = forgive(r, old_key, new_key);
    if (err != 0 || memcmp(old_key, new_key, KEY_LEN) == 0)
        return err;
    struct db_stmt s = db_prepare(r->db, "UPDATE client SET key = ? WHERE key = ?");
    db_bind_blob(&s, new_key, KEY_LEN);
    db_bind_blob(&s, old_key, KEY_LEN);
    err = db_exec(&s);
    if (err == 0)
        err = run_key(r, "DELETE FROM earlier WHERE key = ?", new_key);
    if (err == 0) /* an earlier build's twin */
        err = run_key(r, "DELETE FROM earlier WHERE key = ?", old_key);
    return err != 0 ? err : note_earlier(r, device, old_key);
}

int roster_rotate(struct roster *r, const uint8_t old_key[static KEY_LEN],
                  const uint8_t new_key[static KEY_LEN])
{
    int err = db_begin(r->db);
    return err != 0 ? err : db_end(r->db, rotate(r, old_key, new_key));
}

int roster_settings_get(struct roster *r, struct roster_settings *out)
{
    struct db_stmt s =
        db_prepare(r->db, "SELECT name, broker, services, absent_s FROM settings");
    bool row = db_step(&s);
    if (row) {
        db_column_copy(&s, 0, out->name, sizeof(out->name));
        db_column_copy(&s, 1, out->broker, sizeof(out->broker));
        db_column_copy(&s, 2, out->services, sizeof(out->services));
        out->absent_s = db_column_int(&s, 3);
    }
    int err = db_finish(&s);
    return err != 0 ? err : row ? 0 : POSTERN_ERR_NOTFOUND;
}

static bool settings_stand(struct roster *r, const struct roster_settings *in)
{
    struct roster_settings now = {0};
    return roster_settings_get(r, &now) == 0 && strcmp(now.name, in->name) == 0 &&
           strcmp(now.broker, in->broker) == 0 &&
           strcmp(now.services, in->services) == 0 && now.absent_s == in->absent_s;
}

int roster_settings_set(struct roster *r, const struct roster_settings *in,
                        struct fault *f)
{
    if (settings_stand(r, in))
        return 0; /* a full disk need not matter */
    struct db_stmt s = db_prepare(r->db, "INSERT OR REPLACE INTO settings(one, name, "
                                         "broker, services, absent_s) "
                                         "VALUES(1, ?, ?, ?, ?)");
    db_bind_text(&s, in->name);
    db_bind_text(&s, in->broker);
    db_bind_text(&s, in->services);
    db_bind_int(&s, in->absent_s);
    return db_fault(r->db, db_exec(&s), f);
}

int roster_check(struct roster *r, struct fault *f)
{
    return db_check(r->db, f);
}

int roster_fault(const struct roster *r, int err, struct fault *f)
{
    return db_fault(r->db, err, f);
}

struct db *roster_db(struct roster *r)
{
    return r->db;
}

int64_t roster_version(struct roster *r)
{
    return db_data_version(r->db);
}
