/*
 * The proxy's sockets: greeting and request are read byte-exactly, then the connection
 * becomes a call. A reply is sent only after the host's server has answered.
 */
#include "client/socks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/call.h"
#include "client/early.h"
#include "client/forward.h"
#include "core/list.h"
#include "core/repeat.h"
#include "core/socks_wire.h"
#include "io/acceptor.h"
#include "io/lack.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/sock.h"

enum {
    BACKLOG = 512,
    CONNS_MAX = 4096,
    SILENT_MAX = 256, /* that have not said what they want; then the oldest goes */
    SILENT_MS = 30000,
    SWEEP_MS = 5000,
    FLOWS_MAX = 64,
    DATAGRAM_MAX = 65535
};

enum conn_state { CONN_GREETING, CONN_REQUEST, CONN_CALLING, CONN_UDP };

struct socks {
    struct client *client;
    struct calls *calls;
    struct acceptor *door;
    struct list conns; /* the eldest first */
    unsigned count;
    struct timer sweep;
    struct fault told; /* since the last session stood */
    struct repeat refusals;
};

/* A UDP destination of one association. */
struct flow {
    struct list link;
    struct conn *conn;
    struct socks_target target;
    struct call *call;
    bool open;
    struct early early; /* until the host has answered */
};

struct conn {
    struct list link;
    struct socks *socks;
    enum conn_state state;
    uint64_t since_ms;
    int fd; /* -1 once the call has it */
    struct watch watch;
    uint8_t
        in[SOCKS_REQUEST_MAX + 2]; /* the longest still leaves room: fuller is wrong */
    size_t in_len;
    struct socks_target target; /* of a CONNECT */
    int udp_fd;
    struct watch udp_watch;
    struct addr udp_from; /* the application's address, learned from its first packet */
    struct list flows;
    unsigned flow_count;
};

static void flow_free(struct flow *fl)
{
    early_drop(&fl->early);
    free(fl);
}

static void conn_free(struct conn *c)
{
    LIST_EACH_REMOVABLE (struct flow, fl, next, &c->flows, link) {
        call_forget(fl->call);
        flow_free(fl);
    }
    watch_close(&c->watch);
    watch_close(&c->udp_watch);
    if (c->fd >= 0) {
        linger_orderly(c->fd); /* a refusal may still be on its way */
        close(c->fd);
    }
    if (c->udp_fd >= 0)
        close(c->udp_fd);
    list_remove(&c->link);
    c->socks->count--;
    free(c);
}

static void send_reply(int fd, enum socks_code code, const struct addr *bound)
{
    uint8_t out[SOCKS_REPLY_MAX];
    static const struct addr none;
    size_t len = socks_build_reply(out, code, bound != NULL ? bound : &none);
    (void)!sock_say(fd, out, len);
}

static void refuse(struct conn *c, enum socks_code code)
{
    send_reply(c->fd, code, NULL);
    conn_free(c);
}

static enum socks_code code_of(unsigned stream_code)
{
    switch (stream_code) {
    case STREAM_OK:
        return SOCKS_OK;
    case STREAM_REFUSED:
        return SOCKS_REFUSED;
    case STREAM_DENIED:
        return SOCKS_NOT_ALLOWED;
    case STREAM_TIMEOUT:
        return SOCKS_TTL;
    case STREAM_NOTFOUND:
    case STREAM_UNREACHABLE:
        return SOCKS_HOST_UNREACHABLE;
    default:
        return SOCKS_FAILED;
    }
}

/* The program's user sees a number at best: the reason is told here, now and then. */
static void tell_refused(struct socks *s, const struct socks_target *t, unsigned code,
                         const char *reason)
{
    struct event e;
    char port[8];
    unsigned left_out;
    if (!repeat_tell(&s->refusals, "", loop_now_ms(client_loop(s->client)), &left_out))
        return;
    (void)snprintf(port, sizeof(port), "%u", t->port);
    forward_refused_event(&e, t->host, port, code, reason);
    if (left_out > 0)
        event_int(&e, "repeated", left_out);
    events_print(client_out(s->client), &e);
}

/* ------------------------------------------------------------------------- CONNECT */

static void on_answer(void *ctx, struct call *call, unsigned code, const char *reason)
{
    struct conn *c = ctx;
    int fd = c->fd;
    if (code != STREAM_OK)
        tell_refused(c->socks, &c->target, code, reason);
    send_reply(fd, code_of(code), NULL);
    if (code != STREAM_OK)
        return;
    c->fd = -1;
    if (call_attach(call, fd) != 0)
        call_abort(call); /* on_end follows */
}

static void on_end(void *ctx, struct call *call)
{
    (void)call;
    conn_free(ctx);
}

static void on_wait(void *ctx, struct call *call, const char *why)
{
    (void)call;
    client_tell_wait(((struct conn *)ctx)->socks->client, why);
}

static void start_connect(struct conn *c, const struct socks_target *t)
{
    struct fault f = {0};
    struct peer *p;
    char port[8];
    if (client_peer(c->socks->client, t->host, &p, &f) != 0) {
        tell_refused(c->socks, t, STREAM_NOTFOUND, f.what);
        refuse(c, SOCKS_HOST_UNREACHABLE);
        return;
    }
    c->target = *t;
    watch_close(&c->watch);
    linger_reset(c->fd);
    c->state = CONN_CALLING;
    (void)snprintf(port, sizeof(port), "%u", t->port);
    struct call_config cc = {.peer = p,
                             .service = port,
                             .fd = -1, /* it gets the reply first */
                             .on_answer = on_answer,
                             .on_wait = on_wait,
                             .on_end = on_end,
                             .ctx = c};
    if (call_start(NULL, c->socks->calls, &cc) != 0)
        refuse(c, SOCKS_FAILED);
}

/* ------------------------------------------------------------------- UDP ASSOCIATE */

static void on_flow_answer(void *ctx, struct call *call, unsigned code,
                           const char *reason)
{
    struct flow *fl = ctx;
    (void)reason;
    fl->open = code == STREAM_OK;
    if (fl->open)
        early_send(&fl->early, call);
}

static void on_flow_wait(void *ctx, struct call *call, const char *why)
{
    struct flow *fl = ctx;
    on_wait(fl->conn, call, why);
}

static void on_flow_datagram(void *ctx, struct call *call, const uint8_t *data,
                             size_t len)
{
    struct flow *fl = ctx;
    struct conn *c = fl->conn;
    uint8_t head[SOCKS_UDP_HEADER_MAX];
    (void)call;
    int n = socks_build_udp(head, &fl->target);
    if (n < 0 || c->udp_from.family == ADDR_NONE)
        return;
    struct iovec iov[2] = {{head, (size_t)n}, {(void *)(uintptr_t)data, len}};
    (void)!sock_sendv_to(c->udp_fd, iov, 2, &c->udp_from);
}

static void on_flow_end(void *ctx, struct call *call)
{
    struct flow *fl = ctx;
    (void)call;
    list_remove(&fl->link);
    fl->conn->flow_count--;
    flow_free(fl);
}

static struct flow *flow_for(struct conn *c, const struct socks_target *t)
{
    struct fault f = {0};
    struct peer *p;
    char service[16];
    LIST_EACH (struct flow, fl, &c->flows, link)
        if (fl->target.port == t->port && strcmp(fl->target.host, t->host) == 0)
            return fl;
    struct flow *fl = c->flow_count < FLOWS_MAX ? calloc(1, sizeof(*fl)) : NULL;
    if (fl == NULL || client_peer(c->socks->client, t->host, &p, &f) != 0) {
        free(fl);
        return NULL;
    }
    fl->conn = c;
    fl->target = *t;
    (void)snprintf(service, sizeof(service), "udp:%u", t->port);
    struct call_config cc = {.peer = p,
                             .service = service,
                             .fd = -1,
                             .on_answer = on_flow_answer,
                             .on_wait = on_flow_wait,
                             .on_datagram = on_flow_datagram,
                             .on_end = on_flow_end,
                             .ctx = fl};
    list_push_first(&c->flows, &fl->link);
    c->flow_count++;
    if (call_start(&fl->call, c->socks->calls, &cc) != 0) {
        on_flow_end(fl, NULL);
        return NULL;
    }
    return fl;
}

static void flow_send(struct flow *fl, const uint8_t *data, size_t len)
{
    if (fl->open)
        (void)!call_send_datagram(fl->call, data, len);
    else
        early_keep(&fl->early, data, len);
}

static void on_udp(void *ctx, int events)
{
    struct conn *c = ctx;
    READ_INTO uint8_t buf[DATAGRAM_MAX];
    (void)events;
    for (int i = 0; i < 64; i++) {
        struct addr from;
        struct socks_target t;
        ssize_t n = sock_recv_from(c->udp_fd, buf, sizeof(buf), &from);
        if (n < 0)
            return;
        if (from.family == ADDR_NONE)
            continue;
        if (c->udp_from.family == ADDR_NONE)
            c->udp_from = from;
        int head = addr_equal(&from, &c->udp_from) ? socks_parse_udp(buf, (size_t)n, &t)
                                                   : POSTERN_ERR_DENIED;
        struct flow *fl = head > 0 ? flow_for(c, &t) : NULL;
        if (fl != NULL)
            flow_send(fl, buf + head, (size_t)n - (size_t)head);
    }
}

static void start_udp(struct conn *c)
{
    static const struct sock_options both = {.dual = true};
    struct addr at;
    if (sock_local(c->fd, &at) != 0) {
        refuse(c, SOCKS_FAILED);
        return;
    }
    at.port = 0;
    c->udp_fd = sock_udp(&at, &both);
    if (c->udp_fd < 0 || sock_local(c->udp_fd, &at) != 0) {
        refuse(c, SOCKS_FAILED);
        return;
    }
    if (watch_start(&c->udp_watch, client_loop(c->socks->client), c->udp_fd, WATCH_READ,
                    on_udp, c) != 0) {
        refuse(c, SOCKS_FAILED);
        return;
    }
    c->state = CONN_UDP; /* the TCP connection's end ends it (section 6) */
    send_reply(c->fd, SOCKS_OK, &at);
}

/* -------------------------------------------------------------------- the dialogue */

/* 1 go on, 0 wait for more bytes, -1 the connection is gone or became a call. */
static int step(struct conn *c)
{
    struct socks_target t;
    uint8_t command = 0;
    bool no_auth = false;
    int n;
    if (c->state == CONN_GREETING) {
        n = socks_parse_greeting(c->in, c->in_len, &no_auth);
        if (n > 0) {
            uint8_t answer[2] = {5, no_auth ? 0 : 0xff};
            (void)!sock_say(c->fd, answer, sizeof(answer));
            if (!no_auth)
                n = POSTERN_ERR_PROTO;
        }
        if (n < 0)
            conn_free(c);
        else if (n > 0)
            c->state = CONN_REQUEST;
    } else {
        n = socks_parse_request(c->in, c->in_len, &command, &t);
        if (n == POSTERN_ERR_INVALID) {
            refuse(c, SOCKS_ADDRESS);
        } else if (n < 0) {
            conn_free(c);
        } else if (n > 0) {
            if (command == SOCKS_CONNECT)
                start_connect(c, &t);
            else if (command == SOCKS_UDP_ASSOCIATE)
                start_udp(c);
            else
                refuse(c, SOCKS_COMMAND);
            return -1;
        }
    }
    if (n <= 0)
        return n < 0 ? -1 : 0;
    c->in_len -= (size_t)n;
    memmove(c->in, c->in + n, c->in_len);
    return 1;
}

/* Reads no byte beyond the message: what follows belongs to the host's server. */
static void on_conn(void *ctx, int events)
{
    struct conn *c = ctx;
    (void)events;
    if (c->state == CONN_UDP) {
        uint8_t byte;
        ssize_t n = sock_read(c->fd, &byte, 1);
        if (n <= 0 && n != POSTERN_ERR_AGAIN)
            conn_free(c);
        return;
    }
    for (;;) {
        ssize_t n = sock_read(c->fd, c->in + c->in_len, 1);
        if (n == POSTERN_ERR_AGAIN)
            return;
        if (n <= 0 || c->in_len + 1 >= sizeof(c->in)) {
            conn_free(c);
            return;
        }
        c->in_len++;
        if (step(c) < 0)
            return;
    }
}

/* Of those that have not said what they want; the oldest, or NULL. */
static struct conn *find_silent(const struct socks *s, unsigned *count)
{
    struct conn *oldest = NULL;
    *count = 0;
    LIST_EACH (struct conn, c, &s->conns, link) {
        if (c->state == CONN_GREETING || c->state == CONN_REQUEST) {
            oldest = oldest != NULL ? oldest : c;
            (*count)++;
        }
    }
    return oldest;
}

static bool make_room(void *ctx)
{
    unsigned count;
    struct conn *oldest = find_silent(ctx, &count);
    if (oldest != NULL)
        conn_free(oldest);
    return oldest != NULL;
}

static void on_sweep(void *ctx)
{
    struct socks *s = ctx;
    LIST_EACH_REMOVABLE (struct conn, c, next, &s->conns, link) {
        if ((c->state == CONN_GREETING || c->state == CONN_REQUEST) &&
            loop_now_ms(client_loop(s->client)) - c->since_ms >= SILENT_MS)
            conn_free(c);
    }
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct socks *s = ctx;
    unsigned silent;
    struct conn *oldest = find_silent(s, &silent);
    if (oldest != NULL && (silent >= SILENT_MAX || s->count >= CONNS_MAX))
        conn_free(oldest);
    struct conn *c = s->count < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
    (void)from;
    if (c == NULL) {
        close(fd);
        return;
    }
    c->socks = s;
    c->fd = fd;
    c->udp_fd = -1;
    c->since_ms = loop_now_ms(client_loop(s->client));
    list_init(&c->flows);
    list_push(&s->conns, &c->link);
    s->count++;
    if (watch_start(&c->watch, client_loop(s->client), fd, WATCH_READ, on_conn, c) != 0)
        conn_free(c);
}

/* ------------------------------------------------------------------------- the run */

static void on_ready(void *ctx, struct peer *p)
{
    struct socks *s = ctx;
    s->told = (struct fault){0};
    calls_on_ready(s->calls, p);
}

/* The next silence is news. */
static void on_heard(void *ctx, struct peer *p, const char *what)
{
    struct socks *s = ctx;
    (void)p, (void)what;
    s->told = (struct fault){0};
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct socks *s = ctx;
    bool gives_up = fatal || client_gives_up(s->client, f, fatal);
    calls_on_fault(s->calls, p, f, gives_up);
    if (strcmp(s->told.what, f->what) == 0) /* once, however often it is tried again */
        return;
    s->told = *f;
    if (fatal)
        events_fault(client_out(s->client), f);
    else
        client_tell_retried(s->client, f);
}

static int listen_at(struct socks *s, const char *text, struct fault *f)
{
    static const struct sock_options both = {.dual = true, .backlog = BACKLOG};
    struct addr at;
    if (text == NULL)
        text = "127.0.0.1:1080";
    if (addr_parse(&at, text) != 0)
        return fault_set(f, POSTERN_ERR_USAGE, "write it as 127.0.0.1:1080",
                         "'%.100s' is no address and port", text);
    int fd = sock_listen(&at, &both);
    if (fd < 0)
        return fault_set(
            f,
            fd == POSTERN_ERR_INUSE || fd == POSTERN_ERR_PERM ? fd
                                                              : POSTERN_ERR_INVALID,
            fd == POSTERN_ERR_PERM ? "choose a port above 1023, or run as root"
                                   : "choose another with --listen",
            "the address %.64s cannot be used: %s", text, strerror(errno));
    struct acceptor_config door = {.loop = client_loop(s->client),
                                   .fd = fd,
                                   .who = "the proxy",
                                   .keep = FORWARD_FILES_KEPT,
                                   .patience_ms = FORWARD_PATIENCE_MS,
                                   .on_connection = on_connection,
                                   .make_room = make_room,
                                   .ctx = s};
    if (acceptor_open(&s->door, &door) != 0)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    struct event e;
    (void)!sock_local(acceptor_fd(s->door), &at);
    event_begin(&e, "ready");
    event_addr(&e, "listen", &at);
    events_print(client_out(s->client), &e);
    forward_warn_open(&at, "every host joined here");
    return 0;
}

int socks_run(const struct client_config *c, const char *listen, struct fault *f)
{
    static const struct client_events events = {.lasting = true,
                                                .standing = true,
                                                .on_ready = on_ready,
                                                .on_fault = on_fault,
                                                .on_heard = on_heard,
                                                .on_sure = on_ready};
    struct socks s = {0};
    list_init(&s.conns);
    int rc = client_open(&s.client, c, &events, &s, f);
    if (rc != 0)
        return rc;
    timer_init(&s.sweep, client_loop(s.client), on_sweep, &s);
    timer_every(&s.sweep, SWEEP_MS, SWEEP_MS);
    rc = calls_new(&s.calls, client_loop(s.client));
    if (rc != 0)
        (void)fault_lack(f, rc);
    if (rc == 0)
        rc = listen_at(&s, listen, f);
    if (rc == 0) {
        client_tell_empty(s.client);
        rc = client_run(s.client, f);
    }
    acceptor_close(s.door);
    calls_free(s.calls); /* first: no call may speak of a connection that is gone */
    while (!list_empty(&s.conns)) {
        struct conn *last = LIST_FIRST(&s.conns, struct conn, link);
        LIST_EACH_REMOVABLE (struct flow, fl, next, &last->flows, link)
            flow_free(fl); /* their calls went with all */
        list_init(&last->flows);
        conn_free(last);
    }
    timer_stop(&s.sweep);
    client_close(s.client);
    return rc;
}
