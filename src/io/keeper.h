/*
 * The keeper of the privileged helper (core/privilege.h) as this process uses it: finds
 * postern-helper, starts the keeper once, while this process may, and has it start and
 * end helpers. A second one stands by: only a helper can start a keeper later, and one
 * may be killed while there is none. Says nothing to a helper. Nothing here waits.
 */
#ifndef POSTERN_IO_KEEPER_H
#define POSTERN_IO_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/err.h"

enum { KEEPERS = 2 };

struct keeper {
    int fds[KEEPERS];    /* the first is asked; -1: none */
    pid_t pids[KEEPERS]; /* 0: not this process's child */
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
/* Whether one of the two ended. */
bool keeper_is_gone(const struct keeper *k);
/* Closes what ended, with nobody watching; the one that stands by takes its place. */
void keeper_settle(struct keeper *k);
/* One is missing: its end of a new pair, for a helper that starts another. */
MUST_CHECK int keeper_replace(struct keeper *k, int *theirs);

#endif
