/*
 * A run that cannot begin: how long it waits for better times, by what is in its way,
 * and what whoever waits is told meanwhile. Knows neither hosts nor brokers; how it
 * stands with them it asks its owner.
 */
#ifndef POSTERN_CLIENT_WAITING_H
#define POSTERN_CLIENT_WAITING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "io/loop.h"

struct waiting_view {
    bool waits;          /* somebody waits for a session at all */
    bool asks;           /* for the first session there is a broker to ask */
    bool names;          /* nothing was asked yet but the resolver */
    bool broker_is_up;   /* some broker is there */
    bool broker_was_up;  /* or was in this run */
    bool answered;       /* a host has answered, and its session may come */
    uint32_t settles_ms; /* so long a broker cannot know who is away; 0: it does */
};

struct waiting_events {
    void (*look)(void *ctx, struct waiting_view *v);
    /* What the first session waits for, when no fault is in its way. */
    void (*describe)(void *ctx, char *why, size_t cap);
    /* Nothing goes before there is a session, so that a long wait is told again. */
    bool (*reminds)(void *ctx);
    /* It is given up; `f` is borrowed. May come from inside waiting_on_fault. */
    void (*on_over)(void *ctx, const struct fault *f);
};

struct waiting {
    struct loop *loop;
    const struct waiting_events *events;
    void *ctx;
    unsigned wait_ms; /* for a host or broker that is away; 0: the usual time */
    unsigned end_ms;  /* the command ends after that anyway; 0: it does not */
    bool soon;        /* told sooner what it waits for */
    bool standing;    /* it ends where waiting cannot help, and else when it is told to;
                       * or of `wait_ms`, before a first session */
    bool stood;       /* there was a session */
    uint64_t began_ms;
    uint64_t asks_ms;      /* since when there is a broker to ask; else began_ms */
    struct timer end;      /* of `wait_ms`, until a session stands */
    struct timer patience; /* runs while it waits because of `fault` */
    struct fault fault;
    unsigned in_all_s; /* for so long in all */
    struct timer tell; /* runs until a session stood */
    char told[sizeof(((struct fault *)0)->what)];
    uint64_t told_ms;
};

/* The caller sets what stands before `began_ms`, first. */
void waiting_init(struct waiting *w);
void waiting_fini(struct waiting *w);
/* From now on people are told what it waits for, on stderr, until a session stood. */
void waiting_tell(struct waiting *w);
/* `what` was told already: it is not said again for half a minute. */
void waiting_was_told(struct waiting *w, const char *what);
/*
 * A session that stood is waited for again, and `what`, which keeps it, was told: it is
 * said again as before the first one.
 */
void waiting_again(struct waiting *w, const char *what);
/* Somebody waits because of `why`: true when that is to be told him, which it has not
 * been of late. */
bool waiting_takes(struct waiting *w, const char *why);
/* Nothing was tried yet: the time counts from now. */
void waiting_begin_anew(struct waiting *w);

/* A broker is there, perhaps after a while: what comes now is another story. */
void waiting_on_broker(struct waiting *w);
/* A session stands. */
void waiting_on_session(struct waiting *w);
/* Is over at once when that is fatal, else when the time for such a fault is over, if
 * it has one (core/patience.h). */
void waiting_on_fault(struct waiting *w, const struct fault *f, bool fatal);
/*
 * A broker takes in and ends, again and again. False: a session stood, nobody is to be
 * told, or it is waited for without end; nothing was done.
 */
bool waiting_on_flaps(struct waiting *w, const struct fault *f);
/* Whether this fault is the last word, or a little patience may help. */
bool waiting_is_over(struct waiting *w, const struct fault *f, bool fatal);

#endif
