/* One lock, one record. */
#include "path/net_sessions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/clock.h"
#include "io/netmon.h"
#include "io/shared_record.h"

enum { LAST_TRIES = 64 }; /* of SHARED_RECORD_WAIT_US */

/* What all programs opened, as it is read and written. */
struct sums {
    struct sessions of[SESSIONS_NETWORKS];
};

struct net_budget *net_budget_new(void)
{
    uint8_t secret[BUDGET_SECRET_LEN];
    struct net_budget *b = sodium_init() < 0 ? NULL : calloc(1, sizeof(*b));
    if (b == NULL)
        return NULL;
    randombytes_buf(secret, sizeof(secret));
    budget_init(&b->packets, secret);
    b->opened.network = netmon_way_out();
    b->file = -1;
    return b;
}

/* What this program opened since it could tell last. */
static void pay(struct net_budget *b, struct sessions *all, uint64_t now_us)
{
    if (b->owed > 0)
        sessions_count(all, (unsigned)b->owed, now_us);
    else
        sessions_return(all, (unsigned)-b->owed, now_us);
    sessions_count_others(all, b->owed_others, now_us);
    b->owed = 0;
    b->owed_others = 0;
}

/* The sum of all programs in this network: shared_put is to follow. NULL: not known. */
static struct sessions *shared_get(struct net_budget *b, struct sums *s, bool patient,
                                   uint64_t now_us)
{
    if (!shared_record_take(b->file, s, sizeof(*s), patient && !b->held)) {
        b->held = b->held || patient; /* who holds it may have been stopped */
        return NULL;
    }
    b->held = false;
    for (unsigned i = 0; i < SESSIONS_NETWORKS; i++)
        if (!sessions_are_of_now(&s->of[i], now_us))
            memset(&s->of[i], 0, sizeof(s->of[i]));
    struct sessions *all = sessions_of(s->of, b->opened.network);
    sessions_learn(&b->opened, all); /* another program has seen it */
    pay(b, all, now_us);
    return all;
}

static void shared_put(struct net_budget *b, const struct sums *s)
{
    shared_record_put(b->file, s, sizeof(*s));
}

/* No loop waits any more: what is not told now never will be. */
static void pay_last(struct net_budget *b)
{
    struct sums s;
    for (int i = 0; i < LAST_TRIES && (b->owed != 0 || b->owed_others > 0); i++) {
        b->held = false;
        if (shared_get(b, &s, true, clock_us()) != NULL)
            shared_put(b, &s);
    }
}

void net_budget_free(struct net_budget *b)
{
    if (b != NULL && b->file >= 0) {
        pay_last(b);
        shared_record_close(b->file);
    }
    free(b);
}

void net_budget_share(struct net_budget *b, const char *dir)
{
    char path[4096];
    int n = dir != NULL ? snprintf(path, sizeof(path), "%s/sessions", dir) : 0;
    if (b != NULL && b->file < 0 && n > 0 && (size_t)n < sizeof(path))
        b->file = shared_record_open(dir, path);
}

static unsigned least_of(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static struct grant *grant_of(struct net_budget *b, uint64_t broker)
{
    for (unsigned i = 0; i < NET_GRANTS && broker != 0; i++)
        if (b->grants[i].broker == broker)
            return &b->grants[i].grant;
    return NULL;
}

void net_sessions_granting(struct net_budget *b, uint64_t broker, bool grants)
{
    for (unsigned i = 0; i < NET_GRANTS; i++) {
        if (b->grants[i].broker != broker)
            continue;
        b->grants[i].broker = grants ? broker : 0;
        grant_renew(&b->grants[i].grant);
        return;
    }
    if (!grants)
        return;
    unsigned i = b->grants_next++ % NET_GRANTS;
    b->grants[i].broker = broker;
    b->grants[i].grant = (struct grant){0};
}

/* Of those of all programs, NULL: not known, as far as others leave it its share. */
static unsigned allowed(const struct opener *o, const struct sessions *all,
                        uint64_t now_us)
{
    struct net_budget *b = o->budget;
    unsigned left = sessions_left(&b->opened, o->broker, now_us);
    if (all != NULL)
        left = least_of(left, sessions_left(all, o->broker, now_us));
    unsigned most = sessions_most(&b->opened, o->broker, now_us);
    return o->peer == 0 ? left : shares_allow(&b->shares, o->peer, left, most, now_us);
}

unsigned net_sessions_take(const struct opener *o, unsigned wanted)
{
    struct net_budget *b = o->budget;
    struct sums s;
    uint64_t now_us = clock_us();
    struct sessions *all = shared_get(b, &s, true, now_us);
    struct grant *g = grant_of(b, o->broker);
    unsigned n = least_of(wanted, allowed(o, all, now_us));
    if (g != NULL) {
        n = least_of(n, grant_left(g, now_us));
        grant_count(g, n);
    }
    sessions_count(&b->opened, n, now_us);
    if (o->peer != 0)
        shares_count(&b->shares, o->peer, n, now_us);
    if (o->peer != 0 && n < wanted)
        shares_wait(&b->shares, o->peer, now_us);
    b->owed += (int)n;
    if (all != NULL) {
        pay(b, all, now_us);
        shared_put(b, &s);
    }
    return n;
}

void net_sessions_return(const struct opener *o, unsigned n)
{
    struct net_budget *b = o->budget;
    struct sums s;
    uint64_t now_us = clock_us();
    struct grant *g = grant_of(b, o->broker);
    if (n == 0)
        return;
    if (g != NULL)
        grant_return(g, n);
    sessions_return(&b->opened, n, now_us);
    if (o->peer != 0)
        shares_return(&b->shares, o->peer, n);
    b->owed -= (int)n;
    if (shared_get(b, &s, true, now_us) != NULL)
        shared_put(b, &s);
}

void net_sessions_on_other(void *ctx)
{
    struct net_budget *b = ctx;
    struct sums s;
    uint64_t now_us = clock_us();
    sessions_count_others(&b->opened, 1, now_us);
    b->owed_others++;
    if (shared_get(b, &s, false, now_us) != NULL)
        shared_put(b, &s);
}

bool net_sessions_are_enough(const struct opener *o, unsigned wanted)
{
    struct sums s;
    uint64_t now_us = clock_us();
    struct sessions *all = shared_get(o->budget, &s, true, now_us);
    unsigned left = allowed(o, all, now_us);
    struct grant *g = grant_of(o->budget, o->broker);
    if (all != NULL)
        shared_put(o->budget, &s);
    if (g != NULL)
        left = least_of(left, grant_left(g, now_us));
    bool enough =
        sessions_are_enough(&o->budget->opened, wanted, left, o->broker, now_us);
    if (!enough && o->peer != 0)
        shares_wait(&o->budget->shares, o->peer, now_us);
    return enough;
}

unsigned net_sessions_wants(const struct opener *o, unsigned wanted)
{
    struct sums s;
    uint64_t now_us = clock_us();
    struct grant *g = grant_of(o->budget, o->broker);
    if (g == NULL || grant_wants(g, wanted, now_us) == 0)
        return 0;
    struct sessions *all = shared_get(o->budget, &s, true, now_us);
    unsigned left = allowed(o, all, now_us);
    if (all != NULL)
        shared_put(o->budget, &s);
    return grant_wants(g, least_of(wanted, left), now_us);
}

void net_sessions_asked(const struct opener *o, unsigned n, unsigned rtt_ms)
{
    struct grant *g = grant_of(o->budget, o->broker);
    if (g != NULL)
        grant_asked(g, n, rtt_ms, clock_us());
}

bool net_sessions_wait(const struct opener *o)
{
    const struct grant *g = grant_of(o->budget, o->broker);
    return g != NULL && grant_waits(g, clock_us());
}

void net_sessions_granted(const struct opener *o, unsigned granted, unsigned wait_ms)
{
    struct grant *g = grant_of(o->budget, o->broker);
    if (g != NULL)
        grant_on_answer(g, least_of(granted, SESSIONS_AT_ONCE), wait_ms, clock_us());
}

unsigned net_sessions_give_up(const struct opener *o)
{
    struct grant *g = grant_of(o->budget, o->broker);
    return g != NULL ? grant_give_up(g, clock_us()) : 0;
}

bool net_sessions_are_too_many(const struct opener *o)
{
    return sessions_are_too_many(&o->budget->opened, o->broker, clock_us());
}

uint64_t net_sessions_words(const struct opener *o, char *buf, size_t cap)
{
    struct sums s;
    uint64_t now_us = clock_us();
    struct sessions *all = shared_get(o->budget, &s, true, now_us);
    if (all != NULL)
        shared_put(o->budget, &s);
    else
        all = &o->budget->opened;
    const struct grant *g = grant_of(o->budget, o->broker);
    uint64_t granted_ms = g != NULL ? grant_wait_ms(g, now_us) : 0;
    sessions_words(all, o->broker, now_us, buf, cap);
    uint64_t own_ms = sessions_wait_ms(all, o->broker, now_us);
    if (granted_ms <= own_ms)
        return own_ms;
    (void)snprintf(buf, cap,
                   "enough ports were tried from this network's address for this "
                   "minute: again in %u s",
                   (unsigned)(granted_ms / 1000 + 1));
    return granted_ms;
}

unsigned net_sessions_open(const struct opener *o)
{
    struct sums s;
    uint64_t now_us = clock_us();
    unsigned open = sessions_open(&o->budget->opened, now_us), of_all = 0;
    struct sessions *all = shared_get(o->budget, &s, true, now_us);
    if (all != NULL) {
        of_all = sessions_open(all, now_us);
        shared_put(o->budget, &s);
    }
    return of_all > open ? of_all : open;
}

unsigned net_sessions_of_others(const struct opener *o)
{
    return net_sessions_open(o) - sessions_open(&o->budget->opened, clock_us());
}

void net_sessions_saw(const struct opener *o, unsigned open)
{
    struct sums s;
    struct sessions *all = shared_get(o->budget, &s, true, clock_us());
    sessions_saw(&o->budget->opened, open);
    if (all == NULL)
        return;
    sessions_saw(all, open);
    shared_put(o->budget, &s);
}

void net_sessions_full(const struct opener *o)
{
    struct sums s;
    struct sessions *own = &o->budget->opened;
    uint64_t now_us = clock_us();
    struct sessions *all = shared_get(o->budget, &s, true, now_us);
    sessions_full(own, o->broker, now_us);
    if (all == NULL)
        return;
    sessions_full(all, o->broker, now_us); /* of what all have opened */
    sessions_learn(own, all);
    shared_put(o->budget, &s);
}

void net_sessions_cut(const struct opener *o, unsigned n)
{
    struct sums s;
    struct sessions *own = &o->budget->opened;
    uint64_t now_us = clock_us();
    struct sessions *all = shared_get(o->budget, &s, true, now_us);
    sessions_cut(own, n, o->broker, now_us);
    if (all == NULL)
        return;
    sessions_learn(all, own);
    shared_put(o->budget, &s);
}

/* Where no file keeps them. */
static void keep_own(struct net_budget *b)
{
    *sessions_of(b->left, b->opened.network) = b->opened;
    b->owed = 0; /* of the other one's */
    b->owed_others = 0;
}

void net_sessions_enter(struct net_budget *b)
{
    struct sums s;
    uint64_t network = netmon_way_out(), now_us = clock_us();
    if (network != b->opened.network) {
        keep_own(b);
        b->opened = *sessions_of(b->left, network);
        named_forget(&b->named);
    }
    if (shared_get(b, &s, true, now_us) != NULL)
        shared_put(b, &s);
}
