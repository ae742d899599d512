/*
 * Waiting for descriptors in a thread or a program that turns no loop (poll(2)), and a
 * flag that one thread raises to end another's wait.
 */
#ifndef POSTERN_IO_READY_H
#define POSTERN_IO_READY_H

#include <stddef.h>

#include "core/err.h"
#include "io/loop.h"

struct ready {
    int fd;     /* -1: left out */
    int wanted; /* WATCH_READ, WATCH_WRITE; 0: its end only */
    int is; /* filled in: of those wanted, and WATCH_END once it is over or broken */
};

enum { READY_MAX = 4 };

/*
 * Waits until one of `count` is ready, or for `timeout_ms` (negative: for ever). How
 * many are; 0 after that time; POSTERN_ERR_AGAIN after a signal, and nothing `is`.
 */
MUST_CHECK int ready_wait(struct ready *r, size_t count, int timeout_ms);

/* A descriptor that is readable for ever once the flag was raised, from any thread. On
 * failure errno is the kernel's. */
MUST_CHECK int ready_flag_open(void);
void ready_flag_raise(int fd);

#endif
