/* A connection in the making: a socket, 16 bytes out, 16 bytes in. */
#include "path/attempt.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/linger.h"
#include "io/loop.h"
#include "io/sock.h"
#include "io/tcp.h"

struct attempt {
    struct watch watch;
    int fd;
    bool connected, greeted, awaited;
    struct addr remote;
    struct greeting_terms terms;
    uint8_t got[GREETING_LEN];
    size_t got_len;
    attempt_cb cb;
    void *ctx;
};

static void finish(struct attempt *a, int err)
{
    int fd = a->fd;
    watch_close(&a->watch);
    if (err == POSTERN_ERR_DENIED)
        linger_break(fd);
    else if (err != 0)
        close(fd);
    a->cb(a->ctx, a, err, err == 0 ? fd : -1);
    free(a);
}

static int greet(struct attempt *a)
{
    uint8_t out[GREETING_LEN];
    greeting_make(out, a->terms.key, a->terms.client, a->terms.kind);
    a->connected = a->greeted = true;
    if (!sock_say(a->fd, out, sizeof(out)))
        return POSTERN_ERR_CLOSED;
    watch_for(&a->watch, WATCH_READ);
    return 0;
}

static void read_greeting(struct attempt *a)
{
    ssize_t n = sock_read(a->fd, a->got + a->got_len, sizeof(a->got) - a->got_len);
    if (n == POSTERN_ERR_AGAIN)
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

static void on_ready(void *ctx, int events)
{
    struct attempt *a = ctx;
    (void)events;
    if (a->connected) {
        read_greeting(a);
        return;
    }
    int err = sock_error(a->fd);
    if (a->terms.both_call)
        tcp_hear_all(a->fd, (enum addr_family)a->remote.family);
    if (err == 0 && a->terms.near && !tcp_has_crossed(a->fd)) {
        a->connected = true;
        watch_for(&a->watch, WATCH_READ);
    } else if (err == 0) {
        err = greet(a);
    }
    if (err != 0)
        finish(a, err);
}

static int begin(struct attempt **out, struct net *net, int fd,
                 const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    struct attempt *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    int rc = watch_open(&a->watch, net->loop, fd, on_ready, a);
    if (rc != 0) {
        free(a);
        return rc;
    }
    a->fd = fd;
    a->terms = *terms;
    a->cb = cb;
    a->ctx = ctx;
    *out = a;
    return 0;
}

int attempt_connect_on(struct attempt **out, struct net *net, int fd,
                       const struct addr *remote, unsigned hops,
                       const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    if (terms->both_call)
        tcp_hear_callers(fd, (enum addr_family)remote->family);
    int rc = tcp_connect(fd, remote, hops);
    if (rc == 0)
        rc = begin(out, net, fd, terms, cb, ctx);
    if (rc != 0)
        return rc;
    if (!terms->counted)
        loop_begin_session(net->loop, remote);
    (*out)->remote = *remote;
    watch_for(&(*out)->watch, WATCH_WRITE);
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
    if (sock_remote(fd, &(*out)->remote) == 0)
        loop_begin_session(net->loop, &(*out)->remote); /* its SYN went before */
    (*out)->connected = (*out)->awaited = true;
    watch_for(&(*out)->watch, WATCH_READ);
    return 0;
}

int attempt_accepted(struct attempt **out, struct net *net, int fd,
                     const struct greeting_terms *terms, attempt_cb cb, void *ctx)
{
    int rc = begin(out, net, fd, terms, cb, ctx);
    if (rc != 0)
        return rc;
    (void)!sock_remote(fd, &(*out)->remote);
    (*out)->terms.near = false;             /* it was sought */
    watch_for(&(*out)->watch, WATCH_WRITE); /* greets from the loop */
    return 0;
}

void attempt_free(struct attempt *a)
{
    if (a == NULL)
        return;
    watch_close(&a->watch);
    if (a->awaited && !attempt_is_connected(a))
        linger_break(a->fd); /* nobody is there who could take a FIN */
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
