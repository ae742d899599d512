/*
 * The keeper: has the privileges, and does nothing with them but to start the helper,
 * again whenever that was lost, so that the program which wants it needs none. Keeper
 * and helper are one executable, told apart by the name that it is started by. It
 * parses nothing that came from a network; who ends a helper by its name does not end
 * this, and where it is ended after all the helper starts another.
 */
#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "helper/parts.h"
#include "io/fdpass.h"

enum { CLEAN_UP_S = 5, KEEPERS_MAX = 4 };

#define HELPER_NAME "postern-helper"

bool keeper_is_named(const char *name)
{
    bool keeper = name != NULL && strcmp(name, PRIVILEGE_KEEPER_NAME) == 0;
    (void)prctl(PR_SET_NAME, keeper ? PRIVILEGE_KEEPER_NAME : HELPER_NAME);
    return keeper;
}

/* Also one that is stopped; what it had in the kernel is gone when this returns. */
static void put_down(pid_t *helper)
{
    if (*helper > 0) {
        (void)kill(*helper, SIGKILL);
        while (waitpid(*helper, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    *helper = 0;
}

/* The program is gone, and its helper ends by itself where it can. */
static void see_off(pid_t *helper)
{
    struct timespec limit = {.tv_sec = CLEAN_UP_S};
    sigset_t child;
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    if (*helper > 0 && waitpid(*helper, NULL, WNOHANG) == 0)
        (void)sigtimedwait(&child, NULL, &limit);
    put_down(helper);
}

/* The same executable, also where another has been installed meanwhile. */
static pid_t start(const char *name, int fd)
{
    char *const argv[] = {(char *)(uintptr_t)name, NULL};
    char *const environment[] = {NULL};
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    run_hand_down(PRIVILEGE_CAPS);
    if (dup2(fd, PRIVILEGE_FD) == PRIVILEGE_FD) {
        (void)syscall(SYS_close_range, PRIVILEGE_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
        (void)execve("/proc/self/exe", argv, environment);
    }
    _exit(127);
}

int keeper_start(int fd, struct privilege_reply *r)
{
    static unsigned live; /* the program has two; one may be ending still */
    while (waitpid(-1, NULL, WNOHANG) > 0) /* the helper has no other child now */
        live--;
    if (live >= KEEPERS_MAX || start(PRIVILEGE_KEEPER_NAME, fd) < 0)
        return refuse(r, POSTERN_ERR_IO, "no other keeper can be started");
    live++;
    return 0;
}

static void refuse_it(const struct privilege_request *q, ssize_t n, const char *no)
{
    struct privilege_reply r = {.op = q->op, .serial = q->serial};
    if (n != (ssize_t)sizeof(*q))
        (void)refuse(&r, POSTERN_ERR_PROTO, "the program and its keeper differ");
    else
        (void)refuse(&r, POSTERN_ERR_DENIED, "the keeper refuses request %u: %s", q->op,
                     no);
    (void)!fdpass_send(PRIVILEGE_FD, &r, sizeof(r), -1);
}

static void obey(const struct privilege_request *q, ssize_t n, int fd, pid_t *helper)
{
    const char *no = edge_check(q, given_kind(fd), EDGE_KEEPER);
    if (n != (ssize_t)sizeof(*q) || no != NULL) {
        refuse_it(q, n, no);
        return;
    }
    put_down(helper);
    if (q->op == PRIVILEGE_START)
        *helper = start(HELPER_NAME, fd);
}

int keeper_run(void)
{
    sigset_t held;
    pid_t helper = 0;
    ssize_t n;
    (void)signal(SIGINT, SIG_IGN); /* it ends with its program */
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)sigemptyset(&held);
    (void)sigaddset(&held, SIGCHLD); /* see_off waits for it */
    (void)sigprocmask(SIG_BLOCK, &held, NULL);
    do {
        struct privilege_request q = {0};
        int fd = -1;
        n = fdpass_recv(PRIVILEGE_FD, &q, sizeof(q), 0, &fd);
        if (n > 0)
            obey(&q, n, fd, &helper);
        if (fd >= 0)
            close(fd);
    } while (n > 0 || (n < 0 && errno == EINTR));
    see_off(&helper);
    return 0;
}
