/* A connection in the making: a socket, 16 bytes out, 16 bytes in. */
#include "path/attempt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop_uv.h"
#include "io/sockaddr.h"
#include "io/tcp.h"

struct attempt {
    uv_poll_t *poll; /* own allocation, closes later */
    int fd;
    bool connected, greeted, awaited;
    struct addr remote;
    struct greeting_terms terms;
    uint8_t got[GREETING_LEN];
    size_t got_len;
    attempt_cb cb;
    void *ctx;
};

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void poll_end(struct attempt *a)
{
    if (a->poll == NULL)
        return;
    (void)uv_poll_stop(a->poll);
    a->poll->data = NULL;
    uv_close((uv_handle_t *)a->poll, free_handle);
    a->poll = NULL;
}

static void finish(struct attempt *a, int err)
{
    int fd = a->fd;
    poll_end(a);
    if (err == POSTERN_ERR_DENIED)
        tcp_abort(fd);
    else if (err != 0)
        close(fd);
    a->cb(a->ctx, a, err, err == 0 ? fd : -1);
    free(a);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static int greet(struct attempt *a)
{
    uint8_t out[GREETING_LEN];
    greeting_make(out, a->terms.key, a->terms.client, a->terms.kind);
    a->connected = a->greeted = true;
    if (send(a->fd, out, sizeof(out), MSG_NOSIGNAL) != (ssize_t)sizeof(out))
        return POSTERN_ERR_CLOSED;
    (void)uv_poll_start(a->poll, UV_READABLE, on_poll);
    return 0;
}

static void read_greeting(struct attempt *a)
{
    ssize_t n = recv(a->fd, a->got + a->got_len, sizeof(a->got) - a->got_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        finish(a, POSTERN_ERR_CLOSED);
        return;
    }
    a->got_len += (size_t)n;
    if (a->got_len < sizeof(a->got))
        return;
    if (!greeting_is(a->got, a->terms.key, !a->terms.client, a->terms.kind))
        finish(a, POSTERN_ERR_DENIED);
    else
        finish(a, a->greeted ? 0 : greet(a));
}

static int error_of(int err)
{
    return err == ECONNREFUSED                         ? POSTERN_ERR_REFUSED
           : err == EHOSTUNREACH || err == ENETUNREACH ? POSTERN_ERR_UNREACHABLE
                                                       : POSTERN_ERR_IO;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct attempt *a = poll->data;
    int err = 0;
    socklen_t len = sizeof(err);
    (void)status, (void)events;
    if (a == NULL)
        return;
    if (a->connected) {
        read_greeting(a);
        return;
    }
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    if (err == 0)
        err = greet(a);
    else
        err = error_of(err);
    if (err != 0)
        finish(a, err);
}

static int begin(struct attempt **out, struct net *net, int fd,
                 const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    struct attempt *a = calloc(1, sizeof(*a));
    uv_poll_t *poll = malloc(sizeof(*poll));
    if (a == NULL || poll == NULL || uv_poll_init(loop_uv(net->loop), poll, fd) != 0) {
        free(a);
        free(poll);
        return POSTERN_ERR_NOMEM;
    }
    a->fd = fd;
    a->terms = *terms;
    a->cb = cb;
    a->ctx = ctx;
    a->poll = poll;
    poll->data = a;
    *out = a;
    return 0;
}

int attempt_connect_on(struct attempt **out, struct net *net, int fd,
                       const struct addr *remote, unsigned hops,
                       const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    int rc = tcp_connect(fd, remote, hops);
    if (rc == 0)
        rc = begin(out, net, fd, terms, cb, ctx);
    if (rc != 0)
        return rc;
    (*out)->remote = *remote;
    (void)uv_poll_start((*out)->poll, UV_WRITABLE, on_poll);
    return 0;
}

int attempt_connect(struct attempt **out, struct net *net, const struct addr *local,
                    const struct addr *remote, unsigned hops,
                    const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    int fd = tcp_bind(local);
    if (fd < 0)
        return fd;
    int rc = attempt_connect_on(out, net, fd, remote, hops, terms, cb, ctx);
    if (rc != 0)
        close(fd);
    return rc;
}

int attempt_awaited(struct attempt **out, struct net *net, int fd,
                    const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    int rc = begin(out, net, fd, terms, cb, ctx);
    if (rc != 0)
        return rc;
    (void)!sockaddr_remote(fd, &(*out)->remote);
    (*out)->connected = (*out)->awaited = true;
    (void)uv_poll_start((*out)->poll, UV_READABLE, on_poll);
    return 0;
}

int attempt_accepted(struct attempt **out, struct net *net, int fd,
                     const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    int rc = begin(out, net, fd, terms, cb, ctx);
    if (rc != 0)
        return rc;
    (void)!sockaddr_remote(fd, &(*out)->remote);
    (void)uv_poll_start((*out)->poll, UV_WRITABLE, on_poll); /* greets from the loop */
    return 0;
}

void attempt_free(struct attempt *a)
{
    if (a == NULL)
        return;
    poll_end(a);
    if (a->awaited && !attempt_is_connected(a))
        tcp_abort(a->fd); /* nobody is there who could take a FIN */
    else
        close(a->fd);
    free(a);
}

bool attempt_is_connected(const struct attempt *a)
{
    return a->connected && (!a->awaited || a->got_len > 0);
}

const struct addr *attempt_remote(const struct attempt *a)
{
    return &a->remote;
}
