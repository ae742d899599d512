/* Asks the budget for one approach; sends nothing itself. */
#include "path/target.h"

#include <stdio.h>
#include <string.h>

#include "io/clock.h"
#include "path/kind.h"
#include "path/net_sessions.h"

enum {
    SIDE_FRESH_US = 2000000,
    LIVED_US = 3000000,
    PAIRS_AT_ONCE = 8, /* that one session has made, anew and anew */
    PAIRS_EVERY_MS = 2000,
    STRANGERS = 1, /* as a peer: all who have named an invite and proven nothing */
};

/* --------------------------------------------------------------- the broker's word */

static void take_one(struct target *t, const struct addr *a, uint64_t now_us)
{
    size_t i = 0;
    while (i < t->vouched_count && !addr_ip_equal(&t->vouched[i].addr, a))
        i++;
    if (i == t->vouched_count && i < TARGET_VOUCHED_MAX)
        t->vouched_count++;
    if (i == TARGET_VOUCHED_MAX)
        i--; /* the oldest makes way */
    memmove(t->vouched + 1, t->vouched, i * sizeof(t->vouched[0]));
    t->vouched[0].addr = *a;
    t->vouched[0].at_us = now_us;
}

void target_take(struct target *t, const Vouch *list, size_t n, uint64_t now_us)
{
    for (size_t i = n; i > 0; i--) { /* the first one is to be the newest */
        struct addr a;
        if (addr_from_bytes(&a, list[i - 1].ip.bytes, list[i - 1].ip.size, 1) == 0 &&
            addr_scope_of(&a) != ADDR_SCOPE_UNUSABLE)
            take_one(t, &a, now_us);
    }
}

size_t target_show(const struct target *t, Vouch *list, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < t->mark_count && n < max; i++) {
        if (!t->marks[i].has_mark)
            continue;
        const struct addr *a = &t->marks[i].addr;
        Vouch *v = &list[n++];
        *v = (Vouch){.port = a->port,
                     .ip.size = (pb_size_t)addr_ip_len(a),
                     .mark.size = VOUCH_MARK_LEN};
        memcpy(v->ip.bytes, a->ip, v->ip.size);
        memcpy(v->mark.bytes, t->marks[i].mark, VOUCH_MARK_LEN);
    }
    return n;
}

void target_seen(struct approach *a, const struct addr *mapped, const uint8_t *mark)
{
    struct target *t = approach_target(a);
    size_t i = 0;
    while (i < t->mark_count && !addr_ip_equal(&t->marks[i].addr, mapped))
        i++;
    if (i == t->mark_count && i < TARGET_MARKS_MAX)
        t->mark_count++;
    if (i == TARGET_MARKS_MAX)
        i--;
    memmove(t->marks + 1, t->marks, i * sizeof(t->marks[0]));
    memset(&t->marks[0], 0, sizeof(t->marks[0]));
    t->marks[0].addr = *mapped;
    t->marks[0].has_mark = mark != NULL;
    if (mark != NULL)
        memcpy(t->marks[0].mark, mark, VOUCH_MARK_LEN);
}

void target_hear(struct target *t, const Offer *o)
{
    size_t own = 0, seen = 0;
    for (pb_size_t i = 0; i < o->candidates_count; i++) {
        const Candidate *c = &o->candidates[i];
        struct addr a;
        if (c->type != CAND_HOST ||
            addr_from_bytes(&a, c->ip.bytes, c->ip.size, c->port) != 0)
            continue;
        own++;
        for (size_t k = 0; k < t->vouched_count; k++)
            seen += addr_ip_equal(&t->vouched[k].addr, &a);
    }
    if (own > 0 && t->vouched_count > 0)
        t->translated = seen == 0;
}

bool target_is_translated(struct approach *a)
{
    return approach_target(a)->translated;
}

static bool is_vouched(struct approach *a, const struct addr *to)
{
    const struct target *t = approach_target(a);
    uint64_t now_us = clock_us();
    for (size_t i = 0; i < t->vouched_count; i++)
        if (now_us - t->vouched[i].at_us < TARGET_VOUCHED_MS * UINT64_C(1000) &&
            addr_place_equal(&t->vouched[i].addr, to))
            return true;
    return false;
}

/* The broker sees the peer where it sees us: one LAN, or one carrier's NAT. */
static bool shares_outside(struct approach *a)
{
    const struct target *t = approach_target(a);
    const struct addr *seen = uplink_seen(approach_config_of(a)->uplink);
    for (size_t i = 0; i < t->vouched_count; i++) {
        if (addr_place_equal(&t->vouched[i].addr, seen))
            return true;
        for (size_t k = 0; k < t->mark_count; k++)
            if (addr_place_equal(&t->vouched[i].addr, &t->marks[k].addr))
                return true;
    }
    return false;
}

/* ------------------------------------------------------------------- what is worth */

static bool is_beside(struct approach *a, const struct addr *to)
{
    struct target *t = approach_target(a);
    uint64_t now_us = clock_us();
    if (t->side_at_us == 0 || now_us - t->side_at_us > SIDE_FRESH_US) {
        sidenets_read(&t->side);
        t->side_at_us = now_us;
    }
    return sidenets_hold(&t->side, to);
}

static bool broker_is_private(const struct approach *a)
{
    struct addr b = *uplink_broker_addr(approach_config_of(a)->uplink);
    b.port = 1;
    enum addr_scope scope = addr_scope_of(&b);
    return scope == ADDR_SCOPE_PRIVATE || scope == ADDR_SCOPE_LOOPBACK;
}

bool target_fits(struct approach *a, const struct addr *to)
{
    switch (addr_scope_of(to)) {
    case ADDR_SCOPE_UNUSABLE:
        return false;
    case ADDR_SCOPE_LOOPBACK:
        return addr_scope_of(uplink_broker_addr(approach_config_of(a)->uplink)) ==
               ADDR_SCOPE_LOOPBACK;
    case ADDR_SCOPE_GLOBAL:
        return to->family != ADDR_V4 || to->ip[0] != 192 || to->ip[1] != 0 ||
               to->ip[2] != 0 || is_vouched(a, to);
    case ADDR_SCOPE_LINK:
    case ADDR_SCOPE_PRIVATE:
        return is_vouched(a, to) || shares_outside(a) || is_beside(a, to);
    }
    return false;
}

bool target_may_be_swept(struct approach *a, const struct addr *to)
{
    if (!is_vouched(a, to))
        return false;
    switch (addr_scope_of(to)) {
    case ADDR_SCOPE_GLOBAL: /* in a network of its own they are as good as any */
        return addr_is_of_internet(to,
                                   uplink_broker_addr(approach_config_of(a)->uplink));
    case ADDR_SCOPE_PRIVATE:
        return broker_is_private(a);
    default:
        return false;
    }
}

bool target_is_brief(const struct approach *a)
{
    const struct approach_config *c = approach_config_of(a);
    return c->brief && (c->allowed >> PATH_RELAY & 1) != 0;
}

bool target_is_time_to_sweep(const struct approach *a)
{
    const struct approach_config *c = approach_config_of(a);
    bool relayed = (c->allowed >> PATH_RELAY & 1) != 0;
    return !target_is_brief(a) &&
           (approach_is_established(a) || (!relayed && !c->unlisted));
}

/* A host shares them among its peers; a client's own user wants what it does. */
struct opener target_opener(const struct approach *a)
{
    const struct approach_config *c = approach_config_of(a);
    struct opener o = {.budget = c->net->budget};
    memcpy(&o.broker, uplink_broker_key(c->uplink), sizeof(o.broker));
    if (!c->client)
        memcpy(&o.peer, c->peer, sizeof(o.peer));
    return o;
}

bool target_has_lived(const struct approach *a)
{
    struct opener o = target_opener(a);
    return !approach_is_established(a) || approach_age_us(a) >= LIVED_US ||
           net_sessions_of_others(&o) < SESSIONS_LEAST;
}

bool target_leads_here(struct approach *a, const struct addr *external, char *why,
                       size_t cap)
{
    const struct target *t = approach_target(a);
    char at[ADDR_TEXT_LEN], seen[ADDR_TEXT_LEN];
    const struct addr *other = NULL;
    for (size_t i = 0; i < t->mark_count; i++) {
        const struct addr *m = &t->marks[i].addr;
        if (m->family != external->family || addr_scope_of(m) != ADDR_SCOPE_GLOBAL)
            continue; /* a server in our own network knows nothing of the outside */
        if (addr_ip_equal(m, external))
            return true;
        other = m;
    }
    bool inner = addr_scope_of(external) != ADDR_SCOPE_GLOBAL && !broker_is_private(a);
    if (other == NULL && !inner)
        return true;
    (void)snprintf(why, cap,
                   "the router's mapping leads nowhere: its outside is %s, and %s%s; "
                   "another NAT is beyond it",
                   addr_format_ip(external, at),
                   other != NULL ? "the broker sees us at "
                                 : "that is a private address",
                   other != NULL ? addr_format_ip(other, seen) : "");
    return false;
}

/* ---------------------------------------------------------------------- the budget */

static bool take(struct approach *a, const struct addr *to, enum budget_lane lane,
                 unsigned packets)
{
    return budget_take(&approach_config_of(a)->net->budget->packets, to, lane, packets,
                       clock_us());
}

bool target_may_send(struct approach *a, const struct addr *to, unsigned packets)
{
    return take(a, to, is_vouched(a, to) ? BUDGET_VOUCHED : BUDGET_UNPROVEN, packets);
}

static bool is_crowded(const struct approach *a)
{
    struct opener o = target_opener(a);
    return net_sessions_open(&o) >= SESSIONS_AT_ONCE;
}

static uint64_t peer_of(const struct approach *a)
{
    uint64_t peer;
    memcpy(&peer, approach_config_of(a)->peer, sizeof(peer));
    return peer;
}

enum fate target_may_open(struct approach *a, bool tcp, uint16_t from,
                          const struct addr *to, unsigned packets)
{
    struct named *named = &approach_config_of(a)->net->budget->named;
    struct named_session s = {.peer = peer_of(a),
                              .to = *to,
                              .from = from == 0 ? 0 : from | (uint32_t)tcp << 16,
                              .vouched = is_vouched(a, to)};
    uint64_t now_us = clock_us();
    bool opens = addr_scope_of(to) >= ADDR_SCOPE_PRIVATE; /* as loop_begin_session */
    if (opens && (!named_may(named, &s, false, now_us) ||
                  (!named_may(named, &s, true, now_us) && is_crowded(a))))
        return FATE_NAMED;
    if (!target_may_send(a, to, packets))
        return FATE_HELD;
    if (opens)
        named_use(named, &s, now_us);
    return FATE_LEFT;
}

/* As whom it counts in the rounds. */
static uint64_t beginner(const struct approach *a)
{
    return approach_config_of(a)->unlisted ? STRANGERS : peer_of(a);
}

static bool take_unproven(struct approach *a)
{
    return rounds_take_unproven(&approach_config_of(a)->net->budget->rounds,
                                beginner(a), &approach_target(a)->unproven,
                                clock_us() / 1000);
}

/* What was paid beforehand, or else one more; nothing once it is proven. */
static bool is_paid(struct approach *a, bool *paid)
{
    bool was = *paid;
    *paid = false;
    return was || approach_is_established(a) || take_unproven(a);
}

bool target_may_begin(struct approach *a)
{
    const struct approach_config *c = approach_config_of(a);
    return c->client ||
           (is_paid(a, &approach_target(a)->round_paid) &&
            rounds_take(&c->net->budget->rounds, beginner(a), clock_us() / 1000));
}

static struct rounds *rounds_of(const struct approach *a)
{
    return &approach_config_of(a)->net->budget->rounds;
}

bool target_may_hasten(struct approach *a)
{
    return rounds_take_eager(rounds_of(a), beginner(a), clock_us() / 1000);
}

bool target_may_approach(struct approach *a)
{
    struct target *t = approach_target(a);
    t->pair_paid = take_unproven(a);
    t->pair_paid = t->round_paid = t->pair_paid && take_unproven(a);
    if (!t->pair_paid)
        target_proven(a); /* one without the other is of no use */
    return t->pair_paid && target_may_hasten(a);
}

bool target_may_pair(struct approach *a)
{
    static const struct pace_policy pairs = {PAIRS_AT_ONCE, PAIRS_EVERY_MS};
    struct target *t = approach_target(a);
    uint64_t now_ms = clock_us() / 1000;
    t->pair_waits = false;
    if (!is_paid(a, &t->pair_paid) || pace_free_ms(&t->pairs, &pairs, now_ms) > now_ms)
        return false;
    t->pair_waits = !rounds_take_pair(rounds_of(a), beginner(a), now_ms);
    if (t->pair_waits)
        return false;
    pace_spend(&t->pairs, &pairs, now_ms);
    return true;
}

uint64_t target_pair_wait_ms(struct approach *a)
{
    uint64_t now_ms = clock_us() / 1000;
    if (!approach_target(a)->pair_waits)
        return 0;
    return rounds_pair_ms(rounds_of(a), beginner(a), now_ms) - now_ms + 1;
}

void target_proven(struct approach *a)
{
    rounds_prove(&approach_config_of(a)->net->budget->rounds, beginner(a),
                 &approach_target(a)->unproven);
}

bool target_may_carry(struct approach *a, const struct path *p, size_t len,
                      size_t segment_len)
{
    return p->answered ||
           target_may_send(a, &p->remote,
                           (unsigned)((len + segment_len - 1) / segment_len));
}

bool target_may_ask(struct approach *a, const struct addr *server, unsigned packets)
{
    bool broker =
        addr_ip_equal(server, uplink_broker_addr(approach_config_of(a)->uplink));
    return take(a, server, broker ? BUDGET_VOUCHED : BUDGET_UNPROVEN, packets);
}

bool target_may_sweep(struct approach *a, const struct addr *to, unsigned packets)
{
    return target_may_be_swept(a, to) && take(a, to, BUDGET_SWEEP, packets);
}

void target_answered(struct approach *a, const struct addr *from)
{
    struct net_budget *b = approach_config_of(a)->net->budget;
    budget_answered(&b->packets, from, clock_us());
    named_answered(&b->named, peer_of(a), from);
}
