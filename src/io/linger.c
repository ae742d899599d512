/* SO_LINGER with a time of zero, on and off; TCP_LINGER2 below zero. */
#include "io/linger.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static void set(int fd, int on)
{
    struct linger l = {.l_onoff = on, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

void linger_reset(int fd)
{
    set(fd, 1);
}

void linger_orderly(int fd)
{
    set(fd, 0);
}

void linger_reset_after(int fd)
{
    int never = -1; /* the kernel does not wait for the other end's end */
    set(fd, 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_LINGER2, &never, sizeof(never));
}

void linger_break(int fd)
{
    set(fd, 1);
    (void)close(fd);
}
