/*
 * What all programs of a state directory open in this device's NAT, by prediction and
 * otherwise: a sum for each network in a small file there, so that many short ones
 * learn from each other what the network bears (core/sessions.h decides). Prediction
 * asks before it opens; what else is opened counts itself on a loop that a net was
 * begun on with this budget. A hint: it may be lost, or deleted.
 */
#ifndef POSTERN_PATH_NET_SESSIONS_H
#define POSTERN_PATH_NET_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/budget.h"
#include "core/grant.h"
#include "core/named.h"
#include "core/rounds.h"
#include "core/sessions.h"
#include "core/shares.h"

struct detour;

enum { NET_GRANTS = 4 }; /* of brokers, the latest */

/* What all of one process send to others and open in its own NAT. */
struct net_budget {
    struct budget packets;
    struct sessions opened;
    struct sessions left[SESSIONS_NETWORKS]; /* as they were when it left them */
    struct shares shares;
    struct {
        uint64_t broker; /* that grants; 0: none */
        struct grant grant;
    } grants[NET_GRANTS];
    unsigned grants_next;
    struct named named;
    struct rounds rounds;
    int file; /* what all programs of the state directory opened; -1: none */
    int owed; /* opened, or returned, while another program held the file */
    unsigned owed_others;
    bool held;             /* it was for long, the last time */
    struct detour *detour; /* who is told where packets go another way; NULL: nobody */
};

/* Who opens them. */
struct opener {
    struct net_budget *budget;
    uint64_t broker; /* whose answers tell what the network bears */
    uint64_t peer;   /* who wants it and has a share only; 0: this device's own wish */
};

/* With a fresh secret, or NULL; net_budget_free ends it, for which NULL is fine. */
struct net_budget *net_budget_new(void);
void net_budget_free(struct net_budget *b);
/* Where the file cannot be written each program counts for itself; and while another
 * one holds it, until it is free. */
void net_budget_share(struct net_budget *b, const char *dir);

/* That broker, which is up, grants them (core/grant.h), or does not and is not asked.
 */
void net_sessions_granting(struct net_budget *b, uint64_t broker, bool grants);
/* How many it is to be asked for now, so that `wanted` may be opened; 0: none. */
unsigned net_sessions_wants(const struct opener *o, unsigned wanted);
/* It was, and is `rtt_ms` away; its answer is waited for; it came. */
void net_sessions_asked(const struct opener *o, unsigned n, unsigned rtt_ms);
bool net_sessions_wait(const struct opener *o);
void net_sessions_granted(const struct opener *o, unsigned granted, unsigned wait_ms);
/* What was granted and is not opened: it is given back. */
unsigned net_sessions_give_up(const struct opener *o);
/* How many of the wanted are to be opened now: they count. */
unsigned net_sessions_take(const struct opener *o, unsigned wanted);
/* So many of them were not. */
void net_sessions_return(const struct opener *o, unsigned n);
/* Whether one that would open `wanted` may begin; if not, why, for people. */
bool net_sessions_are_enough(const struct opener *o, unsigned wanted);
/* And in how many ms there will be room again. */
uint64_t net_sessions_words(const struct opener *o, char *buf, size_t cap);
/* As sessions_are_too_many, of this process. */
bool net_sessions_are_too_many(const struct opener *o);
/* Opened within the last life by this device's other programs. */
unsigned net_sessions_of_others(const struct opener *o);
/* Opened within the last life by all of them. */
unsigned net_sessions_open(const struct opener *o);
/* As sessions_saw, _full and _cut. */
void net_sessions_saw(const struct opener *o, unsigned open);
void net_sessions_full(const struct opener *o);
void net_sessions_cut(const struct opener *o, unsigned n);
/* One is opened for another reason: counts. `ctx`: a net_budget; as of loop_cb. */
void net_sessions_on_other(void *ctx);
/* The network changed, or may have. What was opened in each, and what it bears, is
 * kept: a device that comes back would fill its table once more. */
void net_sessions_enter(struct net_budget *b);

#endif
