/* libuv's pool of threads; see work.h. */
#include "io/work.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "io/lack.h"
#include "io/loop_uv.h"

struct work {
    uv_work_t uv; /* first */
    loop_cb run, done;
    void *ctx;
};

static atomic_uint under_way;

static void on_run(uv_work_t *w)
{
    struct work *work = (struct work *)(void *)w;
    work->run(work->ctx);
    under_way--;
}

static void on_done(uv_work_t *w, int status)
{
    struct work *work = (struct work *)(void *)w;
    loop_cb done = work->done;
    void *ctx = work->ctx;
    (void)status; /* never cancelled */
    free(work);
    if (done != NULL)
        done(ctx);
}

/* The pool's threads, which begin with the first work, take the stack's limit. */
static int queue(struct loop *l, struct work *work)
{
    struct rlimit before, small;
    bool lower =
        getrlimit(RLIMIT_STACK, &before) == 0 &&
        (before.rlim_cur == RLIM_INFINITY || before.rlim_cur > LACK_THREAD_STACK);
    small = before;
    small.rlim_cur = LACK_THREAD_STACK;
    lower = lower && setrlimit(RLIMIT_STACK, &small) == 0;
    under_way++;
    int rc = uv_queue_work(loop_uv(l), &work->uv, on_run, on_done);
    if (rc != 0)
        under_way--;
    if (lower)
        (void)setrlimit(RLIMIT_STACK, &before);
    return rc;
}

int work_start(struct loop *l, loop_cb run, loop_cb done, void *ctx)
{
    struct work *work = calloc(1, sizeof(*work));
    if (work == NULL)
        return POSTERN_ERR_NOMEM;
    *work = (struct work){.run = run, .done = done, .ctx = ctx};
    if (loop_begin_pool(l) && queue(l, work) == 0)
        return 0;
    free(work);
    return POSTERN_ERR_NOMEM;
}

bool work_is_left(void)
{
    return under_way > 0;
}
