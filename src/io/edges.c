/* An epoll set inside the loop's own; see edges.h. */
#include "io/edges.h"
#include "io/loop_uv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_PER_ROUND = 256 }; /* then others get their turn */

struct edges {
    uv_poll_t poll;
    int epoll_fd;
    edges_cb cb;
    bool closed;
};

/* One at a time: what was removed since the last cannot be told any more. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct edges *e = poll->data;
    struct epoll_event ev;
    (void)status, (void)events;
    for (int i = 0; i < EVENTS_PER_ROUND && !e->closed; i++) {
        if (epoll_wait(e->epoll_fd, &ev, 1, 0) != 1)
            return;
        e->cb(ev.data.ptr, (ev.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

int edges_open(struct edges **out, struct loop *loop, edges_cb cb)
{
    struct edges *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return POSTERN_ERR_NOMEM;
    e->cb = cb;
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll_fd < 0 || uv_poll_init(loop_uv(loop), &e->poll, e->epoll_fd) != 0) {
        if (e->epoll_fd >= 0)
            close(e->epoll_fd);
        free(e);
        return POSTERN_ERR_IO;
    }
    e->poll.data = e;
    (void)uv_poll_start(&e->poll, UV_READABLE, on_poll);
    *out = e;
    return 0;
}

void edges_close(struct edges *e)
{
    if (e == NULL || e->closed)
        return;
    e->closed = true;
    (void)uv_poll_stop(&e->poll);
    close(e->epoll_fd);
    uv_close((uv_handle_t *)&e->poll, on_closed);
}

int edges_add(struct edges *e, int fd, void *item)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                             .data.ptr = item};
    return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : POSTERN_ERR_IO;
}

void edges_remove(struct edges *e, int fd)
{
    if (!e->closed)
        (void)epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

ssize_t edges_peek(int fd, void *buf, size_t cap)
{
    ssize_t n = recv(fd, buf, cap, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : POSTERN_ERR_CLOSED;
}
