/*
 * The audit log of a host or a broker: who logged in, chose, connected, joined, was
 * refused or removed. One file, audit.db, in the state directory; of the newest
 * AUDIT_KEPT entries all stay but connections ("opened", "closed"), which do of the
 * newest AUDIT_KEPT_CONNECTIONS. Time is wall clock seconds and an argument.
 */
#ifndef POSTERN_IO_AUDIT_H
#define POSTERN_IO_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "io/events.h"

#define AUDIT_KEPT 100000
#define AUDIT_KEPT_CONNECTIONS 10000
#define AUDIT_TEXT_LEN 64

struct audit;

struct audit_entry {
    int64_t time_s;
    char what[AUDIT_TEXT_LEN];       /* "login", "refused", "opened", "closed"... */
    char who[AUDIT_TEXT_LEN];        /* account or device; empty: nobody known */
    char from[AUDIT_TEXT_LEN];       /* address and port; may be empty */
    char object[AUDIT_TEXT_LEN * 2]; /* service, device, host: what it was done to */
    char detail[AUDIT_TEXT_LEN * 2]; /* why, how much; may be empty */
};

/*
 * To write: also when the file cannot be opened now, which is said once by log_error
 * and tried again by audit_add. NULL when there is no memory.
 */
struct audit *audit_start(const char *dir);
/* To read. Belongs to one thread; several processes may use one file. */
MUST_CHECK int audit_open(struct audit **out, const char *dir, struct fault *f);
/* NULL is fine. */
void audit_close(struct audit *a);
/* For daemons, now and then: a log that cannot be written is told before an entry is
 * lost. NULL is fine. */
void audit_look(struct audit *a);
/*
 * Text is cut to fit and control characters become '?'. A log that cannot be written
 * is said once by log_error; what is audited goes on. NULL `a` is fine.
 */
void audit_add(struct audit *a, const struct audit_entry *e);
/* The same of these words, NULL for none, now. */
void audit_note(struct audit *a, const char *what, const char *who, const char *from,
                const char *object, const char *detail);
/* One entry, for a process that logs no other; the same promise. */
void audit_once(const char *dir, const struct audit_entry *e);
/* The newest first. Returns how many, at most `max`, or a negative error. */
MUST_CHECK int audit_list(struct audit *a, struct audit_entry *out, size_t max);
/* Those of one account or device, from a moment on, behind an entry. Zeroed: all. */
struct audit_filter {
    const char *who; /* NULL: of anybody; any case */
    int64_t since_s;
    int64_t after; /* serial; 0: of all */
};
/* The same of these; `*last`: the serial of the newest of them, or `after`. */
MUST_CHECK int audit_find(struct audit *a, const struct audit_filter *f,
                          struct audit_entry *out, size_t max, int64_t *last);

/* The `audit` event of an entry: docs/CLI.md. `e` is begun here. */
void audit_event(struct event *e, const struct audit_entry *entry);

#define AUDIT_TIME_LEN 24
/* RFC 3339 in UTC: "2026-01-02T03:04:05Z". */
void audit_time(int64_t time_s, char text[static AUDIT_TIME_LEN]);

#endif
