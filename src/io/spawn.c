/* libuv's processes; see spawn.h. */
#include "io/spawn.h"

#include <signal.h>
#include <stdlib.h>

#include "io/loop_uv.h"

struct spawned {
    uv_process_t uv;                                        /* first */
    void (*on_exit)(void *ctx, int64_t status, int signum); /* NULL: cancelled */
    void *ctx;
};

static void on_closed(uv_handle_t *h)
{
    free(h);
}

static void on_exited(uv_process_t *p, int64_t status, int signum)
{
    struct spawned *s = (struct spawned *)(void *)p;
    uv_close((uv_handle_t *)p, on_closed);
    if (s->on_exit != NULL)
        s->on_exit(s->ctx, status, signum);
}

int spawn_start(struct spawned **out, const struct spawn_config *c)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    uv_process_options_t po = {.exit_cb = on_exited,
                               .file = c->argv[0],
                               .args = c->argv,
                               .env = c->environment,
                               .flags = UV_PROCESS_DETACHED,
                               .stdio_count = 3,
                               .stdio = stdio};
    struct spawned *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    s->on_exit = c->on_exit;
    s->ctx = c->ctx;
    if (uv_spawn(loop_uv(c->loop), &s->uv, &po) != 0) {
        uv_close((uv_handle_t *)&s->uv, on_closed);
        return POSTERN_ERR_IO;
    }
    *out = s;
    return 0;
}

void spawn_kill(struct spawned *s)
{
    (void)kill(-s->uv.pid, SIGKILL);
}

void spawn_cancel(struct spawned *s)
{
    if (s == NULL)
        return;
    s->on_exit = NULL;
    spawn_kill(s);
}
