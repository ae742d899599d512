/*
 * The standing paths of one session: which of them carries packets, which is used, and
 * how large packets may be on it. Knows numbers, times and what was answered; knows no
 * packet, no socket and no kind of path.
 *
 * A path is proven by a probe of PROBE_LEN_BASE bytes (core/probe.h; of
 * PROBE_LEN_STREAM over TCP) that the peer answered with as many on the same path: both
 * ways, and at the size that every packet may have. Nothing is moved to a path before
 * that (RFC 9000 section 8.2 in other words), and what arrives by itself proves
 * nothing: it says neither that our packets arrive, nor that large ones do. On a byte
 * stream that is proven small probes say as much: they wait behind what is large.
 *
 * Doubt. Data that the peer did not acknowledge for max(0.2 s, 2 probe timeouts, or one
 * and 0.3 s if that is less), or a silence of max(1 s, 4 round trips) after data moved,
 * makes one probe on the path in use; keepalives are such a probe. Where its answer
 * takes long the caller hears of it at once (PATHS_SUSPECT). Unanswered for max(0.15
 * s, 1.5 probe timeouts), with nothing acknowledged for as long as above, it begins a
 * *census*: all standing paths are probed at once and again in growing pauses, with
 * small probes: what answers one is asked in full, one path after the other, the one in
 * use first. A path by which the peer asks is asked at once. So questions do not fill a
 * line that is slow. Only where the path in use is gone or the network has changed are
 * the first three of the size that proves a path. Who waits for nothing has more
 * patience. When another answers and the path in use has not for max(0.3 s, 2 probe
 * timeouts) (two round trips, where the network is known to have changed), the session
 * moves, once; where that answer was late the line may be full, and the one in use has
 * twice as long. Paths that stay silent are dead after max(1 s, 4 probe timeouts) when
 * another answered meanwhile, else after max(2 s, 6 probe timeouts). A stream on which
 * packets arrived in the last max(0.3 s, 4 probe timeouts) is neither dead, for 20 s,
 * nor left for a path that carries little: what answers late waits behind other data
 * there. Any other path on which they did is not dead for 5 s: it may lose much. Where
 * answers come late (paths_set_late) a path is dead only after four times as long as
 * they took, and 6 s; a stream that brought something behind the question only so long
 * after that. There questions are small ones.
 *
 * After a move the path's own probes say how long an answer takes, until QUIC can know:
 * else a path that lies far away would be left before its first one.
 *
 * Who has left the path that was wished for comes back to it when it has answered
 * PATHS_RETURN_STREAK requests in a row.
 *
 * Each side does this for itself and sends where it finds an answer. The client leads:
 * its wish (from the ladder) is moved to as soon as it answers, and it tells the host
 * by PROBE_USE where to send. A host in doubt asks by PROBE_TROUBLE for the client's
 * own census.
 *
 * Packet size (RFC 8899 section 4.3). As long as packets above the base size leave, one
 * probe of that size goes beside them every PATHS_FULL_EVERY_US. Three unanswered, with
 * smaller ones answered meanwhile, mean that large packets are lost: PATHS_SHRINK.
 */
#ifndef POSTERN_CORE_PATHS_H
#define POSTERN_CORE_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/probe.h"
#include "core/replay.h"

#define PATHS_MAX 32
#define PATHS_NONE 0 /* path ids are the caller's, never 0 */
#define PATHS_REQUESTS 128
#define PATHS_ACK_MIN_US 200000ull
#define PATHS_ACK_MORE_US 300000ull
#define PATHS_SUSPECT_US 300000ull
#define PATHS_SILENCE_MIN_US 700000ull
#define PATHS_PATIENCE_MIN_US 150000ull
#define PATHS_GRACE_MIN_US 300000ull
#define PATHS_GRACE_HINTED_US 30000ull
#define PATHS_DEAD_MIN_US 1000000ull
#define PATHS_SILENT_US 1000000ull
#define PATHS_SILENT_AGAIN_US 1000000ull
#define PATHS_DEAD_ALONE_US 2000000ull
#define PATHS_SLOW_MAX_US 20000000ull
#define PATHS_LATE_US 200000ull
#define PATHS_CRAWLS_US 1000000ull
#define PATHS_LATE_LEAST_US 1500000ull
#define PATHS_STIR_US 200000ull
#define PATHS_LOSSY_MAX_US 5000000ull
#define PATHS_FULL_EVERY_US 600000ull
#define PATHS_FULL_TRIES 3
#define PATHS_RETURN_STREAK 3 /* doubled for each time it was left in half a minute */
#define PATHS_FORGIVE_US 30000000ull
#define PATHS_PAUSE_MAX_US 15000000ull
#define PATHS_RTT_UNKNOWN_US 250000u
/* Packets that wait in our own queues make a round trip long, and a path no slower. */
#define PATHS_PTO_MAX_US 700000u
/* An answer that took longer is a sign of life and no sample: somebody slept. */
#define PATHS_RTT_MAX_US 5000000u

struct paths_path {
    uint32_t id; /* PATHS_NONE: free slot */
    bool stream; /* takes packets of any size */
    bool meagre; /* carries little: taken when no other answers */
    bool large;  /* it answered a request of the size that proves it */
    bool told_dead;
    bool stirs;           /* it answered a small request, and is to be asked in full */
    uint64_t full_us;     /* when that was done last */
    unsigned full_asks;   /* in this census */
    uint32_t least_us;    /* of its answers */
    uint32_t rtt_us;      /* of its probes; 0: none was answered yet */
    uint32_t latest_us;   /* the same, of the last one */
    uint64_t answered_us; /* when a request was sent whose answer came; 0 none */
    uint64_t asked_us;    /* the first request not answered since; 0 none */
    uint64_t sent_us;     /* the latest request */
    uint64_t heard_us;    /* when anything arrived on it */
    unsigned unanswered;  /* requests since the latest answer */
    unsigned streak;      /* answers in a row */
    unsigned round;       /* of the census in which it was last asked */
};

struct paths_request {
    uint32_t txn, path;
    uint16_t len;
    bool use, open;
    uint64_t sent_us;
};

struct paths {
    bool leads; /* the session's client */
    bool begun; /* had a path */
    struct paths_path list[PATHS_MAX];
    uint32_t current, wanted;
    unsigned need, leaves; /* answers in a row before it is gone (back) to */
    uint64_t left_us;
    /* requests */
    struct paths_request requests[PATHS_REQUESTS];
    uint32_t txn;
    uint32_t use; /* the client's count of choices, own or heard */
    unsigned use_tries;
    bool use_open;
    uint64_t use_at_us, wanted_at_us;
    /* the peer's requests: none is answered twice */
    struct replay seen;
    /* census */
    bool census, hinted;
    unsigned round;
    uint64_t census_us, round_at_us, stir_at_us, silent_since_us, silent_at_us;
    /* evidence on the path in use */
    uint64_t pending_us;  /* the oldest packet that waits to be acknowledged; 0 none */
    uint64_t progress_us; /* when something was acknowledged last */
    uint64_t received_us, check_at_us;
    unsigned fruitless; /* doubts in a row that came to nothing */
    uint32_t rtt_us, pto_us;
    uint32_t own_rtt_us; /* of the path moved to, and until when no less is believed */
    uint64_t own_until_us;
    bool own_guessed; /* it had no probe yet */
    uint64_t late_us; /* how late answers are here and elsewhere on this line */
    unsigned streams;
    bool awaited; /* data came, then silence: perhaps more is waited for */
    bool armed;   /* data moved since the last silence was looked into */
    bool revived;
    bool suspect; /* the caller is to be told of the question that went out */
    bool asked;   /* a question by the caller or by a silence is to go out */
    bool renew;   /* the client is to begin anew */
    unsigned renew_tries;
    uint64_t renew_at_us;
    /* packet size */
    uint16_t size; /* of the largest packets that leave */
    unsigned full_tries;
    uint64_t full_at_us, full_since_us, large_us;
};

enum paths_action_type {
    PATHS_SEND,    /* `probe` on path `id`; then pull again */
    PATHS_MOVE,    /* packets go over path `id` from now on: it answered */
    PATHS_DEAD,    /* client: path `id` answers nothing (`silent_us` since it did) */
    PATHS_DOUBT,   /* a census begins: all are asked what the path in use did not answer
                    */
    PATHS_SUSPECT, /* the first question of a doubt went out, and its answer takes long
                    */
    PATHS_SILENT,  /* no path has answered for PATHS_SILENT_US; again and again */
    PATHS_REVIVED, /* the path in use answers again: what was lost may go out now */
    PATHS_SHRINK,  /* packets above the base size are lost on the path in use */
};

struct paths_action {
    enum paths_action_type type;
    uint32_t id;
    struct path_probe probe;
    uint64_t silent_us;
};

void paths_init(struct paths *p, bool leads, uint64_t now_us);

/* A path more; nothing, if it is there already. The first one is used at once, without
 * proof. POSTERN_ERR_LIMIT: full. */
MUST_CHECK int paths_add(struct paths *p, uint32_t id, bool stream, uint64_t now_us);
/* It carries little: moved to where no other path answers, or by paths_want. */
void paths_set_meagre(struct paths *p, uint32_t id);
/* It is gone. Unknown ids are ignored. */
void paths_remove(struct paths *p, uint32_t id, uint64_t now_us);
/* Client: use `id` as soon as it answers, or say that it is dead. */
void paths_want(struct paths *p, uint32_t id, uint64_t now_us);
/* Before probes can be made (no key yet): use `id` at once; the host is told later. */
void paths_force(struct paths *p, uint32_t id, uint64_t now_us);

/* ---- what happens on the path in use */
/* Authentic packets of the peer arrived on path `id`. */
void paths_on_received(struct paths *p, uint32_t id, uint64_t now_us);
/* The peer acknowledged something that was not acknowledged before. */
static inline void paths_on_progress(struct paths *p, uint64_t now_us)
{
    p->progress_us = now_us;
    p->pending_us = p->pending_us != 0 ? now_us : 0;
    p->fruitless = 0;
}
/* A packet that the peer must acknowledge left; `large`: above the base size. */
void paths_on_sent(struct paths *p, bool large, uint64_t now_us);
/* Nothing waits to be acknowledged. */
static inline void paths_on_settled(struct paths *p)
{
    p->pending_us = 0;
    p->fruitless = 0;
}
/* Stream data or datagrams moved either way. */
static inline void paths_on_activity(struct paths *p)
{
    p->armed = true;
}
/* What QUIC measured; after a move no less than the path's own probes said, for three
 * round trips. */
void paths_on_rtt(struct paths *p, uint32_t smoothed_us, uint32_t variation_us,
                  uint64_t now_us);
/* How long answers take that are late, on whatever path or connection of this line
 * (core/lateness.h); 0: none is. */
static inline void paths_set_late(struct paths *p, uint64_t late_us)
{
    p->late_us = late_us;
}
static inline void paths_set_streams(struct paths *p, unsigned streams)
{
    p->streams = streams;
}
/* QUIC does not move, though the path in use answers: the host asks its client, by
 * PROBE_RENEW, to let it begin anew. */
void paths_want_renewal(struct paths *p, uint64_t now_us);
/* The least that an answer took on path `id`; 0: not known. */
uint32_t paths_least_us(const struct paths *p, uint32_t id);
/* How long the path in use takes for an answer, and when the latest request left that
 * it answered; 0: not known. */
uint32_t paths_answer_takes_us(const struct paths *p);
uint64_t paths_answered_us(const struct paths *p);
/* How large packets on the path in use may be now. */
static inline void paths_set_size(struct paths *p, uint16_t size)
{
    if (size != p->size)
        p->full_since_us = p->full_tries = 0;
    p->size = size;
}
/* The search for the packet size began anew: what PROBE_RENEW asked for. */
static inline void paths_on_renewed(struct paths *p)
{
    p->renew = false;
}

/* ---- doubts of the caller */
/* One probe on the path in use (keepalive). */
void paths_ask(struct paths *p, uint64_t now_us);
/* Probe all paths now. `hinted`: the network has changed, or the peer said so. */
void paths_doubt(struct paths *p, bool hinted, uint64_t now_us);

/* ---- authentic probes of the peer, on path `id` */
/* True: answer with *reply on the same path. */
bool paths_on_request(struct paths *p, uint32_t id, const struct path_probe *q,
                      struct path_probe *reply, uint64_t now_us);
/* The round trip on that path in microseconds, or 0 when nobody asked. */
uint32_t paths_on_response(struct paths *p, uint32_t id, const struct path_probe *q,
                           uint64_t now_us);

/* Pull after each report and at the deadline, until it says false. */
bool paths_next(struct paths *p, uint64_t now_us, struct paths_action *out);
uint64_t paths_deadline_us(const struct paths *p);

/* The path in use; PATHS_NONE when it went away and none has answered yet. */
static inline uint32_t paths_current(const struct paths *p)
{
    return p->current;
}
/* When anything last came over the path in use, or it was taken. */
static inline uint64_t paths_heard_us(const struct paths *p)
{
    return p->received_us;
}
/* Nothing of what was sent was acknowledged for longer than that takes: more would most
 * likely be lost, and every byte of it have to be said again on another path. */
static inline bool paths_is_mute(const struct paths *p, uint64_t now_us)
{
    uint64_t takes_us = (uint64_t)p->pto_us + p->pto_us / 4;
    return p->pending_us != 0 &&
           now_us > p->pending_us +
                        (takes_us > PATHS_ACK_MIN_US ? takes_us : PATHS_ACK_MIN_US);
}
/* Since when no path has answered: in a census, from when on what was sent or asked
 * before it is owed an answer; 0: there is none. */
static inline uint64_t paths_silent_since_us(const struct paths *p)
{
    return p->census ? p->silent_since_us : 0;
}

#endif
