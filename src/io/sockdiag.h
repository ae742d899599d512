/* What listens on this machine (sock_diag(7)): TCP listeners and bound UDP sockets. */
#ifndef POSTERN_IO_SOCKDIAG_H
#define POSTERN_IO_SOCKDIAG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct sockdiag_socket {
    bool tcp;
    struct addr local;
    uint64_t cookie;
    uint32_t inode, uid;
};

typedef void (*sockdiag_cb)(void *ctx, const struct sockdiag_socket *s);

/* False when the kernel does not say all. UDP: unconnected ones. */
bool sockdiag_listeners(sockdiag_cb cb, void *ctx);
/* A program that has that socket open: its pid and name; false when none is seen. */
bool sockdiag_owner(uint32_t inode, int *pid, char name[static 16]);

#endif
