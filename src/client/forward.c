/* Local listeners. What is spoken through them is not known here. */
#include "client/forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/early.h"
#include "client/share.h"
#include "core/list.h"
#include "core/repeat.h"
#include "io/acceptor.h"
#include "io/lack.h"
#include "io/linger.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sock.h"
#include "io/sockfile.h"
#include "io/tcp.h"

enum {
    BACKLOG = 1024,
    FLOWS_MAX = 1024,
    FLOW_IDLE_MS = 5 * 60000,
    FLOW_SWEEP_MS = 30000,
    DATAGRAM_MAX = 65535
};

/* One local UDP client. */
struct flow {
    struct list link;
    struct forward *forward;
    struct addr from;
    struct call *call;
    uint64_t used_ms;
    bool open;
    struct early early; /* until the host has answered */
};

struct forward {
    struct forward_config config;
    char service[64];
    struct repeat refusals; /* as they were told */
    struct news waits;      /* for the daemon's answer */
    bool watched;           /* the daemon, for news of it and of the host */
    bool shared;            /* it was given connections */
    struct sockfile file;   /* of config.path */
    int fd;                 /* UDP; TCP until the acceptor has it */
    struct acceptor *door;  /* TCP */
    struct watch watch;
    struct timer sweep;
    struct list flows; /* the newest first: it is likely to send again */
    unsigned flow_count;
};

void forward_warn_open(const struct addr *at, const char *what)
{
    char place[ADDR_TEXT_LEN];
    if (addr_scope_of(at) == ADDR_SCOPE_LOOPBACK)
        return;
    log_warn(
        "everybody on the network who reaches %s may use %s; for this machine alone "
        "give %s:%u instead, for some others a firewall rule",
        addr_format(at, place), what, at->family == ADDR_V6 ? "[::1]" : "127.0.0.1",
        (unsigned)at->port);
}

void forward_refused_event(struct event *e, const char *peer, const char *service,
                           unsigned code, const char *reason)
{
    static const char *const words[] = {
        [STREAM_OK] = "ok",
        [STREAM_REFUSED] = "refused",
        [STREAM_UNREACHABLE] = "unreachable",
        [STREAM_TIMEOUT] = "timeout",
        [STREAM_NOTFOUND] = "not-found",
        [STREAM_DENIED] = "denied",
        [STREAM_LIMIT] = "limit",
    };
    event_begin(e, "refused");
    event_text(e, "peer", peer);
    event_text(e, "service", service);
    event_text(e, "code",
               code < sizeof(words) / sizeof(words[0]) ? words[code] : "failed");
    size_t len = strlen(service); /* "web at PLACE: WHY": which service is said */
    bool again =
        strncmp(reason, service, len) == 0 && strncmp(reason + len, " at ", 4) == 0;
    event_text(e, "reason", again ? reason + len + 1 : reason);
}

static void tell_refused(struct forward *fw, unsigned code, const char *reason)
{
    struct event e;
    unsigned left_out;
    if (!repeat_tell(&fw->refusals, reason, loop_now_ms(fw->config.loop), &left_out))
        return;
    forward_refused_event(&e, fw->config.host, fw->service, code, reason);
    if (left_out > 0)
        event_int(&e, "repeated", left_out);
    events_print(fw->config.out, &e);
}

/* ----------------------------------------------------------------------------- TCP */

static void on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    (void)c;
    if (code != STREAM_OK)
        tell_refused(ctx, code, reason);
}

static void on_wait(void *ctx, struct call *c, const char *why)
{
    struct forward *fw = ctx;
    (void)c;
    if (fw->config.on_wait != NULL)
        fw->config.on_wait(fw->config.ctx, why);
}

static void on_shared_wait(void *ctx, const char *why)
{
    struct forward *fw = ctx;
    if (news_tell(&fw->waits, why, loop_now_ms(fw->config.loop)))
        log_warn("waiting: %s", why);
}

static void on_shared_answer(void *ctx, unsigned code, const char *reason,
                             const char *advice)
{
    (void)advice;
    if (code == STREAM_OK)
        ((struct forward *)ctx)->waits = (struct news){0};
    if (code != STREAM_OK)
        tell_refused(ctx, code == SHARE_LOST ? STREAM_UNREACHABLE : code, reason);
}

static void on_shared_news(void *ctx, const char *what)
{
    (void)ctx;
    log_warn("%s", what);
}

static void on_unwatched(void *ctx, unsigned code, const char *reason,
                         const char *advice)
{
    struct forward *fw = ctx;
    (void)advice;
    fw->watched = false;
    if (code == SHARE_LOST && fw->shared)
        log_warn("%s: connections through it are lost", reason);
}

/* What becomes of the host, and of the connections that it has, is told once for all.
 */
static void watch(struct forward *fw)
{
    static const struct share_events events = {.on_news = on_shared_news,
                                               .on_end = on_unwatched};
    if (!fw->watched)
        fw->watched = share_watch(fw->config.shares, fw->config.state, fw->config.loop,
                                  fw->config.host, &events, fw) == 0;
}

static void carry(struct forward *fw, int fd)
{
    static const struct share_events events = {.on_answer = on_shared_answer,
                                               .on_wait = on_shared_wait};
    if (fw->config.peer == NULL) {
        if (share_open(fw->config.shares, fw->config.state, fw->config.loop,
                       fw->config.host, fw->service, fd, &events, fw) == 0) {
            fw->shared = true;
            watch(fw);
            return;
        }
        fw->config.peer = fw->config.on_unshared(fw->config.ctx);
    }
    struct call_config cc = {.peer = fw->config.peer,
                             .service = fw->service,
                             .fd = fd,
                             .on_answer = on_answer,
                             .on_wait = on_wait,
                             .ctx = fw};
    if (cc.peer == NULL) {
        linger_break(fd);
        return;
    }
    if (call_start(NULL, fw->config.calls, &cc) != 0)
        log_warn("a connection to %s could not be started: out of memory", fw->service);
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    (void)from;
    tcp_no_delay(fd); /* a small answer must not wait for the ACK before it */
    linger_reset(fd); /* whoever carries it sets it back at its end */
    carry(ctx, fd);
}

/* ----------------------------------------------------------------------------- UDP */

static void on_flow_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct flow *fl = ctx;
    if (code != STREAM_OK) {
        tell_refused(fl->forward, code, reason);
        return;
    }
    fl->open = true;
    early_send(&fl->early, c);
}

static void on_flow_datagram(void *ctx, struct call *c, const uint8_t *data, size_t len)
{
    struct flow *fl = ctx;
    (void)c;
    fl->used_ms = loop_now_ms(fl->forward->config.loop);
    (void)!sock_send_to(fl->forward->fd, data, len, &fl->from);
}

static void on_flow_end(void *ctx, struct call *c)
{
    struct flow *fl = ctx;
    struct forward *fw = fl->forward;
    (void)c;
    list_remove(&fl->link);
    fw->flow_count--;
    early_drop(&fl->early);
    free(fl);
}

static struct flow *flow_for(struct forward *fw, const struct addr *from)
{
    LIST_EACH (struct flow, fl, &fw->flows, link)
        if (addr_equal(&fl->from, from))
            return fl;
    if (fw->flow_count >= FLOWS_MAX)
        return NULL;
    struct flow *fl = calloc(1, sizeof(*fl));
    if (fl == NULL)
        return NULL;
    fl->forward = fw;
    fl->from = *from;
    list_push_first(&fw->flows, &fl->link);
    fw->flow_count++;
    struct call_config cc = {.peer = fw->config.peer,
                             .service = fw->service,
                             .fd = -1,
                             .on_answer = on_flow_answer,
                             .on_datagram = on_flow_datagram,
                             .on_end = on_flow_end,
                             .ctx = fl};
    if (call_start(&fl->call, fw->config.calls, &cc) != 0) {
        on_flow_end(fl, NULL);
        return NULL;
    }
    return fl;
}

static void flow_send(struct flow *fl, const uint8_t *data, size_t len)
{
    fl->used_ms = loop_now_ms(fl->forward->config.loop);
    if (fl->open)
        (void)!call_send_datagram(fl->call, data, len);
    else
        early_keep(&fl->early, data, len);
}

static void on_udp(void *ctx, int events)
{
    struct forward *fw = ctx;
    READ_INTO uint8_t buf[DATAGRAM_MAX];
    (void)events;
    for (int i = 0; i < 64; i++) {
        struct addr from;
        ssize_t n = sock_recv_from(fw->fd, buf, sizeof(buf), &from);
        if (n < 0)
            return;
        if (from.family == ADDR_NONE)
            continue;
        struct flow *fl = flow_for(fw, &from);
        if (fl != NULL)
            flow_send(fl, buf, (size_t)n);
    }
}

static void on_sweep(void *ctx)
{
    struct forward *fw = ctx;
    LIST_EACH_REMOVABLE (struct flow, fl, next, &fw->flows, link)
        if (loop_now_ms(fw->config.loop) - fl->used_ms > FLOW_IDLE_MS)
            call_abort(fl->call);
}

/* --------------------------------------------------------------------- open, close */

static int bind_file(struct forward *fw, struct fault *f)
{
    const char *path = fw->config.path;
    if (fw->config.udp)
        return fault_set(f, POSTERN_ERR_USAGE, "give an address and port",
                         "%s is UDP, which no socket file takes", fw->service);
    fw->fd = sockfile_listen(path, BACKLOG, true, &fw->file);
    int err = errno;
    if (fw->fd >= 0)
        return 0;
    if (err == EADDRINUSE)
        return fault_set(f, POSTERN_ERR_INUSE, "choose another path",
                         "%.150s is in use by another program, or no socket", path);
    return fault_set(f, POSTERN_ERR_IO, "choose another path",
                     "the socket %.150s cannot be made: %s", path, strerror(err));
}

static int bind_local(struct forward *fw, struct fault *f)
{
    static const struct sock_options both = {.dual = true, .backlog = BACKLOG};
    char text[ADDR_TEXT_LEN];
    fw->fd = fw->config.fd;
    if (fw->config.fd > 0)
        return !fw->config.udp
                   ? 0
                   : fault_set(f, POSTERN_ERR_USAGE, "give it a local address",
                               "%s is UDP, and systemd's sockets are for "
                               "TCP services",
                               fw->service);
    if (fw->config.path != NULL)
        return bind_file(fw, f);
    fw->fd = fw->config.udp ? sock_udp(&fw->config.local, &both)
                            : sock_listen(&fw->config.local, &both);
    int err = errno;
    if (fw->fd >= 0)
        return 0;
    if (fw->fd == POSTERN_ERR_LIMIT)
        return fault_set(f, POSTERN_ERR_IO, "check this machine's limits",
                         "no socket could be made: %s", strerror(err));
    addr_format(&fw->config.local, text);
    if (fw->fd == POSTERN_ERR_INUSE)
        return fault_set(f, POSTERN_ERR_INUSE, "choose another local port",
                         "the local address %s is in use by another program", text);
    if (fw->fd == POSTERN_ERR_PERM)
        return fault_set(
            f, POSTERN_ERR_PERM, "choose a port above 1023, or run as root",
            "the local address %s needs a privilege that this user lacks", text);
    return fault_set(f, POSTERN_ERR_INVALID, "choose an address of this machine",
                     "the local address %s cannot be used: %s", text, strerror(err));
}

static int listen_tcp(struct forward *fw)
{
    struct acceptor_config door = {.loop = fw->config.loop,
                                   .fd = fw->fd,
                                   .who = "the local address",
                                   .keep = FORWARD_FILES_KEPT,
                                   .patience_ms = FORWARD_PATIENCE_MS,
                                   .on_connection = on_connection,
                                   .ctx = fw};
    fw->fd = -1;
    return acceptor_open(&fw->door, &door);
}

static int listen_udp(struct forward *fw)
{
    int rc = watch_start(&fw->watch, fw->config.loop, fw->fd, WATCH_READ, on_udp, fw);
    timer_init(&fw->sweep, fw->config.loop, on_sweep, fw);
    if (rc == 0)
        timer_every(&fw->sweep, FLOW_SWEEP_MS, FLOW_SWEEP_MS);
    return rc;
}

int forward_open(struct forward **out, const struct forward_config *c, struct fault *f)
{
    struct forward *fw = calloc(1, sizeof(*fw));
    if (fw == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    fw->config = *c;
    list_init(&fw->flows);
    (void)snprintf(fw->service, sizeof(fw->service), "%s", c->service);
    int rc = bind_local(fw, f);
    if (rc == 0 && (rc = c->udp ? listen_udp(fw) : listen_tcp(fw)) != 0)
        rc = fault_lack(f, rc);
    if (rc != 0) {
        if (fw->fd >= 0)
            close(fw->fd);
        free(fw);
        return rc;
    }
    if (c->peer == NULL)
        watch(fw);
    *out = fw;
    return 0;
}

void forward_close(struct forward *fw)
{
    if (fw == NULL)
        return;
    LIST_EACH_REMOVABLE (struct flow, fl, next, &fw->flows, link) {
        call_forget(fl->call);
        on_flow_end(fl, NULL);
    }
    calls_mute(fw->config.calls, fw);
    if (fw->config.path != NULL && sockfile_is(fw->config.path, &fw->file))
        (void)unlink(fw->config.path);
    acceptor_close(fw->door);
    if (watch_is_open(&fw->watch)) {
        watch_close(&fw->watch);
        timer_stop(&fw->sweep);
        close(fw->fd);
    }
    free(fw);
}

void forward_local(const struct forward *fw, struct addr *a)
{
    if (sock_local(fw->door != NULL ? acceptor_fd(fw->door) : fw->fd, a) != 0)
        *a = (struct addr){0};
}
