/*
 * The privileged helper (core/privilege.h) as this process uses it: one, started when
 * the first user opens it, which ends with this process. One that ended or does not
 * answer is killed and started again after a pause that grows (core/backoff.h);
 * meanwhile helper_can says no. What may start it is its keeper (io/keeper.h), since
 * this process has given up by then what is needed for that.
 *
 * Requests wait for their answer, which takes the helper microseconds (a gate: tens of
 * milliseconds), and at most 2 s (a gate: 5 s); knocks are reported from the loop.
 *
 * Opening, closing, watches and knocks belong to the thread of that loop. All else may
 * be called by any thread, one after the other.
 */
#ifndef POSTERN_IO_HELPER_H
#define POSTERN_IO_HELPER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/list.h"
#include "core/privilege.h"
#include "io/loop.h"

/*
 * Starts the helper if it would have privileges: this process is root's or was given
 * ambient capabilities, or the helper has file capabilities. What this process has
 * itself it gives up then; capabilities are a thread's, so a program of several threads
 * does this before it starts them. Each open needs a close. It is not an error that
 * there is none: helper_can says so.
 */
void helper_open(struct loop *loop);
void helper_close(void);
/*
 * Of a thread that neither opens a helper nor was started by one that had: it gives up
 * what that one does. What it has not is no error.
 */
void helper_forgo(void);

/*
 * Who wants to hear that there is a helper again: told by the loop, and may neither add
 * nor take away a watch then. Taking away one that was never added (zeroed) is fine.
 */
struct helper_watch {
    struct list link;
    void (*on_back)(void *ctx);
    void *ctx;
};
void helper_watch(struct helper_watch *w, void (*on_back)(void *ctx), void *ctx);
void helper_unwatch(struct helper_watch *w);

/* All of the bits `can` of enum privilege_can. */
bool helper_can(uint32_t can);
/* Why helper_can said no, in words, with what to do. */
const char *helper_missing(void);

/*
 * 0, or what the helper refused with, in `reply->reason` too; POSTERN_ERR_PERM when
 * there is none. `fd`: the socket that came along, the caller's; NULL when none does.
 */
MUST_CHECK int helper_ask(struct privilege_request *q, struct privilege_reply *reply,
                          int *fd);
/* Lets a UDP socket have large buffers, if it may be. */
void helper_enlarge(int fd);

/* A socket bound to `local`, a port of 512-1023, or -1. */
int helper_low_port(const struct addr *local, bool tcp);

/*
 * Numbers a knock and says who is told of it; as PRIVILEGE_KNOCK_ADD. `from` NULL: the
 * helper was lost, and the filter with it; nothing more is told, nothing is to remove.
 */
typedef void (*helper_knock_cb)(void *ctx, const struct addr *from);
MUST_CHECK int helper_knock_add(struct privilege_request *q,
                                struct privilege_reply *reply, helper_knock_cb cb,
                                void *ctx);
/* How many packets of others were dropped at that port. Unknown serials are fine. */
uint64_t helper_knock_remove(uint32_t serial);

#endif
