/*
 * What `postern doctor` has found so far, and the file that it makes of it. What is
 * looked at is known to cmd_doctor.c and doctor_machine.c.
 */
#ifndef POSTERN_CLI_DOCTOR_H
#define POSTERN_CLI_DOCTOR_H

#include <stdio.h>

#include "core/link.h"
#include "io/events.h"
#include "io/statedir.h"

enum doctor_state { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_BAD, DOCTOR_SKIPPED };

#define DOCTOR_FOUND_MAX 32
#define DOCTOR_NAMED_MAX 4

struct doctor {
    struct events *out;
    struct statedir state;
    const char *option;                  /* --state, as given */
    bool has_state;                      /* the directory is there; nothing is made */
    struct link broker;                  /* its host is "" when none is known */
    struct fault no_broker;              /* and why */
    bool offline;                        /* no network: said once */
    struct addr named[DOCTOR_NAMED_MAX]; /* what its name leads to now */
    size_t named_count;
    bool nameless; /* nor can the broker's name be resolved: likewise */
    char netcheck[EVENT_TEXT_LEN];
    uint64_t until_us; /* all waiting is over by then */
    unsigned bad;
    size_t count;
    struct doctor_found {
        const char *check;
        enum doctor_state state;
        struct fault words;
    } found[DOCTOR_FOUND_MAX];
};

/* One line of the result; `advice` is the cure, "" where none is needed. */
void doctor_say(struct doctor *d, const char *check, enum doctor_state state,
                const char *advice, const char *fmt, ...) PRINTF_LIKE(5, 6);
/* How long something may take that would like `want_ms`. */
unsigned doctor_left_ms(const struct doctor *d, unsigned want_ms);
/* It takes a while: told on a terminal at once. */
void doctor_wait(const char *what);

/* State directory, disk, files, helper: this machine alone. */
void doctor_machine(struct doctor *d);
/* What this host publishes, where it does: whether it answers by TCP. */
void doctor_services(struct doctor *d);
/* Against the broker's where that is known. */
void doctor_clock(struct doctor *d);

/* The file to attach to a bug report, which must not be there yet. */
/* Makes the new file, before the checks that may take a while. */
MUST_CHECK int doctor_report_open(FILE **to, const char *file, struct fault *f);
/* Writes into that, and closes it; it goes where it cannot be written whole. */
MUST_CHECK int doctor_report(const struct doctor *d, FILE *to, const char *file,
                             struct fault *f);

#endif
