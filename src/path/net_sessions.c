/* One lock, one record. */
#include "path/net_sessions.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/own_file.h"

void net_budget_free(struct budget *b)
{
    if (b != NULL && b->shared_fd >= 0)
        (void)close(b->shared_fd);
    free(b);
}

void net_budget_share(struct budget *b, const char *dir)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/sessions", dir);
    if (b != NULL && b->shared_fd < 0 && n > 0 && (size_t)n < sizeof(path))
        b->shared_fd = own_file_open(dir, path, O_RDWR);
}

/* True: *all is that of all programs, and shared_put is to follow. */
static bool shared_get(struct budget *b, struct sessions *all, uint64_t now_us)
{
    if (b->shared_fd < 0 || flock(b->shared_fd, LOCK_EX | LOCK_NB) != 0)
        return false; /* who holds it may have been stopped */
    if (pread(b->shared_fd, all, sizeof(*all), 0) != (ssize_t)sizeof(*all) ||
        !sessions_are_of_now(all, now_us))
        memset(all, 0, sizeof(*all));
    if (sessions_borne(all, now_us) > 0) { /* another program has seen it */
        b->sessions.borne = all->borne;
        b->sessions.borne_us = all->borne_us;
    }
    return true;
}

static void shared_put(struct budget *b, const struct sessions *all)
{
    if (pwrite(b->shared_fd, all, sizeof(*all), 0) != (ssize_t)sizeof(*all))
        (void)!ftruncate(b->shared_fd, 0);
    (void)flock(b->shared_fd, LOCK_UN);
}

bool net_take_session(struct budget *b)
{
    struct sessions all;
    uint64_t now_us = clock_us();
    bool shared = shared_get(b, &all, now_us);
    bool room =
        !shared || sessions_borne(&all, now_us) == 0 || sessions_left(&all, now_us) > 0;
    bool yes = room && sessions_take(&b->sessions, now_us);
    if (shared && yes)
        sessions_count(&all, now_us);
    if (shared)
        shared_put(b, &all);
    return yes;
}

unsigned net_sessions_of_others(struct budget *b)
{
    struct sessions all;
    uint64_t now_us = clock_us();
    unsigned own = sessions_open(&b->sessions, now_us), open = 0;
    if (shared_get(b, &all, now_us)) {
        open = sessions_open(&all, now_us);
        shared_put(b, &all);
    }
    return open > own ? open - own : 0;
}

void net_bear_sessions(struct budget *b)
{
    sessions_bear(&b->sessions, clock_us());
}

void net_sessions_full(struct budget *b)
{
    struct sessions all, *own = &b->sessions;
    uint64_t now_us = clock_us();
    sessions_full(own, now_us);
    if (!shared_get(b, &all, now_us))
        return;
    sessions_full(&all, now_us); /* of what all have opened */
    own->borne = all.borne > own->borne ? all.borne : own->borne;
    all.borne = own->borne;
    shared_put(b, &all);
}

void net_forget_sessions(struct budget *b)
{
    struct sessions all;
    sessions_forget(&b->sessions);
    if (!shared_get(b, &all, clock_us()))
        return;
    sessions_forget(&all);
    sessions_forget(&b->sessions); /* shared_get brought it back */
    shared_put(b, &all);
}
