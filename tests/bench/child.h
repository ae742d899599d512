/* A broker as a child process of a load tool, and what it uses. */
#ifndef POSTERN_TESTS_BENCH_CHILD_H
#define POSTERN_TESTS_BENCH_CHILD_H

#include <sys/types.h>

#include "core/link.h"

struct child {
    char **argv; /* borrowed */
    pid_t pid;
    struct link link; /* the first line that it prints */
};

/* Ends the process with a line on stderr when the broker does not start. */
void child_start(struct child *c, char **argv);
/* SIGTERM, and waits. */
void child_stop(struct child *c);
/* Resident memory. */
long child_memory_kb(const struct child *c);
/* User and system time used so far. */
double child_cpu_ms(const struct child *c);
/* A monotonic clock. */
double bench_seconds(void);
/* perror and exit. */
void bench_die(const char *what) __attribute__((noreturn));

#endif
