/*
 * Tickets and pairs. The sockets stand in an edge-triggered epoll set of their own
 * inside the loop: each is registered once, and back-pressure costs no system call.
 */
#include "broker/relay.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/keymap.h"
#include "broker/limits.h"
#include "broker/list.h"
#include "broker/relay_flow.h"
#include "core/relay_preface.h"

enum {
    SIDE_CLIENT,
    SIDE_HOST,
    SIDE_COUNT,
    EVENTS_PER_ROUND = 128,
    /* What may wait behind the congestion window: more would only be delay. */
    RELAY_UNSENT_BYTES = 512 * 1024,
};

/* How many pairs one device has. */
struct tally {
    struct keymap_node node;
    uint32_t pairs;
};

struct pair;

struct side {
    struct keymap_node ticket; /* the ticket, zero-padded to a key */
    struct pair *pair;
    struct tally *tally;
    int fd;            /* -1 until the ticket is shown */
    bool ticket_valid; /* stands in the map */
};

struct pair {
    struct list link; /* in waiting, by start; in active, by last use; or in dead */
    struct list busy; /* has more to move without waiting */
    uint64_t at_ms;
    struct side side[SIDE_COUNT];
    struct relay_flow flow[SIDE_COUNT]; /* flow[i] comes from side[i] */
    bool joined, dead;
};

struct relay {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_idle_t idle; /* runs while `busy` is not empty */
    int epoll_fd;
    uint8_t thread;
    size_t pairs_max;
    int handles_open;
    struct list waiting, active, dead, busy;
    struct keymap tickets, tallies;
    struct relay_pool pool;
    struct relay_stats stats;
};

static void ticket_key(uint8_t key[static KEY_LEN],
                       const uint8_t ticket[static TICKET_LEN])
{
    memset(key, 0, KEY_LEN);
    memcpy(key, ticket, TICKET_LEN);
}

static void drop_ticket(struct relay *r, struct side *s)
{
    if (s->ticket_valid)
        keymap_remove(&r->tickets, &s->ticket);
    s->ticket_valid = false;
}

static struct tally *tally_take(struct relay *r, const uint8_t *device, uint32_t max)
{
    struct keymap_node *n = keymap_find(&r->tallies, device);
    struct tally *t = n != NULL ? LIST_OWNER(n, struct tally, node) : NULL;
    if (t == NULL) {
        t = calloc(1, sizeof(*t));
        if (t == NULL)
            return NULL;
        memcpy(t->node.key, device, KEY_LEN);
        keymap_add(&r->tallies, &t->node);
    }
    if (t->pairs >= max)
        return NULL; /* at least one pair keeps it in the map */
    t->pairs++;
    return t;
}

static void tally_give(struct relay *r, struct tally *t)
{
    if (t == NULL || --t->pairs > 0)
        return;
    keymap_remove(&r->tallies, &t->node);
    free(t);
}

/* Ends a pair; its memory stays until no event of this round can name it. */
static void pair_end(struct relay *r, struct pair *p, bool reset)
{
    if (p->dead)
        return;
    p->dead = true;
    for (int i = 0; i < SIDE_COUNT; i++) {
        struct side *s = &p->side[i];
        struct linger hard = {.l_onoff = 1, .l_linger = 0};
        drop_ticket(r, s);
        relay_flow_fini(&p->flow[i], &r->pool);
        if (s->fd >= 0 && reset)
            (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        if (s->fd >= 0)
            close(s->fd);
        s->fd = -1;
        tally_give(r, s->tally);
    }
    list_remove(&p->busy);
    list_remove(&p->link);
    list_push(&r->dead, &p->link);
    r->stats.pairs_open--;
}

static void bury(struct relay *r)
{
    while (!list_empty(&r->dead)) {
        struct pair *p = LIST_OWNER(r->dead.next, struct pair, link);
        list_remove(&p->link);
        free(p);
    }
}

static void on_idle(uv_idle_t *idle);

static void pump(struct relay *r, struct pair *p)
{
    uint64_t moved = 0;
    bool more = false;
    for (int i = 0; i < SIDE_COUNT; i++) {
        enum relay_flow_result rc = relay_flow_pump(&p->flow[i], &r->pool, &moved);
        if (rc == RELAY_FLOW_FAILED) {
            pair_end(r, p, true);
            return;
        }
        more = more || rc == RELAY_FLOW_MORE;
    }
    if (p->flow[SIDE_CLIENT].done && p->flow[SIDE_HOST].done) {
        pair_end(r, p, false);
        return;
    }
    list_remove(&p->busy);
    if (more) {
        if (list_empty(&r->busy))
            (void)uv_idle_start(&r->idle, on_idle);
        list_push(&r->busy, &p->busy);
    }
    if (moved > 0) {
        p->at_ms = uv_now(r->loop);
        list_remove(&p->link);
        list_push(&r->active, &p->link);
    }
}

static void on_idle(uv_idle_t *idle)
{
    struct relay *r = idle->data;
    struct list turn;
    list_init(&turn);
    while (!list_empty(&r->busy)) {
        struct list *n = r->busy.next;
        list_remove(n);
        list_push(&turn, n);
    }
    while (!list_empty(&turn))
        pump(r, LIST_OWNER(turn.next, struct pair, busy));
    if (list_empty(&r->busy))
        (void)uv_idle_stop(idle);
    bury(r);
}

static void on_event(struct relay *r, struct side *s, uint32_t events)
{
    struct pair *p = s->pair;
    int i = s == &p->side[SIDE_CLIENT] ? SIDE_CLIENT : SIDE_HOST;
    if (p->dead)
        return;
    if ((events & EPOLLERR) != 0) {
        pair_end(r, p, true);
        return;
    }
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0)
        p->flow[i].readable = true;
    if ((events & EPOLLOUT) != 0)
        p->flow[1 - i].writable = true;
    pump(r, p);
}

static void on_poll(uv_poll_t *poll, int status, int unused)
{
    struct relay *r = poll->data;
    struct epoll_event ev[EVENTS_PER_ROUND];
    (void)status;
    (void)unused;
    int n = epoll_wait(r->epoll_fd, ev, EVENTS_PER_ROUND, 0);
    for (int i = 0; i < n; i++)
        on_event(r, ev[i].data.ptr, ev[i].events);
    bury(r);
}

static int relay_init(struct relay *r)
{
    uint8_t secret[KEYMAP_SECRET_LEN];
    randombytes_buf(secret, sizeof(secret));
    list_init(&r->waiting);
    list_init(&r->active);
    list_init(&r->dead);
    list_init(&r->busy);
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll_fd < 0)
        return POSTERN_ERR_IO;
    if (keymap_init(&r->tickets, secret) != 0 || keymap_init(&r->tallies, secret) != 0)
        return POSTERN_ERR_NOMEM;
    if (uv_poll_init(r->loop, &r->poll, r->epoll_fd) != 0)
        return POSTERN_ERR_IO;
    (void)uv_idle_init(r->loop, &r->idle);
    r->handles_open = 2;
    r->poll.data = r->idle.data = r;
    (void)uv_poll_start(&r->poll, UV_READABLE, on_poll);
    return 0;
}

static void relay_destroy(struct relay *r)
{
    relay_pool_fini(&r->pool);
    keymap_fini(&r->tickets);
    keymap_fini(&r->tallies);
    if (r->epoll_fd >= 0)
        close(r->epoll_fd);
    free(r);
}

int relay_open(struct relay **out, uv_loop_t *loop, uint8_t thread, size_t pairs_max)
{
    struct relay *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    r->loop = loop;
    r->thread = thread;
    r->pairs_max = pairs_max;
    r->epoll_fd = -1;
    int rc = relay_init(r);
    if (rc != 0) {
        relay_destroy(r);
        return rc;
    }
    *out = r;
    return 0;
}

static void on_handle_closed(uv_handle_t *h)
{
    struct relay *r = h->data;
    if (--r->handles_open == 0)
        relay_destroy(r);
}

static void end_all(struct relay *r, struct list *l)
{
    while (!list_empty(l))
        pair_end(r, LIST_OWNER(l->next, struct pair, link), true);
}

void relay_close(struct relay *r)
{
    if (r == NULL)
        return;
    end_all(r, &r->waiting);
    end_all(r, &r->active);
    bury(r);
    uv_close((uv_handle_t *)&r->poll, on_handle_closed);
    uv_close((uv_handle_t *)&r->idle, on_handle_closed);
}

static void add_side(struct relay *r, struct pair *p, int i, uint8_t *ticket)
{
    struct side *s = &p->side[i];
    randombytes_buf(ticket, TICKET_LEN);
    ticket[0] = r->thread;
    ticket_key(s->ticket.key, ticket);
    keymap_add(&r->tickets, &s->ticket);
    s->ticket_valid = true;
    s->pair = p;
    s->fd = -1;
}

int relay_issue(struct relay *r, const uint8_t client[static KEY_LEN],
                const uint8_t host[static KEY_LEN], uint32_t client_max,
                struct relay_tickets *out)
{
    if (r->stats.pairs_open >= r->pairs_max)
        return POSTERN_ERR_LIMIT;
    struct pair *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return POSTERN_ERR_LIMIT;
    struct tally *c = tally_take(r, client, client_max);
    struct tally *h = tally_take(r, host, LIMIT_RELAYS_PER_HOST);
    if (c == NULL || h == NULL) {
        tally_give(r, c);
        tally_give(r, h);
        free(p);
        return POSTERN_ERR_LIMIT;
    }
    p->side[SIDE_CLIENT].tally = c;
    p->side[SIDE_HOST].tally = h;
    add_side(r, p, SIDE_CLIENT, out->client);
    add_side(r, p, SIDE_HOST, out->host);
    list_init(&p->busy);
    list_push(&r->waiting, &p->link);
    p->at_ms = uv_now(r->loop);
    r->stats.pairs_open++;
    return 0;
}

static struct side *find_side(struct relay *r, const uint8_t *ticket)
{
    uint8_t key[KEY_LEN];
    ticket_key(key, ticket);
    struct keymap_node *n = keymap_find(&r->tickets, key);
    return n != NULL ? LIST_OWNER(n, struct side, ticket) : NULL;
}

void relay_revoke(struct relay *r, const struct relay_tickets *t)
{
    struct side *s = find_side(r, t->client);
    if (s != NULL)
        pair_end(r, s->pair, true);
    bury(r);
}

static void tune(int fd)
{
    int on = 1, idle = 60, gap = 15, count = 4, unsent = RELAY_UNSENT_BYTES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &gap, sizeof(gap));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static int pair_start(struct relay *r, struct pair *p)
{
    static const uint8_t joined = RELAY_JOINED;
    p->joined = true;
    for (int i = 0; i < SIDE_COUNT; i++) {
        p->flow[i].from_fd = p->side[i].fd;
        p->flow[i].to_fd = p->side[1 - i].fd;
        if (send(p->side[i].fd, &joined, 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
            return POSTERN_ERR_CLOSED;
    }
    for (int i = 0; i < SIDE_COUNT; i++) {
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.ptr = &p->side[i]};
        if (epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, p->side[i].fd, &ev) != 0)
            return POSTERN_ERR_IO;
    }
    p->at_ms = uv_now(r->loop);
    list_remove(&p->link);
    list_push(&r->active, &p->link);
    r->stats.pairs_joined++;
    return 0;
}

void relay_join(struct relay *r, int fd, const uint8_t ticket[static TICKET_LEN])
{
    struct side *s = find_side(r, ticket);
    if (s == NULL) {
        r->stats.tickets_unknown++;
        close(fd);
        return;
    }
    struct pair *p = s->pair;
    drop_ticket(r, s); /* each is good once */
    s->fd = fd;
    tune(fd);
    if (p->side[SIDE_CLIENT].fd >= 0 && p->side[SIDE_HOST].fd >= 0 &&
        pair_start(r, p) != 0) {
        pair_end(r, p, true);
        bury(r);
    } else if (!p->joined) {
        const uint8_t waiting = RELAY_WAITING;
        (void)!send(fd, &waiting, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

void relay_sweep(struct relay *r)
{
    uint64_t now = uv_now(r->loop);
    while (!list_empty(&r->waiting)) {
        struct pair *p = LIST_OWNER(r->waiting.next, struct pair, link);
        if (now - p->at_ms < LIMIT_TICKET_MS)
            break;
        r->stats.tickets_expired++;
        pair_end(r, p, true);
    }
    while (!list_empty(&r->active)) {
        struct pair *p = LIST_OWNER(r->active.next, struct pair, link);
        if (now - p->at_ms < LIMIT_RELAY_IDLE_MS)
            break;
        pair_end(r, p, true);
    }
    r->pool.no_pipes = false; /* try again now and then */
    bury(r);
}

void relay_read_stats(const struct relay *r, struct relay_stats *out)
{
    *out = r->stats;
    out->bytes_spliced = r->pool.spliced;
    out->bytes_copied = r->pool.copied;
}
