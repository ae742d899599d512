/*
 * Error codes of the whole program, and the one-line fault that a person reads.
 *
 * Functions return 0 or a negative enum postern_err. What a user must be told is
 * carried in a struct fault: what went wrong, and what to do about it.
 */
#ifndef POSTERN_CORE_ERR_H
#define POSTERN_CORE_ERR_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
/* Of a large buffer that something is read into at once: the build would zero it first.
 */
#if defined(__has_attribute) && __has_attribute(uninitialized)
#define READ_INTO __attribute__((uninitialized))
#else
#define READ_INTO
#endif

enum postern_err {
    POSTERN_OK = 0,
    POSTERN_ERR_INVALID = -1,     /* an argument or input that cannot be right */
    POSTERN_ERR_AGAIN = -2,       /* would block; call again when told */
    POSTERN_ERR_NOMEM = -3,       /* out of memory */
    POSTERN_ERR_IO = -4,          /* the kernel refused; errno was logged */
    POSTERN_ERR_CLOSED = -5,      /* the other end is gone */
    POSTERN_ERR_TIMEOUT = -6,     /* nothing came in time */
    POSTERN_ERR_REFUSED = -7,     /* connection refused by the destination */
    POSTERN_ERR_UNREACHABLE = -8, /* no route, or the host is not online */
    POSTERN_ERR_DENIED = -9,      /* not on the list of who may enter */
    POSTERN_ERR_NOTFOUND = -10,   /* no such host, service, device or file */
    POSTERN_ERR_INUSE = -11,      /* address, port or name is taken */
    POSTERN_ERR_PERM = -12,       /* the operating system says no */
    POSTERN_ERR_NEWER = -13,      /* written by a newer version */
    POSTERN_ERR_CORRUPT = -14,    /* stored data is damaged */
    POSTERN_ERR_FULL = -15,       /* disk full */
    POSTERN_ERR_LIMIT = -16,      /* a stated bound was reached */
    POSTERN_ERR_PROTO = -17,      /* the peer broke the protocol */
    POSTERN_ERR_KEY = -18,        /* the peer holds another key than expected */
    POSTERN_ERR_EXPIRED = -19,    /* invite or token past its time or uses */
    POSTERN_ERR_USAGE = -20,      /* wrong command line */
    POSTERN_ERR_DNS = -21,        /* the resolver does not answer */
    POSTERN_ERR_RESET = -22,      /* the connection broke, and was not ended */
};

/* A stable, lower-case English word or two for `err`, never NULL. */
const char *postern_strerror(int err);

/* The advice of a fault that whoever goes on trying tells. */
#define ADVICE_RETRIED "it is tried again by itself"

/* What a person is told. `what` and `advice` are single lines without a full stop. */
struct fault {
    int code; /* enum postern_err, 0 when there is no fault */
    char what[320];
    char advice[240];
};

/*
 * Fills `f` (may be NULL) and returns `code`, so that a function can end with
 * `return fault_set(f, POSTERN_ERR_..., "do this", "that failed: %s", ...)`.
 */
int fault_set(struct fault *f, int code, const char *advice, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* A text of `wanted` bytes, as snprintf returned it, that did not fit into `buf` ends
 * at a word and in "...". */
void words_cut(char *buf, size_t cap, int wanted);

#endif
