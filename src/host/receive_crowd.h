/*
 * Who sends to `postern receive` at the same time: a process and a place each, and who
 * gives his place when all are taken. Knows processes and names; no file, no frame.
 */
#ifndef POSTERN_HOST_RECEIVE_CROWD_H
#define POSTERN_HOST_RECEIVE_CROWD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/holdings.h"

enum {
    CROWD_SENDERS = 16,   /* served at once; who comes on top of them is told */
    CROWD_PROCESSES = 64, /* those among them who still read their last word */
    CROWD_KEPT_FREE = 16, /* below that the oldest of these is killed */
    /* When all places are taken, one who was silent for so long gives his: before it is
     * known what he sends, and after that. */
    CROWD_SILENT_MS = 1000,
    CROWD_LISTED_SILENT_MS = 60000,
};

/* Shared by a sender's process and the one that started it. */
struct crowd_place {
    _Atomic uint64_t moved;    /* bytes that came; written by the sender's */
    _Atomic uint64_t heard_us; /* when something moved last; likewise */
    atomic_bool listed;        /* he has said all that he sends; likewise */
    atomic_bool leave;         /* another needs it; written by the other */
};

struct crowd_sender {
    struct holding held; /* first: it is what holdings know */
    pid_t pid;           /* 0: free */
    uint64_t came;       /* the how manieth */
    struct crowd_place *place;
    bool killed;
};

struct crowd {
    struct holdings holdings;
    struct crowd_sender senders[CROWD_PROCESSES];
    struct crowd_place *places; /* as many */
    uint64_t came;
};

/* POSTERN_ERR_NOMEM. */
MUST_CHECK int crowd_open(struct crowd *c);
/* The processes are left alone. */
void crowd_close(struct crowd *c);
/*
 * For a connection of `who`; NULL: as many processes as may be. `*served`: he has a
 * place, and somebody else, who was silent for longest or holds most, may have been
 * told to leave his; else he is only told that there is none. crowd_started follows.
 */
struct crowd_sender *crowd_enter(struct crowd *c, const char *who, uint64_t now_us,
                                 bool *served);
/* The process that serves him; negative: it could not be started. */
void crowd_started(struct crowd *c, struct crowd_sender *s, pid_t pid);

#endif
