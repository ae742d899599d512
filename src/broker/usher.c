/* The host's line, asked every few milliseconds while somebody waits; see usher.h. */
#include "broker/usher.h"

#include <stdlib.h>

#include "io/channel.h"
#include "io/loop.h"

enum { ASK_MS = 5 };

struct usher {
    struct usher_way way;
    struct lobby lobby;
    struct timer timer;
};

static bool is_clear(struct usher *u, uint64_t now_ms)
{
    const struct channel *c = u->way.channel;
    struct lobby *l = &u->lobby;
    uint64_t acked = l->on_way ? channel_acked_bytes(c) : 0;
    uint32_t rtt_ms = l->on_way && acked >= l->end ? channel_min_rtt_us(c) / 1000 : 0;
    return lobby_is_clear(l, acked, rtt_ms, now_ms);
}

static void say(struct usher *u, const struct lobby_guest *g, uint64_t now_ms)
{
    struct channel *c = u->way.channel;
    if (g == NULL)
        return;
    if (channel_send(c, g->message, g->len) == 0)
        lobby_sent(&u->lobby, g->len, channel_said_bytes(c), now_ms);
    else
        ++*u->way.dropped;
}

/* False: it is nobody's turn now. */
static bool lead_one(struct usher *u, uint64_t now_ms)
{
    struct admission *a = u->way.admission;
    struct lobby_guest *g = lobby_leave(&u->lobby, a, u->way.host, now_ms);
    if (g == NULL)
        return false;
    (void)admission_pass(a, u->way.host, false, now_ms); /* it may */
    ++*u->way.introduced;
    say(u, g, now_ms);
    say(u, g->then, now_ms);
    lobby_guest_free(g);
    return true;
}

static void run(struct usher *u)
{
    uint64_t now = loop_now_ms(u->way.loop);
    bool led = true;
    while (led && is_clear(u, now) && u->lobby.count > 0)
        led =
            admission_may_pass(u->way.admission, u->way.host, now) && lead_one(u, now);
    if (u->lobby.count > 0 || u->lobby.on_way)
        timer_start(&u->timer, ASK_MS);
}

static void on_timer(void *ctx)
{
    run(ctx);
}

static struct usher *usher_new(const struct usher_way *way)
{
    struct usher *u = calloc(1, sizeof(*u));
    if (u == NULL)
        return NULL;
    u->way = *way;
    lobby_init(&u->lobby);
    timer_init(&u->timer, way->loop, on_timer, u);
    return u;
}

struct lobby_guest *usher_take(struct usher **at, const struct usher_way *way,
                               struct lobby_guest *g)
{
    struct usher *u = *at != NULL ? *at : usher_new(way);
    *at = u;
    if (u == NULL)
        return g;
    g->since_ms = loop_now_ms(way->loop);
    struct lobby_guest *out = lobby_enter(&u->lobby, g);
    if (!timer_is_active(&u->timer))
        run(u);
    return out;
}

void usher_move(struct usher *u, const struct usher_way *way)
{
    if (u == NULL)
        return;
    u->way = *way;
    lobby_forget_line(&u->lobby);
    timer_start(&u->timer, ASK_MS);
}

struct lobby_guest *usher_find(struct usher *u, const uint8_t client[static KEY_LEN],
                               const uint8_t conv[static CONV_LEN])
{
    return u != NULL ? lobby_find(&u->lobby, client, conv) : NULL;
}

struct lobby_guest *usher_give_up(struct usher *u)
{
    return u != NULL ? lobby_take_any(&u->lobby) : NULL;
}

void usher_free(struct usher *u)
{
    if (u == NULL)
        return;
    timer_stop(&u->timer);
    lobby_fini(&u->lobby);
    free(u);
}
