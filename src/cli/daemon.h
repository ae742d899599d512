/* How a command talks to the daemon of the same state directory, if one runs. */
#ifndef POSTERN_CLI_DAEMON_H
#define POSTERN_CLI_DAEMON_H

#include "core/proto.h"
#include "host/access.h"
#include "host/roster.h"
#include "io/events.h"
#include "io/statedir.h"

/*
 * Asks the daemon `role` ("serve" or "up") and reads its replies until the last one,
 * which is left in `last`; its json, and that of each earlier reply, is printed to
 * `out`. `arg`, `out` and `last` may be NULL. 1; or 0 when no such daemon runs. A reply
 * that carries an error becomes `f`; so does silence for 5 s, a reload's for 10 s, and
 * that it is stopped at once. After 2 s a warning says what is waited for.
 */
MUST_CHECK int daemon_ask(const struct statedir *s, const char *role, enum local_op op,
                          const char *arg, struct events *out, LocalReply *last,
                          struct fault *f);

/* The same, with each reply's json for `each`. */
MUST_CHECK int daemon_ask_each(const struct statedir *s, const char *role,
                               enum local_op op, const char *arg,
                               void (*each)(void *ctx, const char *json), void *ctx,
                               struct fault *f);

/*
 * daemon_ask failed behind a step that is done: "WHAT, but why", with the advice of
 * why. Returns `err`.
 */
int daemon_stored(int err, const char *what, struct fault *f);
/* The same where the step was not done, or is undone. */
int daemon_unchanged(int err, struct fault *f);

/*
 * Calls `each` with the json of every reply to a request without arguments. Does
 * nothing when no such daemon runs; one that does not answer is warned of.
 */
void daemon_each(const struct statedir *s, const char *role, enum local_op op,
                 void (*each)(void *ctx, const char *json), void *ctx);

/*
 * The same of its status, for who waits `timeout_ms` at most and then tells what is
 * wrong: 1; 0 when no such daemon runs; else `f`.
 */
MUST_CHECK int daemon_probe(const struct statedir *s, const char *role, int timeout_ms,
                            void (*each)(void *ctx, const char *json), void *ctx,
                            struct fault *f);

/* roster_open_known and access_open, behind statedir_check_beside. */
MUST_CHECK int daemon_open_roster(struct roster **out, const struct statedir *s,
                                  struct fault *f);
MUST_CHECK int daemon_open_access(struct access **out, const struct statedir *s,
                                  struct fault *f);

#endif
