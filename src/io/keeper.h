/*
 * The keeper of the privileged helper (core/privilege.h) as this process uses it: finds
 * postern-helper, starts the keeper once, while this process may, and has it start and
 * end helpers. Says nothing to a helper. Nothing here waits.
 */
#ifndef POSTERN_IO_KEEPER_H
#define POSTERN_IO_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/err.h"

struct keeper {
    int fd; /* -1: none */
    pid_t pid;
};

/* Starts it if it would have privileges; else `why` says what is missing. */
MUST_CHECK int keeper_open(struct keeper *k, char *why, size_t cap);
/* In words, when it runs and has no privileges after all. */
void keeper_explain(char *why, size_t cap);
/*
 * A pair to a helper that is about to run, `*fd` the caller's end: it ends at once
 * where none comes. POSTERN_ERR_CLOSED: the keeper is gone.
 */
MUST_CHECK int keeper_start(struct keeper *k, int *fd);
/* Kills the helper, which may be stopped, and with it what it had. */
void keeper_end(struct keeper *k);
/* The keeper is gone: its end of a new pair, for a helper that starts another. */
MUST_CHECK int keeper_replace(struct keeper *k, int *theirs);
/* Whether it ended. */
bool keeper_is_gone(const struct keeper *k);
void keeper_close(struct keeper *k);

#endif
