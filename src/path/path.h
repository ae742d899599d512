/*
 * A path: one way for datagrams between two devices. Each kind is one file here that
 * makes struct path objects; the session above sends and receives through this
 * interface and does not care which kind it holds.
 *
 * Batches are laid out as UDP_SEGMENT and UDP_GRO lay them out: packets of
 * `segment_len` bytes one after the other, the last may be shorter.
 */
#ifndef POSTERN_PATH_PATH_H
#define POSTERN_PATH_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/copies.h"
#include "core/err.h"
#include "core/kinds.h"
#include "core/list.h"
#include "core/probe.h"

struct path;

struct path_ops {
    /*
     * Sends a batch whole or not at all. 0: taken (a packet may still be lost).
     * POSTERN_ERR_AGAIN: nothing was taken; on_writable follows.
     * POSTERN_ERR_CLOSED: the path is dead; its owner has been told.
     */
    int (*send)(struct path *p, const uint8_t *buf, size_t len, size_t segment_len);
};

/* Who uses the path; set by the session, cleared by it when it lets go. */
struct path_user {
    /* `buf` is borrowed until the call returns. */
    void (*on_packets)(void *ctx, struct path *p, const uint8_t *buf, size_t len,
                       size_t segment_len);
    void (*on_writable)(void *ctx, struct path *p);
};

/* What its user knows of bundles on a path (session/bundle.c). */
struct bundles {
    unsigned most;     /* packets that one may have; 0: as many as there are */
    unsigned tried;    /* in the one that is tried, which has more */
    unsigned missed;   /* witnesses lost since one was acknowledged */
    unsigned failed;   /* tries of this size in a row */
    bool renewed;      /* QUIC began anew since packets leave singly */
    uint64_t trial;    /* witness of that one; 0: none is awaited */
    uint64_t trial_ns; /* when that left */
    unsigned open;     /* witnesses of which nothing is known yet */
    uint64_t first;    /* those up to it are of another time */
    uint64_t known;    /* the latest that was acknowledged */
    uint64_t since_ns; /* none was acknowledged, though one is awaited; 0 */
    uint64_t left_ns, look_ns, answered_ns;
    uint64_t next_ns, pause_ns, fell_ns;
};

struct path {
    const struct path_ops *ops;
    enum path_kind kind;
    uint32_t id; /* unique within one approach, never 0, never used again */
    bool stream; /* a byte stream below: large packets cost less */
    struct addr local, remote; /* for people; ADDR_NONE when not known */
    uint32_t window_bytes;     /* a TCP window that does not scale; 0: it does */
    uint32_t rtt_us;           /* as the kind measured it, 0 when it did not */
    bool meagre;               /* carries little: taken when no other answers */
    bool ended;                /* a stream that the other end closed in order */
    bool settled;              /* its session is over and nothing is under way on it */
    bool answered;             /* UDP: who is there got a packet of ours, and said so */
    bool silent;               /* its user keeps it although it answers nothing */
    uint64_t silent_since_us;
    /* Its user's: the size of packets looked for last and how often, and what was tried
     * in vain: 0 nothing. */
    size_t search_size, too_long;
    unsigned search_tries;
    uint64_t too_long_ns;
    struct bundles bundles;       /* its user's too */
    struct list link;             /* of its approach's */
    struct list user_link;        /* of its user's */
    const struct path_user *user; /* NULL: what arrives is dropped */
    void *user_ctx;
};

static inline int path_send(struct path *p, const uint8_t *buf, size_t len,
                            size_t segment_len)
{
    return p->ops->send(p, buf, len, segment_len);
}

/* A packet for the session: QUIC's (its fixed bit), a probe or an early copy. */
static inline bool path_is_session_packet(uint8_t first)
{
    return (first & 0x40) != 0 || first == PROBE_FIRST_BYTE || first == COPY_FIRST_BYTE;
}

static inline void path_deliver(struct path *p, const uint8_t *buf, size_t len,
                                size_t segment_len)
{
    if (p->user != NULL)
        p->user->on_packets(p->user_ctx, p, buf, len, segment_len);
}

static inline void path_writable(struct path *p)
{
    if (p->user != NULL)
        p->user->on_writable(p->user_ctx, p);
}

#endif
