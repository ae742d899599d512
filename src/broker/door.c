/* Listening sockets and first bytes; knows no device and no message. */
#include "broker/door.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/list.h"
#include "broker/porch.h"
#include "broker/vouch.h"
#include "core/client_hello.h"
#include "core/relay_preface.h"
#include "core/stun.h"
#include "io/acceptor.h"
#include "io/edges.h"
#include "io/loop.h"
#include "io/sock.h"

enum { TLS_HANDSHAKE = 0x16, VICTIMS_SEEN = 64, LINE_MS = 5 };
enum { STUN_FIRST = 0x00, STUN_HEADER = 20, STUN_REQUEST_MAX = 128 };
/* RFC 8446 section 6: a fatal alert, user_canceled: "unrelated to a protocol failure".
 */
enum { ALERT = 21, ALERT_FATAL = 2, ALERT_USER_CANCELED = 90 };
static const uint8_t busy_alert[] = {
    ALERT, 3, 3, 0, 2, ALERT_FATAL, ALERT_USER_CANCELED};

/* A connection that has not shown yet what it wants. */
struct visitor {
    struct list link;
    struct door *door;
    uint64_t since_ms;
    int fd;
    struct porch_guest guest; /* with its address */
    bool waits;               /* in a line, its first words whole */
    bool known;               /* in the one for badges: that of `device` */
    struct list turn;
    uint8_t device[KEY_LEN];
    bool inner;  /* came out of TLS: nothing but a relay's preface is taken */
    bool served; /* by STUN */
    uint8_t preface_len;
    uint8_t preface[RELAY_PREFACE_LEN];
};

struct door {
    struct door_config config;
    struct acceptor *acceptors[BROKER_LISTEN_MAX];
    size_t count;
    struct edges *edges;  /* of all visitors */
    struct list visitors; /* by start */
    size_t visitor_count, inner_count;
    struct porch porch;
    struct list known; /* visitors with badges in line, by arrival */
    size_t known_count;
    struct bucket badges; /* above their addresses' shares */
    struct timer line;    /* runs while somebody waits */
    struct door_stats stats;
};

void door_say_busy(int fd)
{
    (void)!sock_say(fd, busy_alert, sizeof(busy_alert));
    close(fd);
}

/*
 * Returns the descriptor, which is the caller's now; of an inner one its count at
 * `*place` is too.
 */
static int visitor_take(struct visitor *v, struct addr_place *place)
{
    struct door *d = v->door;
    int fd = v->fd;
    *place = v->guest.place;
    if (v->waits && !v->known)
        porch_leave(&d->porch, &v->guest);
    d->known_count -= v->known;
    list_remove(&v->turn);
    if (!v->inner)
        addr_limits_visit(d->config.limits, place, false);
    edges_remove(d->edges, fd);
    d->visitor_count--;
    d->inner_count -= v->inner;
    list_remove(&v->link);
    free(v);
    return fd;
}

static void visitor_end(struct visitor *v)
{
    struct door *d = v->door;
    struct addr_place place;
    bool inner = v->inner;
    int fd = visitor_take(v, &place);
    if (inner)
        addr_limits_leave(d->config.limits, &place);
    close(fd);
}

/* Its place is needed; who has said nothing else may yet want TLS. */
static void visitor_make_room(struct visitor *v)
{
    if (!v->inner && !v->served && v->preface_len == 0)
        (void)!sock_say(v->fd, busy_alert, sizeof(busy_alert));
    visitor_end(v);
}

/* What TLS said first: 0 it is whole, 1 it goes on, or an error. */
struct first_words {
    uint8_t buf[CLIENT_HELLO_MAX];
    struct client_hello hello;
    bool readable; /* else it is the control's to refuse */
};

static int read_first(struct first_words *w, int fd)
{
    ssize_t n = edges_peek(fd, w->buf, sizeof(w->buf));
    int want = n > 0 ? client_hello_parse(&w->hello, w->buf, (size_t)n) : 0;
    w->readable = want == 0;
    if (n <= 0)
        return POSTERN_ERR_CLOSED;
    return want > n && want <= (int)sizeof(w->buf) ? 1 : 0;
}

/* With a badge it counts apart, where that leaves others their places. */
static bool counts_apart(struct door *d, const struct addr_place *place)
{
    struct addr_place p = *place;
    p.known = true;
    return !addr_limits_is_full(d->config.limits, &p, LIMIT_KNOWN_PER_ADDRESS) &&
           d->config.events->has_room(d->config.ctx);
}

/* It is let in: by its ClientHello to whom it wants. `known`: by its badge. */
static void let_in(struct visitor *v, const struct first_words *w, bool known)
{
    struct door *d = v->door;
    const struct door_events *e = d->config.events;
    struct addr_limits *l = d->config.limits;
    struct addr_place place;
    uint8_t device[KEY_LEN];
    memcpy(device, v->device, KEY_LEN);
    int fd = visitor_take(v, &place);
    bool relay = w->readable && client_hello_offers(&w->hello, PROTO_ALPN_RELAY);
    place.known = known && !relay && counts_apart(d, &place);
    if (!d->config.unlimited && !place.known &&
        addr_limits_is_full(l, &place, LIMIT_CONNECTIONS_PER_ADDRESS) &&
        !e->on_crowded(d->config.ctx, &place)) {
        d->stats.refused++;
        door_say_busy(fd);
        return;
    }
    addr_limits_enter(l, &place);
    if (relay)
        e->on_tls_relay(d->config.ctx, fd, &place);
    else if (w->readable && e->on_web != NULL &&
             !client_hello_offers(&w->hello, PROTO_ALPN_BROKER))
        e->on_web(d->config.ctx, fd, &place, w->hello.server_name);
    else
        e->on_tls(d->config.ctx, fd, &place, known ? device : NULL);
}

static void run_line(struct door *d)
{
    if (!timer_is_active(&d->line))
        timer_start(&d->line, LINE_MS);
}

static void wait_in_line(struct visitor *v)
{
    struct door *d = v->door;
    v->waits = true;
    struct porch_guest *out = porch_enter(&d->porch, &v->guest);
    run_line(d);
    if (out == NULL)
        return;
    struct visitor *gone = LIST_OWNER(out, struct visitor, guest);
    gone->waits = false;
    d->stats.refused++;
    (void)!sock_say(gone->fd, busy_alert, sizeof(busy_alert));
    visitor_end(gone);
}

static bool shows_badge(struct visitor *v, const struct first_words *w)
{
    const struct door_config *c = &v->door->config;
    return w->readable && w->hello.badge_len > 0 &&
           c->events->knows(c->ctx, w->hello.badge, w->hello.badge_len, v->device);
}

/* One more with a badge, above its address's share. */
static bool has_turn(struct door *d)
{
    return d->config.events->is_idle(d->config.ctx) &&
           bucket_take(&d->badges, LIMIT_RATE_BADGES, loop_now_ms(d->config.loop), 1);
}

/* Lets it in, or in line; false: it has a stranger's place. */
static bool take_known(struct visitor *v, const struct first_words *w)
{
    struct door *d = v->door;
    size_t most = d->config.visitors_max / LIMIT_LINE_KNOWN_SHARE;
    if (addr_limits_badge(d->config.limits, &v->guest.place,
                          loop_now_ms(d->config.loop)) ||
        (list_empty(&d->known) && has_turn(d))) {
        let_in(v, w, true);
        return true;
    }
    if (d->known_count >= (most < LIMIT_LINE_KNOWN ? most : LIMIT_LINE_KNOWN))
        return false;
    v->waits = v->known = true;
    d->known_count++;
    list_push(&d->known, &v->turn);
    run_line(d);
    return true;
}

static void speak_tls(struct visitor *v, bool ended)
{
    struct door *d = v->door;
    struct first_words w;
    int rc = v->waits ? 0 : read_first(&w, v->fd);
    if (rc < 0 || (ended && (rc > 0 || v->waits)))
        visitor_end(v);
    else if (rc > 0 || v->waits)
        return;
    else if (shows_badge(v, &w) && take_known(v, &w))
        return;
    else if (d->config.unlimited ||
             addr_limits_connect(d->config.limits, &v->guest.place,
                                 loop_now_ms(d->config.loop)))
        let_in(v, &w, false);
    else
        wait_in_line(v);
}

static void called(struct visitor *v, bool known)
{
    struct first_words w;
    if (read_first(&w, v->fd) == 0)
        let_in(v, &w, known);
    else
        visitor_end(v);
}

/* Those of the lines whose turn it is. */
static void on_line(void *ctx)
{
    struct door *d = ctx;
    struct porch_guest *g;
    while (!list_empty(&d->known) && has_turn(d))
        called(LIST_FIRST(&d->known, struct visitor, turn), true);
    while ((g = porch_next(&d->porch, loop_now_ms(d->config.loop))) != NULL) {
        struct visitor *v = LIST_OWNER(g, struct visitor, guest);
        v->waits = false;
        called(v, false);
    }
    if (d->porch.count + d->known_count > 0)
        timer_start(&d->line, LINE_MS);
}

static void speak_relay(struct visitor *v, bool ended)
{
    struct door *d = v->door;
    struct addr_place place;
    uint8_t ticket[TICKET_LEN];
    ssize_t n = sock_read(v->fd, v->preface + v->preface_len,
                          sizeof(v->preface) - v->preface_len);
    v->preface_len = (uint8_t)(v->preface_len + (n > 0 ? n : 0));
    if (v->preface_len < sizeof(v->preface)) {
        if (ended || (n <= 0 && n != POSTERN_ERR_AGAIN))
            visitor_end(v);
        return;
    }
    if (relay_preface_parse(ticket, v->preface, sizeof(v->preface)) != 0) {
        d->stats.garbage++;
        visitor_end(v);
        return;
    }
    bool inner = v->inner;
    int fd = visitor_take(v, &place);
    if (inner)
        addr_limits_leave(d->config.limits, &place);
    d->config.events->on_relay(d->config.ctx, fd, ticket);
}

static int answer_stun(struct visitor *v, const struct stun_message *m)
{
    uint8_t out[STUN_MESSAGE_MAX];
    struct stun_message answer = {.type = STUN_BINDING_SUCCESS,
                                  .has_mark = m->has_mark};
    memcpy(answer.txid, m->txid, sizeof(answer.txid));
    if (sock_remote(v->fd, &answer.mapped) != 0)
        return POSTERN_ERR_CLOSED;
    broker_mark(answer.mark, v->door->config.secret, &answer.mapped);
    int len = stun_build(out, sizeof(out), &answer);
    if (len < 0 || !sock_say(v->fd, out, (size_t)len))
        return POSTERN_ERR_CLOSED;
    return 0;
}

/* One request: 1 when there was one, 0 when there is no whole one yet, else an error.
 */
static int take_stun(struct visitor *v)
{
    struct door *d = v->door;
    struct stun_message m;
    uint8_t buf[STUN_REQUEST_MAX];
    ssize_t n = edges_peek(v->fd, buf, sizeof(buf));
    if (n <= 0)
        return (int)n;
    size_t len = n >= STUN_HEADER ? STUN_HEADER + ((size_t)buf[2] << 8 | buf[3]) : 0;
    if (buf[0] != STUN_FIRST || len > sizeof(buf)) {
        d->stats.garbage++;
        return POSTERN_ERR_PROTO;
    }
    if (len == 0 || (size_t)n < len)
        return 0;
    if (stun_parse(&m, buf, len) != 0 || m.type != STUN_BINDING_REQUEST) {
        d->stats.garbage++;
        return POSTERN_ERR_PROTO;
    }
    if (!d->config.unlimited && /* a connection's source is not forged */
        !addr_limits_stun_proven(d->config.limits, &v->guest.place, 0,
                                 loop_now_ms(d->config.loop)))
        return POSTERN_ERR_LIMIT;
    if (sock_read(v->fd, buf, len) != (ssize_t)len)
        return POSTERN_ERR_CLOSED;
    v->served = true;
    int rc = answer_stun(v, &m);
    return rc == 0 ? 1 : rc;
}

/*
 * Binding requests over TCP (RFC 8489 section 6.2.2): where this connection is seen to
 * come from. It stays open, so that the NAT keeps its mapping, until its owner ends it
 * or the silence has lasted.
 */
static void speak_stun(struct visitor *v, bool ended)
{
    int rc = 1;
    while (rc > 0) /* the address's share bounds it */
        rc = take_stun(v);
    if (rc < 0 || ended)
        visitor_end(v);
}

/* Which protocol a first byte means. The function runs again until it has enough. */
struct greeting {
    uint8_t first_byte;
    void (*speak)(struct visitor *v, bool ended);
};

static const struct greeting greetings[] = {
    {TLS_HANDSHAKE, speak_tls},
    {RELAY_PREFACE_FIRST, speak_relay},
    {STUN_FIRST, speak_stun},
};

static void on_arrival(void *item, bool ended)
{
    struct visitor *v = item;
    struct door *d = v->door;
    uint8_t first = v->preface[0];
    ssize_t n = v->preface_len > 0 ? 1 : edges_peek(v->fd, &first, 1);
    if (n == 0 && !ended)
        return;
    for (size_t i = 0; n > 0 && i < sizeof(greetings) / sizeof(greetings[0]); i++) {
        if (greetings[i].first_byte == first &&
            (!v->inner || first == RELAY_PREFACE_FIRST)) {
            greetings[i].speak(v, ended);
            return;
        }
    }
    d->stats.garbage += n > 0;
    visitor_end(v);
}

/* The oldest silent one of whose address has most; of inner ones, or of all. */
static bool drop_one(struct door *d, bool inner)
{
    struct visitor *least = NULL;
    uint32_t most = 0;
    int seen = 0;
    for (struct list *n = d->visitors.next; n != &d->visitors && seen < VICTIMS_SEEN;
         n = n->next) {
        struct visitor *v = LIST_OWNER(n, struct visitor, link);
        if (inner && !v->inner)
            continue;
        seen++;
        uint32_t weight = addr_limits_weight(d->config.limits, &v->guest.place);
        if (least == NULL || weight > most) {
            least = v;
            most = weight;
        }
    }
    if (least == NULL)
        return false;
    d->stats.silent++;
    visitor_make_room(least);
    return true;
}

/* Owns `fd`, and of an inner one its count at `place`, on success only. */
static int visitor_start(struct door *d, int fd, const struct addr_place *place,
                         bool inner)
{
    if (d->visitor_count >= d->config.visitors_max)
        (void)drop_one(d, false);
    if (inner && d->inner_count >= d->config.inner_max)
        (void)drop_one(d, true);
    struct visitor *v = calloc(1, sizeof(*v));
    if (v == NULL || edges_add(d->edges, fd, v) != 0) {
        free(v);
        return POSTERN_ERR_NOMEM;
    }
    v->door = d;
    v->fd = fd;
    v->guest.place = *place;
    list_init(&v->guest.link);
    list_init(&v->turn);
    v->inner = inner;
    v->since_ms = loop_now_ms(d->config.loop);
    list_push(&d->visitors, &v->link);
    d->visitor_count++;
    d->inner_count += inner;
    if (!inner)
        addr_limits_visit(d->config.limits, place, true);
    return 0;
}

size_t door_inner(const struct door *d)
{
    return d->inner_count;
}

void door_admit(struct door *d, int fd, const struct addr_place *place)
{
    if (visitor_start(d, fd, place, true) == 0)
        return;
    addr_limits_leave(d->config.limits, place);
    close(fd);
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct door *d = ctx;
    struct addr_place place = addr_limits_place(d->config.limits, from);
    d->stats.accepted++;
    if (visitor_start(d, fd, &place, false) == 0)
        return;
    d->stats.refused++;
    door_say_busy(fd);
}

static bool make_room(void *ctx)
{
    struct door *d = ctx;
    return drop_one(d, false) || d->config.events->on_full(d->config.ctx);
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
    list_init(&d->known);
    porch_init(&d->porch, c->limits, randombytes_random());
    timer_init(&d->line, c->loop, on_line, d);
    int rc = edges_open(&d->edges, c->loop, on_arrival);
    for (size_t i = 0; i < c->plan->site_count && rc == 0; i++)
        rc = listen_at(d, &c->plan->sites[i]);
    if (rc != 0) {
        door_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

/* The fuller it is, the less long silence is borne. */
static uint64_t patience_ms(const struct door *d)
{
    size_t max = d->config.visitors_max, half = max / 2;
    size_t over = d->visitor_count > half ? d->visitor_count - half : 0;
    uint64_t less = (uint64_t)(LIMIT_SILENT_MS - LIMIT_SILENT_FULL_MS) * over /
                    (max - half > 0 ? max - half : 1);
    return less < LIMIT_SILENT_MS - LIMIT_SILENT_FULL_MS ? LIMIT_SILENT_MS - less
                                                         : LIMIT_SILENT_FULL_MS;
}

void door_sweep(struct door *d)
{
    uint64_t patience = patience_ms(d);
    while (!list_empty(&d->visitors)) {
        struct visitor *v = LIST_FIRST(&d->visitors, struct visitor, link);
        if (loop_now_ms(d->config.loop) - v->since_ms < patience)
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
        visitor_end(LIST_FIRST(&d->visitors, struct visitor, link));
    for (size_t i = 0; i < d->count; i++)
        acceptor_close(d->acceptors[i]);
    timer_stop(&d->line);
    edges_close(d->edges);
    free(d);
}

void door_read_stats(const struct door *d, struct door_stats *out)
{
    *out = d->stats;
    out->visitors = d->visitor_count;
    out->in_line = d->porch.count + d->known_count;
}
