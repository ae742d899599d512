/*
 * A meeting (core/meeting.h) as a path kind: the machine's time, its place in Offers,
 * and what the ladder is told. The engine below does what the machine says, by TCP or
 * UDP; it is all that knows sockets.
 */
#ifndef POSTERN_PATH_MEET_H
#define POSTERN_PATH_MEET_H

#include "core/meeting.h"
#include "io/helper.h"
#include "io/loop.h"
#include "path/kind.h"

enum { MEET_ADDRESSES_MAX = 8, MEET_FAMILIES = 2 /* 0 IPv4, 1 IPv6 */ };

struct meet;

/* The actions of core/meeting.h, and what a kind has beside them. */
struct meet_engine {
    void (*gather)(struct meet *m);
    void (*prepare)(struct meet *m);
    void (*alone)(struct meet *m); /* NULL: no plan asks for it */
    void (*step)(struct meet *m, struct meeting_step s);
    void (*last)(struct meet *m);
    void (*end)(struct meet *m); /* harmless at any time */
    size_t (*addresses)(struct meet *m,
                        struct meeting_address out[static MEET_ADDRESSES_MAX]);
    bool (*has_path)(const struct meet *m);
    /* Drops that path, or all (NULL); no report. */
    void (*drop)(struct meet *m, const struct path *p);
};

struct meet {
    struct approach *approach;
    const struct meet_engine *engine;
    struct meeting meeting;
    struct timer timer;
    struct helper_watch helper;
    bool helped;       /* the helper is back, and the ladder is to hear of it */
    uint32_t regained; /* as the host's Offers count */
    uint64_t heed_ms;  /* client: not before */
    unsigned busy;
    bool driving, freed;
};

/* What is done within an event of the engine's: the machine is told between these two,
 * and what it says is done at the second, which may free `m`. */
void meet_enter(struct meet *m);
void meet_leave(struct meet *m);
/* The same for what the machine need not hear of. */
void meet_hold(struct meet *m);
void meet_release(struct meet *m);

static inline const struct approach_config *meet_config(const struct meet *m)
{
    return approach_config_of(m->approach);
}

/* Takes over `m`, zeroed memory of the engine's, and returns it; NULL stays NULL. */
void *meet_init(struct meet *m, struct approach *a, enum path_kind kind,
                const struct meet_engine *engine);

/* The operations of the kinds of an engine, all but `make`. */
void meet_free(void *k);
void meet_start(void *k);
void meet_stop(void *k);
void meet_fill_offer(void *k, Offer *o);
void meet_on_offer(void *k, const Offer *o, bool renewed);
void meet_on_uplink(void *k, bool up);
void meet_on_dead(void *k, struct path *p);

#define MEET_ENGINE(make)                                                              \
    {                                                                                  \
        .new = (make), .free = meet_free, .start = meet_start, .stop = meet_stop,      \
        .fill_offer = meet_fill_offer, .on_offer = meet_on_offer,                      \
        .on_uplink = meet_on_uplink, .on_dead = meet_on_dead                           \
    }

#endif
