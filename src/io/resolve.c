/*
 * Resolver on the loop's thread pool. A numeric address takes a timer instead, so that
 * the callback's contract is the same. Knows nothing of what the addresses are for.
 */
#include "io/resolve.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/sockaddr.h"

struct resolve {
    uv_timer_t timer; /* numeric addresses */
    uv_getaddrinfo_t request;
    bool numeric;
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
        return POSTERN_ERR_UNREACHABLE;
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

static int start_numeric(struct resolve *r, uv_loop_t *loop)
{
    r->numeric = true;
    if (uv_timer_init(loop, &r->timer) != 0)
        return POSTERN_ERR_IO;
    r->timer.data = r;
    return uv_timer_start(&r->timer, on_numeric, 0, 0) == 0 ? 0 : POSTERN_ERR_IO;
}

static int start_name(struct resolve *r, uv_loop_t *loop, const char *host)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    r->request.data = r;
    return uv_getaddrinfo(loop, &r->request, on_resolved, host, NULL, &hints) == 0
               ? 0
               : POSTERN_ERR_INVALID;
}

int resolve_start(struct resolve **out, uv_loop_t *loop, const char *host,
                  uint16_t port, resolve_cb cb, void *ctx)
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
        err = bracket ? POSTERN_ERR_INVALID : start_name(r, loop, bare);
    }
    if (err != 0)
        free(r);
    else
        *out = r;
    return err;
}

void resolve_cancel(struct resolve *r)
{
    if (r == NULL)
        return;
    if (r->numeric) {
        uv_close((uv_handle_t *)&r->timer, on_timer_closed);
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
