/*
 * Sharing: hands a local connection to a running `up`, which carries it through its
 * warm session. What the daemon is asked stands in core/proto.h (LOCAL_OPEN).
 */
#ifndef POSTERN_CLIENT_SHARE_H
#define POSTERN_CLIENT_SHARE_H

#include "core/list.h"
#include "io/events.h"
#include "io/loop.h"
#include "io/statedir.h"

/* The host's answer: enum stream_code, or STREAM_UNREACHABLE with the daemon's words.
 */
typedef void (*share_cb)(void *ctx, unsigned code, const char *reason);
/* Some seconds have gone without an answer: what is waited for. */
typedef void (*share_wait_cb)(void *ctx, const char *why);

/* What a program has handed over and waits for; owned by it. */
struct share_list {
    struct list all; /* struct shared; list_init it */
};

/*
 * 0 when a daemon runs with this state directory and answers; POSTERN_ERR_NOTFOUND when
 * none runs. One that is stopped or stuck has 5 s, for which this call blocks:
 * POSTERN_ERR_TIMEOUT, and the caller goes on alone.
 */
MUST_CHECK int share_find(const struct statedir *state);
/*
 * Passes `fd` on (the caller's descriptor is closed on success only). `cb` runs from
 * the loop once; it may be NULL. `on_end`, when not NULL, runs once after an answer of
 * STREAM_OK: STREAM_OK again after the orderly end of both directions, else the stream
 * was broken; and the daemon breaks the stream when this process dies before. `on_wait`
 * may be NULL. A daemon that says nothing for 10 s (which is told after 6.5 s), or
 * nothing but that it waits for 20 s more, is given up: STREAM_TIMEOUT, and the
 * connection is ended. POSTERN_ERR_NOTFOUND when no daemon listens.
 */
MUST_CHECK int share_open(struct share_list *list, const struct statedir *state,
                          struct loop *loop, const char *host, const char *service,
                          int fd, share_cb cb, share_cb on_end, share_wait_cb on_wait,
                          void *ctx);
/* Forgets them all, without callbacks: this program ends, and the daemon sees it. */
void share_forget(struct share_list *list);
/* Prints what the daemon says of its paths to `host`. */
void share_print_paths(const struct statedir *state, const char *host,
                       struct events *out);

#endif
