/* Dialling, and one request to a proxy. */
#include "io/reach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sodium.h>

enum { ANSWER_MAX = 4096, PROXY_PORT_DEFAULT = 8080, REQUEST_MAX = 1536 };

/* --------------------------------------------------------------------- environment */

static const char *variable(const char *upper, const char *lower)
{
    const char *v = getenv(lower);
    if (v == NULL || *v == '\0')
        v = getenv(upper);
    return v != NULL && *v != '\0' ? v : NULL;
}

/* NO_PROXY: "*", names, and names with a dot before that stand for all below. */
static bool is_exempt(const char *host)
{
    const char *list = variable("NO_PROXY", "no_proxy");
    size_t hlen = strlen(host);
    while (list != NULL && *list != '\0') {
        size_t len = strcspn(list, ", ");
        const char *name = list + (len > 0 && *list == '.');
        size_t nlen = len - (size_t)(name - list);
        bool ends = nlen > 0 && nlen <= hlen &&
                    strncasecmp(host + hlen - nlen, name, nlen) == 0 &&
                    (nlen == hlen || host[hlen - nlen - 1] == '.');
        if (ends || (len == 1 && *list == '*'))
            return true;
        list += len + (list[len] != '\0');
    }
    return false;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "user:password", in which %XX stands for a byte (RFC 3986 section 2.1). */
static bool take_credentials(struct proxy *p, const char *text, size_t len)
{
    uint8_t plain[256];
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int hi = i + 2 < len ? hex(text[i + 1]) : -1;
        int lo = i + 2 < len ? hex(text[i + 2]) : -1;
        if (n == sizeof(plain))
            return false;
        bool coded = text[i] == '%' && hi >= 0 && lo >= 0;
        plain[n] = (uint8_t)text[i];
        if (coded) {
            plain[n] = (uint8_t)(hi << 4 | lo);
            i += 2;
        }
        n++;
    }
    (void)sodium_bin2base64(p->credentials, sizeof(p->credentials), plain, n,
                            sodium_base64_VARIANT_ORIGINAL);
    sodium_memzero(plain, sizeof(plain));
    return true;
}

static bool take_place(struct proxy *p, const char *text, size_t len)
{
    bool bracket = len > 0 && text[0] == '[';
    const char *end = bracket ? memchr(text, ']', len) : memchr(text, ':', len);
    if (bracket && end == NULL)
        return false;
    const char *host = text + bracket;
    size_t hlen = end != NULL ? (size_t)(end - host) : len;
    const char *rest = end == NULL ? text + len : end + bracket;
    size_t rlen = (size_t)(text + len - rest);
    if (hlen == 0 || hlen >= sizeof(p->host))
        return false;
    memcpy(p->host, host, hlen);
    p->host[hlen] = '\0';
    p->port = PROXY_PORT_DEFAULT;
    if (rlen == 0)
        return true;
    char digits[6] = "", *stop;
    if (rest[0] != ':' || rlen < 2 || rlen > sizeof(digits))
        return false;
    memcpy(digits, rest + 1, rlen - 1);
    unsigned long port = strtoul(digits, &stop, 10);
    p->port = (uint16_t)port;
    return *stop == '\0' && port > 0 && port < 65536;
}

int proxy_from_env(struct proxy *p, const char *host, struct fault *f)
{
    const char *v = variable("HTTPS_PROXY", "https_proxy");
    *p = (struct proxy){0};
    if (v == NULL || is_exempt(host))
        return 0;
    const char *scheme = strstr(v, "://"), *rest = scheme != NULL ? scheme + 3 : v;
    size_t len = strcspn(rest, "/?#");
    const char *at = memchr(rest, '@', len);
    for (const char *next = at; next != NULL;
         next = memchr(next + 1, '@', len - (size_t)(next + 1 - rest)))
        at = next; /* the last one: a password may hold others */
    bool good = scheme == NULL || (scheme - v == 4 && strncasecmp(v, "http", 4) == 0);
    if (good && at != NULL)
        good = take_credentials(p, rest, (size_t)(at - rest));
    const char *place = at != NULL ? at + 1 : rest;
    if (good && take_place(p, place, len - (size_t)(place - rest)))
        return 1;
    return fault_set(f, POSTERN_ERR_USAGE,
                     "use http://HOST:PORT or http://USER:PASSWORD@HOST:PORT",
                     "HTTPS_PROXY is not a proxy's address");
}

/* ------------------------------------------------------------------------- the way */

struct reach {
    struct loop *loop;
    struct dial *dial;
    const struct proxy *via;
    char host[256];
    uint16_t port;
    int fd;
    struct watch watch;
    struct timer timer;
    unsigned timeout_ms;
    char answer[ANSWER_MAX];
    size_t answer_len;
    dial_resolved_cb on_resolved;
    dial_cb cb;
    void *ctx;
};

static void destroy(struct reach *r)
{
    watch_close(&r->watch);
    timer_stop(&r->timer);
    free(r);
}

static void finish(struct reach *r, int err)
{
    dial_cb cb = r->cb;
    void *ctx = r->ctx;
    int fd = r->fd;
    destroy(r);
    if (err != 0 && fd >= 0)
        close(fd);
    cb(ctx, err, err == 0 ? fd : -1);
}

/* "HTTP/1.1 200 ..." */
static int judge(const char *answer)
{
    if (strncmp(answer, "HTTP/1.", 7) != 0 || answer[7] == '\0' || answer[8] != ' ')
        return POSTERN_ERR_PROTO;
    unsigned long status = strtoul(answer + 9, NULL, 10);
    if (status / 100 == 2)
        return 0;
    return status == 407 || status == 401 ? POSTERN_ERR_DENIED : POSTERN_ERR_PROTO;
}

/* Nothing follows the answer's head before we speak: the broker waits for us. */
static void on_answer(void *ctx, int events)
{
    struct reach *r = ctx;
    (void)events;
    ssize_t n = recv(r->fd, r->answer + r->answer_len,
                     sizeof(r->answer) - 1 - r->answer_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        finish(r, POSTERN_ERR_PROTO);
        return;
    }
    r->answer_len += (size_t)n;
    r->answer[r->answer_len] = '\0';
    if (strstr(r->answer, "\r\n\r\n") != NULL)
        finish(r, judge(r->answer));
    else if (r->answer_len == sizeof(r->answer) - 1)
        finish(r, POSTERN_ERR_PROTO);
}

static void on_timer(void *ctx)
{
    finish(ctx, POSTERN_ERR_TIMEOUT);
}

static int ask_proxy(struct reach *r)
{
    char request[REQUEST_MAX], place[300];
    bool v6 = strchr(r->host, ':') != NULL;
    (void)snprintf(place, sizeof(place), "%s%s%s:%u", v6 ? "[" : "", r->host,
                   v6 ? "]" : "", r->port);
    int n = snprintf(request, sizeof(request),
                     "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", place, place,
                     r->via->credentials[0] ? "Proxy-Authorization: Basic " : "",
                     r->via->credentials, r->via->credentials[0] ? "\r\n" : "");
    if (n < 0 || (size_t)n >= sizeof(request) ||
        send(r->fd, request, (size_t)n, MSG_NOSIGNAL) != n)
        return POSTERN_ERR_IO;
    timer_start(&r->timer, r->timeout_ms);
    return watch_start(&r->watch, r->loop, r->fd, WATCH_READ, on_answer, r);
}

static void on_dialed(void *ctx, int err, int fd)
{
    struct reach *r = ctx;
    r->dial = NULL;
    r->fd = fd;
    if (err == 0 && r->via != NULL)
        err = ask_proxy(r);
    if (err != 0 || r->via == NULL)
        finish(r, err);
}

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct reach *r = ctx;
    if (r->on_resolved != NULL)
        r->on_resolved(r->ctx, err, addrs, n);
}

static int dial(struct reach *r, const struct reach_config *c)
{
    struct dial_known to = c->to;
    to.on_resolved = on_resolved;
    if (c->via != NULL) {
        r->on_resolved = NULL; /* it is told the name */
        to = (struct dial_known){.host = c->via->host, .port = c->via->port};
    } else if (c->only != NULL) {
        return dial_start(&r->dial, c->loop, c->only, 1, c->timeout_ms, on_dialed, r);
    }
    return dial_start_known(&r->dial, c->loop, &to, c->timeout_ms, on_dialed, r);
}

int reach_start(struct reach **out, const struct reach_config *c, dial_cb cb, void *ctx)
{
    struct reach *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    timer_init(&r->timer, c->loop, on_timer, r);
    r->loop = c->loop;
    r->via = c->via;
    r->fd = -1;
    r->port = c->to.port;
    r->timeout_ms = c->timeout_ms;
    r->on_resolved = c->to.on_resolved;
    r->cb = cb;
    r->ctx = ctx;
    if (c->to.host != NULL)
        (void)snprintf(r->host, sizeof(r->host), "%s", c->to.host);
    int rc = dial(r, c);
    if (rc != 0) {
        destroy(r);
        return rc;
    }
    if (c->via == NULL)
        dial_go_out(r->dial, c->also);
    dial_limit_segments(r->dial, c->small ? DIAL_SEGMENT_SMALL : DIAL_SEGMENT);
    *out = r;
    return 0;
}

void reach_cancel(struct reach *r)
{
    if (r == NULL)
        return;
    int fd = r->fd;
    dial_cancel(r->dial);
    destroy(r);
    if (fd >= 0)
        close(fd);
}
