/* A list that is searched: a device has few brokers and few keys. */
#include "client/homes.h"

#include <stdlib.h>
#include <string.h>

#include "client/client_words.h"
#include "io/log.h"

static void on_up(void *ctx)
{
    struct home *h = ctx;
    h->was_up = true;
    h->told = (struct fault){0};
    h->downs = 0;
    h->all->events->on_up(h->all->ctx, h);
}

static void on_down(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal)
{
    struct home *h = ctx;
    log_info("%s; %s (next try in %u ms)", why->what, why->advice, retry_ms);
    bool news = strcmp(h->told.what, why->what) != 0;
    h->told = *why;
    h->downs++;
    h->flaps += h->was_up && h->downs == 1;
    h->all->events->on_down(h->all->ctx, h, why, fatal, news);
}

static void on_control(void *ctx, const Control *m)
{
    struct home *h = ctx;
    h->all->events->on_control(h->all->ctx, h, m);
}

static const struct uplink_events uplink_events = {on_up, on_down, on_control};

struct home *homes_get(struct homes *all, const struct link *broker,
                       const struct keypair *key)
{
    char name[64];
    LIST_EACH (struct home, h, &all->list, link)
        if (memcmp(h->key, key->pub, KEY_LEN) == 0 &&
            client_same_broker(&h->broker, broker))
            return h;
    struct home *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return NULL;
    client_device_name(name);
    h->all = all;
    h->broker = *broker;
    memcpy(h->key, key->pub, KEY_LEN);
    struct endpoint_config ec = {.loop = all->loop,
                                 .key = key,
                                 .budget = all->budget,
                                 .broker = broker,
                                 .name = name,
                                 .state = all->state,
                                 .events = &uplink_events,
                                 .ctx = h};
    if (endpoint_open(&h->endpoint, &ec) != 0) {
        free(h);
        return NULL;
    }
    list_push_first(&all->list, &h->link);
    return h;
}

void home_free(struct home *h)
{
    list_remove(&h->link);
    endpoint_close(&h->endpoint);
    free(h);
}

void homes_close(struct homes *all)
{
    while (!list_empty(&all->list))
        home_free(LIST_FIRST(&all->list, struct home, link));
}

bool homes_was_up(const struct homes *all)
{
    LIST_EACH (const struct home, h, &all->list, link)
        if (h->was_up)
            return true;
    return false;
}

bool homes_is_up(const struct homes *all)
{
    LIST_EACH (const struct home, h, &all->list, link)
        if (uplink_is_up(h->endpoint.uplink))
            return true;
    return false;
}

uint32_t homes_settle_ms(const struct homes *all)
{
    uint32_t most_ms = 0;
    LIST_EACH (const struct home, h, &all->list, link) {
        uint32_t ms = uplink_settles_ms(h->endpoint.uplink);
        most_ms = ms > most_ms ? ms : most_ms;
    }
    return most_ms;
}

/* Of several connections to one broker, by several of our keys: one that is up, or the
 * first. */
static bool is_told(const struct homes *all, const struct home *h)
{
    const struct home *told = NULL;
    LIST_EACH (const struct home, o, &all->list, link)
        if (client_same_broker(&o->broker, &h->broker) &&
            (told == NULL || (!uplink_is_up(told->endpoint.uplink) &&
                              uplink_is_up(o->endpoint.uplink))))
            told = o;
    return told == h;
}

void homes_each(const struct homes *all,
                void (*each)(void *ctx, const struct uplink *u), void *ctx)
{
    LIST_EACH (const struct home, h, &all->list, link)
        if (is_told(all, h))
            each(ctx, h->endpoint.uplink);
}

void homes_ask(struct homes *all)
{
    LIST_EACH (const struct home, h, &all->list, link)
        uplink_ask(h->endpoint.uplink);
}

bool homes_await(const struct homes *all)
{
    LIST_EACH (const struct home, h, &all->list, link)
        if (uplink_is_awaited(h->endpoint.uplink))
            return true;
    return false;
}

void homes_kick(struct homes *all)
{
    LIST_EACH (struct home, h, &all->list, link)
        uplink_kick(h->endpoint.uplink);
}
