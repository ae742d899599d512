/* poll(2) and an eventfd. */
#include "io/ready.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/oserr.h"

int ready_wait(struct ready *r, size_t count, int timeout_ms)
{
    struct pollfd p[READY_MAX];
    if (count > READY_MAX)
        return POSTERN_ERR_INVALID;
    for (size_t i = 0; i < count; i++) {
        int events = ((r[i].wanted & WATCH_READ) != 0 ? POLLIN : 0) |
                     ((r[i].wanted & WATCH_WRITE) != 0 ? POLLOUT : 0);
        p[i] = (struct pollfd){.fd = r[i].fd, .events = (short)events};
        r[i].is = 0;
    }
    int n = poll(p, count, timeout_ms);
    if (n < 0)
        return oserr(errno);
    for (size_t i = 0; i < count; i++)
        r[i].is =
            ((p[i].revents & POLLIN) != 0 ? WATCH_READ : 0) |
            ((p[i].revents & POLLOUT) != 0 ? WATCH_WRITE : 0) |
            ((p[i].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0 ? WATCH_END : 0);
    return n;
}

int ready_flag_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd >= 0 ? fd : oserr(errno);
}

void ready_flag_raise(int fd)
{
    uint64_t one = 1;
    (void)!write(fd, &one, sizeof(one));
}
