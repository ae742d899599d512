/* TUN and TAP devices in network namespaces, for the lab's own wires and NATs. */
#ifndef POSTERN_LAB_TUN_H
#define POSTERN_LAB_TUN_H

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* The device `dev` of the namespace, of IFF_... `kind`; this thread stays in there. -1:
 * it failed, and `who` has said why. */
static inline int tun_open(const char *who, const char *netns, const char *dev,
                           int kind)
{
    char path[256];
    snprintf(path, sizeof(path), "/run/netns/%s", netns);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) != 0) {
        fprintf(stderr, "%s: namespace %s: %s\n", who, netns, strerror(errno));
        if (ns >= 0)
            close(ns);
        return -1;
    }
    close(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq r = {.ifr_flags = (short)kind};
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", dev);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0)
        return fd;
    fprintf(stderr, "%s: device %s: %s\n", who, dev, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

#endif
