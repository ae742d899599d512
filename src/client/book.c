/*
 * The hosts that this device joined, in book.db. Knows how to name them and nothing
 * of how to reach them.
 */
#include "client/book.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/dns.h"
#include "core/guess.h"
#include "io/db.h"
#include "io/lack.h"
#include "io/netmon.h"

struct book {
    struct db *db;
};

static int put_service(struct book *b, const uint8_t key[static KEY_LEN], size_t place,
                       const struct book_service *service);

static const char *const book_migrations[] = {
    "CREATE TABLE host ("
    " key BLOB PRIMARY KEY,"
    " name TEXT NOT NULL UNIQUE,"
    " broker TEXT NOT NULL,"
    " joined_s INTEGER NOT NULL,"
    " own_key BLOB NOT NULL);"
    "CREATE TABLE service ("
    " host BLOB NOT NULL REFERENCES host(key) ON DELETE CASCADE ON UPDATE CASCADE,"
    " place INTEGER NOT NULL," /* in the host's order */
    " name TEXT NOT NULL,"
    " port INTEGER NOT NULL,"
    " udp INTEGER NOT NULL,"
    " PRIMARY KEY(host, place));",
    "CREATE TABLE network ("
    " host BLOB NOT NULL REFERENCES host(key) ON DELETE CASCADE ON UPDATE CASCADE,"
    " network BLOB NOT NULL,"
    " kind TEXT NOT NULL," /* the path kind that worked last; '' none */
    " keepalive_us INTEGER NOT NULL,"
    " PRIMARY KEY(host, network));",
    "ALTER TABLE host ADD COLUMN first_key BLOB;" /* when it was joined */
    "UPDATE host SET first_key = key;",
    "ALTER TABLE service ADD COLUMN title TEXT NOT NULL DEFAULT '';",
};

#define HOST_COLUMNS "key, name, broker, joined_s, own_key, first_key"

int book_open(struct book **out, const struct statedir *state, struct fault *f)
{
    struct book *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int err = statedir_check_beside(state, "up", "book.db", f);
    if (err == 0)
        err = statedir_key_first(state->path, f);
    if (err == 0)
        err = db_open(&b->db, state->path, "book.db", book_migrations,
                      sizeof(book_migrations) / sizeof(book_migrations[0]), f);
    if (err != 0) {
        free(b);
        return err;
    }
    *out = b;
    return 0;
}

/* How much of a name was typed: `postern ssh hom` asks for hom.postern. */
static int typed_len(const char *name)
{
    static const char suffix[] = ".postern";
    size_t len = strlen(name), end = sizeof(suffix) - 1;
    bool ours = len > end && strcmp(name + len - end, suffix) == 0;
    len -= ours ? end : 0;
    return len < 60 ? (int)len : 60;
}

static int none_joined(const char *name, struct fault *f)
{
    return fault_set(
        f, POSTERN_ERR_NOTFOUND, "ask for an invite and run 'postern join LINK'",
        "there is no host '%.*s': none was joined yet", typed_len(name), name);
}

int book_open_known(struct book **out, const struct statedir *state, const char *host,
                    struct fault *f)
{
    int err = statedir_check_beside(state, "up", "book.db", f);
    if (err == 0 && !statedir_has(state->path, "book.db"))
        return none_joined(host, f);
    return err != 0 ? err : book_open(out, state, f);
}

void book_close(struct book *b)
{
    if (b == NULL)
        return;
    db_close(b->db);
    free(b);
}

static void read_host(struct db_stmt *s, struct book_host *h)
{
    db_column_blob(s, 0, h->key, KEY_LEN);
    db_column_copy(s, 1, h->name, sizeof(h->name));
    db_column_copy(s, 2, h->broker, sizeof(h->broker));
    h->joined_s = db_column_int(s, 3);
    db_column_blob(s, 4, h->own_key, KEY_LEN);
    db_column_blob(s, 5, h->first_key, KEY_LEN);
}

/* One row of a finished query, or POSTERN_ERR_NOTFOUND. */
static int take_host(struct db_stmt *s, struct book_host *h)
{
    struct book_host found;
    bool row = db_step(s);
    if (row)
        read_host(s, &found);
    int err = db_finish(s);
    if (err == 0 && row)
        *h = found;
    return err != 0 ? err : row ? 0 : POSTERN_ERR_NOTFOUND;
}

static int find_by_name(struct book *b, const char *name, struct book_host *h)
{
    struct db_stmt s =
        db_prepare(b->db, "SELECT " HOST_COLUMNS " FROM host WHERE name = ?");
    db_bind_text(&s, name);
    return take_host(&s, h);
}

int book_find_key(struct book *b, const uint8_t key[static KEY_LEN],
                  struct book_host *h)
{
    struct db_stmt s =
        db_prepare(b->db, "SELECT " HOST_COLUMNS " FROM host WHERE key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    return take_host(&s, h);
}

static int choose_name(struct book *b, struct book_host *h)
{
    char label[BOOK_NAME_LEN - 8];
    struct book_host other;
    int err = book_find_key(b, h->key, &other);
    if (err == 0)
        memcpy(h->name, other.name, sizeof(h->name));
    if (err != POSTERN_ERR_NOTFOUND)
        return err;
    dns_label(h->name, label, sizeof(label));
    (void)snprintf(h->name, sizeof(h->name), "%s", label);
    for (unsigned i = 2; i < 10000; i++) {
        err = find_by_name(b, h->name, &other);
        if (err != 0)
            return err == POSTERN_ERR_NOTFOUND ? 0 : err;
        (void)snprintf(h->name, sizeof(h->name), "%s-%u", label, i);
    }
    return POSTERN_ERR_LIMIT;
}

static int put_host(struct book *b, const struct book_host *h)
{
    struct db_stmt s =
        db_prepare(b->db, "INSERT INTO host(" HOST_COLUMNS ") VALUES(?, ?, ?, ?, ?, ?) "
                          "ON CONFLICT(key) DO UPDATE SET broker = excluded.broker, "
                          "joined_s = excluded.joined_s, own_key = excluded.own_key");
    db_bind_blob(&s, h->key, KEY_LEN);
    db_bind_text(&s, h->name);
    db_bind_text(&s, h->broker);
    db_bind_int(&s, h->joined_s);
    db_bind_blob(&s, h->own_key, KEY_LEN);
    db_bind_blob(&s, h->key, KEY_LEN);
    return db_exec(&s);
}

int book_add(struct book *b, struct book_host *h, struct fault *f)
{
    int err = db_begin(b->db);
    if (err == 0) {
        err = choose_name(b, h);
        if (err == 0)
            err = put_host(b, h);
        err = db_end(b->db, err);
    }
    return db_fault(b->db, err, f);
}

static int write_and_take_back(struct book *b)
{
    struct book_host h = {.name = "."}; /* no host's: their names are labels */
    struct book_service s = {.name = "."};
    int err = db_begin(b->db);
    if (err != 0)
        return err;
    err = put_host(b, &h);
    for (size_t i = 0; err == 0 && i < BOOK_SERVICE_MAX; i++)
        err = put_service(b, h.key, i, &s);
    if (err == 0)
        err = book_remove(b, h.key);
    return db_end(b->db, err); /* what was touched is written, and looks as before */
}

int book_check_room(struct book *b, struct fault *f)
{
    int err = write_and_take_back(b);
    if (err == 0) /* that took some: and as much for who is joined */
        err = write_and_take_back(b);
    return db_fault(b->db, err, f);
}

/* Lower case, without "USER@", as ssh has it, ".postern" and a final dot. */
static void plain_name(const char *name, char *out, size_t cap)
{
    static const char suffix[] = ".postern";
    const char *at = strrchr(name, '@');
    size_t n = 0;
    name = at != NULL ? at + 1 : name;
    for (; name[n] != '\0' && n + 1 < cap; n++)
        out[n] = (char)tolower((unsigned char)name[n]);
    if (n > 0 && out[n - 1] == '.')
        n--;
    size_t len = sizeof(suffix) - 1;
    if (n > len && memcmp(out + n - len, suffix, len) == 0)
        n -= len;
    out[n] = '\0';
}

static int find_by_prefix(struct book *b, const char *prefix, struct book_host *h,
                          size_t *matches)
{
    size_t len = strlen(prefix);
    struct db_stmt s = db_prepare(b->db, "SELECT " HOST_COLUMNS " FROM host");
    *matches = 0;
    while (db_step(&s)) {
        struct book_host at;
        char text[KEY_TEXT_LEN];
        read_host(&s, &at);
        if (len < 4 || strncmp(key_format(at.key, text), prefix, len) != 0)
            continue;
        *h = at;
        ++*matches;
    }
    return db_finish(&s);
}

/* HOST:SERVICE where a host is asked for; false: it is something else. */
static bool is_too_much(struct book *b, const char *name, struct fault *f)
{
    char plain[LINK_HOST_LEN], advice[200];
    struct book_host h;
    const char *more = strchr(name, ':');
    (void)snprintf(advice, sizeof(advice), "%.*s",
                   more != NULL ? (int)(more - name) : 0, name);
    plain_name(advice, plain, sizeof(plain));
    if (more == NULL || find_by_name(b, plain, &h) != 0)
        return false;
    bool service = *++more != '\0' && strpbrk(more, "/ ") == NULL;
    (void)snprintf(advice, sizeof(advice), "write it as %.60s%s%.60s%s%.40s%s", h.name,
                   service ? ", and for that service 'postern connect " : "",
                   service ? h.name : "", service ? ":" : "", service ? more : "",
                   service ? "'" : "");
    (void)fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                    "'%.60s' is more than the name of a host", name);
    return true;
}

static int unknown_fault(struct book *b, const char *name, struct fault *f)
{
    char known[160] = "", advice[160], plain[LINK_HOST_LEN];
    size_t used = 0;
    struct guess g;
    struct db_stmt s = db_prepare(b->db, "SELECT name FROM host ORDER BY name");
    plain_name(name, plain, sizeof(plain)); /* "hoem.postern", as ssh has it */
    guess_begin(&g, plain);
    while (db_step(&s)) {
        guess_offer(&g, db_column_text(&s, 0));
        if (used < sizeof(known) - 70)
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
                                     used > 0 ? ", " : "", db_column_text(&s, 0));
    }
    int err = db_finish(&s);
    if (err != 0)
        return db_fault(b->db, err, f);
    if (is_too_much(b, name, f))
        return POSTERN_ERR_NOTFOUND;
    if (used == 0)
        return none_joined(name, f);
    guess_advice(&g, advice, sizeof(advice), "see them with 'postern ls'");
    return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                     "there is no host '%.*s'; joined are: %s", typed_len(name), name,
                     known);
}

int book_find(struct book *b, const char *name, struct book_host *h, struct fault *f)
{
    char plain[LINK_HOST_LEN];
    size_t matches = 0;
    plain_name(name, plain, sizeof(plain));
    int err = find_by_name(b, plain, h);
    if (err == POSTERN_ERR_NOTFOUND)
        err = find_by_prefix(b, plain, h, &matches);
    else
        matches = 1;
    if (err != 0)
        return db_fault(b->db, err, f);
    if (matches == 0)
        return unknown_fault(b, name, f);
    if (matches > 1)
        return fault_set(f, POSTERN_ERR_INVALID, "give more of its key, or its name",
                         "'%.60s' fits %zu hosts", name, matches);
    return 0;
}

static int run_keys(struct book *b, const char *sql, const uint8_t *one,
                    const uint8_t *two)
{
    struct db_stmt s = db_prepare(b->db, sql);
    db_bind_blob(&s, one, KEY_LEN);
    if (two != NULL)
        db_bind_blob(&s, two, KEY_LEN);
    int err = db_exec(&s);
    if (err != 0)
        return err;
    return db_changes(b->db) > 0 ? 0 : POSTERN_ERR_NOTFOUND;
}

int book_fault(struct book *b, int err, struct fault *f)
{
    return db_fault(b->db, err, f);
}

int book_remove(struct book *b, const uint8_t key[static KEY_LEN])
{
    return run_keys(b, "DELETE FROM host WHERE key = ?", key, NULL);
}

int book_hosts(struct book *b, struct book_host *out, size_t max)
{
    size_t n = 0;
    struct db_stmt s =
        db_prepare(b->db, "SELECT " HOST_COLUMNS " FROM host ORDER BY name");
    while (db_step(&s)) {
        if (n < max)
            read_host(&s, &out[n]);
        n++;
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

int book_rotate(struct book *b, const uint8_t old_key[static KEY_LEN],
                const uint8_t new_key[static KEY_LEN])
{
    return run_keys(b, "UPDATE host SET key = ? WHERE key = ?", new_key, old_key);
}

int book_set_own_key(struct book *b, const uint8_t key[static KEY_LEN],
                     const uint8_t own_key[static KEY_LEN])
{
    return run_keys(b, "UPDATE host SET own_key = ? WHERE key = ?", own_key, key);
}

int book_network_get(struct book *b, const uint8_t key[static KEY_LEN],
                     const uint8_t network[static NETMON_NETWORK_LEN],
                     struct book_network *out)
{
    struct db_stmt s = db_prepare(
        b->db, "SELECT kind, keepalive_us FROM network WHERE host = ? AND network = ?");
    db_bind_blob(&s, key, KEY_LEN);
    db_bind_blob(&s, network, NETMON_NETWORK_LEN);
    *out = (struct book_network){0};
    bool found = db_step(&s);
    if (found) {
        db_column_copy(&s, 0, out->kind, sizeof(out->kind));
        out->keepalive_us = (uint64_t)db_column_int(&s, 1);
    }
    int err = db_finish(&s);
    return err != 0 ? err : found ? 0 : POSTERN_ERR_NOTFOUND;
}

int book_network_set(struct book *b, const uint8_t key[static KEY_LEN],
                     const uint8_t network[static NETMON_NETWORK_LEN],
                     const struct book_network *n)
{
    struct book_network now;
    if (book_network_get(b, key, network, &now) == 0 &&
        strcmp(now.kind, n->kind) == 0 && now.keepalive_us == n->keepalive_us)
        return 0;
    struct db_stmt s = db_prepare(
        b->db, "INSERT OR REPLACE INTO network(host, network, kind, keepalive_us) "
               "VALUES(?, ?, ?, ?)");
    db_bind_blob(&s, key, KEY_LEN);
    db_bind_blob(&s, network, NETMON_NETWORK_LEN);
    db_bind_text(&s, n->kind);
    db_bind_int(&s, (int64_t)n->keepalive_us);
    int err = db_exec(&s);
    return err != 0 ? err
                    : db_run(b->db, "DELETE FROM network WHERE rowid <= "
                                    "(SELECT max(rowid) - 500 FROM network)");
}

static int put_service(struct book *b, const uint8_t key[static KEY_LEN], size_t place,
                       const struct book_service *service)
{
    struct db_stmt s =
        db_prepare(b->db, "INSERT INTO service(host, place, name, port, udp, title) "
                          "VALUES(?, ?, ?, ?, ?, ?)");
    db_bind_blob(&s, key, KEY_LEN);
    db_bind_int(&s, (int64_t)place);
    db_bind_text(&s, service->name);
    db_bind_int(&s, service->port);
    db_bind_int(&s, service->udp);
    db_bind_text(&s, service->title);
    return db_exec(&s);
}

/* What stands there already is not written: many commands at once would queue for it.
 */
static bool services_stand(struct book *b, const uint8_t key[static KEY_LEN],
                           const struct book_service *s, size_t n)
{
    struct book_service now[BOOK_SERVICE_MAX] = {0};
    bool same = book_services(b, key, now, BOOK_SERVICE_MAX) == (int)n;
    for (size_t i = 0; same && i < n; i++)
        same = strcmp(now[i].name, s[i].name) == 0 && now[i].port == s[i].port &&
               now[i].udp == s[i].udp && strcmp(now[i].title, s[i].title) == 0;
    return same;
}

int book_services_set(struct book *b, const uint8_t key[static KEY_LEN],
                      const struct book_service *s, size_t n)
{
    if (n <= BOOK_SERVICE_MAX && services_stand(b, key, s, n))
        return 0;
    int err = db_begin(b->db);
    if (err != 0)
        return err;
    err = run_keys(b, "DELETE FROM service WHERE host = ?", key, NULL);
    if (err == POSTERN_ERR_NOTFOUND)
        err = 0;
    for (size_t i = 0; err == 0 && i < n; i++)
        err = put_service(b, key, i, &s[i]);
    return db_end(b->db, err);
}

int book_services(struct book *b, const uint8_t key[static KEY_LEN],
                  struct book_service *out, size_t max)
{
    size_t n = 0;
    struct db_stmt s = db_prepare(b->db, "SELECT name, port, udp, title FROM service "
                                         "WHERE host = ? ORDER BY place");
    db_bind_blob(&s, key, KEY_LEN);
    while (n < max && db_step(&s)) {
        db_column_copy(&s, 0, out[n].name, sizeof(out[n].name));
        out[n].port = (uint16_t)db_column_int(&s, 1);
        out[n].udp = db_column_int(&s, 2) != 0;
        db_column_copy(&s, 3, out[n].title, sizeof(out[n].title));
        n++;
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

int64_t book_version(struct book *b)
{
    return db_data_version(b->db);
}
