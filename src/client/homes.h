/*
 * The homes of a client: its connections to brokers, one for each broker and each of
 * the device's keys by which some host there knows it. Knows whether they stand, stood,
 * and were lost how often; knows no host, and what is told of it to whom is the
 * owner's.
 */
#ifndef POSTERN_CLIENT_HOMES_H
#define POSTERN_CLIENT_HOMES_H

#include "core/link.h"
#include "core/list.h"
#include "session/endpoint.h"

struct homes;

struct home {
    struct list link;
    struct homes *all;
    struct endpoint endpoint;
    struct link broker;
    uint8_t key[KEY_LEN];
    bool was_up;
    bool told_lost; /* the owner's: somebody was told that it is away */
    unsigned flaps; /* how often it was up and then not */
    unsigned downs; /* these two and `told`: since it was up last */
    struct fault told;
};

struct homes_events {
    void (*on_up)(void *ctx, struct home *h);
    /* As of an uplink; `news`: `why` is another than the one before. */
    void (*on_down)(void *ctx, struct home *h, const struct fault *why, bool fatal,
                    bool news);
    void (*on_control)(void *ctx, struct home *h, const Control *m);
};

struct homes {
    struct list list; /* struct home, the newest first */
    struct loop *loop;
    struct net_budget *budget;         /* borrowed, as the next two */
    const char *state;                 /* the state directory */
    const struct homes_events *events; /* borrowed */
    void *ctx;
};

/* Frees all. Their sessions must be gone, as for home_free. */
void homes_close(struct homes *all);
/* The one for that broker and key, made when there is none; NULL: no memory. */
struct home *homes_get(struct homes *all, const struct link *broker,
                       const struct keypair *key);
void home_free(struct home *h);

/* Some broker was there in this run; or is there now. */
bool homes_was_up(const struct homes *all);
bool homes_is_up(const struct homes *all);
/* So long a broker that has just begun anew cannot know who is away; 0: it knows. */
uint32_t homes_settle_ms(const struct homes *all);
/* Calls `each` for one connection to each broker: one that is up, or the first. */
void homes_each(const struct homes *all,
                void (*each)(void *ctx, const struct uplink *u), void *ctx);
/* Asks each whether it answers (path/inquiry.h); and whether one owes that still. */
void homes_ask(struct homes *all);
bool homes_await(const struct homes *all);
/* The network changed. */
void homes_kick(struct homes *all);

#endif
