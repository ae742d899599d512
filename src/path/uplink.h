/*
 * The uplink: a device's one connection to its broker, which comes back by itself.
 * Knows greeting, pauses between tries and keepalive; the routed messages are handed
 * up as they are.
 */
#ifndef POSTERN_PATH_UPLINK_H
#define POSTERN_PATH_UPLINK_H

#include <stdbool.h>

#include "core/addr.h"
#include "core/badge.h"
#include "core/link.h"
#include "core/proto.h"
#include "io/reach.h"
#include "path/net.h"

#define UPLINK_STUN_MAX 5 /* those of Welcome, and the second port of the first */
#define UPLINK_KNOWN_MAX 4

struct uplink;

struct uplink_events {
    /*
     * The broker has welcomed us; messages may be sent. Also without an on_down before,
     * when a new connection took the place of a silent one: what was sent on that may
     * be lost.
     */
    void (*on_up)(void *ctx);
    /*
     * Not connected, with the reason for people; it tries again by itself in
     * `retry_ms`. `fatal`: trying again cannot help until something is changed (wrong
     * key, token or version); tries go on slowly all the same.
     */
    void (*on_down)(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal);
    /* What is not about this connection; borrowed. */
    void (*on_control)(void *ctx, const Control *m);
    /*
     * A host's: it connects; puts whom it lists into `list` of FAMILIAR_BYTES
     * (core/familiar.h) and returns the length. NULL: it does not say.
     */
    size_t (*familiar)(void *ctx, uint8_t *list);
};

struct uplink_config {
    struct net *net;
    struct link broker;
    bool lan;        /* `broker` is an agent of this LAN: never by a proxy */
    bool any_broker; /* whatever key it has: nothing is believed that it says */
    bool host;       /* announce as a host */
    char name[64];   /* of this device */
    /*
     * State directory, borrowed: where the broker was found last is kept there, so that
     * it is tried at once whether its name can be resolved or not. NULL: nowhere.
     */
    const char *state;
    const struct uplink_events *events; /* borrowed */
    void *ctx;
};

/* Starts connecting at once. */
MUST_CHECK int uplink_open(struct uplink **out, const struct uplink_config *c);
/* May be called inside its events. NULL is fine. */
void uplink_close(struct uplink *u);

bool uplink_is_up(const struct uplink *u);
/* The try that is under way: where it got with the broker's name. */
enum uplink_name { UPLINK_NAME_KNOWN, UPLINK_NAME_ASKED, UPLINK_NAME_FAILED };
enum uplink_name uplink_name(const struct uplink *u);
/* It leads to an agent of this LAN. */
bool uplink_is_dialling(const struct uplink *u); /* its address has not answered yet */
bool uplink_is_lan(const struct uplink *u);
/*
 * Why it is down; NULL while it is up and before the first try ended. `fatal` as of
 * on_down; may be NULL.
 */
const struct fault *uplink_fault(const struct uplink *u, bool *fatal);
/* This broker lets a host say anew whom it lists. */
bool uplink_takes_familiar(const struct uplink *u);
/* This broker carries spoken codes between clients. */
bool uplink_takes_spoken(const struct uplink *u);
/* POSTERN_ERR_CLOSED when down, POSTERN_ERR_LIMIT when the broker is too slow. */
MUST_CHECK int uplink_send(struct uplink *u, const Control *m);
/*
 * Whether a packet of `len` bytes may be carried now; if so, it counts. All sessions of
 * a device share what the broker carries for it, and who sends more than that is thrown
 * out: this allows less.
 */
bool uplink_may_carry(struct uplink *u, size_t len);
/*
 * The network changed. A connection whose own address is gone is dropped and made anew
 * at once; otherwise it is asked whether it lives, and a second one begins beside it:
 * at once when the way to the broker is another now, else when the answer is late. The
 * first that shows life stays.
 */
void uplink_kick(struct uplink *u);
/*
 * Something else that goes to the broker is silent: the same, with more patience; while
 * it is down, as uplink_hurry, but not after a fatal fault.
 */
void uplink_suspect(struct uplink *u);
/*
 * Something may have made a NAT forget the connection, and nothing is wrong yet: one
 * packet mends that; when nothing answers it, it is as with a keepalive.
 */
void uplink_refresh(struct uplink *u);
/*
 * Somebody waits for the broker: cuts a pause between tries short, once a second, but
 * none that the broker asked for.
 */
void uplink_hurry(struct uplink *u);

/*
 * For who wants to know how it stands now: a connection is asked whether it lives, a
 * pause is cut short as by uplink_hurry.
 */
void uplink_ask(struct uplink *u);
/* It is being tried, or was asked and has not answered yet. */
bool uplink_is_awaited(const struct uplink *u);
/* How long a connection that is up owes an answer, and nothing came; 0: it does not. */
uint64_t uplink_owes_us(const struct uplink *u);
/* How long hosts may still come back to the broker, which has just begun anew; 0 when
 * it has not, and while down. */
uint32_t uplink_settles_ms(const struct uplink *u);
/* For how long it is up; 0 while it is not. */
uint64_t uplink_up_us(const struct uplink *u);

/* Smoothed round trip to the broker in microseconds, 0 unknown. */
uint32_t uplink_rtt_us(const struct uplink *u);
/* The lowest of late: how far away the broker is, in microseconds; 0 unknown. */
/* How long answers take of late that come late over this device's line; 0: none do. */
uint64_t uplink_late_us(const struct uplink *u);
uint32_t uplink_min_rtt_us(const struct uplink *u);
/* Another TCP connection to the broker, the same way, `small` as there; as reach_start.
 */
MUST_CHECK int uplink_reach(const struct uplink *u, struct reach **out, bool small,
                            unsigned timeout_ms, dial_cb cb, void *ctx);
/*
 * The broker's address as connected; ADDR_NONE while down for the first time, and
 * behind a proxy.
 */
const struct addr *uplink_broker_addr(const struct uplink *u);
/* KEY_LEN bytes, by which it is known. */
const uint8_t *uplink_broker_key(const struct uplink *u);
/* Our end of the connection; ADDR_NONE while down. */
void uplink_local(const struct uplink *u, struct addr *a);
/* This connection as the broker sees it; ADDR_NONE when unknown. */
const struct addr *uplink_seen(const struct uplink *u);
/* Servers for binding requests. */
size_t uplink_stun(const struct uplink *u, struct addr out[static UPLINK_STUN_MAX]);
/* STUN_MARK_LEN bytes to show with them: that their source is ours. Zeros: none. */
const uint8_t *uplink_proof(const struct uplink *u);
/*
 * Port prediction would open so many sessions of our NAT: asks the broker for those
 * that it has not granted yet, if it grants any (core/grant.h); the answer goes to the
 * net's budget. When none predicts any more, what is left is given back.
 */
void uplink_want_sessions(struct uplink *u, const struct opener *o, unsigned wanted);
void uplink_return_sessions(struct uplink *u);
/* Broker's clock minus ours in seconds; 0 when unknown. */
int64_t uplink_clock_skew_s(const struct uplink *u);
/* By which its broker knows this device (core/badge.h); NULL: none was given. */
const uint8_t *uplink_badge(const struct uplink *u);
/* By which its broker knows that this host lists it: false: none was given. */
bool uplink_host_badge(const struct uplink *u, const uint8_t host[static KEY_LEN],
                       uint8_t badge[static BADGE_HOST_LEN]);
const struct link *uplink_link(const struct uplink *u);

#endif
