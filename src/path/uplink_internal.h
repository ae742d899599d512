/*
 * The state of an uplink, for the files that make it: uplink.c, which connects and
 * carries messages, uplink_pulse.c, which doubts a connection that stands, and
 * uplink_facts.c, which answers what others ask of it; uplink_badge.c;
 * uplink_prefix.c; and uplink_grants.c.
 */
#ifndef POSTERN_PATH_UPLINK_INTERNAL_H
#define POSTERN_PATH_UPLINK_INTERNAL_H

#include "core/badge.h"
#include "core/comeback.h"
#include "core/keepalive.h"
#include "core/stun.h"
#include "io/channel.h"
#include "io/loop.h"
#include "io/udp.h"
#include "path/uplink.h"

enum { UPLINK_HURRY_MS = 100 }; /* a pause that is cut short ends in about that */

enum uplink_state { UPLINK_WAITING, UPLINK_TRYING, UPLINK_UP };

/* One try at a connection, and the connection when it came about. */
struct line {
    struct uplink *uplink;
    struct reach *dial; /* NULL once it was reached */
    struct channel *channel;
    struct timer timer; /* until the broker's welcome */
    struct addr local, remote;
    unsigned also;    /* an interface over which it is tried as well; 0: none */
    unsigned over;    /* that one, where it answered first; 0: not */
    unsigned instead; /* of which it is tried: the silent one's; 0: not known */
    bool open;        /* the handshake is done and our Hello on its way */
};

enum { PREFIX_TRIES = 5 };

/* By STUN, whether a prefix of NAT64 is one (uplink_prefix.c). */
struct prefix_asker {
    struct udp *socket; /* NULL: not now */
    struct timer timer;
    struct {
        struct addr to;
        uint8_t txid[STUN_TXID_LEN];
    } asked[PREFIX_TRIES];
    unsigned tries;
};

struct uplink {
    struct uplink_config config;
    enum uplink_state state;
    struct line *line;   /* in use or being tried; NULL while waiting */
    struct line *beside; /* to replace a silent one, or one that takes long */
    unsigned fresh;      /* lines begun beside in this try */
    struct proxy proxy;
    bool proxied;
    struct timer timer;      /* retry, keepalive, ping: what `state` says */
    struct nat64_look *look; /* whether this network translates to IPv4 */
    struct prefix_asker prefix;
    struct addr broker_addr, seen;
    struct addr stun[UPLINK_STUN_MAX];
    size_t stun_count;
    uint8_t proof[STUN_MARK_LEN];
    /* Where to try first: the last that worked, then what the name stood for. */
    struct addr known[UPLINK_KNOWN_MAX];
    size_t known_count;
    struct addr resolved[UPLINK_KNOWN_MAX]; /* by the last lookup that succeeded */
    size_t resolved_count;
    bool slow; /* the last connection's round trip was long, or there was none */
    bool has_badge;
    bool looked_up; /* in this try; then `name_err` is what came of it */
    int name_err;
    bool name_slow;       /* it took longer than a first try, or did not come in it */
    struct addr doubtful; /* somebody answers there, but not our broker */
    bool doubted;         /* since the last pause */
    bool stranger;        /* and it is no broker at all */
    uint64_t
        crossed_us; /* a try that had said Hello was given up for another; 0: none */
    struct comeback comeback;
    unsigned retry_floor_ms; /* the broker asked for it */
    uint64_t floor_us;       /* and nobody who waits changes that, until then */
    unsigned replaced;       /* times in a row that another took this one's place */
    unsigned yields;         /* tries left that leave that one in peace */
    uint64_t up_us;
    uint64_t settled_us; /* the broker began anew, and hosts may come back until then */
    struct fault fault;  /* why it is down */
    bool fatal;
    bool takes_familiar;    /* the broker, as it said at its Welcome */
    bool takes_spoken;      /* likewise */
    uint8_t conv[CONV_LEN]; /* of this uplink's NatSessions */
    uint64_t tried_us;
    int64_t broker_began_s; /* by its clock, when ours (io/clock.h) was 0; 0: unsaid */
    struct keepalive keep;
    bool pinging;
    uint64_t heard_us;             /* anything from the broker */
    uint64_t spoke_us;             /* the first message since then, or 0 */
    uint64_t said_us;              /* the first since the broker's kernel was heard */
    uint64_t pinged_us, beside_us; /* when to begin a second one, or a fresh one */
    unsigned beside_ms;            /* the pause before a fresh one */
    uint8_t badge[BADGE_LEN];      /* shown to the broker */
    uint64_t due_us;               /* when the timer should fire, as of arm */
    uint64_t carried_us;           /* until when what was carried uses its share up */
};

/* uplink.c */
void uplink_set_timer(struct uplink *u, uint64_t ms);
/* Drops what there is, and tries from the beginning. */
void uplink_connect_now(struct uplink *u);
/* The machine has another way to the Internet than the one that is used. */
bool uplink_may_go_round(const struct uplink *u);
/* A second connection to take the place of the one in use, or being tried. */
void uplink_begin_beside(struct uplink *u);
void uplink_drop_lines(struct uplink *u);
void uplink_line_free(struct line *l);
/* A try or a connection is over: the one beside it goes on, or a pause begins. */
void uplink_line_failed(struct line *l, int err);
static inline bool uplink_line_is_connected(const struct line *l)
{
    return l != NULL && l->channel != NULL;
}

/* uplink_badge.c: takes the one that was kept; keeps the one that the broker gave. */
void uplink_load_badge(struct uplink *u);
void uplink_take_badge(struct uplink *u, const Control *m);

/* uplink_grants.c: what its Welcome says; an answer. */
void uplink_take_granting(struct uplink *u, bool grants);
void uplink_take_grant(struct uplink *u, const Control *m);

/* uplink_prefix.c: asks anew where a prefix is known and none proven; ends that. */
void uplink_prefix_ask(struct uplink *u);
void uplink_prefix_stop(struct uplink *u);
void uplink_on_prefix_timer(void *uplink);

/*
 * A host is to be reached at any time, and its router may forget it at any: its kernel
 * asks the broker's whether the connection stands, when nothing came for so long. A
 * proxy would answer in the broker's place.
 */
enum { WATCH_S = CHANNEL_ASKS_S };
static inline bool uplink_is_watched(const struct uplink *u)
{
    return u->config.host && !u->proxied;
}

/* uplink_pulse.c: sets the timer of a connection that is up; when it fires. */
void uplink_arm(struct uplink *u);
void uplink_on_up_timer(struct uplink *u);
/* Something is about to be sent. */
void uplink_on_said(struct uplink *u);

#endif
