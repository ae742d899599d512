/* Another program that a command runs, reads and waits for. */
#ifndef POSTERN_CLI_CHILD_H
#define POSTERN_CLI_CHILD_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "core/err.h"

enum child_catch {
    CHILD_NOTHING, /* it says what it says where this program does */
    CHILD_OUTPUT,  /* its stdout is read here */
    CHILD_ALL,     /* its stderr too */
};

struct child {
    pid_t pid;
    FILE *said; /* NULL: nothing is caught */
};

/* The words end with NULL; the first is looked up in PATH. */
MUST_CHECK int child_start(struct child *c, const char *const *words,
                           enum child_catch what);
/* A line of what it says, without its end; false when there is no more. */
bool child_line(struct child *c, char *line, size_t cap);
/* Waits for its end: its exit status, or 128 and the signal that ended it. */
int child_wait(struct child *c);
/*
 * All in one: runs it to its end, and leaves the last line that it said. Negative when
 * it cannot be started.
 */
int child_run(const char *const *words, char *last, size_t cap);

/* A word of a command line for a person, as a shell reads it back. */
void child_show_word(FILE *out, const char *word);

#endif
