/* An epoll set inside the loop's own; see edges.h. */
#include "io/edges.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_PER_ROUND = 256 }; /* then others get their turn */

struct edges {
    struct watch watch;
    int epoll_fd;
    edges_cb cb;
    bool *gone; /* of the callback that runs */
};

/* One at a time: what was removed since the last cannot be told any more. */
static void on_poll(void *ctx, int events)
{
    struct edges *e = ctx;
    struct epoll_event ev;
    bool gone = false;
    (void)events;
    e->gone = &gone;
    for (int i = 0; i < EVENTS_PER_ROUND; i++) {
        if (epoll_wait(e->epoll_fd, &ev, 1, 0) != 1)
            break;
        e->cb(ev.data.ptr, (ev.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
        if (gone)
            return;
    }
    e->gone = NULL;
}

int edges_open(struct edges **out, struct loop *loop, edges_cb cb)
{
    struct edges *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return POSTERN_ERR_NOMEM;
    e->cb = cb;
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll_fd < 0 ||
        watch_start(&e->watch, loop, e->epoll_fd, WATCH_READ, on_poll, e) != 0) {
        if (e->epoll_fd >= 0)
            close(e->epoll_fd);
        free(e);
        return POSTERN_ERR_IO;
    }
    *out = e;
    return 0;
}

void edges_close(struct edges *e)
{
    if (e == NULL)
        return;
    if (e->gone != NULL)
        *e->gone = true;
    watch_close(&e->watch);
    close(e->epoll_fd);
    free(e);
}

int edges_add(struct edges *e, int fd, void *item)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                             .data.ptr = item};
    return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : POSTERN_ERR_IO;
}

void edges_remove(struct edges *e, int fd)
{
    if (e != NULL)
        (void)epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

ssize_t edges_peek(int fd, void *buf, size_t cap)
{
    ssize_t n = recv(fd, buf, cap, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : POSTERN_ERR_CLOSED;
}
