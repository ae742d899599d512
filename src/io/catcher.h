/*
 * Starts a program and catches what it and its children bind and listen to, by seccomp
 * user notification (seccomp_unotify(2)). The calls are made here, on a copy of the
 * program's socket, and never let continue: so what is reported is what was done, and
 * no thread of the program can change it in between. io_uring is answered ENOSYS, since
 * it would go round.
 *
 * Blocking; knows no loop. When this process ends the program goes on with the sockets
 * it has.
 */
#ifndef POSTERN_IO_CATCHER_H
#define POSTERN_IO_CATCHER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/addr.h"
#include "core/err.h"

struct catcher;

struct catcher_config {
    char *const *argv;       /* ends with NULL */
    bool loopback;           /* every address becomes the loopback one of its family */
    bool stdout_to_stderr;   /* of the program */
    const sigset_t *signals; /* its mask */
};

/* A socket that is ready to serve (UDP), or will be when catcher_allow is called. */
struct caught {
    pid_t pid;
    char program[16]; /* as the kernel calls it */
    bool tcp;
    struct addr local;
    uint64_t cookie; /* SO_COOKIE: the same socket has the same */
    uint64_t id;     /* for catcher_allow */
    int fd, backlog;
};

/* The program runs when this returns 0; else `f` says why it does not. */
MUST_CHECK int catcher_start(struct catcher **out, const struct catcher_config *c,
                             struct fault *f);
/* Readable when catcher_next has something; hung up when nobody is left to catch. */
int catcher_fd(const struct catcher *c);
pid_t catcher_pid(const struct catcher *c);
/*
 * Serves one call. 1: `out` is a server's socket; for TCP call catcher_allow, which
 * makes the call and lets the program go on. 0: nothing to report. POSTERN_ERR_CLOSED:
 * nobody is left.
 */
MUST_CHECK int catcher_next(struct catcher *c, struct caught *out);
/* Returns 0, or the errno that the program gets. */
int catcher_allow(struct catcher *c, struct caught *s);
void catcher_close(struct catcher *c);

#endif
