/*
 * A clock that leaves out the time in which a test only waits, for tests of one thread
 * and one loop that talk to nobody outside: where the loop would sleep until its next
 * timer, the time is that of the timer at once. Time in which something is done passes
 * as ever. The executable's names come before libc's, for the loop's library too.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { SECOND_NS = 1000000000 };

static int64_t skipped_ns; /* waited for by nobody */
static int alarm_fd = -1;  /* the loop's timerfd, and when it fires; 0: it does not */
static int64_t alarm_ns;

static int64_t to_ns(const struct timespec *t)
{
    return t->tv_sec * SECOND_NS + t->tv_nsec;
}

static struct timespec from_ns(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    if (syscall(SYS_clock_gettime, id, t) != 0)
        return -1;
    *t = from_ns(to_ns(t) + skipped_ns);
    return 0;
}

static int64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return to_ns(&t);
}

/* After so long by the kernel's clock; 0: never. */
static int set_alarm(int fd, int64_t ns)
{
    struct itimerspec real = {.it_value = from_ns(ns)};
    return (int)syscall(SYS_timerfd_settime, fd, 0, &real, NULL);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *at,
                    struct itimerspec *before)
{
    int64_t ns = to_ns(&at->it_value), now = now_ns();
    (void)before;
    alarm_fd = fd;
    alarm_ns = ns == 0 || (flags & TFD_TIMER_ABSTIME) != 0 ? ns : now + ns;
    return set_alarm(fd, alarm_ns == 0 ? 0 : alarm_ns > now ? alarm_ns - now : 1);
}

static int wait_real(int fd, struct epoll_event *events, int max, int timeout_ms,
                     const sigset_t *mask)
{
    return (int)syscall(SYS_epoll_pwait, fd, events, max, timeout_ms, mask,
                        sizeof(uint64_t));
}

int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout_ms,
                const sigset_t *mask)
{
    int n = wait_real(fd, events, max, 0, mask);
    if (n != 0 || timeout_ms == 0)
        return n;
    int64_t now = now_ns(), due = now + (int64_t)timeout_ms * 1000000;
    bool alarm = alarm_ns != 0 && (timeout_ms < 0 || alarm_ns < due);
    due = alarm ? alarm_ns : due;
    if (due > now)
        skipped_ns += due - now;
    if (!alarm && timeout_ms > 0)
        return 0;
    if (alarm) {
        alarm_ns = 0;
        (void)set_alarm(alarm_fd, 1);
    }
    return wait_real(fd, events, max, -1, mask);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
    return epoll_pwait(fd, events, max, timeout_ms, NULL);
}
