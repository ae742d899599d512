/*
 * Meeting by TCP: the steps in time, the attempts and what came of them. Which side
 * opens, and how, stands in the plan.
 */
#include "path/meet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/log.h"
#include "io/sockaddr.h"
#include "io/tcp.h"
#include "path/attempt.h"
#include "path/framed.h"
#include "path/tcp_port.h"

enum {
    ATTEMPTS_MAX = 16,
    PATHS_MAX = 3,
    FAMILIES = 2,
    CONNECT_DELAY_MS = 100, /* the opener's SYN or listener comes first */
    RETRY_MS = 60,          /* after a refusal: the other side was not ready yet */
    GREETING_MS = 1500,     /* after the last step, and two round trips */
    PEER_WAIT_MS = 8000,    /* for the other side's addresses */
};

enum phase {
    IDLE,
    GATHERING, /* our addresses */
    WAITING,   /* for the peer's */
    MEETING,
    LAST_WORDS, /* no new attempts, greetings may come */
};

struct listener {
    int fd;
    uv_poll_t *poll;
};

struct meet {
    struct approach *approach;
    const struct meet_plan *plan;
    enum phase phase;
    uint32_t round, peer_round; /* the client's count; the host follows */
    struct tcp_port *port;
    bool port_done;
    struct addr peers[MEET_PEERS_MAX];
    unsigned syns[MEET_PEERS_MAX];
    size_t peer_count;
    struct attempt *attempts[ATTEMPTS_MAX];
    struct listener listeners[FAMILIES];
    struct framed *paths[PATHS_MAX];
    unsigned step;
    uint64_t begun_ms;
    uv_timer_t *timer, *retry;
    bool stranger; /* somebody else touched the listener */
    bool busy, freed;
};

static void on_timer(uv_timer_t *t);
static void on_attempt(void *ctx, struct attempt *a, int err, int fd);

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static const struct approach_config *config_of(const struct meet *m)
{
    return approach_config_of(m->approach);
}

static bool opens(const struct meet *m)
{
    return config_of(m)->client != m->plan->host_opens;
}

static bool has_path(const struct meet *m)
{
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] != NULL)
            return true;
    return false;
}

/* ------------------------------------------------------------------------ cleaning up
 */

static void attempts_free(struct meet *m, bool also_connected)
{
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        if (m->attempts[i] == NULL ||
            (!also_connected && attempt_is_connected(m->attempts[i])))
            continue;
        attempt_free(m->attempts[i]);
        m->attempts[i] = NULL;
    }
}

static void listeners_close(struct meet *m)
{
    for (int i = 0; i < FAMILIES; i++) {
        struct listener *l = &m->listeners[i];
        if (l->poll != NULL) {
            (void)uv_poll_stop(l->poll);
            l->poll->data = NULL;
            uv_close((uv_handle_t *)l->poll, free_handle);
            l->poll = NULL;
        }
        if (l->fd >= 0)
            close(l->fd);
        l->fd = -1;
    }
}

/* Everything of a round but the paths that came of it. */
static void round_end(struct meet *m)
{
    m->phase = IDLE;
    (void)uv_timer_stop(m->timer);
    (void)uv_timer_stop(m->retry);
    attempts_free(m, true);
    listeners_close(m);
    tcp_port_close(m->port);
    m->port = NULL;
    m->port_done = false;
}

static void fail(struct meet *m, const char *reason)
{
    round_end(m);
    if (!has_path(m))
        approach_failed(m->approach, m->plan->kind, reason);
}

static void path_drop(struct meet *m, int i, const char *why)
{
    struct framed *f = m->paths[i];
    m->paths[i] = NULL;
    if (why != NULL)
        approach_lost(m->approach, framed_path(f), why);
    approach_path_retire(m->approach, framed_path(f));
    framed_free(f);
}

static void leave(struct meet *m)
{
    m->busy = false;
    if (m->freed)
        free(m);
}

/* ---------------------------------------------------------------------------- success
 */

static void on_broke(void *ctx, struct framed *f, const char *why)
{
    struct meet *m = ctx;
    m->busy = true;
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] == f)
            path_drop(m, i, why);
    leave(m);
}

static void add_path(struct meet *m, int fd)
{
    int slot = -1;
    for (int i = 0; i < PATHS_MAX && slot < 0; i++)
        if (m->paths[i] == NULL)
            slot = i;
    struct framed *f = NULL;
    if (slot < 0 || framed_new(&f, config_of(m)->net, fd, m->plan->kind,
                               approach_next_path_id(m->approach), on_broke, m) != 0) {
        close(fd);
        return;
    }
    m->paths[slot] = f;
    if (config_of(m)->client) /* it chooses: the first is the one */
        round_end(m);
    else
        listeners_close(m); /* one client came, and it was the right one */
    approach_path_new(m->approach, framed_path(f));
    if (!m->freed)
        approach_proven(m->approach, framed_path(f));
}

/* --------------------------------------------------------------------------- attempts
 */

static struct greeting_terms terms_of(const struct meet *m)
{
    struct greeting_terms t = {.client = config_of(m)->client, .kind = m->plan->kind};
    memcpy(t.key, approach_check_key(m->approach), sizeof(t.key));
    return t;
}

static struct attempt **free_slot(struct meet *m)
{
    for (int i = 0; i < ATTEMPTS_MAX; i++)
        if (m->attempts[i] == NULL)
            return &m->attempts[i];
    return NULL;
}

static bool under_way(const struct meet *m, const struct addr *remote)
{
    for (int i = 0; i < ATTEMPTS_MAX; i++)
        if (m->attempts[i] != NULL &&
            addr_equal(attempt_remote(m->attempts[i]), remote))
            return true;
    return false;
}

static void connect_all(struct meet *m, unsigned hops)
{
    struct greeting_terms terms = terms_of(m);
    for (size_t i = 0; i < m->peer_count; i++) {
        struct addr local;
        struct attempt **slot = free_slot(m);
        if (slot == NULL || m->syns[i] >= MEET_SYNS_MAX || under_way(m, &m->peers[i]) ||
            !tcp_port_local(m->port, (enum addr_family)m->peers[i].family, &local))
            continue;
        m->syns[i]++;
        if (attempt_connect(slot, config_of(m)->net, &local, &m->peers[i], hops, &terms,
                            on_attempt, m) != 0)
            *slot = NULL;
    }
}

static void on_retry(uv_timer_t *t)
{
    struct meet *m = t->data;
    if (m == NULL || m->phase != MEETING)
        return;
    connect_all(m, opens(m) ? m->plan->hops[m->step > 0 ? m->step - 1 : 0] : 0);
}

static void on_attempt(void *ctx, struct attempt *a, int err, int fd)
{
    struct meet *m = ctx;
    m->busy = true;
    for (int i = 0; i < ATTEMPTS_MAX; i++)
        if (m->attempts[i] == a)
            m->attempts[i] = NULL;
    if (err == 0)
        add_path(m, fd);
    else if (err == POSTERN_ERR_DENIED && m->plan->listens && opens(m))
        fail(m, "the first message on the temporary port was wrong: it was closed");
    else if (m->phase == MEETING)
        (void)uv_timer_start(m->retry, on_retry, RETRY_MS, 0);
    leave(m);
}

/* -------------------------------------------------------------------------- listening
 */

static bool is_expected(const struct meet *m, const struct addr *from)
{
    for (size_t i = 0; i < m->peer_count; i++)
        if (m->peers[i].family == from->family &&
            memcmp(m->peers[i].ip, from->ip, sizeof(from->ip)) == 0)
            return true;
    return false;
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct meet *m = poll->data;
    struct addr from;
    (void)status, (void)events;
    if (m == NULL)
        return;
    int listener = -1;
    for (int i = 0; i < FAMILIES; i++)
        if (m->listeners[i].poll == poll)
            listener = m->listeners[i].fd;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct greeting_terms terms = terms_of(m);
    struct attempt **slot = free_slot(m);
    if (sockaddr_remote(fd, &from) != 0 || !is_expected(m, &from)) {
        tcp_abort(fd);
        m->stranger = true;
        listeners_close(m);
        return;
    }
    if (slot == NULL ||
        attempt_accepted(slot, config_of(m)->net, fd, &terms, on_attempt, m) != 0) {
        if (slot != NULL)
            *slot = NULL;
        tcp_abort(fd);
    }
}

static void listeners_open(struct meet *m)
{
    static const enum addr_family family_of[FAMILIES] = {ADDR_V4, ADDR_V6};
    for (int i = 0; i < FAMILIES; i++) {
        struct listener *l = &m->listeners[i];
        struct addr local;
        if (!tcp_port_local(m->port, family_of[i], &local))
            continue;
        l->fd = tcp_bind(&local);
        l->poll = malloc(sizeof(*l->poll));
        if (l->fd < 0 || l->poll == NULL || tcp_listen(l->fd) != 0 ||
            uv_poll_init(config_of(m)->net->loop, l->poll, l->fd) != 0) {
            log_debug("%s: cannot listen", path_kind_name(m->plan->kind));
            free(l->poll);
            l->poll = NULL;
            if (l->fd >= 0)
                close(l->fd);
            l->fd = -1;
            continue;
        }
        l->poll->data = m;
        (void)uv_poll_start(l->poll, UV_READABLE, on_listener);
    }
}

/* ------------------------------------------------------------------------------- time
 */

static void run_step(struct meet *m)
{
    attempts_free(m, false);
    m->step++;
    if (opens(m)) {
        connect_all(m, m->plan->hops[m->step - 1]);
        if (m->plan->listens)
            listeners_open(m);
    } else {
        connect_all(m, 0);
    }
    (void)uv_timer_start(m->timer, on_timer, m->plan->step_ms, 0);
}

static void end_steps(struct meet *m)
{
    attempts_free(m, false);
    listeners_close(m);
    m->phase = LAST_WORDS;
    bool waits = false;
    for (int i = 0; i < ATTEMPTS_MAX; i++)
        waits = waits || m->attempts[i] != NULL;
    unsigned ms = GREETING_MS + 2 * approach_rtt_hint_us(m->approach) / 1000;
    (void)uv_timer_start(m->timer, on_timer, waits ? ms : 0, 0);
}

static void tell_failed(struct meet *m)
{
    char reason[160];
    unsigned syns = 0;
    for (size_t i = 0; i < m->peer_count; i++)
        syns += m->syns[i];
    if (m->stranger)
        (void)snprintf(reason, sizeof(reason),
                       "somebody else touched the temporary port: it was closed");
    else
        (void)snprintf(reason, sizeof(reason),
                       "no connection came through: %u tries to %zu addresses%s", syns,
                       m->peer_count,
                       m->plan->listens ? " while the port was open" : "");
    fail(m, reason);
}

static void on_timer(uv_timer_t *t)
{
    struct meet *m = t->data;
    if (m == NULL)
        return;
    m->busy = true;
    switch (m->phase) {
    case WAITING:
        fail(m, "the other side told no TCP address");
        break;
    case MEETING:
        if (m->step < m->plan->steps)
            run_step(m);
        else
            end_steps(m);
        break;
    case LAST_WORDS:
        tell_failed(m);
        break;
    default:
        break;
    }
    leave(m);
}

/* Both sides know each other's addresses, the one about half a round trip later. */
static void begin_meeting(struct meet *m)
{
    if (m->phase != WAITING || !m->port_done || m->peer_count == 0 ||
        m->peer_round != m->round)
        return;
    unsigned delay =
        opens(m) ? 0 : CONNECT_DELAY_MS + approach_rtt_hint_us(m->approach) / 2000;
    m->phase = MEETING;
    m->step = 0;
    m->stranger = false;
    memset(m->syns, 0, sizeof(m->syns));
    (void)uv_timer_start(m->timer, on_timer, delay, 0);
}

static void on_port(void *ctx)
{
    struct meet *m = ctx;
    struct tcp_candidate found[TCP_PORT_CANDIDATES_MAX];
    m->port_done = true;
    m->phase = WAITING;
    if (tcp_port_candidates(m->port, found) == 0) {
        fail(m, "this side has no address that TCP could reach");
        return;
    }
    (void)uv_timer_start(m->timer, on_timer, PEER_WAIT_MS, 0);
    approach_offer_soon(m->approach);
    begin_meeting(m);
}

static void begin_round(struct meet *m)
{
    round_end(m);
    m->phase = GATHERING;
    if (tcp_port_open(&m->port, config_of(m)->net, config_of(m)->uplink, on_port, m) !=
        0) {
        m->port = NULL;
        fail(m, "out of memory");
    }
}

/* --------------------------------------------------------------------------- the kind
 */

void *meet_new(struct approach *a, const void *plan)
{
    struct meet *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return NULL;
    m->timer = malloc(sizeof(*m->timer));
    m->retry = malloc(sizeof(*m->retry));
    if (m->timer == NULL || m->retry == NULL) {
        free(m->timer);
        free(m->retry);
        free(m);
        return NULL;
    }
    m->approach = a;
    m->plan = plan;
    for (int i = 0; i < FAMILIES; i++)
        m->listeners[i].fd = -1;
    (void)uv_timer_init(config_of(m)->net->loop, m->timer);
    (void)uv_timer_init(config_of(m)->net->loop, m->retry);
    m->timer->data = m;
    m->retry->data = m;
    return m;
}

/* The host begins when the client's addresses of a new round arrive. */
void meet_start(void *k)
{
    struct meet *m = k;
    approach_started(m->approach, m->plan->kind);
    if (!config_of(m)->client)
        return;
    m->round++;
    m->peer_count = 0;
    begin_round(m);
}

void meet_stop(void *k)
{
    struct meet *m = k;
    round_end(m);
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] != NULL)
            path_drop(m, i, NULL);
}

void meet_free(void *k)
{
    struct meet *m = k;
    round_end(m);
    for (int i = 0; i < PATHS_MAX; i++)
        framed_free(m->paths[i]);
    m->timer->data = NULL;
    m->retry->data = NULL;
    uv_close((uv_handle_t *)m->timer, free_handle);
    uv_close((uv_handle_t *)m->retry, free_handle);
    m->freed = true;
    if (!m->busy)
        free(m);
}

void meet_fill_offer(void *k, Offer *o)
{
    struct meet *m = k;
    struct tcp_candidate found[TCP_PORT_CANDIDATES_MAX];
    const pb_size_t max = sizeof(o->meets) / sizeof(o->meets[0]);
    if (!m->port_done || o->meets_count == max)
        return;
    Meet *out = &o->meets[o->meets_count++];
    (void)snprintf(out->kind, sizeof(out->kind), "%s", path_kind_name(m->plan->kind));
    out->round = m->round;
    size_t n = tcp_port_candidates(m->port, found);
    const size_t room = sizeof(out->candidates) / sizeof(out->candidates[0]);
    for (size_t i = 0; i < n && i < room; i++) {
        Candidate *c = &out->candidates[out->candidates_count++];
        c->port = found[i].addr.port;
        c->ip.size = (pb_size_t)addr_ip_len(&found[i].addr);
        memcpy(c->ip.bytes, found[i].addr.ip, c->ip.size);
    }
}

/* Only addresses that somebody may be asked to connect to. */
static bool is_fit(const struct meet *m, const struct addr *a)
{
    enum addr_scope scope = addr_scope_of(a);
    if (scope == ADDR_SCOPE_UNUSABLE || scope == ADDR_SCOPE_LINK)
        return false;
    return scope != ADDR_SCOPE_LOOPBACK ||
           addr_scope_of(uplink_broker_addr(config_of(m)->uplink)) ==
               ADDR_SCOPE_LOOPBACK;
}

static void take_peers(struct meet *m, const Meet *in)
{
    m->peer_count = 0;
    m->peer_round = in->round;
    for (pb_size_t i = 0; i < in->candidates_count && m->peer_count < MEET_PEERS_MAX;
         i++) {
        const Candidate *c = &in->candidates[i];
        struct addr a;
        if (addr_from_bytes(&a, c->ip.bytes, c->ip.size, c->port) == 0 && is_fit(m, &a))
            m->peers[m->peer_count++] = a;
    }
}

void meet_on_offer(void *k, const Offer *o, bool renewed)
{
    struct meet *m = k;
    const Meet *in = NULL;
    (void)renewed;
    for (pb_size_t i = 0; i < o->meets_count; i++)
        if (strcmp(o->meets[i].kind, path_kind_name(m->plan->kind)) == 0)
            in = &o->meets[i];
    if (in == NULL || in->round == m->peer_round)
        return;
    if (config_of(m)->client) {
        if (in->round != m->round)
            return; /* of a round that is over */
        take_peers(m, in);
        begin_meeting(m);
    } else if (in->round > m->round) {
        m->round = in->round;
        take_peers(m, in);
        begin_round(m);
    }
}

void meet_on_dead(void *k, struct path *p)
{
    struct meet *m = k;
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] != NULL && framed_path(m->paths[i]) == p)
            path_drop(m, i, NULL);
}
