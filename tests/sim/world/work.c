/* io/work.h: a task of its own for each. */
#include "io/work.h"

#include <stdlib.h>

#include "loop_sim.h"

struct work {
    struct loop *loop;
    struct wake wake;
    loop_cb run, done;
    void *ctx;
};

static void *run(void *arg)
{
    struct work *w = arg;
    w->run(w->ctx);
    wake_up(&w->wake);
    return NULL;
}

static void on_done(void *ctx)
{
    struct work *w = ctx;
    loop_cb done = w->done;
    void *of = w->ctx;
    wake_close(&w->wake);
    loop_job_ended(w->loop);
    free(w);
    if (done != NULL)
        done(of);
}

int work_start(struct loop *l, loop_cb cb, loop_cb done, void *ctx)
{
    struct work *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return POSTERN_ERR_NOMEM;
    *w = (struct work){.loop = l, .run = cb, .done = done, .ctx = ctx};
    if (wake_open(&w->wake, l, on_done, w) != 0) {
        free(w);
        return POSTERN_ERR_NOMEM;
    }
    loop_job_begins(l);
    task_detach(task_start(loop_machine(l), run, w));
    return 0;
}
