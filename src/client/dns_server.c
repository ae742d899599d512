/* DNS over UDP on loopback; which hosts there are is asked from above. */
#include "client/dns_server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/dns.h"
#include "io/loop.h"
#include "io/sock.h"

enum { TTL_S = 5, QUERIES_PER_EVENT = 64 };

struct dns_server {
    int fd;
    struct watch watch;
    dns_server_lookup lookup;
    void *ctx;
};

static int answer(struct dns_server *n, uint8_t *out, size_t cap, const uint8_t *query,
                  size_t len)
{
    static const char zone[] = ".postern";
    struct dns_question q;
    struct addr a = {0};
    if (dns_parse(&q, query, len) != 0)
        return POSTERN_ERR_PROTO;
    size_t name_len = strlen(q.name), zone_len = sizeof(zone) - 1;
    if (strcmp(q.name, "postern") == 0)
        return dns_answer(out, cap, &q, query, DNS_NOERROR, NULL, TTL_S);
    if (name_len <= zone_len || strcmp(q.name + name_len - zone_len, zone) != 0)
        return dns_answer(out, cap, &q, query, DNS_REFUSED, NULL, TTL_S);
    q.name[name_len - zone_len] = '\0';
    bool known = n->lookup(n->ctx, q.name, &a);
    return dns_answer(out, cap, &q, query, known ? DNS_NOERROR : DNS_NXDOMAIN,
                      known ? &a : NULL, TTL_S);
}

static void on_query(void *ctx, int events)
{
    struct dns_server *n = ctx;
    (void)events;
    for (int i = 0; i < QUERIES_PER_EVENT; i++) {
        uint8_t in[DNS_MESSAGE_MAX], out[DNS_MESSAGE_MAX];
        struct addr from;
        ssize_t len = sock_recv_from(n->fd, in, sizeof(in), &from);
        if (len < 0)
            return;
        int reply = answer(n, out, sizeof(out), in, (size_t)len);
        if (reply > 0)
            (void)!sock_send_to(n->fd, out, (size_t)reply, &from);
    }
}

static int bind_one(uint16_t port)
{
    struct addr at = {.family = ADDR_V4, .port = port, .ip = {127, 80, 0, 53}};
    static const struct sock_options plain;
    return sock_udp(&at, &plain);
}

int dns_server_open(struct dns_server **out, struct loop *loop,
                    dns_server_lookup lookup, void *ctx)
{
    struct dns_server *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return POSTERN_ERR_NOMEM;
    n->fd = bind_one(53);
    if (n->fd < 0)
        n->fd = bind_one(5353);
    int rc = n->fd < 0 ? POSTERN_ERR_INUSE
                       : watch_start(&n->watch, loop, n->fd, WATCH_READ, on_query, n);
    if (rc != 0) {
        if (n->fd >= 0)
            close(n->fd);
        free(n);
        return rc;
    }
    n->lookup = lookup;
    n->ctx = ctx;
    *out = n;
    return 0;
}

void dns_server_close(struct dns_server *n)
{
    if (n == NULL)
        return;
    watch_close(&n->watch);
    close(n->fd);
    free(n);
}

void dns_server_local(const struct dns_server *n, struct addr *a)
{
    if (sock_local(n->fd, a) != 0)
        *a = (struct addr){0};
}
