/*
 * How long a path may be silent before a NAT on it forgets the mapping (RFC 4787
 * section 4.3), learned by trying longer and longer silences. Knows when packets went
 * and whether a probe was answered; knows neither the packets nor the NAT.
 *
 * Starts at 15 s, grows by half after each silence of that length that the path
 * survived, up to 4 min. When the path is dead after a silence T, 0.7 T is the limit
 * from then on, never below 8 s. A death may have another cause, such as loss: after a
 * silence that was survived before, only a second death soon after is believed; and
 * after KEEPALIVE_RETRY_SURVIVED silences survived at the limit it is raised by a
 * quarter. One object serves the paths of one kind over one network.
 *
 * Silence counts from the last packet sent: only those are sure to refresh this side's
 * mapping (RFC 4787 section 4.3), and the peer's answers refresh the peer's.
 */
#ifndef POSTERN_CORE_KEEPALIVE_H
#define POSTERN_CORE_KEEPALIVE_H

#include <stdbool.h>
#include <stdint.h>

#define KEEPALIVE_START_US 15000000ull
#define KEEPALIVE_MIN_US 8000000ull
#define KEEPALIVE_MAX_US 240000000ull
/* A host's connection to its broker, at most: where its kernel asks more often, and
 * where a proxy stands between. */
#define KEEPALIVE_HOST_US 10000000ull
#define KEEPALIVE_HOST_BLIND_US 5000000ull
#define KEEPALIVE_FOLLOWER_US 270000000ull
#define KEEPALIVE_RETRY_SURVIVED 16
#define KEEPALIVE_DOUBT 12 /* survivals that clear a doubt */

struct keepalive {
    bool leads, probing;
    uint64_t max_us; /* no longer silence is tried */
    uint64_t interval_us, limit_us;
    uint64_t last_us;    /* last packet sent on the path */
    uint64_t silence_us; /* the silence that the open probe ended */
    unsigned survived;   /* at the limit, in a row */
    uint64_t longest_us; /* silence survived on this network */
    unsigned doubt;      /* survivals until a death at a safe silence is forgotten */
};

/*
 * One side leads (the client): its probes and their answers keep the NATs of both
 * sides open. The other follows and only probes after KEEPALIVE_FOLLOWER_US.
 * `learned_us` is what keepalive_export gave earlier on this network, or 0.
 */
void keepalive_init(struct keepalive *k, bool leads, uint64_t learned_us,
                    uint64_t now_us);
/*
 * Never longer than `max_us` from now on: for who must be reached by others at any
 * time, since what a restarted NAT forgot is put right by our next packet only.
 */
void keepalive_bound(struct keepalive *k, uint64_t max_us);
/* Another path of the same kind over the same network: what was learned stays. */
void keepalive_on_new_path(struct keepalive *k, uint64_t now_us);
/* Any packet of the path. A received one answers an open probe. */
void keepalive_on_sent(struct keepalive *k, uint64_t now_us);
void keepalive_on_received(struct keepalive *k, uint64_t now_us);
/* True once when a probe must be sent now (something that the peer answers). */
bool keepalive_due(struct keepalive *k, uint64_t now_us);
uint64_t keepalive_deadline_us(const struct keepalive *k);
/* The path was found dead (core/paths.h); learns when a probe was unanswered. */
void keepalive_on_dead(struct keepalive *k);
/* Microseconds of silence believed safe, for storage; 0 when nothing was learned. */
uint64_t keepalive_export(const struct keepalive *k);

#endif
