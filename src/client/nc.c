/* One stream between a service and this process's standard files. */
#include "client/nc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/call.h"
#include "client/share.h"

enum { COPY_BYTES = 256 * 1024 };

struct stdio_bridge {
    int fd; /* the blocking end that the threads use */
    pthread_t in, out;
    uv_async_t *done;
    void (*on_done)(void *ctx);
    void *ctx;
};

static bool write_all(int fd, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, buf, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        buf += n;
        len -= (size_t)n;
    }
    return true;
}

/* Copies until the end of `from`, or until `to` takes no more; how much. */
static uint64_t copy(int from, int to)
{
    uint8_t *buf = malloc(COPY_BYTES);
    uint64_t copied = 0;
    while (buf != NULL) {
        ssize_t n = read(from, buf, COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || !write_all(to, buf, (size_t)n))
            break;
        copied += (uint64_t)n;
    }
    free(buf);
    return copied;
}

/* Its reader sees the end; the number stays taken, so that nothing else gets it. */
static void end_stdout(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDOUT_FILENO) < 0)
        (void)close(STDOUT_FILENO);
    if (null >= 0)
        (void)close(null);
}

static void *copy_in(void *arg)
{
    struct stdio_bridge *b = arg;
    (void)copy(STDIN_FILENO, b->fd);
    (void)shutdown(b->fd, SHUT_WR);
    return NULL;
}

static void *copy_out(void *arg)
{
    struct stdio_bridge *b = arg;
    if (copy(b->fd, STDOUT_FILENO) > 0)
        end_stdout(); /* else it may still have to say why nothing came */
    (void)uv_async_send(b->done);
    return NULL;
}

static void on_async(uv_async_t *h)
{
    struct stdio_bridge *b = h->data;
    if (b != NULL)
        b->on_done(b->ctx);
}

static void free_handle(uv_handle_t *h)
{
    free(h);
}

int stdio_bridge_start(struct stdio_bridge **out, uv_loop_t *loop, int *fd,
                       void (*on_done)(void *ctx), void *ctx)
{
    int pair[2];
    struct stdio_bridge *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return POSTERN_ERR_NOMEM;
    b->done = malloc(sizeof(*b->done));
    if (b->done == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        free(b->done);
        free(b);
        return POSTERN_ERR_NOMEM;
    }
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    b->fd = pair[1];
    b->on_done = on_done;
    b->ctx = ctx;
    (void)uv_async_init(loop, b->done, on_async);
    b->done->data = b;
    *fd = pair[0];
    *out = b;
    if (pthread_create(&b->in, NULL, copy_in, b) != 0)
        abort();
    (void)pthread_detach(b->in); /* it may sit in read(0) until the process ends */
    if (pthread_create(&b->out, NULL, copy_out, b) != 0)
        abort();
    return 0;
}

void stdio_bridge_free(struct stdio_bridge *b)
{
    if (b == NULL)
        return;
    (void)shutdown(b->fd, SHUT_RDWR);
    (void)pthread_join(b->out, NULL);
    b->done->data = NULL;
    uv_close((uv_handle_t *)b->done, free_handle);
    /* `b` and its descriptor stay for the thread that reads stdin. */
}

/* -------------------------------------------------------------------------------- the
 * run */

struct nc {
    struct client *client;
    struct calls *calls;
    struct peer *peer;
    struct stdio_bridge *bridge;
    char host[64];
    const char *service;
    bool started, answered, ended, drained;
};

static void finish(struct nc *s)
{
    if (s->ended && s->drained)
        client_stop(s->client, 0, NULL);
}

static void on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct nc *s = ctx;
    struct fault f;
    (void)c;
    s->answered = true;
    if (code == STREAM_OK)
        return;
    (void)fault_set(&f,
                    code == STREAM_REFUSED    ? POSTERN_ERR_REFUSED
                    : code == STREAM_NOTFOUND ? POSTERN_ERR_NOTFOUND
                                              : POSTERN_ERR_UNREACHABLE,
                    code == STREAM_NOTFOUND ? "see 'postern ls' for what it publishes"
                                            : "check the service on the host",
                    "%.250s", reason);
    client_stop(s->client, f.code, &f);
}

static void on_end(void *ctx, struct call *c)
{
    struct nc *s = ctx;
    (void)c;
    s->ended = true;
    finish(s);
}

static void on_drained(void *ctx)
{
    struct nc *s = ctx;
    s->drained = true;
    finish(s);
}

/* Through the daemon's session: the bridge's socket is handed over. */
static void on_shared_answer(void *ctx, unsigned code, const char *reason)
{
    struct nc *s = ctx;
    s->ended = true;
    on_answer(s, NULL, code, reason);
    finish(s);
}

static int start_shared(struct nc *s)
{
    int fd = -1;
    int rc = stdio_bridge_start(&s->bridge, client_loop(s->client), &fd, on_drained, s);
    if (rc == 0)
        rc = share_open(client_statedir(s->client), client_loop(s->client), s->host,
                        s->service, fd, on_shared_answer, s);
    s->started = rc == 0;
    return rc;
}

static void on_ready(void *ctx, struct peer *p)
{
    struct nc *s = ctx;
    struct call_config cc = {.peer = p,
                             .service = s->service,
                             .on_answer = on_answer,
                             .on_end = on_end,
                             .ctx = s};
    struct fault f;
    if (s->started)
        return;
    s->started = true;
    if (stdio_bridge_start(&s->bridge, client_loop(s->client), &cc.fd, on_drained, s) !=
            0 ||
        call_start(NULL, s->calls, &cc) != 0) {
        (void)fault_set(&f, POSTERN_ERR_NOMEM, "free some memory", "out of memory");
        client_stop(s->client, f.code, &f);
    }
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct nc *s = ctx;
    (void)p;
    if (fatal || (!s->started && client_gives_up(s->client, f, fatal)))
        client_stop(s->client, f->code, f);
    else if (!s->started)
        return;
    else if (s->ended || !peer_is_ready(s->peer))
        client_stop(s->client, f->code, f); /* the one stream is lost */
}

int nc_run(const struct client_config *c, const char *host, const char *service,
           struct fault *f)
{
    static const struct client_events events = {.on_ready = on_ready,
                                                .on_fault = on_fault};
    struct client_config cc = *c;
    struct nc s = {.service = service};
    (void)snprintf(s.host, sizeof(s.host), "%.63s", host);
    cc.quiet = true; /* stdout carries the connection */
    int rc = client_open(&s.client, &cc, &events, &s, f);
    if (rc != 0)
        return rc;
    rc = calls_new(&s.calls, client_loop(s.client));
    if (rc != 0)
        (void)fault_set(f, rc, "free some memory", "out of memory");
    struct book_host h;
    if (rc == 0)
        rc = book_find(client_book(s.client), s.host, &h, f);
    if (rc == 0) {
        memcpy(s.host, h.name, sizeof(s.host));
        if (c->paths == PATH_KINDS_DEFAULT &&
            share_available(client_statedir(s.client))) {
            rc = start_shared(&s);
            if (rc != 0)
                (void)fault_set(f, rc, "try again",
                                "'postern up' did not take the request");
        } else {
            rc = client_peer(s.client, s.host, &s.peer, f);
        }
    }
    if (rc == 0)
        rc = client_run(s.client, f);
    calls_free(s.calls);
    stdio_bridge_free(s.bridge);
    client_close(s.client);
    return rc;
}
