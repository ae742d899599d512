/*
 * Preloaded (LD_PRELOAD) before a program of the lab: its wall clock is as many seconds
 * ahead as the file that LAB_CLOCK names says, which a test may write at any time. So a
 * test of what ends in an hour takes no hour, and no loaded machine is too slow for it.
 * Monotonic time, by which everything is sent and given up, stays as it is.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static time_t ahead(void)
{
    const char *path = getenv("LAB_CLOCK");
    char text[24] = {0};
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 ? (time_t)strtoll(text, NULL, 10) : 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    time_t t = now.tv_sec + ahead();
    if (out != NULL)
        *out = t;
    return t;
}
