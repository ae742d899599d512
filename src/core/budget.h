/*
 * What one process may send to addresses that others named: packets to a destination
 * and packets in all, over all approaches, keys, kinds and restarts together. Knows
 * addresses and time as numbers; knows no socket, no approach, no broker.
 *
 * Each destination (an IPv4 address; of IPv6 a /64, and the address in it where nothing
 * is known of it) has an allowance for each lane, and so has the whole process; both
 * fill again slowly. A packet that either refuses is not sent: to its sender it is
 * lost.
 *
 * The table has a fixed size. Who is full again is as good as forgotten, and makes way
 * first; then the one that proved least and is unused the longest. Since the process's
 * own allowance is spent before the table is full of addresses that are not, nobody can
 * renew an address's allowance by naming many others. Only keyed hashes are kept.
 */
#ifndef POSTERN_CORE_BUDGET_H
#define POSTERN_CORE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

#define BUDGET_SECRET_LEN 16

enum budget_lane {
    BUDGET_UNPROVEN, /* somebody named it; nothing vouches for it */
    BUDGET_VOUCHED,  /* the broker says that it is the peer's */
    BUDGET_ANSWERED, /* an answer to a packet of ours came from there lately */
    BUDGET_SWEEP,    /* prediction: many ports of one vouched address */
    BUDGET_LANES,
};

enum {
    BUDGET_SETS = 512,
    BUDGET_WAYS = 8,
    BUDGET_ANSWERED_S = 600, /* how long an answer counts */
    BUDGET_MAPPINGS = 640,   /* that predictions hold open, all of a process */
};

struct budget_rate {
    uint32_t burst;    /* packets at once, after a rest */
    uint32_t every_us; /* one more after each */
};

struct budget_slot {
    uint64_t hash;
    uint64_t used_us;                /* 0: the slot is free */
    uint64_t answered_us;            /* 0: never */
    uint64_t spent_us[BUDGET_LANES]; /* when that lane is full again */
};

/* 230 KiB: part of something allocated, not of a stack. All zero but for the secret. */
struct budget {
    uint8_t secret[BUDGET_SECRET_LEN];
    uint64_t spent_us[BUDGET_LANES], paced_us;
    unsigned mappings; /* open now */
    struct budget_slot slots[BUDGET_SETS][BUDGET_WAYS];
};

/* `secret` is random: nobody may arrange for addresses to share a set. */
void budget_init(struct budget *b, const uint8_t secret[static BUDGET_SECRET_LEN]);

/* The rates, for tests and for those who state them. */
struct budget_rate budget_rate_each(enum budget_lane lane);
struct budget_rate budget_rate_all(enum budget_lane lane);

/*
 * True: that many packets may go to `to` now, and are counted. An address that has
 * answered counts in its own lane, whatever is asked for, unless that is a sweep.
 * `now_us` is not 0.
 */
bool budget_take(struct budget *b, const struct addr *to, enum budget_lane lane,
                 unsigned packets, uint64_t now_us);
/* False: the process has sent enough sweeps for the moment; ask again in some ms. */
bool budget_pace(struct budget *b, uint64_t now_us);
/* Prediction opens so many sockets more, or waits for others' to close. */
bool budget_has_mappings(const struct budget *b, unsigned more);
void budget_open_mapping(struct budget *b);
void budget_close_mapping(struct budget *b);
/*
 * An answer came from there that only who got our packet could give: its transaction
 * id, a TCP handshake and a greeting. A mere request proves nothing (its source may be
 * forged).
 */
void budget_answered(struct budget *b, const struct addr *from, uint64_t now_us);

#endif
