/* An epoll set inside the loop's own; see edges.h. */
#include "io/edges.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "io/sock.h"

enum {
    EVENTS_PER_ROUND = 256, /* then others get their turn */
    BULK_PER_ROUND = 128,   /* by one system call */
};

struct edges {
    struct watch watch;
    int epoll_fd;
    edges_cb cb; /* or bulk.on_edge */
    struct edges_bulk bulk;
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

static void on_bulk(void *ctx, int events)
{
    struct edges *e = ctx;
    struct epoll_event ev[BULK_PER_ROUND];
    (void)events;
    int n = epoll_wait(e->epoll_fd, ev, BULK_PER_ROUND, 0);
    for (int i = 0; i < n; i++) {
        uint32_t is = ev[i].events;
        e->bulk.on_edge(
            e->bulk.ctx, ev[i].data.ptr,
            ((is & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0 ? EDGE_READ : 0) |
                ((is & EPOLLOUT) != 0 ? EDGE_WRITE : 0) |
                ((is & EPOLLERR) != 0 ? EDGE_BROKEN : 0));
    }
    e->bulk.on_round(e->bulk.ctx);
}

static int start(struct edges **out, struct loop *loop, watch_cb cb)
{
    struct edges *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return POSTERN_ERR_NOMEM;
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll_fd < 0 ||
        watch_start(&e->watch, loop, e->epoll_fd, WATCH_READ, cb, e) != 0) {
        if (e->epoll_fd >= 0)
            close(e->epoll_fd);
        free(e);
        return POSTERN_ERR_IO;
    }
    *out = e;
    return 0;
}

int edges_open(struct edges **out, struct loop *loop, edges_cb cb)
{
    int rc = start(out, loop, on_poll);
    if (rc == 0)
        (*out)->cb = cb;
    return rc;
}

int edges_open_bulk(struct edges **out, const struct edges_bulk *b)
{
    int rc = start(out, b->loop, on_bulk);
    if (rc == 0)
        (*out)->bulk = *b;
    return rc;
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

static int add(struct edges *e, int fd, void *item, uint32_t events)
{
    struct epoll_event ev = {.events = events | EPOLLRDHUP | EPOLLET, .data.ptr = item};
    return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : POSTERN_ERR_IO;
}

int edges_add(struct edges *e, int fd, void *item)
{
    return add(e, fd, item, EPOLLIN);
}

int edges_add_both(struct edges *e, int fd, void *item)
{
    return add(e, fd, item, EPOLLIN | EPOLLOUT);
}

void edges_remove(struct edges *e, int fd)
{
    if (e != NULL)
        (void)epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

ssize_t edges_peek(int fd, void *buf, size_t cap)
{
    ssize_t n = sock_peek(fd, buf, cap);
    if (n > 0)
        return n;
    return n == POSTERN_ERR_AGAIN ? 0 : POSTERN_ERR_CLOSED;
}
