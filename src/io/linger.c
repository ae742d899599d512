/* SO_LINGER with a time of zero, on and off. */
#include "io/linger.h"

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

void linger_break(int fd)
{
    set(fd, 1);
    (void)close(fd);
}
