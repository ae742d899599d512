/*
 * The agent's door: who connects, and the connections of clients that hosts bring.
 * What hosts say and offer is agent_host.c's.
 */
#include "host/agent_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/client_hello.h"
#include "io/identity.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/sock.h"
#include "io/statedir.h"
#include "io/tcp.h"

enum { BACKLOG = 128, ADDRESSES_MAX = 16 };

/* --------------------------------------------------------------------- connections */

static void conn_free(struct agent_conn *c)
{
    struct agent *a = c->agent;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        a->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    a->conn_count--;
    a->conn_new -= !c->attached;
    watch_close(&c->watch);
    tlspipe_break(c->pipe);
    if (c->fd >= 0) {
        edges_remove(a->edges, c->fd);
        close(c->fd);
    }
    if (c->plain >= 0)
        close(c->plain);
    free(c);
}

/* Its end; the call learns when it broke, before the socket that it was given closes.
 */
static void conn_end(struct agent_conn *c, bool broken)
{
    struct agent_call *call = c->call;
    if (call != NULL) {
        call->conn = NULL;
        c->call = NULL;
        if (broken)
            call->events->on_broken(call->ctx);
    }
    conn_free(c);
}

static void on_pipe_end(void *ctx, bool broken)
{
    struct agent_conn *c = ctx;
    c->pipe = NULL;
    conn_end(c, broken);
}

void agent_break_conns(struct agent *a, const uint8_t key[static KEY_LEN])
{
    struct agent_conn *next;
    for (struct agent_conn *c = a->conns; c != NULL; c = next) {
        next = c->next;
        if (c->attached && memcmp(c->key, key, KEY_LEN) == 0)
            conn_end(c, true);
    }
}

/* The first bytes inside TLS say which call this connection answers. */
static void on_id(void *ctx, int events)
{
    struct agent_conn *c = ctx;
    (void)events;
    ssize_t n = sock_read(c->plain, c->id + c->id_len, sizeof(c->id) - c->id_len);
    if (n == POSTERN_ERR_AGAIN)
        return;
    c->id_len += n > 0 ? (size_t)n : 0;
    if (n > 0 && c->id_len < sizeof(c->id))
        return;
    struct agent_call *call = n > 0 ? agent_call_find(c->agent, c->id) : NULL;
    if (call == NULL) {
        conn_free(c);
        return;
    }
    int fd = c->plain;
    watch_close(&c->watch);
    c->plain = -1;
    c->attached = true;
    c->agent->conn_new--;
    memcpy(c->key, call->host->known.key, KEY_LEN);
    c->call = call;
    agent_call_connected(call, c, fd);
}

static int start_data(struct agent_conn *c)
{
    int pair[2];
    struct tlspipe_join j = {.config = {.loop = c->agent->loop,
                                        .protocol = PROTO_ALPN_AGENT_DATA,
                                        .credentials = c->agent->credentials},
                             .fd = c->fd,
                             .on_end = on_pipe_end,
                             .ctx = c};
    if (sock_pair(pair) != 0)
        return POSTERN_ERR_IO;
    j.plain = pair[0];
    c->plain = pair[1];
    c->fd = -1;
    tcp_no_delay(j.fd);
    tcp_keep_alive(j.fd);
    int rc = tlspipe_join(&c->pipe, &j);
    return rc != 0
               ? rc
               : watch_start(&c->watch, c->agent->loop, c->plain, WATCH_READ, on_id, c);
}

/* By its ClientHello: a host, or a connection that a host brings. */
static void on_first(void *item, bool ended)
{
    struct agent_conn *c = item;
    uint8_t buf[CLIENT_HELLO_MAX];
    struct client_hello hello;
    ssize_t n = edges_peek(c->fd, buf, sizeof(buf));
    int want = n > 0 ? client_hello_parse(&hello, buf, (size_t)n) : POSTERN_ERR_PROTO;
    if (!ended && (n == 0 || (want > n && want <= (int)sizeof(buf))))
        return;
    edges_remove(c->agent->edges, c->fd);
    if (want == 0 && client_hello_offers(&hello, PROTO_ALPN_AGENT)) {
        struct agent *a = c->agent;
        int fd = c->fd;
        c->fd = -1;
        conn_free(c);
        agent_host_accept(a, fd);
    } else if (want != 0 || !client_hello_offers(&hello, PROTO_ALPN_AGENT_DATA) ||
               start_data(c) != 0) {
        conn_free(c);
    }
}

/* The oldest that has not shown what it is goes; of that address, or of any. */
static bool drop_oldest(struct agent *a, const struct addr *from)
{
    struct agent_conn *oldest = NULL;
    for (struct agent_conn *c = a->conns; c != NULL; c = c->next)
        if (!c->attached && (from == NULL || addr_ip_equal(&c->from, from)))
            oldest = c; /* the newest stands first */
    if (oldest != NULL)
        conn_free(oldest);
    return oldest != NULL;
}

/* False when all places are taken by connections that stand. */
static bool may_enter(struct agent *a, const struct addr *from)
{
    unsigned same = 0;
    for (const struct agent_conn *c = a->conns; c != NULL; c = c->next)
        same += !c->attached && addr_ip_equal(&c->from, from);
    if (same >= AGENT_CONNS_NEW_ADDRESS_MAX)
        return drop_oldest(a, from);
    if (a->conn_count >= AGENT_CONNS_MAX || a->conn_new >= AGENT_CONNS_NEW_MAX)
        return drop_oldest(a, NULL);
    return true;
}

static void conn_new(struct agent *a, int fd, const struct addr *from)
{
    struct agent_conn *c = may_enter(a, from) ? calloc(1, sizeof(*c)) : NULL;
    if (c == NULL) {
        close(fd);
        return;
    }
    c->agent = a;
    c->from = *from;
    c->since_ms = loop_now_ms(a->loop);
    c->fd = fd;
    c->plain = -1;
    c->next = a->conns;
    if (a->conns != NULL)
        a->conns->prev = c;
    a->conns = c;
    a->conn_count++;
    a->conn_new++;
    agent_wake(a);
    if (edges_add(a->edges, fd, c) != 0)
        conn_free(c);
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    if (from->family != ADDR_NONE)
        conn_new(ctx, fd, from);
    else
        close(fd);
}

/* The oldest that has not shown what it is gives its descriptor. */
static bool make_room(void *ctx)
{
    return drop_oldest(ctx, NULL);
}

static void on_tick(void *ctx)
{
    struct agent *a = ctx;
    struct agent_conn *next;
    uint64_t now = loop_now_ms(a->loop);
    for (struct agent_conn *c = a->conns; c != NULL; c = next) {
        next = c->next;
        if (!c->attached && now - c->since_ms > AGENT_NEW_TIMEOUT_MS)
            conn_free(c);
    }
    if (!agent_hosts_tick(a, now) && a->conn_new == 0)
        timer_stop(&a->timer);
}

void agent_wake(struct agent *a)
{
    if (!timer_is_active(&a->timer))
        timer_every(&a->timer, AGENT_TICK_MS, AGENT_TICK_MS);
}

/* --------------------------------------------------------------------- the address */

static bool is_any(const struct addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

static int start_listening(struct agent *a, const char *listen, struct fault *f)
{
    char text[ADDR_TEXT_LEN];
    static const struct sock_options both = {.dual = true, .backlog = BACKLOG};
    bool given = listen[0] != '\0';
    a->listen = (struct addr){.family = ADDR_V6, .port = AGENT_PORT_DEFAULT};
    if (given && addr_parse(&a->listen, listen) != 0)
        return fault_set(f, POSTERN_ERR_USAGE, "write it as --agent 192.168.1.2:4480",
                         "'%.80s' is no address and port to listen on", listen);
    a->fd = sock_listen(&a->listen, &both);
    if (!given && a->fd == POSTERN_ERR_UNREACHABLE) { /* no IPv6 at all */
        a->listen.family = ADDR_V4;
        a->fd = sock_listen(&a->listen, &both);
    }
    if (a->fd < 0)
        return fault_set(
            f, a->fd == POSTERN_ERR_INUSE ? POSTERN_ERR_INUSE : POSTERN_ERR_IO,
            "name another with --agent ADDR:PORT", "the agent cannot listen on %s: %s",
            addr_format(&a->listen, text), strerror(errno));
    if (sock_local(a->fd, &a->listen) != 0)
        return fault_set(f, POSTERN_ERR_IO, "try again", "the agent has no address");
    return 0;
}

static int rank(struct addr a)
{
    a.port = 1; /* none has no scope */
    return a.family != ADDR_V4 ? 1 : addr_scope_of(&a) == ADDR_SCOPE_PRIVATE ? 3 : 2;
}

/* The address that the LAN's hosts dial: a private one where there are several. */
static void choose_address(const struct agent *a, struct addr *out)
{
    struct addr all[ADDRESSES_MAX];
    *out = a->listen;
    if (!is_any(&a->listen))
        return;
    size_t n = netmon_addresses(all, ADDRESSES_MAX, false);
    int best = 0;
    *out = (struct addr){.family = ADDR_V4, .ip = {127, 0, 0, 1}};
    for (size_t i = 0; i < n; i++) {
        if (rank(all[i]) <= best ||
            (all[i].family != a->listen.family && a->listen.family == ADDR_V4))
            continue;
        best = rank(all[i]);
        *out = all[i];
    }
    out->port = a->listen.port;
}

void agent_tell_link(struct agent *a)
{
    struct link l = {.type = LINK_BROKER, .has_token = true};
    uint8_t fresh[LINK_SECRET_LEN];
    char text[LINK_TEXT_LEN], ip[ADDR_TEXT_LEN];
    struct addr at;
    struct event e;
    randombytes_buf(fresh, sizeof(fresh));
    if (lan_token(a->serve->roster, l.token, fresh) != 0 ||
        sodium_memcmp(l.token, a->told, sizeof(a->told)) == 0)
        return;
    memcpy(a->told, l.token, sizeof(a->told));
    choose_address(a, &at);
    (void)snprintf(l.host, sizeof(l.host), "%s", addr_format_ip(&at, ip));
    l.port = at.port;
    memcpy(l.broker_key, a->key.pub, KEY_LEN);
    link_format(&l, text);
    event_begin(&e, "agent");
    event_text(&e, "link", text);
    event_addr(&e, "listen", &a->listen);
    events_print(a->serve->config->out, &e);
    sodium_memzero(text, sizeof(text));
    sodium_memzero(&l, sizeof(l));
}

/* ----------------------------------------------------------------------- the whole */

static int start_accepting(struct agent *a)
{
    struct acceptor_config c = {.loop = a->loop,
                                .fd = a->fd,
                                .who = "the agent",
                                .on_connection = on_connection,
                                .make_room = make_room,
                                .ctx = a};
    a->fd = -1;
    return acceptor_open(&a->acceptor, &c);
}

int agent_open(struct agent **out, struct serve *s, const char *listen, struct fault *f)
{
    struct agent *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    a->serve = s;
    a->loop = s->loop;
    a->fd = -1;
    timer_init(&a->timer, a->loop, on_tick, a);
    int rc = statedir_key(s->state, &a->key, f);
    if (rc == 0)
        rc = start_listening(a, listen, f);
    if (rc == 0 &&
        (identity_credentials(&a->credentials, &a->key) != 0 ||
         gnutls_priority_init(&a->priority, IDENTITY_TLS_PRIORITY, NULL) != 0 ||
         edges_open(&a->edges, a->loop, on_first) != 0 || start_accepting(a) != 0))
        rc = fault_lack(f, POSTERN_ERR_NOMEM);
    if (rc != 0) {
        agent_close(a);
        return rc;
    }
    agent_tell_link(a);
    *out = a;
    return 0;
}

void agent_close(struct agent *a)
{
    if (a == NULL)
        return;
    while (a->hosts != NULL)
        agent_host_free(a->hosts);
    while (a->conns != NULL)
        conn_end(a->conns, true);
    acceptor_close(a->acceptor);
    edges_close(a->edges);
    timer_stop(&a->timer);
    if (a->fd >= 0)
        close(a->fd);
    if (a->credentials != NULL)
        gnutls_certificate_free_credentials(a->credentials);
    if (a->priority != NULL)
        gnutls_priority_deinit(a->priority);
    sodium_memzero(&a->key, sizeof(a->key));
    sodium_memzero(a->told, sizeof(a->told));
    free(a);
}
