/*
 * Tickets and pairs. The sockets stand in a set of edges (io/edges.h): each is
 * registered once, and back-pressure costs no system call.
 */
#include "broker/relay.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/keymap.h"
#include "broker/limits.h"
#include "core/list.h"
#include "broker/relay_flow.h"
#include "broker/relay_shares.h"
#include "core/relay_preface.h"
#include "io/edges.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/sock.h"
#include "io/tcp.h"

enum {
    SIDE_CLIENT,
    SIDE_HOST,
    SIDE_COUNT,
    VICTIMS_SEEN = 64, /* the oldest, among whom one makes room */
    BUSY_SEEN = 1024,  /* where none of them can */
    /* What may wait behind the congestion window: more would only be delay. */
    RELAY_UNSENT_BYTES = 512 * 1024,
    MOVING_MS = 10000,
    ALIVE_IDLE_S = 60,
    ALIVE_GAP_S = 15,
    ALIVE_COUNT = 4,
};

struct pair;

struct side {
    struct keymap_node ticket; /* the ticket, zero-padded to a key */
    struct pair *pair;
    int fd;            /* -1 until the ticket is shown */
    bool ticket_valid; /* stands in the map */
};

struct pair {
    struct list
        link; /* in waiting, by start; in active or halves, by last use; in dead */
    struct list busy; /* has more to move without waiting */
    uint64_t at_ms;
    struct keymap_node name; /* hash of client, host and conv; the newest has it */
    struct pair *elder;      /* of the same name, until this one is joined */
    struct pair *heir;
    struct share_place shares[SHARE_MAX];
    uint8_t conv[CONV_LEN];
    struct side side[SIDE_COUNT];
    struct relay_flow flow[SIDE_COUNT]; /* flow[i] comes from side[i] */
    bool joined, used, half, dead;      /* half: one side has said its last */
    bool left; /* the host's machine has ended its side by itself */
};

/* A pair that broke a moment ago: its host may be gone, as its broken control
 * connection will show. */
struct mourned {
    struct keymap_node host;
    struct list link; /* by time */
    uint64_t at_ms;
    uint8_t client[KEY_LEN], conv[CONV_LEN];
    bool left; /* as of relay_was_left */
};

struct relay {
    struct loop *loop;
    struct edges *edges;
    struct timer turn; /* runs while `busy` is not empty */
    uint8_t thread;
    size_t pairs_max;
    struct list waiting, active, halves, dead, busy;
    struct keymap tickets, names;
    struct shares shares;
    struct list mourned;
    struct keymap mourned_hosts;
    size_t mourned_count;
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

static void mourned_drop(struct relay *r)
{
    struct mourned *m = LIST_FIRST(&r->mourned, struct mourned, link);
    keymap_remove(&r->mourned_hosts, &m->host);
    list_remove(&m->link);
    r->mourned_count--;
    free(m);
}

static void mourn(struct relay *r, const struct pair *p)
{
    struct mourned *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return;
    if (r->mourned_count >= LIMIT_MOURNED)
        mourned_drop(r);
    memcpy(m->host.key, p->shares[SHARE_HOST].holder->node.key, KEY_LEN);
    memcpy(m->client, p->shares[SHARE_CLIENT].holder->node.key, KEY_LEN);
    memcpy(m->conv, p->conv, CONV_LEN);
    m->at_ms = loop_now_ms(r->loop);
    m->left = p->left;
    keymap_add(&r->mourned_hosts, &m->host);
    list_push(&r->mourned, &m->link);
    r->mourned_count++;
}

/* Whoever is left has the name. */
static void part(struct relay *r, struct pair *p)
{
    if (p->heir == NULL)
        keymap_remove(&r->names, &p->name);
    else
        p->heir->elder = NULL;
    if (p->elder != NULL) {
        p->elder->heir = NULL;
        keymap_add(&r->names, &p->elder->name);
    }
    p->heir = p->elder = NULL;
}

/* Ends a pair; its memory stays until no event of this round can name it. */
static void pair_end(struct relay *r, struct pair *p, bool reset)
{
    if (p->dead)
        return;
    p->dead = true;
    for (int i = 0; i < SIDE_COUNT; i++) {
        struct side *s = &p->side[i];
        drop_ticket(r, s);
        relay_flow_fini(&p->flow[i], &r->pool);
        if (s->fd >= 0 && reset)
            linger_break(s->fd);
        else if (s->fd >= 0)
            close(s->fd);
        s->fd = -1;
    }
    if (p->joined)
        mourn(r, p);
    r->stats.joined_open -= p->joined;
    part(r, p);
    shares_give(&r->shares, p->shares);
    list_remove(&p->busy);
    list_remove(&p->link);
    list_push(&r->dead, &p->link);
    r->stats.pairs_open--;
}

static void bury(struct relay *r)
{
    while (!list_empty(&r->dead)) {
        struct pair *p = LIST_FIRST(&r->dead, struct pair, link);
        list_remove(&p->link);
        free(p);
    }
}

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
    p->left = p->left || p->flow[SIDE_HOST].eof;
    if (p->flow[SIDE_CLIENT].done && p->flow[SIDE_HOST].done) {
        pair_end(r, p, false);
        return;
    }
    list_remove(&p->busy);
    if (more) {
        if (list_empty(&r->busy))
            timer_start(&r->turn, 0);
        list_push(&r->busy, &p->busy);
    }
    bool halved = !p->half && p->flow[SIDE_CLIENT].done != p->flow[SIDE_HOST].done;
    if (moved > 0 || halved) {
        p->at_ms = loop_now_ms(r->loop);
        p->used = p->used || moved > 0;
        p->half = p->half || halved;
        list_remove(&p->link);
        list_push(p->half ? &r->halves : &r->active, &p->link);
    }
}

static void on_turn(void *ctx)
{
    struct relay *r = ctx;
    struct list turn;
    list_init(&turn);
    while (!list_empty(&r->busy)) {
        struct list *n = r->busy.next;
        list_remove(n);
        list_push(&turn, n);
    }
    while (!list_empty(&turn))
        pump(r, LIST_FIRST(&turn, struct pair, busy));
    bury(r);
}

static void on_edge(void *ctx, void *item, int edges)
{
    struct relay *r = ctx;
    struct side *s = item;
    struct pair *p = s->pair;
    int i = s == &p->side[SIDE_CLIENT] ? SIDE_CLIENT : SIDE_HOST;
    if (p->dead)
        return;
    if ((edges & EDGE_BROKEN) != 0) {
        p->left =
            p->left || (i == SIDE_HOST && sock_error(s->fd) == POSTERN_ERR_RESET &&
                        tcp_was_reset_unasked(s->fd));
        pair_end(r, p, true);
        return;
    }
    if ((edges & EDGE_READ) != 0)
        p->flow[i].readable = true;
    if ((edges & EDGE_WRITE) != 0)
        p->flow[1 - i].writable = true;
    pump(r, p);
}

static void on_round(void *ctx)
{
    bury(ctx);
}

static int relay_init(struct relay *r)
{
    uint8_t secret[KEYMAP_SECRET_LEN];
    randombytes_buf(secret, sizeof(secret));
    list_init(&r->waiting);
    list_init(&r->active);
    list_init(&r->halves);
    list_init(&r->dead);
    list_init(&r->busy);
    list_init(&r->mourned);
    if (keymap_init(&r->tickets, secret) != 0 || keymap_init(&r->names, secret) != 0 ||
        keymap_init(&r->mourned_hosts, secret) != 0 ||
        shares_init(&r->shares, r->pairs_max, secret) != 0)
        return POSTERN_ERR_NOMEM;
    timer_init(&r->turn, r->loop, on_turn, r);
    struct edges_bulk b = {
        .loop = r->loop, .on_edge = on_edge, .on_round = on_round, .ctx = r};
    return edges_open_bulk(&r->edges, &b);
}

static void relay_destroy(struct relay *r)
{
    relay_pool_fini(&r->pool);
    keymap_fini(&r->tickets);
    keymap_fini(&r->names);
    keymap_fini(&r->mourned_hosts);
    shares_fini(&r->shares);
    edges_close(r->edges);
    free(r);
}

int relay_open(struct relay **out, struct loop *loop, uint8_t thread, size_t pairs_max)
{
    struct relay *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    r->loop = loop;
    r->thread = thread;
    r->pairs_max = pairs_max;
    int rc = relay_init(r);
    if (rc != 0) {
        relay_destroy(r);
        return rc;
    }
    *out = r;
    return 0;
}

static void end_all(struct relay *r, struct list *l)
{
    while (!list_empty(l))
        pair_end(r, LIST_FIRST(l, struct pair, link), true);
}

void relay_end_waiting(struct relay *r)
{
    end_all(r, &r->waiting);
    bury(r);
}

void relay_close(struct relay *r)
{
    if (r == NULL)
        return;
    end_all(r, &r->waiting);
    end_all(r, &r->active);
    end_all(r, &r->halves);
    bury(r);
    while (r->mourned_count > 0)
        mourned_drop(r);
    timer_stop(&r->turn);
    relay_destroy(r);
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

static void name_of(uint8_t name[static KEY_LEN], const struct relay_ask *a)
{
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, NULL, 0, KEY_LEN);
    (void)crypto_generichash_update(&h, a->client, KEY_LEN);
    (void)crypto_generichash_update(&h, a->host, KEY_LEN);
    (void)crypto_generichash_update(&h, a->conv, CONV_LEN);
    (void)crypto_generichash_final(&h, name, KEY_LEN);
}

bool relay_knows(const struct relay *r, const struct relay_ask *names)
{
    uint8_t name[KEY_LEN];
    name_of(name, names);
    return keymap_find(&r->names, name) != NULL;
}

void relay_end(struct relay *r, const struct relay_ask *names)
{
    uint8_t name[KEY_LEN];
    name_of(name, names);
    struct keymap_node *n;
    while ((n = keymap_find(&r->names, name)) != NULL) /* and the elder */
        pair_end(r, LIST_OWNER(n, struct pair, name), true);
    bury(r);
}

/* The pair of that name which may go on until a new one is joined. */
static struct pair *find_elder(struct relay *r, const struct relay_ask *names)
{
    uint8_t name[KEY_LEN];
    name_of(name, names);
    struct keymap_node *n = keymap_find(&r->names, name);
    struct pair *p = n != NULL ? LIST_OWNER(n, struct pair, name) : NULL;
    struct pair *elder = p != NULL ? p->elder : NULL;
    if (p == NULL || p->joined)
        return p;
    pair_end(r, p, true);
    return elder;
}

/* May make room for another: it waits, or has been idle for long. */
static bool is_spare(const struct relay *r, const struct pair *p)
{
    uint64_t idle = loop_now_ms(r->loop) - p->at_ms;
    return !p->joined ||
           (list_empty(&p->busy) &&
            idle >= (p->used ? LIMIT_RELAY_SPARED_MS : LIMIT_RELAY_UNUSED_MS));
}

/* Of the oldest few of one holder: one that waits, else the longest idle. */
static struct pair *least_of(const struct relay *r, const struct share_holder *h)
{
    struct pair *least = NULL;
    int seen = 0;
    for (struct list *n = h->pairs.next; n != &h->pairs && seen < VICTIMS_SEEN;
         n = n->next, seen++) {
        struct pair *p = LIST_OWNER(n, struct share_place, link)->pair;
        if (!p->joined)
            return p;
        if (is_spare(r, p) && (least == NULL || p->at_ms < least->at_ms))
            least = p;
    }
    return least;
}

/*
 * Of the oldest few of all: the one whose holder has most, if it gives way to `a`
 * (NULL: to anybody). `busy`: also those that are in use, and more are looked at.
 */
static struct pair *least_in(struct relay *r, const struct list *l,
                             const struct share_ask *a, bool busy)
{
    struct pair *least = NULL;
    uint32_t most = 0;
    int seen = 0, max = busy ? BUSY_SEEN : VICTIMS_SEEN;
    for (struct list *n = l->next; n != l && seen < max; n = n->next, seen++) {
        struct pair *p = LIST_OWNER(n, struct pair, link);
        uint32_t weight = shares_weight(p->shares);
        if ((busy || is_spare(r, p)) && (least == NULL || weight > most) &&
            (a == NULL || shares_yields(&r->shares, p->shares, a, busy))) {
            least = p;
            most = weight;
        }
    }
    return least;
}

static struct pair *least_of_all(struct relay *r, const struct share_ask *a)
{
    struct pair *p = least_in(r, &r->waiting, a, false);
    if (p == NULL)
        p = least_in(r, &r->active, a, false);
    if (p == NULL)
        p = least_in(r, &r->halves, a, a != NULL);
    return p != NULL || a == NULL ? p : least_in(r, &r->active, a, true);
}

bool relay_make_room(struct relay *r)
{
    struct pair *p = least_of_all(r, NULL);
    if (p == NULL)
        return false;
    bool gives = p->side[SIDE_CLIENT].fd >= 0 || p->side[SIDE_HOST].fd >= 0;
    pair_end(r, p, true);
    bury(r);
    return gives;
}

static const char *make_room_for(struct relay *r, const struct share_ask *a)
{
    static const char *const whose[] = {[SHARE_CLIENT] = "this device",
                                        [SHARE_HOST] = "this host",
                                        [SHARE_ADDRESS] = "this address"};
    enum share_of of = SHARE_CLIENT;
    struct share_holder *full;
    while ((full = shares_full(&r->shares, a, &of)) != NULL) {
        struct pair *least = least_of(r, full);
        if (least == NULL)
            return whose[of];
        pair_end(r, least, true);
    }
    while (r->stats.pairs_open >= r->pairs_max) {
        struct pair *least = least_of_all(r, a);
        if (least == NULL)
            return "anybody";
        pair_end(r, least, true);
    }
    return NULL;
}

int relay_issue(struct relay *r, const struct relay_ask *ask, struct relay_tickets *out,
                const char **whose)
{
    struct share_ask share = {.client = ask->client,
                              .host = ask->host,
                              .from = ask->from,
                              .client_max = ask->client_max};
    enum share_of of = SHARE_CLIENT;
    /* It makes room itself where that is needed. */
    if (find_elder(r, ask) != NULL &&
        (r->stats.pairs_open >= r->pairs_max || shares_full(&r->shares, &share, &of)))
        relay_end(r, ask);
    *whose = make_room_for(r, &share);
    bury(r);
    struct pair *elder = find_elder(r, ask),
                *p = *whose == NULL ? calloc(1, sizeof(*p)) : NULL;
    if (p == NULL || shares_take(&r->shares, &share, p, p->shares) != 0) {
        free(p);
        *whose = *whose != NULL ? *whose : "anybody";
        return POSTERN_ERR_LIMIT;
    }
    memcpy(p->conv, ask->conv, CONV_LEN);
    name_of(p->name.key, ask);
    if (elder != NULL) {
        p->elder = elder;
        elder->heir = p;
        keymap_remove(&r->names, &elder->name);
    }
    keymap_add(&r->names, &p->name);
    add_side(r, p, SIDE_CLIENT, out->client);
    add_side(r, p, SIDE_HOST, out->host);
    list_init(&p->busy);
    list_push(&r->waiting, &p->link);
    p->at_ms = loop_now_ms(r->loop);
    r->stats.pairs_open++;
    return 0;
}

void relay_each_of_host(struct relay *r, const uint8_t host[static KEY_LEN],
                        void (*tell)(void *ctx, const uint8_t *client,
                                     const uint8_t *conv),
                        void *ctx)
{
    struct share_holder *h = shares_find(&r->shares, host);
    for (struct list *n = h != NULL ? h->pairs.next : NULL; h != NULL && n != &h->pairs;
         n = n->next) {
        const struct pair *p = LIST_OWNER(n, struct share_place, link)->pair;
        const struct share_holder *client = p->shares[SHARE_CLIENT].holder;
        if (p->shares[SHARE_HOST].holder == h) /* not its own pairs as a client */
            tell(ctx, client->node.key, p->conv);
    }
    for (struct keymap_node *n = keymap_find(&r->mourned_hosts, host); n != NULL;
         n = keymap_next(n)) {
        const struct mourned *m = LIST_OWNER(n, struct mourned, host);
        tell(ctx, m->client, m->conv);
    }
}

bool relay_hears(struct relay *r, const uint8_t host[static KEY_LEN])
{
    const struct share_holder *h = shares_find(&r->shares, host);
    for (const struct list *n = h != NULL ? h->pairs.next : NULL;
         h != NULL && n != &h->pairs; n = n->next) {
        const struct pair *p = LIST_OWNER(n, struct share_place, link)->pair;
        if (p->shares[SHARE_HOST].holder == h && p->joined && !p->flow[SIDE_HOST].eof)
            return true;
    }
    return false;
}

static bool is_near(uint64_t a_ms, uint64_t b_ms, uint64_t near_ms)
{
    return a_ms < b_ms ? b_ms - a_ms < near_ms : a_ms - b_ms < near_ms;
}

bool relay_was_left(struct relay *r, const uint8_t host[static KEY_LEN], uint64_t at_ms,
                    uint64_t near_ms)
{
    const struct share_holder *h = shares_find(&r->shares, host);
    for (const struct list *n = h != NULL ? h->pairs.next : NULL;
         h != NULL && n != &h->pairs; n = n->next) {
        const struct pair *p = LIST_OWNER(n, struct share_place, link)->pair;
        if (p->shares[SHARE_HOST].holder == h && p->left &&
            is_near(p->at_ms, at_ms, near_ms))
            return true;
    }
    for (struct keymap_node *n = keymap_find(&r->mourned_hosts, host); n != NULL;
         n = keymap_next(n)) {
        const struct mourned *m = LIST_OWNER(n, struct mourned, host);
        if (m->left && is_near(m->at_ms, at_ms, near_ms))
            return true;
    }
    return false;
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
    tcp_no_delay(fd); /* the ends have put together what belongs together */
    tcp_unsent_max(fd, RELAY_UNSENT_BYTES);
    tcp_keep_alive_every(fd, ALIVE_IDLE_S, ALIVE_GAP_S, ALIVE_COUNT);
    /* While bytes wait for an answer the kernel does not ask, and repeats them for a
     * quarter of an hour. */
    tcp_give_up_after(fd, (ALIVE_IDLE_S + ALIVE_COUNT * ALIVE_GAP_S) * 1000);
}

static int pair_start(struct relay *r, struct pair *p)
{
    static const uint8_t joined = RELAY_JOINED;
    p->joined = true;
    r->stats.joined_open++;
    if (p->elder != NULL)
        pair_end(r, p->elder, true);
    for (int i = 0; i < SIDE_COUNT; i++) {
        p->flow[i].from_fd = p->side[i].fd;
        p->flow[i].to_fd = p->side[1 - i].fd;
        if (!sock_say(p->side[i].fd, &joined, 1))
            return POSTERN_ERR_CLOSED;
    }
    for (int i = 0; i < SIDE_COUNT; i++) {
        int rc = edges_add_both(r->edges, p->side[i].fd, &p->side[i]);
        if (rc != 0)
            return rc;
    }
    uint64_t now_ms = loop_now_ms(r->loop);
    histogram_note(&r->stats.setup, (now_ms - p->at_ms) * 1000);
    p->at_ms = now_ms;
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
        (void)!sock_say(fd, &waiting, 1);
    }
}

static void end_idle(struct relay *r, struct list *l, uint64_t limit_ms)
{
    uint64_t now = loop_now_ms(r->loop);
    while (!list_empty(l)) {
        struct pair *p = LIST_FIRST(l, struct pair, link);
        if (now - p->at_ms < limit_ms)
            break;
        pair_end(r, p, true);
    }
}

void relay_sweep(struct relay *r)
{
    uint64_t now = loop_now_ms(r->loop);
    while (!list_empty(&r->waiting)) {
        struct pair *p = LIST_FIRST(&r->waiting, struct pair, link);
        if (now - p->at_ms < LIMIT_TICKET_MS)
            break;
        r->stats.tickets_expired++;
        pair_end(r, p, true);
    }
    end_idle(r, &r->active, LIMIT_RELAY_IDLE_MS);
    /* Who has a pair closes it as a whole: it is over for one side, and the other, gone
     * or stuck, has not heard that. */
    end_idle(r, &r->halves, LIMIT_RELAY_HALF_MS);
    while (r->mourned_count > 0 &&
           now - LIST_FIRST(&r->mourned, struct mourned, link)->at_ms >=
               LIMIT_MOURNED_MS)
        mourned_drop(r);
    r->pool.no_pipes = false; /* try again now and then */
    bury(r);
}

/* The lists are by last use. */
static size_t count_moving(const struct relay *r, const struct list *l)
{
    size_t n = 0;
    uint64_t now = loop_now_ms(r->loop);
    for (const struct list *i = l->prev; i != l; i = i->prev, n++)
        if (now - LIST_OWNER(i, struct pair, link)->at_ms >= MOVING_MS)
            break;
    return n;
}

void relay_read_stats(const struct relay *r, struct relay_stats *out)
{
    *out = r->stats;
    out->moving = count_moving(r, &r->active) + count_moving(r, &r->halves);
    out->bytes_spliced = r->pool.spliced;
    out->bytes_copied = r->pool.copied;
}
