/* What the files that define libc's names anew share. */
#ifndef POSTERN_SIM_LIBC_H
#define POSTERN_SIM_LIBC_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "house.h"

struct sockaddr;

/* A result, or -1 and errno. */
static inline long told(long rc)
{
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

/* What would be answered wrongly is not answered: it ends the run. */
_Noreturn void unknown(const char *what, long a, long b);
/* Of a kernel's descriptor that is closed: no lock goes with the next of its number. */
void lock_forget(int fd);
/* After -EAGAIN: waits where that descriptor and those flags wait. True when it is
 * worth another try. */
bool waited(int fd, struct vfile *f, int flags, short events, long rc);
/* As a socket of that family says it. */
void put_address(const struct vsock *s, const struct addr *a, void *out, unsigned *cap);
/* False: no address that a socket of ours knows. */
bool get_address(const struct sockaddr *sa, struct addr *a);

#define NOT_OURS(fd, call, ...)                                                        \
    do {                                                                               \
        if (!file_is_ours(fd))                                                         \
            return (__typeof__(call))syscall(__VA_ARGS__);                             \
        if (file_of(fd) == NULL) {                                                     \
            errno = EBADF;                                                             \
            return -1;                                                                 \
        }                                                                              \
    } while (0)

#endif
