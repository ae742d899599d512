/*
 * Allowances as times (the generic cell rate algorithm): a lane holds the moment at
 * which it will be full again, and each packet moves that moment on.
 */
#include "core/budget.h"

#include <string.h>

#include "core/key.h"

enum { PREFIX6_LEN = 8, PACE_BURST = 40, PACE_EVERY_US = 250 };

void budget_init(struct budget *b, const uint8_t secret[static BUDGET_SECRET_LEN])
{
    memset(b, 0, sizeof(*b));
    memcpy(b->secret, secret, BUDGET_SECRET_LEN);
}

struct budget_rate budget_rate_each(enum budget_lane lane)
{
    static const struct budget_rate rates[BUDGET_LANES] = {
        [BUDGET_UNPROVEN] = {20, 15000000},
        [BUDGET_VOUCHED] = {3000, 10000},
        [BUDGET_ANSWERED] = {10000, 1000},
        [BUDGET_SWEEP] = {5200, 25000},
    };
    return rates[lane];
}

struct budget_rate budget_rate_all(enum budget_lane lane)
{
    static const struct budget_rate rates[BUDGET_LANES] = {
        [BUDGET_UNPROVEN] = {1000, 50000},
        [BUDGET_VOUCHED] = {12000, 1000},
        [BUDGET_ANSWERED] = {40000, 100},
        [BUDGET_SWEEP] = {10400, 6250},
    };
    return rates[lane];
}

/* Of a whole /64, whose addresses one device can take one after the other. */
static struct budget_rate rate_prefix(void)
{
    return (struct budget_rate){60, 5000000};
}

/* ----------------------------------------------------------------------- the table */

static bool is_answered(const struct budget_slot *s, uint64_t now_us)
{
    return s->answered_us != 0 &&
           now_us - s->answered_us < BUDGET_ANSWERED_S * UINT64_C(1000000);
}

static bool is_full_again(const struct budget_slot *s, uint64_t now_us)
{
    for (int i = 0; i < BUDGET_LANES; i++)
        if (s->spent_us[i] > now_us)
            return false;
    return !is_answered(s, now_us);
}

/* Higher: worth more to remember. */
static unsigned worth(const struct budget_slot *s, uint64_t now_us)
{
    if (s->used_us == 0)
        return 0;
    if (is_full_again(s, now_us))
        return 1;
    return is_answered(s, now_us) ? 3 : 2;
}

struct place {
    struct budget_slot *set;
    uint64_t hash;
};

/* Of an IPv6 address its /64 when not `whole`: one device can take all addresses in it.
 */
static struct place place_of(struct budget *b, const struct addr *a, bool whole)
{
    size_t len = !whole && a->family == ADDR_V6 ? (size_t)PREFIX6_LEN : addr_ip_len(a);
    uint8_t msg[2 + sizeof(a->ip)] = {a->family, (uint8_t)len}, out[32];
    struct place p;
    memcpy(msg + 2, a->ip, len);
    key_hash(out, msg, sizeof(msg), b->secret, sizeof(b->secret));
    memcpy(&p.hash, out, sizeof(p.hash));
    p.set = b->slots[out[sizeof(p.hash)] | (out[sizeof(p.hash) + 1] & 1) << 8];
    return p;
}

static struct budget_slot *find(const struct place *p)
{
    for (int i = 0; i < BUDGET_WAYS; i++)
        if (p->set[i].used_us != 0 && p->set[i].hash == p->hash)
            return &p->set[i];
    return NULL;
}

static struct budget_slot *make(const struct place *p, uint64_t now_us)
{
    struct budget_slot *drop = &p->set[0], *s = find(p);
    for (int i = 1; i < BUDGET_WAYS && s == NULL; i++) {
        unsigned w = worth(&p->set[i], now_us), least = worth(drop, now_us);
        if (w < least || (w == least && p->set[i].used_us < drop->used_us))
            drop = &p->set[i];
    }
    if (s == NULL) {
        s = drop;
        *s = (struct budget_slot){.hash = p->hash};
    }
    s->used_us = now_us;
    return s;
}

/* ---------------------------------------------------------------------- allowances */

static uint64_t after(uint64_t spent_us, struct budget_rate r, unsigned packets,
                      uint64_t now_us)
{
    uint64_t from = spent_us > now_us ? spent_us : now_us;
    return from + (uint64_t)packets * r.every_us;
}

static bool fits(uint64_t spent_us, struct budget_rate r, unsigned packets,
                 uint64_t now_us)
{
    return after(spent_us, r, packets, now_us) <=
           now_us + (uint64_t)r.burst * r.every_us;
}

/* Counts the packets at one place; false: they are too many for it. */
static bool spend(const struct place *p, enum budget_lane lane, struct budget_rate r,
                  unsigned packets, uint64_t now_us)
{
    const struct budget_slot *known = find(p);
    if (!fits(known != NULL ? known->spent_us[lane] : 0, r, packets, now_us))
        return false;
    struct budget_slot *s = make(p, now_us);
    s->spent_us[lane] = after(s->spent_us[lane], r, packets, now_us);
    return true;
}

bool budget_take(struct budget *b, const struct addr *to, enum budget_lane lane,
                 unsigned packets, uint64_t now_us)
{
    struct place place = place_of(b, to, false);
    const struct budget_slot *known = find(&place);
    if (lane != BUDGET_SWEEP && known != NULL && is_answered(known, now_us))
        lane = BUDGET_ANSWERED;
    struct budget_rate each = budget_rate_each(lane), all = budget_rate_all(lane);
    /* First of all: what the process may not send at all changes nothing in the table.
     */
    if (!fits(b->spent_us[lane], all, packets, now_us))
        return false;
    if (lane == BUDGET_UNPROVEN && to->family == ADDR_V6) {
        struct place one = place_of(b, to, true);
        if (!spend(&one, lane, each, packets, now_us))
            return false;
        each = rate_prefix();
    }
    if (!spend(&place, lane, each, packets, now_us))
        return false;
    b->spent_us[lane] = after(b->spent_us[lane], all, packets, now_us);
    return true;
}

bool budget_pace(struct budget *b, uint64_t now_us)
{
    const struct budget_rate r = {PACE_BURST, PACE_EVERY_US};
    if (!fits(b->paced_us, r, 1, now_us))
        return false;
    b->paced_us = after(b->paced_us, r, 1, now_us);
    return true;
}

bool budget_has_mappings(const struct budget *b, unsigned more)
{
    return b->mappings + more <= BUDGET_MAPPINGS;
}

void budget_open_mapping(struct budget *b)
{
    b->mappings++;
}

void budget_close_mapping(struct budget *b)
{
    b->mappings--;
}

void budget_answered(struct budget *b, const struct addr *from, uint64_t now_us)
{
    struct place place = place_of(b, from, false);
    make(&place, now_us)->answered_us = now_us;
}
