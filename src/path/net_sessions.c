/* One lock, one record. */
#include "path/net_sessions.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <sodium.h>

#include "io/clock.h"
#include "io/own_file.h"

struct net_budget *net_budget_new(void)
{
    uint8_t secret[BUDGET_SECRET_LEN];
    struct net_budget *b = sodium_init() < 0 ? NULL : calloc(1, sizeof(*b));
    if (b == NULL)
        return NULL;
    randombytes_buf(secret, sizeof(secret));
    budget_init(&b->packets, secret);
    b->file = -1;
    return b;
}

void net_budget_free(struct net_budget *b)
{
    if (b != NULL && b->file >= 0)
        (void)close(b->file);
    free(b);
}

void net_budget_share(struct net_budget *b, const char *dir)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/sessions", dir);
    if (b != NULL && b->file < 0 && n > 0 && (size_t)n < sizeof(path))
        b->file = own_file_open(dir, path, O_RDWR);
}

/* True: *all is that of all programs, and shared_put is to follow. */
static bool shared_get(struct net_budget *b, struct sessions *all, uint64_t now_us)
{
    if (b->file < 0 || flock(b->file, LOCK_EX | LOCK_NB) != 0)
        return false; /* who holds it may have been stopped */
    if (pread(b->file, all, sizeof(*all), 0) != (ssize_t)sizeof(*all) ||
        !sessions_are_of_now(all, now_us))
        memset(all, 0, sizeof(*all));
    sessions_learn(&b->opened, all); /* another program has seen it */
    return true;
}

static void shared_put(struct net_budget *b, const struct sessions *all)
{
    if (pwrite(b->file, all, sizeof(*all), 0) != (ssize_t)sizeof(*all))
        (void)!ftruncate(b->file, 0);
    (void)flock(b->file, LOCK_UN);
}

static unsigned least_of(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Of those of all programs, NULL: not known, as far as others leave it its share. */
static unsigned allowed(const struct opener *o, const struct sessions *all,
                        uint64_t now_us)
{
    struct net_budget *b = o->budget;
    unsigned left = sessions_left(&b->opened, o->broker, now_us);
    if (all != NULL)
        left = least_of(left, sessions_left(all, o->broker, now_us));
    return o->peer == 0 ? left : shares_allow(&b->shares, o->peer, left, now_us);
}

unsigned net_sessions_take(const struct opener *o, unsigned wanted)
{
    struct net_budget *b = o->budget;
    struct sessions all;
    uint64_t now_us = clock_us();
    bool shared = shared_get(b, &all, now_us);
    unsigned n = least_of(wanted, allowed(o, shared ? &all : NULL, now_us));
    sessions_count(&b->opened, n, now_us);
    if (o->peer != 0)
        shares_count(&b->shares, o->peer, n, now_us);
    if (shared) {
        sessions_count(&all, n, now_us);
        shared_put(b, &all);
    }
    return n;
}

void net_sessions_return(const struct opener *o, unsigned n)
{
    struct sessions all;
    uint64_t now_us = clock_us();
    if (n == 0)
        return;
    sessions_return(&o->budget->opened, n, now_us);
    if (o->peer != 0)
        shares_return(&o->budget->shares, o->peer, n);
    if (!shared_get(o->budget, &all, now_us))
        return;
    sessions_return(&all, n, now_us);
    shared_put(o->budget, &all);
}

bool net_sessions_are_enough(const struct opener *o, unsigned wanted)
{
    struct sessions all;
    uint64_t now_us = clock_us();
    bool shared = shared_get(o->budget, &all, now_us);
    unsigned left = allowed(o, shared ? &all : NULL, now_us);
    if (shared)
        shared_put(o->budget, &all);
    return sessions_are_enough(&o->budget->opened, wanted, left, o->broker, now_us);
}

bool net_sessions_are_too_many(const struct opener *o)
{
    return sessions_are_too_many(&o->budget->opened, o->broker, clock_us());
}

uint64_t net_sessions_words(const struct opener *o, char *buf, size_t cap)
{
    struct sessions all, *of = &o->budget->opened;
    uint64_t now_us = clock_us();
    if (shared_get(o->budget, &all, now_us)) {
        shared_put(o->budget, &all);
        of = &all;
    }
    sessions_words(of, o->broker, now_us, buf, cap);
    return sessions_wait_ms(of, now_us);
}

unsigned net_sessions_open(const struct opener *o)
{
    struct sessions all;
    uint64_t now_us = clock_us();
    unsigned open = sessions_open(&o->budget->opened, now_us);
    if (!shared_get(o->budget, &all, now_us))
        return open;
    unsigned of_all = sessions_open(&all, now_us);
    shared_put(o->budget, &all);
    return of_all > open ? of_all : open;
}

unsigned net_sessions_of_others(const struct opener *o)
{
    return net_sessions_open(o) - sessions_open(&o->budget->opened, clock_us());
}

void net_sessions_saw(const struct opener *o, unsigned open)
{
    struct sessions all;
    bool shared = shared_get(o->budget, &all, clock_us());
    sessions_saw(&o->budget->opened, open);
    if (!shared)
        return;
    sessions_saw(&all, open);
    shared_put(o->budget, &all);
}

void net_sessions_full(const struct opener *o)
{
    struct sessions all, *own = &o->budget->opened;
    uint64_t now_us = clock_us();
    bool shared = shared_get(o->budget, &all, now_us);
    sessions_full(own, o->broker, now_us);
    if (!shared)
        return;
    sessions_full(&all, o->broker, now_us); /* of what all have opened */
    sessions_learn(own, &all);
    shared_put(o->budget, &all);
}

void net_sessions_forget(struct net_budget *b)
{
    struct sessions all;
    bool shared = shared_get(b, &all, clock_us());
    sessions_forget(&b->opened);
    if (!shared)
        return;
    sessions_forget(&all);
    shared_put(b, &all);
}
