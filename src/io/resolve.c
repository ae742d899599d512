/*
 * Resolver on the loop's thread pool, or in a thread of its own that writes its result
 * into a pipe and shares nothing. A numeric address takes a timer instead, so that the
 * callback's contract is the same. Knows nothing of what the addresses are for.
 */
#include "io/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/loop_uv.h"
#include "io/sockaddr.h"

/* What a thread of its own finds; goes through the pipe in one piece. */
struct finding {
    int err;
    size_t n;
    struct addr addrs[RESOLVE_MAX];
};

_Static_assert(sizeof(struct finding) <= PIPE_BUF, "a finding is written at once");

struct job { /* the thread's */
    char host[256];
    uint16_t port;
    int fd;
};

struct resolve {
    uv_timer_t timer; /* numeric addresses */
    uv_poll_t poll;   /* a thread of its own */
    uv_getaddrinfo_t request;
    bool numeric, apart;
    int fd;
    bool cancelled;
    resolve_cb cb;
    void *ctx;
    uint16_t port;
    struct addr addr;
};

static void on_timer_closed(uv_handle_t *h)
{
    free(h->data);
}

static void on_numeric(uv_timer_t *t)
{
    struct resolve *r = t->data;
    resolve_cb cb = r->cb;
    void *ctx = r->ctx;
    struct addr addr = r->addr;
    uv_close((uv_handle_t *)t, on_timer_closed);
    cb(ctx, 0, &addr, 1);
}

static int from_resolver(int status)
{
    switch (status) {
    case 0:
        return 0;
    case UV_EAI_NONAME:
    case UV_EAI_NODATA:
    case UV_EAI_ADDRFAMILY:
        return POSTERN_ERR_NOTFOUND;
    case UV_EAI_AGAIN:
    case UV_EAI_FAIL:
        return POSTERN_ERR_DNS;
    case UV_EAI_MEMORY:
    case UV_ENOMEM:
        return POSTERN_ERR_NOMEM;
    default:
        return POSTERN_ERR_IO;
    }
}

static size_t collect(struct addr *out, const struct addrinfo *list, uint16_t port)
{
    size_t n = 0;
    for (; list != NULL && n < RESOLVE_MAX; list = list->ai_next) {
        bool known = false;
        if (sockaddr_to_addr(&out[n], list->ai_addr) != 0)
            continue;
        out[n].port = port;
        for (size_t i = 0; i < n; i++)
            known = known || addr_equal(&out[i], &out[n]);
        n += !known;
    }
    return n;
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct resolve *r = request->data;
    struct addr addrs[RESOLVE_MAX];
    size_t n = status == 0 ? collect(addrs, list, r->port) : 0;
    int err = status == 0 && n == 0 ? POSTERN_ERR_NOTFOUND : from_resolver(status);
    bool cancelled = r->cancelled;
    resolve_cb cb = r->cb;
    void *ctx = r->ctx;
    uv_freeaddrinfo(list);
    free(r);
    if (!cancelled)
        cb(ctx, err, addrs, n);
}

/* ------------------------------------------------------------ a thread of its own */

static int from_system(int status)
{
    switch (status) {
    case 0:
        return 0;
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return POSTERN_ERR_NOTFOUND;
    case EAI_AGAIN:
    case EAI_FAIL:
        return POSTERN_ERR_DNS;
    case EAI_MEMORY:
        return POSTERN_ERR_NOMEM;
    default:
        return POSTERN_ERR_IO;
    }
}

static void *look_up(void *arg)
{
    struct job *j = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    struct finding f;
    memset(&f, 0, sizeof(f)); /* its padding goes through the pipe as well */
    f.err = from_system(getaddrinfo(j->host, NULL, &hints, &list));
    if (f.err == 0) {
        f.n = collect(f.addrs, list, j->port);
        f.err = f.n > 0 ? 0 : POSTERN_ERR_NOTFOUND;
        freeaddrinfo(list);
    }
    (void)!write(j->fd, &f, sizeof(f)); /* EPIPE: nobody wants it any more */
    close(j->fd);
    free(j);
    return NULL;
}

static void on_poll_closed(uv_handle_t *h)
{
    struct resolve *r = h->data;
    close(r->fd);
    free(r);
}

static void on_found(uv_poll_t *poll, int status, int events)
{
    struct resolve *r = poll->data;
    struct finding f;
    resolve_cb cb = r->cb;
    void *ctx = r->ctx;
    (void)status, (void)events;
    ssize_t got = read(r->fd, &f, sizeof(f));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got != (ssize_t)sizeof(f))
        f = (struct finding){.err = POSTERN_ERR_NOMEM};
    uv_close((uv_handle_t *)poll, on_poll_closed);
    cb(ctx, f.err, f.addrs, f.n);
}

/* No signal is this thread's; SIGPIPE least of all. */
static int start_thread(struct job *j)
{
    sigset_t all, before;
    pthread_attr_t attr;
    pthread_t thread;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, look_up, j);
    (void)pthread_attr_destroy(&attr);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : POSTERN_ERR_NOMEM;
}

static int start_apart(struct resolve *r, struct loop *loop, const char *host)
{
    int ends[2];
    struct job *j = calloc(1, sizeof(*j));
    if (j == NULL || pipe2(ends, O_CLOEXEC) != 0) {
        free(j);
        return POSTERN_ERR_NOMEM;
    }
    (void)snprintf(j->host, sizeof(j->host), "%s", host);
    j->port = r->port;
    j->fd = ends[1];
    r->apart = true;
    r->fd = ends[0];
    (void)fcntl(r->fd, F_SETFL, O_NONBLOCK);
    int rc = start_thread(j);
    if (rc != 0) {
        close(ends[1]);
        free(j);
    } else if (uv_poll_init(loop_uv(loop), &r->poll, r->fd) != 0) {
        rc = POSTERN_ERR_NOMEM; /* the thread finds its pipe closed */
    }
    if (rc != 0) {
        close(ends[0]);
        return rc;
    }
    r->poll.data = r;
    (void)uv_poll_start(&r->poll, UV_READABLE, on_found);
    return 0;
}

bool resolve_configured(void)
{
    char line[256];
    bool found = false;
    FILE *f = fopen("/etc/resolv.conf", "re");
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
        found = strncmp(line, "nameserver", 10) == 0;
    if (f != NULL)
        (void)fclose(f);
    return found;
}

/* -------------------------------------------------------------------------- calls */

static int start_numeric(struct resolve *r, struct loop *loop)
{
    r->numeric = true;
    if (uv_timer_init(loop_uv(loop), &r->timer) != 0)
        return POSTERN_ERR_IO;
    r->timer.data = r;
    return uv_timer_start(&r->timer, on_numeric, 0, 0) == 0 ? 0 : POSTERN_ERR_IO;
}

static int start_name(struct resolve *r, struct loop *loop, const char *host)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    r->request.data = r;
    return uv_getaddrinfo(loop_uv(loop), &r->request, on_resolved, host, NULL,
                          &hints) == 0
               ? 0
               : POSTERN_ERR_INVALID;
}

static int start(struct resolve **out, struct loop *loop, const char *host,
                 uint16_t port, resolve_cb cb, void *ctx, bool apart)
{
    char bare[256];
    size_t len = strlen(host);
    bool bracket = len > 2 && host[0] == '[' && host[len - 1] == ']';
    if (len == 0 || len >= sizeof(bare))
        return POSTERN_ERR_INVALID;
    (void)snprintf(bare, sizeof(bare), "%.*s", (int)(bracket ? len - 2 : len),
                   host + (bracket ? 1 : 0));
    struct resolve *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    r->cb = cb;
    r->ctx = ctx;
    r->port = port;
    int err;
    if (addr_parse_ip(&r->addr, bare) == 0) {
        r->addr.port = port;
        err = start_numeric(r, loop);
    } else {
        err = bracket ? POSTERN_ERR_INVALID
              : apart ? start_apart(r, loop, bare)
                      : start_name(r, loop, bare);
    }
    if (err != 0)
        free(r);
    else
        *out = r;
    return err;
}

int resolve_start(struct resolve **out, struct loop *loop, const char *host,
                  uint16_t port, resolve_cb cb, void *ctx)
{
    return start(out, loop, host, port, cb, ctx, false);
}

int resolve_start_apart(struct resolve **out, struct loop *loop, const char *host,
                        uint16_t port, resolve_cb cb, void *ctx)
{
    return start(out, loop, host, port, cb, ctx, true);
}

void resolve_cancel(struct resolve *r)
{
    if (r == NULL)
        return;
    if (r->numeric) {
        uv_close((uv_handle_t *)&r->timer, on_timer_closed);
        return;
    }
    if (r->apart) {
        uv_close((uv_handle_t *)&r->poll, on_poll_closed);
        return;
    }
    r->cancelled = true; /* a lookup that already runs cannot be stopped */
    (void)uv_cancel((uv_req_t *)&r->request);
}

static int split_port(const char *text, uint16_t *port)
{
    unsigned v = 0;
    for (; *text >= '0' && *text <= '9' && v <= 65535; text++)
        v = v * 10 + (unsigned)(*text - '0');
    if (*text != '\0' || v == 0 || v > 65535)
        return POSTERN_ERR_INVALID;
    *port = (uint16_t)v;
    return 0;
}

int resolve_split(const char *text, char *host, size_t cap, uint16_t *port)
{
    struct addr bare;
    const char *end = text + strlen(text), *tail = end;
    if (text[0] == '[') {
        end = strchr(++text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return POSTERN_ERR_INVALID;
        tail = end + 1;
    } else if (addr_parse_ip(&bare, text) != 0) {
        const char *colon = strrchr(text, ':');
        if (colon != NULL)
            end = tail = colon;
    }
    size_t len = (size_t)(end - text);
    if (len == 0 || len >= cap)
        return POSTERN_ERR_INVALID;
    if (*tail == ':' && split_port(tail + 1, port) != 0)
        return POSTERN_ERR_INVALID;
    memmove(host, text, len);
    host[len] = '\0';
    return 0;
}
