/* Listening sockets and first bytes; knows no device and no message. */
#include "broker/door.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/list.h"
#include "core/client_hello.h"
#include "core/relay_preface.h"
#include "core/stun.h"
#include "io/acceptor.h"
#include "io/sockaddr.h"

enum { HELLO_PEEK = 4096 };
enum { TLS_HANDSHAKE = 0x16 };
enum { STUN_FIRST = 0x00, STUN_HEADER = 20, STUN_REQUEST_MAX = 128 };

/* A connection that has not shown yet what it wants. */
struct visitor {
    uv_poll_t poll;
    struct list link;
    struct door *door;
    uint64_t since_ms;
    int fd; /* -1 when handed on */
    uint16_t addr_slot;
    bool inner; /* came out of TLS: nothing but a relay's preface is taken */
    uint8_t preface_len;
    uint8_t preface[RELAY_PREFACE_LEN];
};

struct door {
    struct door_config config;
    struct acceptor *acceptors[BROKER_LISTEN_MAX];
    size_t count;
    struct list visitors; /* by start */
    size_t visitor_count;
    size_t open; /* handles that are not closed yet, and one until door_close */
    struct door_stats stats;
};

static void door_release(struct door *d)
{
    if (--d->open == 0)
        free(d);
}

static void on_visitor_closed(uv_handle_t *h)
{
    struct visitor *v = h->data;
    struct door *d = v->door;
    free(v);
    door_release(d);
}

/* Returns the descriptor, which is the caller's now. */
static int visitor_take(struct visitor *v)
{
    int fd = v->fd;
    v->fd = -1;
    v->door->visitor_count--;
    list_remove(&v->link);
    (void)uv_poll_stop(&v->poll);
    uv_close((uv_handle_t *)&v->poll, on_visitor_closed);
    return fd;
}

static void visitor_end(struct visitor *v)
{
    v->door->config.limits->slots[v->addr_slot].connections--;
    close(visitor_take(v));
}

/* Waits without turning until so many bytes are there. */
static void set_low_water(int fd, int bytes)
{
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

/* By its ClientHello; one that cannot be read is the control's to refuse. */
static void speak_tls(struct visitor *v)
{
    struct door *d = v->door;
    uint16_t slot = v->addr_slot;
    uint8_t buf[HELLO_PEEK];
    struct client_hello hello;
    ssize_t n = recv(v->fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0) {
        visitor_end(v);
        return;
    }
    int want = client_hello_parse(&hello, buf, (size_t)n);
    if (want > n && want <= (int)sizeof(buf)) {
        set_low_water(v->fd, want);
        return;
    }
    set_low_water(v->fd, 1);
    const struct door_events *e = d->config.events;
    if (want == 0 && client_hello_offers(&hello, PROTO_ALPN_RELAY))
        e->on_tls_relay(d->config.ctx, visitor_take(v), slot);
    else if (want == 0 && e->on_web != NULL &&
             !client_hello_offers(&hello, PROTO_ALPN_BROKER))
        e->on_web(d->config.ctx, visitor_take(v), slot, hello.server_name);
    else
        e->on_tls(d->config.ctx, visitor_take(v), slot);
}

static void speak_relay(struct visitor *v)
{
    struct door *d = v->door;
    uint8_t ticket[TICKET_LEN];
    ssize_t n = recv(v->fd, v->preface + v->preface_len,
                     sizeof(v->preface) - v->preface_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        visitor_end(v);
        return;
    }
    v->preface_len = (uint8_t)(v->preface_len + n);
    if (v->preface_len < sizeof(v->preface))
        return;
    if (relay_preface_parse(ticket, v->preface, sizeof(v->preface)) != 0) {
        d->stats.garbage++;
        visitor_end(v);
        return;
    }
    d->config.limits->slots[v->addr_slot].connections--;
    d->config.events->on_relay(d->config.ctx, visitor_take(v), ticket);
}

/*
 * A binding request over TCP (RFC 8489 section 6.2.2): where this connection is seen to
 * come from. It stays open, so that the NAT keeps its mapping, until its owner ends it
 * or the silence has lasted.
 */
static void speak_stun(struct visitor *v)
{
    struct stun_message m;
    struct sockaddr_storage ss;
    socklen_t slen = sizeof(ss);
    uint8_t buf[STUN_REQUEST_MAX], out[STUN_MESSAGE_MAX];
    ssize_t n = recv(v->fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT);
    size_t len = n >= STUN_HEADER ? STUN_HEADER + ((size_t)buf[2] << 8 | buf[3]) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && len <= sizeof(buf) && (len == 0 || (size_t)n < len))
        return; /* more is to come; door_sweep ends those who never finish */
    int r = len > sizeof(buf) || n <= 0 ? -1 : stun_parse(&m, buf, len);
    if (r != 0 || m.type != STUN_BINDING_REQUEST ||
        getpeername(v->fd, (struct sockaddr *)&ss, &slen) != 0 ||
        recv(v->fd, buf, len, 0) != (ssize_t)len) {
        v->door->stats.garbage += n > 0;
        visitor_end(v);
        return;
    }
    struct stun_message answer = {.type = STUN_BINDING_SUCCESS};
    memcpy(answer.txid, m.txid, sizeof(answer.txid));
    if (sockaddr_to_addr(&answer.mapped, (struct sockaddr *)&ss) != 0 ||
        (r = stun_build(out, sizeof(out), &answer)) < 0 ||
        send(v->fd, out, (size_t)r, MSG_NOSIGNAL) != r)
        visitor_end(v);
}

/* Which protocol a first byte means. The function runs again until it has enough. */
struct greeting {
    uint8_t first_byte;
    void (*speak)(struct visitor *v);
};

static const struct greeting greetings[] = {
    {TLS_HANDSHAKE, speak_tls},
    {RELAY_PREFACE_FIRST, speak_relay},
    {STUN_FIRST, speak_stun},
};

static void on_visitor(uv_poll_t *poll, int status, int events)
{
    struct visitor *v = poll->data;
    struct door *d = v->door;
    (void)events;
    uint8_t first = v->preface[0];
    if (status == 0 && v->preface_len == 0) {
        ssize_t n = recv(v->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        status = n == 1 ? 0 : -1;
    }
    if (status != 0) {
        visitor_end(v);
        return;
    }
    for (size_t i = 0; i < sizeof(greetings) / sizeof(greetings[0]); i++) {
        if (greetings[i].first_byte == first &&
            (!v->inner || first == RELAY_PREFACE_FIRST)) {
            greetings[i].speak(v);
            return;
        }
    }
    d->stats.garbage++;
    visitor_end(v);
}

static int visitor_start(struct door *d, int fd, uint16_t slot)
{
    struct visitor *v = calloc(1, sizeof(*v));
    if (v == NULL)
        return POSTERN_ERR_NOMEM;
    if (uv_poll_init(d->config.loop, &v->poll, fd) != 0) {
        free(v);
        return POSTERN_ERR_IO;
    }
    d->open++;
    v->poll.data = v;
    v->door = d;
    v->fd = fd;
    v->addr_slot = slot;
    v->since_ms = uv_now(d->config.loop);
    list_push(&d->visitors, &v->link);
    d->visitor_count++;
    d->config.limits->slots[slot].connections++;
    if (uv_poll_start(&v->poll, UV_READABLE, on_visitor) != 0)
        visitor_end(v);
    return 0;
}

void door_admit(struct door *d, int fd, uint16_t addr_slot)
{
    if (visitor_start(d, fd, addr_slot) != 0)
        close(fd);
    else /* the newest */
        LIST_OWNER(d->visitors.prev, struct visitor, link)->inner = true;
    d->config.limits->slots[addr_slot].connections--; /* visitor_start counted anew */
}

static bool may_enter(struct door *d, const struct addr *a, uint16_t *slot)
{
    struct addr_limits *l = d->config.limits;
    *slot = addr_limits_slot(l, a);
    if (d->visitor_count >= LIMIT_VISITORS)
        return false;
    return d->config.unlimited ||
           (l->slots[*slot].connections < LIMIT_CONNECTIONS_PER_ADDRESS &&
            bucket_take(&l->slots[*slot].connect, LIMIT_RATE_CONNECT,
                        uv_now(d->config.loop), 1));
}

static void on_connection(void *ctx, int fd, const struct sockaddr *from)
{
    struct door *d = ctx;
    struct addr a;
    uint16_t slot = 0;
    d->stats.accepted++;
    if (sockaddr_to_addr(&a, from) != 0 || !may_enter(d, &a, &slot) ||
        visitor_start(d, fd, slot) != 0) {
        d->stats.refused++;
        close(fd);
    }
}

/* The oldest silent one gives its descriptor. */
static bool make_room(void *ctx)
{
    struct door *d = ctx;
    if (list_empty(&d->visitors))
        return false;
    d->stats.silent++;
    visitor_end(LIST_OWNER(d->visitors.next, struct visitor, link));
    return true;
}

static int listen_at(struct door *d, const struct plan_site *site)
{
    struct acceptor_config c = {.loop = d->config.loop,
                                .fd = plan_open_tcp(site),
                                .who = "the broker",
                                .on_connection = on_connection,
                                .make_room = make_room,
                                .ctx = d};
    int rc = c.fd < 0 ? c.fd : acceptor_open(&d->acceptors[d->count], &c);
    d->count += rc == 0;
    return rc;
}

int door_open(struct door **out, const struct door_config *c)
{
    struct door *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    d->config = *c;
    list_init(&d->visitors);
    d->open = 1;
    int rc = 0;
    for (size_t i = 0; i < c->plan->site_count && rc == 0; i++)
        rc = listen_at(d, &c->plan->sites[i]);
    if (rc != 0) {
        door_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void door_sweep(struct door *d)
{
    while (!list_empty(&d->visitors)) {
        struct visitor *v = LIST_OWNER(d->visitors.next, struct visitor, link);
        if (uv_now(d->config.loop) - v->since_ms < LIMIT_SILENT_MS)
            return;
        d->stats.silent++;
        visitor_end(v);
    }
}

void door_close(struct door *d)
{
    if (d == NULL)
        return;
    while (!list_empty(&d->visitors))
        visitor_end(LIST_OWNER(d->visitors.next, struct visitor, link));
    for (size_t i = 0; i < d->count; i++)
        acceptor_close(d->acceptors[i]);
    door_release(d);
}

void door_read_stats(const struct door *d, struct door_stats *out)
{
    *out = d->stats;
}
