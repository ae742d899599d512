/*
 * One table that only grows at one end and is cut at the other. It knows what an entry
 * looks like, and not which ones there are.
 */
#include "io/audit.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/utf8.h"
#include "io/db.h"
#include "io/journal.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/statedir.h"

enum { REOPEN_S = 10 };

struct audit {
    struct db *db;
    bool told;          /* that it cannot be written */
    time_t tried_s;     /* to open it, by the monotonic clock */
    char dir[PATH_MAX]; /* of audit_start */
};

// clang-format off
static const char *const audit_migrations[] = {
    "CREATE TABLE entry ("
    " serial INTEGER PRIMARY KEY AUTOINCREMENT,"
    " time_s INTEGER NOT NULL,"
    " what TEXT NOT NULL,"
    " who TEXT NOT NULL,"
    " \"from\" TEXT NOT NULL,"
    " object TEXT NOT NULL,"
    " detail TEXT NOT NULL);",
    "CREATE INDEX entry_what ON entry(what, serial);",
};
// clang-format on

/* `reading`: also where nothing can be written. */
static int open_db(struct db **out, const char *dir, bool reading, struct fault *f)
{
    int err = db_open(out, dir, "audit.db", audit_migrations,
                      sizeof(audit_migrations) / sizeof(audit_migrations[0]), f);
    if (err != 0)
        return err;
    err = db_set_fast(*out);
    if (err != 0 && !reading) {
        (void)db_fault(*out, err, f);
        db_close(*out);
        return err;
    }
    return 0;
}

static void tell(struct audit *a, const struct fault *f)
{
    if (!a->told)
        log_error("the audit log is not written: %s; %s", f->what, f->advice);
    a->told = true;
}

static bool is_open(struct audit *a)
{
    struct timespec now;
    struct fault f = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (a->db != NULL)
        return true;
    if (a->tried_s != 0 && now.tv_sec - a->tried_s < REOPEN_S)
        return false;
    a->tried_s = now.tv_sec;
    if (open_db(&a->db, a->dir, false, &f) == 0)
        return true;
    a->db = NULL;
    tell(a, &f);
    return false;
}

struct audit *audit_start(const char *dir)
{
    struct audit *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return NULL;
    (void)snprintf(a->dir, sizeof(a->dir), "%s", dir);
    (void)is_open(a);
    return a;
}

int audit_open(struct audit **out, const char *dir, struct fault *f)
{
    struct audit *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    (void)snprintf(a->dir, sizeof(a->dir), "%s", dir);
    int err = open_db(&a->db, dir, true, f);
    if (err == POSTERN_ERR_FULL || err == POSTERN_ERR_PERM) {
        a->db = NULL;
        err = db_open_still(&a->db, dir, "audit.db", f);
        if (err == POSTERN_ERR_NOTFOUND) /* then nothing is logged yet */
            err = 0;
    }
    if (err != 0) {
        free(a);
        return err;
    }
    *out = a;
    return 0;
}

void audit_close(struct audit *a)
{
    if (a == NULL)
        return;
    db_close(a->db);
    free(a);
}

void audit_look(struct audit *a)
{
    struct fault f = {0};
    if (a != NULL && is_open(a) && db_check(a->db, &f) == POSTERN_ERR_CORRUPT)
        a->told = true; /* by io/db */
}

/* Copies text that may come from anybody. */
static void clean(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; *text != '\0' && n + 1 < cap; text++)
        out[n++] = *text;
    if (((unsigned char)*text & 0xc0) == 0x80) /* cut inside a character (UTF-8) */
        while (n > 0 && ((unsigned char)out[--n] & 0xc0) == 0x80)
            ;
    out[n] = '\0';
    utf8_make_plain(out);
}

static int insert(struct db *db, const struct audit_entry *e)
{
    struct db_stmt s = db_prepare(db, "INSERT INTO entry(time_s, what, who, \"from\", "
                                      "object, detail) VALUES(?, ?, ?, ?, ?, ?)");
    db_bind_int(&s, e->time_s);
    db_bind_text(&s, e->what);
    db_bind_text(&s, e->who);
    db_bind_text(&s, e->from);
    db_bind_text(&s, e->object);
    db_bind_text(&s, e->detail);
    return db_exec(&s);
}

static int forget_to(struct db *db, const char *sql, int64_t serial)
{
    struct db_stmt s = db_prepare(db, sql);
    db_bind_int(&s, serial);
    return db_exec(&s);
}

/*
 * Serials have no gaps, so those beyond the newest AUDIT_KEPT are known by number. Of
 * connections there are many: they make way sooner, and push nothing else out.
 */
static int forget(struct db *db)
{
    int64_t last = db_last_id(db);
    int err = forget_to(db,
                        "DELETE FROM entry WHERE what IN ('opened', 'closed') AND "
                        "serial <= ?",
                        last - AUDIT_KEPT_CONNECTIONS);
    return err != 0 ? err
                    : forget_to(db, "DELETE FROM entry WHERE serial <= ?",
                                last - AUDIT_KEPT);
}

/* Under systemd an administrator finds the same with journalctl, field by field. */
static void tell_journal(const struct audit_entry *e)
{
    const struct journal_field fields[] = {
        {"POSTERN_EVENT", e->what},    {"POSTERN_WHO", e->who},
        {"POSTERN_FROM", e->from},     {"POSTERN_OBJECT", e->object},
        {"POSTERN_DETAIL", e->detail},
    };
    struct event event;
    char words[EVENT_TEXT_LEN];
    if (!journal_is_ours())
        return;
    audit_event(&event, e);
    events_words(event_end(&event), words, sizeof(words));
    journal_send(words, fields, sizeof(fields) / sizeof(fields[0]));
}

void audit_add(struct audit *a, const struct audit_entry *e)
{
    struct audit_entry c = {.time_s = e->time_s};
    if (a == NULL)
        return;
    clean(c.what, sizeof(c.what), e->what);
    clean(c.who, sizeof(c.who), e->who);
    clean(c.from, sizeof(c.from), e->from);
    clean(c.object, sizeof(c.object), e->object);
    clean(c.detail, sizeof(c.detail), e->detail);
    tell_journal(&c);
    if (!is_open(a))
        return;
    int err = db_begin(a->db);
    if (err == 0) {
        err = insert(a->db, &c);
        err = db_end(a->db, err != 0 ? err : forget(a->db));
    }
    struct fault f = {0};
    if (db_fault(a->db, err, &f) != 0)
        tell(a, &f);
    else
        a->told = false;
}

void audit_note(struct audit *a, const char *what, const char *who, const char *from,
                const char *object, const char *detail)
{
    struct audit_entry e = {.time_s = statedir_now_s()};
    (void)snprintf(e.what, sizeof(e.what), "%s", what);
    (void)snprintf(e.who, sizeof(e.who), "%s", who != NULL ? who : "");
    (void)snprintf(e.from, sizeof(e.from), "%s", from != NULL ? from : "");
    (void)snprintf(e.object, sizeof(e.object), "%s", object != NULL ? object : "");
    (void)snprintf(e.detail, sizeof(e.detail), "%s", detail != NULL ? detail : "");
    audit_add(a, &e);
}

void audit_once(const char *dir, const struct audit_entry *e)
{
    struct audit *a = NULL;
    struct fault f = {0};
    if (audit_open(&a, dir, &f) != 0) {
        log_error("the audit log is not written: %s; %s", f.what, f.advice);
        return;
    }
    audit_add(a, e);
    audit_close(a);
}

static void read_entry(struct db_stmt *s, struct audit_entry *e)
{
    e->time_s = db_column_int(s, 0);
    db_column_copy(s, 1, e->what, sizeof(e->what));
    db_column_copy(s, 2, e->who, sizeof(e->who));
    db_column_copy(s, 3, e->from, sizeof(e->from));
    db_column_copy(s, 4, e->object, sizeof(e->object));
    db_column_copy(s, 5, e->detail, sizeof(e->detail));
}

int audit_list(struct audit *a, struct audit_entry *out, size_t max)
{
    const struct audit_filter all = {0};
    int64_t last;
    return audit_find(a, &all, out, max, &last);
}

int audit_find(struct audit *a, const struct audit_filter *f, struct audit_entry *out,
               size_t max, int64_t *last)
{
    size_t n = 0;
    const char *who = f->who != NULL ? f->who : "";
    *last = f->after;
    if (a->db == NULL)
        return 0;
    /* What joined or was taken away stands there as what it was done to. */
    struct db_stmt s = db_prepare(
        a->db, "SELECT time_s, what, who, \"from\", object, detail, serial FROM entry "
               "WHERE serial > ?1 AND time_s >= ?2 AND (?3 = '' OR lower(who) = "
               "lower(?3) OR (lower(object) = lower(?3) AND what IN ('joined', "
               "'revoked', 'account-added', 'account-changed', 'account-removed'))) "
               "ORDER BY serial DESC LIMIT ?4");
    db_bind_int(&s, f->after);
    db_bind_int(&s, f->since_s);
    db_bind_text(&s, who);
    db_bind_int(&s, (int64_t)max);
    while (n < max && db_step(&s)) {
        if (n == 0)
            *last = db_column_int(&s, 6);
        read_entry(&s, &out[n++]);
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

void audit_time(int64_t time_s, char text[static AUDIT_TIME_LEN])
{
    struct tm tm;
    time_t t = (time_t)time_s;
    if (gmtime_r(&t, &tm) == NULL || tm.tm_year > 9999 - 1900 ||
        strftime(text, AUDIT_TIME_LEN, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(text, AUDIT_TIME_LEN, "?");
}

static void text_or_null(struct event *e, const char *name, const char *text)
{
    event_text(e, name, text[0] != '\0' ? text : NULL);
}

void audit_event(struct event *e, const struct audit_entry *entry)
{
    char time[AUDIT_TIME_LEN];
    audit_time(entry->time_s, time);
    event_begin(e, "audit");
    event_text(e, "time", time);
    event_text(e, "what", entry->what);
    text_or_null(e, "who", entry->who);
    text_or_null(e, "from", entry->from);
    text_or_null(e, "object", entry->object);
    text_or_null(e, "detail", entry->detail);
}
