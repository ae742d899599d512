/* The tables of agents and their hosts; knows no connection. */
#include "host/lan.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "io/db.h"

int lan_token(struct roster *r, uint8_t token[static LINK_SECRET_LEN],
              const uint8_t fresh[static LINK_SECRET_LEN])
{
    struct db *db = roster_db(r);
    struct db_stmt s =
        db_prepare(db, "INSERT OR IGNORE INTO agent(one, token) VALUES(1, ?)");
    db_bind_blob(&s, fresh, LINK_SECRET_LEN);
    int err = db_exec(&s);
    if (err != 0)
        return err;
    s = db_prepare(db, "SELECT token FROM agent");
    if (db_step(&s))
        db_column_blob(&s, 0, token, LINK_SECRET_LEN);
    return db_finish(&s);
}

int lan_host_find(struct roster *r, const uint8_t key[static KEY_LEN],
                  struct lan_host *out)
{
    struct db_stmt s = db_prepare(
        roster_db(r), "SELECT name, published FROM agent_host WHERE key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    bool row = db_step(&s);
    if (row) {
        memcpy(out->key, key, KEY_LEN);
        db_column_copy(&s, 0, out->name, sizeof(out->name));
        out->published = db_column_int(&s, 1) != 0;
    }
    int err = db_finish(&s);
    return err != 0 ? err : row ? 0 : POSTERN_ERR_NOTFOUND;
}

/* Letters, digits, '-', '_' and '.' in lower case; begins with a letter or digit. */
static void make_fit(const char *name, char *out, size_t cap)
{
    size_t n = 0;
    bool letter = false;
    for (; *name != '\0' && n + 1 < cap; name++) {
        unsigned char c = (unsigned char)*name;
        if (!isalnum(c) && (n == 0 || strchr("-_.", c) == NULL))
            continue;
        letter = letter || !isdigit(c);
        out[n++] = (char)tolower(c);
    }
    out[n] = '\0';
    if (!letter)
        (void)snprintf(out, cap, "host");
}

static int count_where_name(struct db *db, const char *name, int64_t *named,
                            int64_t *all)
{
    struct db_stmt s =
        db_prepare(db, "SELECT count(*), coalesce(sum(name = ?), 0) FROM agent_host");
    db_bind_text(&s, name);
    if (db_step(&s)) {
        *all = db_column_int(&s, 0);
        *named = db_column_int(&s, 1);
    }
    return db_finish(&s);
}

static int list_hosts(struct db *db, struct lan_host out[static LAN_HOSTS_MAX],
                      size_t *n)
{
    struct db_stmt s =
        db_prepare(db, "SELECT key, name, published FROM agent_host ORDER BY serial");
    for (*n = 0; *n < LAN_HOSTS_MAX && db_step(&s); ++*n) {
        db_column_blob(&s, 0, out[*n].key, KEY_LEN);
        db_column_copy(&s, 1, out[*n].name, sizeof(out->name));
        out[*n].published = db_column_int(&s, 2) != 0;
    }
    return db_finish(&s);
}

int lan_host_list(struct roster *r, struct lan_host out[static LAN_HOSTS_MAX],
                  size_t *n)
{
    return list_hosts(roster_db(r), out, n);
}

/*
 * The oldest of those that proved least goes. Who has published something does not: a
 * name that clients came by would be anybody's who has the token. POSTERN_ERR_LIMIT:
 * all have.
 */
static int drop_host(struct db *db, struct lan_room *room)
{
    struct lan_host hosts[LAN_HOSTS_MAX];
    const struct lan_host *least = NULL;
    size_t n;
    int err = list_hosts(db, hosts, &n);
    if (err != 0)
        return err;
    for (size_t i = 0; i < n; i++)
        if (!hosts[i].published &&
            (least == NULL || (room->is_connected(room->ctx, least->key) &&
                               !room->is_connected(room->ctx, hosts[i].key))))
            least = &hosts[i];
    if (least == NULL)
        return POSTERN_ERR_LIMIT;
    room->who = *least;
    struct db_stmt s = db_prepare(db, "DELETE FROM agent_host WHERE key = ?");
    db_bind_blob(&s, room->who.key, KEY_LEN);
    room->left = true;
    return db_exec(&s);
}

static int add_host(struct db *db, const char *name, int64_t now_s,
                    struct lan_room *room, struct lan_host *out)
{
    char base[LAN_NAME_LEN - 4];
    int64_t named = 1, all = 0;
    make_fit(name, base, sizeof(base));
    (void)snprintf(out->name, sizeof(out->name), "%s", base);
    for (unsigned n = 2;;) {
        int err = count_where_name(db, out->name, &named, &all);
        if (err != 0)
            return err;
        if (all >= LAN_HOSTS_MAX) {
            err = drop_host(db, room);
            if (err != 0)
                return err;
            continue; /* with the name just tried, which may be free now */
        }
        if (named == 0)
            break;
        (void)snprintf(out->name, sizeof(out->name), "%s-%u", base, n++);
    }
    struct db_stmt s =
        db_prepare(db, "INSERT INTO agent_host(key, name, added_s, published) "
                       "VALUES(?, ?, ?, 0)");
    db_bind_blob(&s, out->key, KEY_LEN);
    db_bind_text(&s, out->name);
    db_bind_int(&s, now_s);
    return db_exec(&s);
}

int lan_host_add(struct roster *r, const uint8_t key[static KEY_LEN], const char *name,
                 int64_t now_s, struct lan_room *room, struct lan_host *out)
{
    struct db *db = roster_db(r);
    memcpy(out->key, key, KEY_LEN);
    out->published = false;
    room->left = false;
    int err = db_begin(db);
    if (err == 0)
        err = db_end(db, add_host(db, name, now_s, room, out));
    room->left = room->left && err == 0;
    return err;
}

int lan_host_admit(struct roster *r, const struct lan_comer *c, struct lan_room *room,
                   struct lan_host *out)
{
    uint8_t token[LINK_SECRET_LEN];
    room->left = false;
    int err = lan_host_find(r, c->key, out);
    if (err != POSTERN_ERR_NOTFOUND)
        return err;
    err = lan_token(r, token, c->fresh);
    if (err == 0 &&
        (c->token == NULL || sodium_memcmp(c->token, token, sizeof(token)) != 0))
        err = POSTERN_ERR_DENIED;
    sodium_memzero(token, sizeof(token));
    return err != 0 ? err : lan_host_add(r, c->key, c->name, c->now_s, room, out);
}

int lan_host_published(struct roster *r, const uint8_t key[static KEY_LEN])
{
    struct db_stmt s =
        db_prepare(roster_db(r), "UPDATE agent_host SET published = 1 WHERE key = ?");
    db_bind_blob(&s, key, KEY_LEN);
    return db_exec(&s);
}

static int forget_host(struct db *db, const char *name,
                       const uint8_t fresh[static LINK_SECRET_LEN],
                       struct lan_host *out)
{
    struct db_stmt s =
        db_prepare(db, "DELETE FROM agent_host WHERE name = ? RETURNING key, name");
    db_bind_text(&s, name);
    bool row = db_step(&s);
    if (row) {
        db_column_blob(&s, 0, out->key, KEY_LEN);
        db_column_copy(&s, 1, out->name, sizeof(out->name));
    }
    int err = row ? db_exec(&s) : db_finish(&s);
    if (err != 0 || !row)
        return err != 0 ? err : POSTERN_ERR_NOTFOUND;
    s = db_prepare(db, "INSERT OR REPLACE INTO agent(one, token) VALUES(1, ?)");
    db_bind_blob(&s, fresh, LINK_SECRET_LEN);
    return db_exec(&s);
}

int lan_host_forget(struct roster *r, const char *name,
                    const uint8_t fresh[static LINK_SECRET_LEN], struct lan_host *out,
                    struct fault *f)
{
    struct db *db = roster_db(r);
    int err = db_begin(db);
    if (err == 0)
        err = db_end(db, forget_host(db, name, fresh, out));
    if (err == POSTERN_ERR_NOTFOUND)
        return fault_set(f, err, "see 'postern status' for its hosts",
                         "this agent knows no host '%.60s'", name);
    return db_fault(db, err, f);
}

void lan_place(const struct link *l, char place[static LAN_PLACE_LEN])
{
    bool v6 = strchr(l->host, ':') != NULL;
    (void)snprintf(place, LAN_PLACE_LEN, "%s%s%s:%u", v6 ? "[" : "", l->host,
                   v6 ? "]" : "", l->port);
}

int lan_agent_find(struct roster *r, const char *place, char link[static LINK_TEXT_LEN])
{
    struct db_stmt s =
        db_prepare(roster_db(r), place != NULL ? "SELECT link FROM via WHERE place = ?"
                                               : "SELECT link FROM via WHERE used = 1");
    if (place != NULL)
        db_bind_text(&s, place);
    bool row = db_step(&s);
    if (row)
        db_column_copy(&s, 0, link, LINK_TEXT_LEN);
    int err = db_finish(&s);
    return err != 0 ? err : row ? 0 : POSTERN_ERR_NOTFOUND;
}

static int use_agent(struct db *db, const struct link *l)
{
    char place[LAN_PLACE_LEN], text[LINK_TEXT_LEN];
    int err = db_run(db, "UPDATE via SET used = 0");
    if (err != 0 || l == NULL)
        return err;
    lan_place(l, place);
    link_format(l, text);
    struct db_stmt s =
        db_prepare(db, "INSERT OR REPLACE INTO via(place, link, used) VALUES(?, ?, 1)");
    db_bind_text(&s, place);
    db_bind_text(&s, text);
    return db_exec(&s);
}

int lan_agent_use(struct roster *r, const struct link *l, struct fault *f)
{
    struct db *db = roster_db(r);
    char used[LINK_TEXT_LEN], text[LINK_TEXT_LEN];
    int err = lan_agent_find(r, NULL, used);
    if (l != NULL)
        link_format(l, text);
    if (l == NULL ? err == POSTERN_ERR_NOTFOUND : err == 0 && strcmp(used, text) == 0)
        return 0; /* so it stands there: a full disk need not matter */
    err = db_begin(db);
    if (err == 0)
        err = db_end(db, use_agent(db, l));
    return db_fault(db, err, f);
}
