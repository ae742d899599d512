/*
 * Names, passwords and one-time codes: who may come in. A check takes memory and time
 * on purpose, so few run at once and failures wait ever longer.
 */
#ifndef POSTERN_PORTAL_PASSWORDS_H
#define POSTERN_PORTAL_PASSWORDS_H

#include "portal/devices.h"

struct passwords;

enum login_result {
    LOGIN_OK,
    LOGIN_CODE,
    LOGIN_WRONG,
    LOGIN_EXPIRED, /* the password is right, and the account's time is over */
    LOGIN_WAIT,
    LOGIN_FAILED
};

/* `token` is the cookie (OK) or the step (CODE). */
typedef void (*login_cb)(void *ctx, enum login_result result, const char *token);

/* Where a try comes from: the address, and the browser's cookies as sent, or NULL. */
struct login_from {
    struct addr address;
    const char *cookies;
};

MUST_CHECK int passwords_new(struct passwords **out, const struct rooms *rooms);
/*
 * No callback runs any more. The memory goes with the last check that a thread is at:
 * the loop must run until then. NULL is fine.
 */
void passwords_close(struct passwords *ps);
/* When the loop has ended. NULL is fine. */
void passwords_free(struct passwords *ps);

/*
 * Checks a name and password, on a thread of its own; a stranger's once it is his turn,
 * or the callback says LOGIN_WAIT. It comes never from inside the call.
 * POSTERN_ERR_LIMIT: too many at once; _AGAIN: failed too often, wait so long.
 */
MUST_CHECK int login_begin(struct passwords *ps, const char *name, const char *password,
                           const struct login_from *from, login_cb cb, void *ctx,
                           uint64_t *wait_ms);
/* The one-time code that LOGIN_CODE asked for; `token` gets the cookie when OK. */
enum login_result login_code(struct passwords *ps, const char *step, const char *code,
                             const struct login_from *from,
                             char token[static LOGIN_TOKEN_TEXT_LEN],
                             uint64_t *wait_ms);
/* Answers all strangers who stand in line: LOGIN_WAIT. */
void passwords_clear_line(struct passwords *ps);

#endif
