/* io/stop.h and io/spawn.h: signals are the test's (machine_stop); no programs. */
#include "io/stop.h"

#include <signal.h>
#include <stdlib.h>

#include "io/spawn.h"
#include "house_internal.h"
#include "loop_sim.h"

struct stop {
    struct stop *next;
    struct machine *machine;
    unsigned group;
    struct wake wake;
    int signum;
    void (*on_stop)(void *ctx, int signum);
    void *ctx;
};

void stop_prepare(void)
{
}

static void on_wake(void *ctx)
{
    struct stop *s = ctx;
    s->on_stop(s->ctx, s->signum);
}

int stop_open(struct stop **out, struct loop *loop,
              void (*on_stop)(void *ctx, int signum), void *ctx)
{
    struct stop *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    s->machine = loop_machine(loop);
    s->group = group_now();
    s->on_stop = on_stop;
    s->ctx = ctx;
    if (wake_open(&s->wake, loop, on_wake, s) != 0) {
        free(s);
        return POSTERN_ERR_NOMEM;
    }
    s->next = s->machine->stops;
    s->machine->stops = s;
    *out = s;
    return 0;
}

void stop_watch_output(struct stop *s)
{
    (void)s;
}

bool stop_terminal_closed(const struct stop *s)
{
    (void)s;
    return false;
}

static void signal_some(struct machine *m, unsigned group, int signum)
{
    for (struct stop *s = m->stops; s != NULL; s = s->next)
        if (group == 0 || s->group == group) {
            s->signum = signum;
            wake_up(&s->wake);
        }
}

void machine_stop(struct machine *m, int signum)
{
    signal_some(m, 0, signum);
}

void group_signal(struct machine *m, unsigned group, int signum)
{
    signal_some(m, group, signum);
}

void stops_kill(struct machine *m, unsigned group)
{
    struct stop **at = &m->stops;
    while (*at != NULL)
        if ((*at)->group == group)
            *at = (*at)->next;
        else
            at = &(*at)->next;
}

bool stop_now(void)
{
    struct machine *m = machine_now();
    if (m == NULL || m->stops == NULL)
        return false;
    machine_stop(m, SIGTERM);
    return true;
}

void stop_close(struct stop *s)
{
    if (s == NULL)
        return;
    struct stop **at = &s->machine->stops;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    wake_close(&s->wake);
    free(s);
}

int spawn_start(struct spawned **out, const struct spawn_config *c)
{
    (void)out, (void)c;
    return POSTERN_ERR_IO;
}

void spawn_kill(struct spawned *s)
{
    (void)s;
}

void spawn_cancel(struct spawned *s)
{
    (void)s;
}

/* Nothing here runs without a loop. */
void stop_hold(sigset_t *before)
{
    (void)sigemptyset(before);
}

bool stop_is_due(void)
{
    return false;
}

void stop_forget(const sigset_t *before)
{
    (void)before;
}
