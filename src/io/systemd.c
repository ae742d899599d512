/* Variables of the environment and one datagram; what they mean is systemd's. */
#include "io/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/sock.h"

enum { FIRST_FD = 3 };

static void notify(const char *text)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path != NULL ? strlen(path) : 0;
    if (len < 2 || len >= sizeof(to.sun_path))
        return;
    memcpy(to.sun_path, path, len);
    if (path[0] == '@') /* an abstract one */
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
                 (const struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    (void)close(fd);
}

void systemd_ready(const char *status)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
    notify(text);
}

void systemd_status(const char *format, ...)
{
    char text[256] = "STATUS=";
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, sizeof(text) - used, format, args);
    va_end(args);
    notify(text);
}

void systemd_stopping(void)
{
    notify("STOPPING=1");
}

/* The number in a variable that is for this process; 0: none. */
static unsigned long number_for_us(const char *name, const char *whose)
{
    const char *value = getenv(name), *pid = getenv(whose);
    if (value == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    return strtoul(value, NULL, 10);
}

static void on_beat(void *ctx)
{
    (void)ctx;
    notify("WATCHDOG=1");
}

void systemd_watchdog_start(struct timer *t, struct loop *loop)
{
    unsigned long us = number_for_us("WATCHDOG_USEC", "WATCHDOG_PID");
    timer_init(t, loop, on_beat, NULL);
    if (us >= 2000)
        timer_every(t, 0, us / 2000);
}

void systemd_sockets_read(struct systemd_sockets *s)
{
    unsigned long n = number_for_us("LISTEN_FDS", "LISTEN_PID");
    *s = (struct systemd_sockets){0};
    if (getenv("LISTEN_PID") == NULL)
        n = 0;
    for (unsigned long i = 0; i < n && s->count < SYSTEMD_SOCKETS_MAX; i++) {
        int fd = FIRST_FD + (int)i, flags = fcntl(fd, F_GETFL);
        if (flags < 0)
            continue;
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        s->fds[s->count++] = fd;
    }
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDNAMES");
}

int systemd_sockets_take(struct systemd_sockets *s, bool stream, const struct addr *at)
{
    for (size_t i = 0; i < s->count; i++) {
        struct addr own;
        int type = 0, fd = s->fds[i];
        socklen_t len = sizeof(type);
        if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
            (type == SOCK_STREAM) != stream ||
            (at != NULL && (sock_local(fd, &own) != 0 || !addr_equal(&own, at))))
            continue;
        s->fds[i] = -1;
        return fd;
    }
    return -1;
}
