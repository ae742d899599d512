/* sendmsg and recvmsg with a control message of one descriptor; see fdpass.h. */
#include "io/fdpass.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

union control {
    struct cmsghdr align;
    char buf[CMSG_SPACE(sizeof(int))];
};

ssize_t fdpass_send(int sock, const void *data, size_t len, int fd)
{
    union control control = {0};
    struct iovec iov = {(void *)(uintptr_t)data,
                        len}; /* sendmsg does not write there */
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof(control.buf);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t fdpass_recv(int sock, void *data, size_t len, int flags, int *fd)
{
    union control control;
    struct iovec iov = {data, len};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.buf,
                         /* of several only the first comes: padding has room for two,
                          * of which nobody would know the second */
                         .msg_controllen = CMSG_LEN(sizeof(*fd))};
    *fd = -1;
    ssize_t n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC | MSG_TRUNC);
    if (n < 0)
        return n;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(*fd)))
        memcpy(fd, CMSG_DATA(c), sizeof(*fd));
    return n;
}
