/* The agent's listening socket and first bytes. */
#include "host/agent_door.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/client_hello.h"
#include "core/list.h"
#include "core/relay_preface.h"
#include "io/acceptor.h"
#include "io/edges.h"
#include "io/lack.h"
#include "io/netmon.h"
#include "io/sock.h"

enum {
    BACKLOG = 128,
    ADDRESSES_MAX = 16,
    VISITORS_MAX = 512, /* that have not shown yet what they want */
    VISITORS_ADDRESS_MAX = 256,
    SILENT_MS = 10000,
    TICK_MS = 500,
};

struct visitor {
    struct list link; /* by start */
    struct agent_door *door;
    struct addr from;
    uint64_t since_ms;
    int fd;
};

struct agent_door {
    struct loop *loop;
    struct addr bound;
    struct acceptor *acceptor;
    struct edges *edges; /* of all visitors */
    struct list visitors;
    unsigned visitor_count;
    struct timer timer; /* runs while there are some */
    const struct agent_door_events *events;
    void *ctx;
};

/* Returns its descriptor, which is the caller's now. */
static int visitor_take(struct visitor *v)
{
    int fd = v->fd;
    edges_remove(v->door->edges, fd);
    list_remove(&v->link);
    v->door->visitor_count--;
    free(v);
    return fd;
}

static void visitor_end(struct visitor *v)
{
    close(visitor_take(v));
}

/* A relay's preface or a ClientHello of our protocol, whole; else it is closed. */
static void on_arrival(void *item, bool ended)
{
    struct visitor *v = item;
    struct agent_door *d = v->door;
    uint8_t buf[CLIENT_HELLO_MAX], ticket[TICKET_LEN];
    struct client_hello hello;
    ssize_t n = edges_peek(v->fd, buf, sizeof(buf));
    bool relay = n > 0 && buf[0] == RELAY_PREFACE_FIRST;
    int want = relay   ? RELAY_PREFACE_LEN
               : n > 0 ? client_hello_parse(&hello, buf, (size_t)n)
                       : POSTERN_ERR_PROTO;
    if (!ended && (n == 0 || (want > n && want <= (int)sizeof(buf))))
        return;
    if (relay && relay_preface_parse(ticket, buf, (size_t)n) == 0 &&
        sock_read(v->fd, buf, RELAY_PREFACE_LEN) == RELAY_PREFACE_LEN)
        d->events->on_pair(d->ctx, visitor_take(v), ticket);
    else if (want == 0 && client_hello_offers(&hello, PROTO_ALPN_AGENT))
        d->events->on_host(d->ctx, visitor_take(v));
    else
        visitor_end(v);
}

/* The oldest goes; of that address, or of any. */
static bool drop_oldest(struct agent_door *d, const struct addr *from)
{
    for (struct list *n = d->visitors.next; n != &d->visitors; n = n->next) {
        struct visitor *v = LIST_OWNER(n, struct visitor, link);
        if (from != NULL && !addr_ip_equal(&v->from, from))
            continue;
        visitor_end(v);
        return true;
    }
    return false;
}

static void make_place(struct agent_door *d, const struct addr *from)
{
    unsigned same = 0;
    for (struct list *n = d->visitors.next; n != &d->visitors; n = n->next)
        same += addr_ip_equal(&LIST_OWNER(n, struct visitor, link)->from, from);
    if (same >= VISITORS_ADDRESS_MAX)
        (void)drop_oldest(d, from);
    else if (d->visitor_count >= VISITORS_MAX)
        (void)drop_oldest(d, NULL);
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct agent_door *d = ctx;
    struct visitor *v = from->family != ADDR_NONE ? calloc(1, sizeof(*v)) : NULL;
    if (v == NULL) {
        close(fd);
        return;
    }
    make_place(d, from);
    *v = (struct visitor){
        .door = d, .from = *from, .since_ms = loop_now_ms(d->loop), .fd = fd};
    list_push(&d->visitors, &v->link);
    d->visitor_count++;
    if (!timer_is_active(&d->timer))
        timer_every(&d->timer, TICK_MS, TICK_MS);
    if (edges_add(d->edges, fd, v) != 0)
        visitor_end(v);
}

/* The oldest that has not shown what it is gives its descriptor. */
static bool make_room(void *ctx)
{
    return drop_oldest(ctx, NULL);
}

static void on_tick(void *ctx)
{
    struct agent_door *d = ctx;
    uint64_t now = loop_now_ms(d->loop);
    while (!list_empty(&d->visitors)) {
        struct visitor *v = LIST_OWNER(d->visitors.next, struct visitor, link);
        if (now - v->since_ms <= SILENT_MS)
            return;
        visitor_end(v);
    }
    timer_stop(&d->timer);
}

/* --------------------------------------------------------------------- the address */

static bool is_any(const struct addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

int agent_door_check(const char *listen, struct addr *at, struct fault *f)
{
    *at = (struct addr){.family = ADDR_V6, .port = AGENT_PORT_DEFAULT};
    if (listen[0] == '\0' || addr_parse(at, listen) == 0)
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE, "write it as --agent 192.168.1.2:4480",
                     "'%.80s' is no address and port to listen on", listen);
}

/* The listening socket, or an error. */
static int start_listening(struct agent_door *d, const char *listen, struct fault *f)
{
    char text[ADDR_TEXT_LEN];
    static const struct sock_options both = {.dual = true, .backlog = BACKLOG};
    bool given = listen[0] != '\0';
    int rc = agent_door_check(listen, &d->bound, f);
    if (rc != 0)
        return rc;
    int fd = sock_listen(&d->bound, &both);
    if (!given && fd == POSTERN_ERR_UNREACHABLE) { /* no IPv6 at all */
        d->bound.family = ADDR_V4;
        fd = sock_listen(&d->bound, &both);
    }
    if (fd < 0)
        return fault_set(
            f, fd == POSTERN_ERR_INUSE ? POSTERN_ERR_INUSE : POSTERN_ERR_IO,
            "name another with --agent ADDR:PORT", "the agent cannot listen on %s: %s",
            addr_format(&d->bound, text), strerror(errno));
    if (sock_local(fd, &d->bound) == 0)
        return fd;
    close(fd);
    return fault_set(f, POSTERN_ERR_IO, "try again", "the agent has no address");
}

static int rank(struct addr a)
{
    a.port = 1; /* none has no scope */
    return a.family != ADDR_V4 ? 1 : addr_scope_of(&a) == ADDR_SCOPE_PRIVATE ? 3 : 2;
}

/* A private one where there are several. */
void agent_door_address(const struct agent_door *d, struct addr *out)
{
    struct addr all[ADDRESSES_MAX];
    *out = d->bound;
    if (!is_any(&d->bound))
        return;
    size_t n = netmon_addresses(all, ADDRESSES_MAX, false);
    int best = 0;
    *out = (struct addr){.family = ADDR_V4, .ip = {127, 0, 0, 1}};
    for (size_t i = 0; i < n; i++) {
        if (rank(all[i]) <= best ||
            (all[i].family != d->bound.family && d->bound.family == ADDR_V4))
            continue;
        best = rank(all[i]);
        *out = all[i];
    }
    out->port = d->bound.port;
}

const struct addr *agent_door_bound(const struct agent_door *d)
{
    return &d->bound;
}

int agent_door_open(struct agent_door **out, struct loop *loop, const char *listen,
                    const struct agent_door_events *events, void *ctx, struct fault *f)
{
    struct agent_door *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    d->loop = loop;
    d->events = events;
    d->ctx = ctx;
    list_init(&d->visitors);
    timer_init(&d->timer, loop, on_tick, d);
    struct acceptor_config c = {.loop = loop,
                                .fd = start_listening(d, listen, f),
                                .who = "the agent",
                                .on_connection = on_connection,
                                .make_room = make_room,
                                .ctx = d};
    int rc = c.fd < 0 ? c.fd : acceptor_open(&d->acceptor, &c);
    if (c.fd >= 0 && (rc != 0 || (rc = edges_open(&d->edges, loop, on_arrival)) != 0))
        (void)fault_lack(f, rc);
    if (rc != 0)
        agent_door_close(d);
    else
        *out = d;
    return rc;
}

void agent_door_close(struct agent_door *d)
{
    if (d == NULL)
        return;
    while (!list_empty(&d->visitors))
        visitor_end(LIST_OWNER(d->visitors.next, struct visitor, link));
    acceptor_close(d->acceptor);
    edges_close(d->edges);
    timer_stop(&d->timer);
    free(d);
}
