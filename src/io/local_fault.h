/*
 * A request to the running daemon of a role got no answer: what is wrong with it and
 * what lets it go on, in the same words for every command. The functions fill `f` and
 * return its code.
 */
#ifndef POSTERN_IO_LOCAL_FAULT_H
#define POSTERN_IO_LOCAL_FAULT_H

#include "core/err.h"
#include "io/statedir.h"

/* `err` is of local_dial (but _NOTFOUND), local_send or local_recv. */
int local_fault(const struct statedir *s, const char *role, int err, struct fault *f);
/* It takes requests and is silent: stopped from its terminal, or stuck. */
int local_fault_silent(const struct statedir *s, const char *role, int err,
                       struct fault *f);
/*
 * After _NOTFOUND: 0 where none runs. Else it runs without a socket: none fits in a
 * full directory, or it was deleted.
 */
int local_fault_deaf(const struct statedir *s, const char *role, struct fault *f);

#endif
