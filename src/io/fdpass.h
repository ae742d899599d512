/*
 * One message with one descriptor over a UNIX socket (SCM_RIGHTS, unix(7)). What the
 * message means is not known here.
 */
#ifndef POSTERN_IO_FDPASS_H
#define POSTERN_IO_FDPASS_H

#include <stddef.h>
#include <sys/types.h>

/* As sendmsg(2), begun again after a signal; `fd` stays the caller's, -1 for none. */
ssize_t fdpass_send(int sock, const void *data, size_t len, int fd);
/*
 * As recvmsg(2) with `flags`. `*fd` is the descriptor that came along, close-on-exec
 * and the caller's, or -1. A message longer than `len` counts as its whole length.
 */
ssize_t fdpass_recv(int sock, void *data, size_t len, int flags, int *fd);

#endif
