/* Another program, started and waited for by the loop. */
#ifndef POSTERN_IO_SPAWN_H
#define POSTERN_IO_SPAWN_H

#include <stdbool.h>
#include <stdint.h>

#include "io/loop.h"

struct spawned;

struct spawn_config {
    struct loop *loop;
    char **argv; /* argv[0] is its path */
    char **environment;
    /* From the loop, once; `signum` 0 when it ended by itself. The handle is gone then.
     */
    void (*on_exit)(void *ctx, int64_t status, int signum);
    void *ctx;
};

/*
 * In a process group of its own; it has nothing to read, and what it says goes to this
 * program's stderr, since stdout carries events. Arguments are copied by the system.
 */
MUST_CHECK int spawn_start(struct spawned **out, const struct spawn_config *c);
/* SIGKILL to it and what it started and kept in its group; on_exit follows. */
void spawn_kill(struct spawned *s);
/* The callback will not run: killed, and taken from the system by the loop, which runs
 * until then. NULL is fine. */
void spawn_cancel(struct spawned *s);

#endif
