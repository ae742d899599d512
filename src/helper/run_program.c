/*
 * Runs another program: with a fixed argument vector, no shell, an empty environment
 * and only the capabilities to change the packet filter, which it inherits as ambient
 * ones (capabilities(7)) where the helper is not root's. What it reads and writes lies
 * in memory (memfd_create), so nobody waits for a pipe.
 */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/parts.h"

void run_hand_down(uint64_t caps)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &head, data) != 0)
        return;
    data[0].inheritable = data[0].permitted & (uint32_t)caps;
    if (syscall(SYS_capset, &head, data) != 0)
        return;
    for (unsigned long i = 0; i < 32; i++)
        if ((data[0].inheritable >> i & 1) != 0)
            (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0);
}

__attribute__((noreturn)) static void become(const char *name, const char *const *argv,
                                             const int fds[static 3])
{
    static const char *const places[] = {"/usr/sbin", "/sbin"};
    static char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    char path[64];
    sigset_t none;
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            _exit(127);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)alarm(RUN_S); /* outlives execve */
    run_hand_down(CAPS_NET_ADMIN | CAPS_NET_RAW);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", places[i], name);
        (void)execve(path, (char *const *)(uintptr_t)argv, environment);
    }
    _exit(127);
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void collect(int fd, char *output, size_t cap)
{
    ssize_t n = cap > 0 ? pread(fd, output, cap - 1, 0) : -1;
    if (cap > 0)
        output[n > 0 ? n : 0] = '\0';
}

int run_program(const char *name, const char *const *argv, const char *input,
                char *output, size_t cap)
{
    int fds[3], rc = -1;
    size_t len = input != NULL ? strlen(input) : 0;
    for (int i = 0; i < 3; i++)
        fds[i] = memfd_create("run", MFD_CLOEXEC);
    if (fds[0] >= 0 && fds[1] >= 0 && fds[2] >= 0 &&
        pwrite(fds[0], input != NULL ? input : "", len, 0) == (ssize_t)len) {
        pid_t pid = fork();
        if (pid == 0)
            become(name, argv, fds);
        rc = pid > 0 ? wait_for(pid) : -1;
        if (output != NULL)
            collect(fds[rc == 0 ? 1 : 2], output, cap);
    } else if (output != NULL && cap > 0) {
        output[0] = '\0';
    }
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return rc;
}
