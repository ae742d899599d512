/*
 * libc's flock: files are the kernel's and so are their locks, but a program that is
 * killed here is none of the kernel's processes, and would keep them. Knows who holds
 * which.
 */
#include <sys/file.h>

#include "house_internal.h"
#include "libc.h"

enum { LOCKS_MAX = 1024 };

static unsigned holders[LOCKS_MAX]; /* groups, by descriptor */

int flock(int fd, int how)
{
    long rc = syscall(SYS_flock, fd, how);
    if (rc == 0 && fd < LOCKS_MAX && task_now() != NULL)
        holders[fd] = (how & LOCK_UN) != 0 ? 0 : group_now();
    return (int)rc;
}

void lock_forget(int fd)
{
    if (fd >= 0 && fd < LOCKS_MAX)
        holders[fd] = 0;
}

void locks_kill(unsigned group)
{
    for (int fd = 0; fd < LOCKS_MAX; fd++)
        if (holders[fd] == group) {
            (void)syscall(SYS_flock, fd, LOCK_UN);
            holders[fd] = 0;
        }
}
