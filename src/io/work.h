/* What may block, done in a thread of the loop's pool. */
#ifndef POSTERN_IO_WORK_H
#define POSTERN_IO_WORK_H

#include "io/loop.h"

/*
 * Calls `run` in another thread and then `done` from the loop, which runs until then.
 * There is no way to take it back: `ctx` is the work's until `done`. `done` NULL:
 * nobody asks. POSTERN_ERR_NOMEM: neither is called.
 */
MUST_CHECK int work_start(struct loop *l, loop_cb run, loop_cb done, void *ctx);
/* A thread has still to do with what was started, in any loop: exit() would wait for
 * it, and _exit() does not. */
bool work_is_left(void);

#endif
