/* A lock, and short sleeps until it is free. */
#include "io/shared_record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/own_file.h"

enum { NAP_NS = 50000 };

int shared_record_open(const char *dir, const char *path)
{
    return own_file_open(dir, path, O_RDWR);
}

void shared_record_close(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

static bool lock(int fd, bool patient)
{
    const struct timespec nap = {0, NAP_NS};
    uint64_t until_us = 0;
    for (;;) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK || !patient)
            return false;
        uint64_t now_us = clock_us();
        if (until_us == 0)
            until_us = now_us + SHARED_RECORD_WAIT_US;
        else if (now_us >= until_us)
            return false;
        (void)nanosleep(&nap, NULL);
    }
}

bool shared_record_take(int fd, void *buf, size_t len, bool patient)
{
    if (fd < 0 || !lock(fd, patient))
        return false;
    if (pread(fd, buf, len, 0) != (ssize_t)len)
        memset(buf, 0, len);
    return true;
}

void shared_record_put(int fd, const void *buf, size_t len)
{
    if (pwrite(fd, buf, len, 0) != (ssize_t)len)
        (void)!ftruncate(fd, 0);
    shared_record_leave(fd);
}

void shared_record_leave(int fd)
{
    (void)flock(fd, LOCK_UN);
}
