/* What peer.c and peer_meta.c share, and nobody else may include. */
#ifndef POSTERN_CLIENT_PEER_INTERNAL_H
#define POSTERN_CLIENT_PEER_INTERNAL_H

#include "client/peer.h"
#include "core/backoff.h"
#include "core/pace.h"
#include "core/trial.h"
#include "io/live.h"
#include "io/loop.h"
#include "session/tie.h"

enum { PEER_TICK_MS = 500 };

struct peer {
    struct peer_config config;   /* its key: of this attempt; the host's may be newer */
    uint8_t key[KEY_LEN];        /* the host's newest; the next attempt asks for it */
    struct tie *tie;             /* of this try; NULL: between two */
    const struct endpoint *tied; /* by which that is; compared only */
    enum path_kind told;         /* of the last path event */
    uint32_t told_id;
    struct addr told_local;
    uint32_t moved_id; /* it starts elsewhere now: told when it answers there */
    Services *services;
    struct timer timer;  /* retry, or the limit for opening */
    struct timer reject; /* looks for kinds that came to nothing; runs the trial */
    bool rejected[PATH_KIND_COUNT];
    char told_reason[PATH_KIND_COUNT][LADDER_REASON_LEN]; /* to a person, last */
    bool told_relayed; /* why, since the last direct path of this attempt */
    bool joined;
    bool repeats; /* the last fault is as the one that was told before */
    char told_fault[sizeof(((struct fault *)NULL)->what)];
    bool comes_anew; /* peer_come_as was called for it */
    struct backoff backoff;
    struct pace said;       /* to the host, by the broker, in all tries */
    struct pace bidden;     /* tries that the host, or the broker's word of it, began */
    bool soon;              /* the next try is one of these */
    struct backoff crowded; /* between the ends that a full host puts to sessions */
    uint64_t began_us;
    struct peer_memory memory;
    bool unanswered;  /* nothing came back to the last try */
    bool forgotten;   /* by whoever has its key, and that is looked into */
    bool gone_broken; /* it went by no end of the host's: it comes back by the broker */
    bool told_silent;
    bool held;        /* calls wait until a doubt is settled */
    uint64_t over_us; /* when the last attempt ended */
    uint64_t gone_us; /* when the broker lost the host, until that is looked into */
    uint64_t path_ended_us;   /* when the host last ended a path over TCP */
    uint64_t doubted_us;      /* when the broker was last asked for want of an answer */
    uint64_t told_since_us;   /* when the silence that was told began */
    uint64_t told_elapsed_us; /* when the path of `told_id` was told */
    unsigned limit_s;         /* of the silence that is on; 0: none is */
    unsigned told_limit_s;    /* as it was told */
    uint64_t turned_us;       /* since when it is that */
    struct trial trial;
    uint32_t rivals_tried; /* mask of kinds */
    uint64_t pressed_us;   /* when the host last said that the path holds it up */
    struct live *live;     /* tells our other programs of this session */
    struct fault last;
};

/* A try is on: neither given up nor between two. */
bool peer_is_on(const struct peer *p);
/* Of this try; there is one. */
const struct ladder *peer_ladder(const struct peer *p);
uint64_t peer_signal_us(const struct peer *p); /* as approach_signal_us */

/*
 * With a session: its host may be another process by now, or its network away. Calls
 * wait until that is known, which on_answered tells, or another session.
 */
bool peer_is_doubted(const struct peer *p);

/* The host's end of a path over TCP was closed in order. */
void peer_on_path_ended(struct peer *p);

/* Takes session and approach down; another try follows after a pause. */
void peer_restart(struct peer *p, const struct fault *f, bool fatal);

/*
 * The same where the host, or the broker's word of it, makes us begin anew: soon the
 * first times, and as after any failure where it happens again and again.
 */
void peer_restart_soon(struct peer *p, const struct fault *f);

/* Tells whoever uses this host. */
void peer_fault(struct peer *p, const struct fault *f, bool fatal);

/* peer_trial.c */
/* Each tick of `reject`. */
void peer_run_trial(struct peer *p);
/* Another path was chosen: no verdict. */
void peer_end_trial(struct peer *p);
/* Another network, another session: what was learned holds no more. */
void peer_reset_trial(struct peer *p);

/* peer_silence.c */
/* The broker has just lost the host: does any path still answer? */
void peer_on_gone(struct peer *p, unsigned code); /* of enum refuse_code */
/* It is not there now, and ended in order: asked while nothing came from it. */
void peer_on_absent(struct peer *p);
/*
 * A host with this key does not know the session. It may be another machine with a copy
 * of its state: a session that answers lives, whatever that one says.
 */
void peer_on_forgotten(struct peer *p);
void peer_check_gone(struct peer *p);
/* Now and then: tells of a silence, and ends a session that only waits. */
void peer_watch_silence(struct peer *p);
/*
 * The host was asked, and each kind that is allowed came to nothing. Where the relay is
 * allowed there is always hope.
 */
bool peer_is_hopeless(const struct peer *p);
/* When the host was last heard in this try, through the broker or on a path; or 0. */
uint64_t peer_heard_us(const struct peer *p);
/* Why no session came in time: a path that brings nothing back, or no path. */
void peer_unanswered(const struct peer *p, struct fault *f);

/* The first words when the session is open: the invite's proof, or what we ask for. */
void peer_meta_begin(struct peer *p);
/* One message of the host. */
void peer_meta_take(void *ctx, const Meta *m);

#endif
