/* Lifecycle of control connections; see conn.h. */
#include "broker/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/control.h"
#include "broker/shard.h"
#include "io/channel.h"
#include "io/loop.h"
#include "io/sock.h"
#include "io/tcp.h"

enum {
    RETRY_BASE_MS = 200,
    RETRY_SOON_MS = 100,
    BACK_PER_SECOND = 2000,
    VICTIMS_SEEN = 256,
    NEIGHBOURS_SEEN = 4096
};

struct usher_way conn_way(struct conn *c)
{
    struct shard *s = c->shard;
    struct usher_way way = {.loop = s->loop,
                            .channel = c->channel,
                            .admission = &s->admission,
                            .introduced = &s->stats.introduced,
                            .dropped = &s->stats.dropped};
    memcpy(way.host, c->node.key, KEY_LEN);
    return way;
}

static struct conn *conn_new(struct shard *s, const struct addr_place *place)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->shard = s;
    c->place = *place;
    list_init(&c->link);
    s->connections++;
    return c;
}

static void conn_free(struct conn *c)
{
    struct shard *s = c->shard;
    spare_count(&s->spare); /* it leaves pieces, too */
    s->connections--;
    addr_limits_leave(s->limits, &c->place);
    list_remove(&c->link);
    channel_free(c->channel);
    bonds_fini(&c->bonds);
    convs_fini(&c->convs);
    usher_free(c->usher);
    free(c->familiar);
    free(c);
}

static void set_state(struct conn *c, enum conn_state state, struct list *list)
{
    c->state = (uint8_t)state;
    c->since_ms = loop_now_ms(c->shard->loop);
    list_remove(&c->link);
    list_push(list, &c->link);
}

void conn_end(struct conn *c)
{
    const struct broker_portal *p = c->shard->hub->config->portal;
    if ((c->state & (CONN_CLIENT | CONN_HOST)) != 0)
        keymap_remove(&c->shard->present, &c->node);
    c->shard->hosts -= c->state == CONN_HOST;
    c->shard->clients -= c->state == CONN_CLIENT;
    if (c->in_portal)
        p->on_host(p->ctx, c->node.key, NULL, NULL);
    conn_free(c);
}

int conn_send(struct conn *c, const Control *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    return n < 0 ? n : channel_send(c->channel, buf, (size_t)n);
}

void conn_bye(struct conn *c, enum bye_code code, uint32_t retry_ms, const char *reason)
{
    Control m = Control_init_zero;
    m.which_body = Control_bye_tag;
    m.body.bye.code = code;
    m.body.bye.retry_ms = retry_ms;
    (void)snprintf(m.body.bye.reason, sizeof(m.body.bye.reason), "%s", reason);
    c->shard->stats.byes[code]++;
    if (conn_send(c, &m) != 0) /* it is closed in any case */
        c->shard->stats.dropped++;
    conn_end(c);
}

/* Its address holds more than it may, and there is nobody of it who would go. */
static bool is_crowd(const struct conn *c)
{
    uint32_t max =
        c->place.known ? LIMIT_KNOWN_PER_ADDRESS : LIMIT_CONNECTIONS_PER_ADDRESS;
    return !c->shard->hub->config->no_address_limits &&
           addr_limits_is_full(c->shard->limits, &c->place, max + 1) &&
           !conn_make_room_at(c->shard, &c->place, c);
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct conn *c = ctx;
    struct shard *s = c->shard;
    bool anothers = c->place.known && memcmp(c->node.key, peer, KEY_LEN) != 0;
    s->stats.handshakes++;
    histogram_note(&s->stats.handshake, (loop_now_ms(s->loop) - c->since_ms) * 1000);
    if (anothers) { /* the badge */
        addr_limits_leave(s->limits, &c->place);
        c->place.known = false;
        addr_limits_enter(s->limits, &c->place);
    }
    c->known = false;
    memcpy(c->node.key, peer, KEY_LEN);
    if (hub_shard_of(s->hub, peer) == s) {
        set_state(c, CONN_GREETING, &s->greeting);
        if (anothers && is_crowd(c))
            conn_bye(c, BYE_BUSY, control_busy_retry_ms(),
                     "too many from your address");
        return;
    }
    channel_detach(c->channel); /* mailed when this callback has returned */
    set_state(c, CONN_MOVING, &s->moving);
    timer_start(&s->move, 0);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    control_on_message(ctx, msg, len);
}

/* A host's clients learn at once what only the broker sees at once. */
static void on_close(void *ctx, int err, const char *why)
{
    struct conn *c = ctx;
    struct shard *s = c->shard;
    bool host = c->state == CONN_HOST;
    enum host_end how = err == POSTERN_ERR_CLOSED             ? HOST_ENDED
                        : channel_was_killed(c->channel, err) ? HOST_KILLED
                        : channel_was_reset(c->channel, err)  ? HOST_RESET
                                                              : HOST_BROKE;
    uint8_t key[KEY_LEN];
    struct bonds bonds = c->bonds;
    memcpy(key, c->node.key, KEY_LEN);
    c->bonds = (struct bonds){0};
    struct usher *usher = c->usher;
    c->usher = NULL;
    if (c->state == CONN_HANDSHAKE)
        log_debug("handshake failed: %s (%s)", why, postern_strerror(err));
    conn_end(c);
    if (host && conn_first(s, key, CONN_HOST) == NULL)
        control_host_gone(s, key, &bonds, how);
    control_none_waits(s, key, usher);
    bonds_fini(&bonds);
}

static const struct channel_events events = {
    .on_open = on_open,
    .on_message = on_message,
    .on_close = on_close,
};

static struct channel_config config_of(struct conn *c)
{
    struct shard *s = c->shard;
    return (struct channel_config){.loop = s->loop,
                                   .own = &s->hub->identity.key,
                                   .events = &events,
                                   .ctx = c,
                                   .queue_max_bytes = LIMIT_DEVICE_QUEUE_BYTES,
                                   .credentials = s->credentials,
                                   .priority = s->priority};
}

/* Among the oldest few in `l`: whose address has most. */
static struct conn *least_in(const struct shard *s, const struct list *l)
{
    struct conn *least = NULL;
    uint32_t most = 0;
    int seen = 0;
    for (struct list *n = l->next; n != l && seen < VICTIMS_SEEN; n = n->next, seen++) {
        struct conn *c = LIST_OWNER(n, struct conn, link);
        uint32_t weight = addr_limits_weight(s->limits, &c->place);
        bool spare = c->state != CONN_HOST && !c->accepted;
        weight = c->known ? 0 : weight;
        if (spare && (least == NULL || weight > most)) {
            least = c;
            most = weight;
        }
    }
    return least;
}

static size_t length(const struct list *all)
{
    size_t n = 0;
    for (const struct list *l = all->next; l != all; l = l->next)
        n++;
    return n;
}

size_t conn_begun(const struct shard *s)
{
    return length(&s->handshaking) + length(&s->greeting);
}

/* Of those that began, whose address has most; or one that has not greeted. */
static bool end_one_begun(struct shard *s)
{
    struct conn *c = least_in(s, &s->handshaking);
    if (c != NULL) {
        channel_say_busy(c->channel);
        conn_end(c);
        return true;
    }
    c = least_in(s, &s->greeting);
    if (c != NULL)
        conn_bye(c, BYE_BUSY, control_busy_retry_ms(), "others need its place");
    return c != NULL;
}

/* Who begins is nobody yet: of handshakes there are only so many. */
static void bound_begun(struct shard *s)
{
    spare_count(&s->spare);
    if (conn_begun(s) < s->hub->handshakes_max)
        return;
    s->stats.hits[HIT_HANDSHAKES]++;
    (void)end_one_begun(s);
}

void conn_accept(struct shard *s, int fd, const struct addr_place *place,
                 const uint8_t *device)
{
    struct conn *c = conn_new(s, place);
    if (c == NULL) {
        addr_limits_leave(s->limits, place);
        (void)close(fd);
        return;
    }
    struct channel_config config = config_of(c);
    if (sock_local(fd, &c->local) != 0)
        c->local = (struct addr){0};
    tcp_unsent_max(fd, LIMIT_UNSENT_BYTES); /* what waits is counted where it is seen */
    if (channel_new_server(&c->channel, &config, fd) != 0) {
        conn_free(c);
        return;
    }
    c->known = device != NULL;
    if (device != NULL) /* until it has proven which it is */
        memcpy(c->node.key, device, KEY_LEN);
    bound_begun(s);
    set_state(c, CONN_HANDSHAKE, &s->handshaking);
}

void conn_adopt(struct shard *s, struct mail *m)
{
    struct conn *c = s->stopping ? NULL : conn_new(s, &m->place);
    if (c == NULL)
        return; /* the mail still owns the channel and frees it */
    addr_limits_enter(s->limits, &m->place);
    c->channel = m->channel;
    m->channel = NULL;
    c->local = m->local;
    memcpy(c->node.key, m->from, KEY_LEN);
    struct channel_config config = config_of(c);
    if (channel_attach(c->channel, &config) != 0) {
        conn_free(c);
        return;
    }
    bound_begun(s);
    set_state(c, CONN_GREETING, &s->greeting);
    if (is_crowd(c))
        conn_bye(c, BYE_BUSY, control_busy_retry_ms(), "too many from your address");
}

static void move(struct conn *c)
{
    struct mail *m = mail_new(MAIL_CHANNEL, NULL, 0);
    struct shard *to = hub_shard_of(c->shard->hub, c->node.key);
    if (m != NULL) {
        m->channel = c->channel;
        c->channel = NULL;
        m->local = c->local;
        m->place = c->place;
        memcpy(m->from, c->node.key, KEY_LEN);
        if (mailbox_post(to->mail, m) != 0)
            mail_free(m);
    }
    conn_end(c);
}

void conn_move_all(struct shard *s)
{
    while (!list_empty(&s->moving))
        move(LIST_FIRST(&s->moving, struct conn, link));
}

bool conn_make_room(struct shard *s)
{
    s->stats.hits[HIT_CONNECTIONS]++;
    if (end_one_begun(s))
        return true;
    struct conn *c = least_in(s, &s->ready);
    if (c != NULL)
        conn_bye(c, BYE_BUSY, control_busy_retry_ms(),
                 "others need its place, and no host has answered this device yet");
    return c != NULL;
}

static bool is_neighbour(const struct conn *c, const struct addr_place *place)
{
    for (unsigned i = 0; i < c->place.levels && i < place->levels; i++)
        if (c->place.slot[i] == place->slot[i])
            return true;
    return false;
}

/* The first of `l`, which is by time; among so many. */
static struct conn *first_at(const struct list *l, const struct addr_place *place,
                             const struct conn *but)
{
    int seen = 0;
    for (struct list *n = l->next; n != l && seen < NEIGHBOURS_SEEN;
         n = n->next, seen++) {
        struct conn *c = LIST_OWNER(n, struct conn, link);
        if (c != but && c->state != CONN_HOST && !c->accepted && !c->known &&
            is_neighbour(c, place))
            return c;
    }
    return NULL;
}

bool conn_make_room_at(struct shard *s, const struct addr_place *place,
                       const struct conn *but)
{
    const struct list *lists[] = {&s->handshaking, &s->greeting, &s->ready};
    struct conn *oldest = NULL;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct conn *c = first_at(lists[i], place, but);
        if (c != NULL && (oldest == NULL || c->since_ms < oldest->since_ms))
            oldest = c;
    }
    s->stats.hits[HIT_ADDRESS]++;
    if (oldest == NULL)
        return false;
    if (oldest->state == CONN_HANDSHAKE) {
        channel_say_busy(oldest->channel);
        conn_end(oldest);
    } else {
        conn_bye(oldest, BYE_BUSY, control_busy_retry_ms(),
                 "others of your address need its place");
    }
    return true;
}

static void end_overdue(struct shard *s, struct list *l, uint64_t limit_ms)
{
    uint64_t now = loop_now_ms(s->loop);
    while (!list_empty(l)) {
        struct conn *c = LIST_FIRST(l, struct conn, link);
        if (now - c->since_ms < limit_ms)
            return;
        conn_end(c);
    }
}

void conn_sweep(struct shard *s)
{
    end_overdue(s, &s->handshaking, LIMIT_HANDSHAKE_MS);
    end_overdue(s, &s->greeting, LIMIT_HELLO_MS);
}

void conn_end_all(struct shard *s, bool soon)
{
    size_t all = s->connections * s->hub->count;
    uint32_t spread_ms = (uint32_t)((soon ? 200 : 1000) + all * 1000 / BACK_PER_SECOND);
    while (!list_empty(&s->ready)) {
        struct conn *c = LIST_FIRST(&s->ready, struct conn, link);
        conn_bye(c, BYE_SHUTDOWN,
                 (soon ? RETRY_SOON_MS : RETRY_BASE_MS) +
                     randombytes_uniform(spread_ms),
                 soon ? "the broker makes way for the next one" : "the broker stops");
    }
    end_overdue(s, &s->handshaking, 0);
    end_overdue(s, &s->greeting, 0);
    end_overdue(s, &s->moving, 0);
}

/* Who must go so that `c` can enter: the host before it, or the longest silent client.
 */
static struct conn *one_too_many(struct conn *c, enum conn_state state)
{
    struct conn *oldest = NULL;
    size_t count = 0, max = state == CONN_HOST ? 1 : LIMIT_CLIENTS_PER_DEVICE;
    for (struct conn *i = conn_first(c->shard, c->node.key, state); i != NULL;
         i = conn_next(i)) {
        count++;
        if (oldest == NULL || i->heard_ms <= oldest->heard_ms)
            oldest = i;
    }
    return count >= max ? oldest : NULL;
}

bool conn_replaces(struct conn *c, enum conn_state state)
{
    return one_too_many(c, state) != NULL;
}

bool conn_enter(struct conn *c, enum conn_state state)
{
    struct conn *before = one_too_many(c, state);
    if (state == CONN_HOST)
        channel_set_queue_max(c->channel, LIMIT_HOST_QUEUE_BYTES);
    keymap_add(&c->shard->present, &c->node);
    c->shard->hosts += state == CONN_HOST;
    c->shard->clients += state == CONN_CLIENT;
    set_state(c, state, &c->shard->ready);
    if (before == NULL)
        return false;
    bool reborn = state == CONN_HOST && c->process != 0 && before->process != 0 &&
                  c->process != before->process;
    if (state == CONN_HOST) { /* its sessions go on, or are told that they do not */
        c->bonds = before->bonds;
        before->bonds = (struct bonds){0};
        struct usher_way way = conn_way(c);
        c->usher = before->usher;
        before->usher = NULL;
        usher_move(c->usher, &way);
    }
    /* Now: the device is never taken for gone meanwhile. */
    conn_bye(before, BYE_REPLACED, 0, "this device connected again");
    return reborn;
}

void conn_note_conv(struct conn *c, const uint8_t conv[static CONV_LEN],
                    const uint8_t host[static KEY_LEN])
{
    if (!convs_has(&c->convs, conv, host))
        for (struct conn *i = conn_first(c->shard, c->node.key, CONN_CLIENT); i != NULL;
             i = conn_next(i))
            convs_forget(&i->convs, conv);
    convs_note(&c->convs, conv, host, c->accepted ? LIMIT_CONVS : LIMIT_CONVS_NEW,
               loop_now_ms(c->shard->loop));
}

static struct conn *in_role(struct keymap_node *n, uint8_t state)
{
    for (; n != NULL; n = keymap_next(n)) {
        struct conn *c = LIST_OWNER(n, struct conn, node);
        if (c->state == state)
            return c;
    }
    return NULL;
}

struct conn *conn_first(struct shard *s, const uint8_t key[static KEY_LEN],
                        enum conn_state state)
{
    return in_role(keymap_find(&s->present, key), (uint8_t)state);
}

struct conn *conn_next(const struct conn *c)
{
    return in_role(keymap_next(&c->node), c->state);
}
