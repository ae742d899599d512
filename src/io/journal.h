/*
 * The journal of systemd, for what has fields: where this program's output goes there
 * anyway (JOURNAL_STREAM, systemd.exec(5)), an entry is sent by its native protocol.
 */
#ifndef POSTERN_IO_JOURNAL_H
#define POSTERN_IO_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

struct journal_field {
    const char *name;  /* "POSTERN_WHO": upper case, digits and '_' */
    const char *value; /* one line; NULL or "": left out */
};

/* Whether our output goes to the journal. */
bool journal_is_ours(void);
/* Sends one entry, or loses it. `message` is for people. */
void journal_send(const char *message, const struct journal_field *fields,
                  size_t count);

#endif
