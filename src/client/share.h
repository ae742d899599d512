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

/* In place of an enum stream_code: the daemon ended, or did not answer. */
enum { SHARE_LOST = 1000 };

/* Run from the loop; each may be NULL. What they free of the list is their own. */
struct share_events {
    /* The host's answer, once: enum stream_code, STREAM_UNREACHABLE with the daemon's
     * words, or SHARE_LOST. `advice` where the daemon knows one, else empty. */
    void (*on_answer)(void *ctx, unsigned code, const char *reason, const char *advice);
    /* Some seconds have gone without an answer, once: what is waited for. */
    void (*on_wait)(void *ctx, const char *why);
    /* The host, or the daemon, is silent, or is heard again, while something stands. */
    void (*on_news)(void *ctx, const char *what);
    /* Once, after an answer of STREAM_OK: STREAM_OK again after the orderly end of both
     * directions, STREAM_TIMEOUT when the daemon does not live, SHARE_LOST when it has
     * ended, else it was broken: by what kept the daemon from the host where there is
     * an `advice`, which is empty else. */
    void (*on_end)(void *ctx, unsigned code, const char *reason, const char *advice);
};

/* What a program has handed over and waits for; owned by it. */
struct share_list {
    struct list all; /* struct shared; list_init it */
};

/*
 * 0 when a daemon runs with this state directory and answers; POSTERN_ERR_NOTFOUND when
 * none runs. One that is stopped or stuck has 5 s, for which this call blocks, one that
 * is busy a minute, which is told: POSTERN_ERR_TIMEOUT, and the caller goes on alone.
 */
MUST_CHECK int share_find(const struct statedir *state);
/*
 * Passes `fd` on (the caller's descriptor is closed on success only). With an on_end
 * the daemon breaks the stream when this process dies before. A daemon that says
 * nothing for 10 s (which is told after 6.5 s), or nothing but that it waits for 20 s
 * more, is given up: STREAM_TIMEOUT, and the connection is ended. While the stream
 * stands it says every 2 s that it lives; when it does not, on_news tells that after
 * 6.5 s, and on_end comes after 10 s where it is stopped, after 30 s where it is stuck.
 * One that goes on (its threads take turns, or wait for a processor) is busy, not
 * stuck: it has a minute, before the answer and after, where its silence is told after
 * 13 s. POSTERN_ERR_NOTFOUND when no daemon listens.
 */
MUST_CHECK int share_open(struct share_list *list, const struct statedir *state,
                          struct loop *loop, const char *host, const char *service,
                          int fd, const struct share_events *events, void *ctx);
/*
 * For who hands over connections without waiting for their ends: on_news of `host` and
 * of the daemon, until on_end: it has ended.
 */
MUST_CHECK int share_watch(struct share_list *list, const struct statedir *state,
                           struct loop *loop, const char *host,
                           const struct share_events *events, void *ctx);
/* Forgets them all, without callbacks: this program ends, and the daemon sees it. */
void share_forget(struct share_list *list);
/* Tells a daemon, if one runs, that `host` was joined. One that is stuck is let be. */
void share_tell_joined(const struct statedir *state, const char *host);
/* The daemon has a session to `host`, and is heard by it. */
bool share_reaches(const struct statedir *state, const char *host);
/* Prints what the daemon says of its paths to `host`. */
void share_print_paths(const struct statedir *state, const char *host,
                       struct events *out);

#endif
