/* Counts by time. */
#include "core/sessions.h"

#include <stdio.h>
#include <string.h>

static const uint64_t slot_us = SESSIONS_SLOT_S * UINT64_C(1000000);

static bool is_of_life(const struct sessions *s, unsigned back, uint64_t now_us)
{
    return s->slot >= back && s->slot - back + SESSIONS_SLOTS > now_us / slot_us;
}

static unsigned sum_of(const struct sessions *s, const uint16_t of[SESSIONS_SLOTS],
                       uint64_t now_us)
{
    unsigned n = 0;
    for (unsigned back = 0; back < SESSIONS_SLOTS; back++)
        if (is_of_life(s, back, now_us))
            n += of[(s->slot - back) % SESSIONS_SLOTS];
    return n;
}

unsigned sessions_open(const struct sessions *s, uint64_t now_us)
{
    return sum_of(s, s->opened, now_us);
}

static unsigned to_come(unsigned others)
{
    return others < SESSIONS_TO_COME ? others : SESSIONS_TO_COME;
}

/* What is open, and what is still to come. */
static unsigned engaged(const struct sessions *s, uint64_t now_us)
{
    return sessions_open(s, now_us) + to_come(sum_of(s, s->others, now_us));
}

unsigned sessions_borne(const struct sessions *s, uint64_t broker, uint64_t now_us)
{
    bool hearsay = s->borne_by != 0 && s->borne_by != broker;
    uint64_t for_s = hearsay ? SESSIONS_HEARSAY_S : SESSIONS_BORNE_S;
    return now_us - s->borne_us < for_s * UINT64_C(1000000) ? s->borne : 0;
}

unsigned sessions_most(const struct sessions *s, uint64_t broker, uint64_t now_us)
{
    unsigned borne = sessions_borne(s, broker, now_us);
    return borne > 0 && borne / 4 < SESSIONS_AT_ONCE ? borne / 4 : SESSIONS_AT_ONCE;
}

/* For so long none may be opened, since the network cut this device off. */
static uint64_t cut_left_us(const struct sessions *s, uint64_t broker, uint64_t now_us)
{
    bool hearsay = s->cut_by != 0 && s->cut_by != broker;
    unsigned for_s =
        hearsay && s->cut_s > SESSIONS_HEARSAY_S ? SESSIONS_HEARSAY_S : s->cut_s;
    uint64_t gone_us = now_us - s->cut_us, for_us = for_s * UINT64_C(1000000);
    return gone_us < for_us ? for_us - gone_us : 0;
}

unsigned sessions_left(const struct sessions *s, uint64_t broker, uint64_t now_us)
{
    if (cut_left_us(s, broker, now_us) > 0)
        return 0;
    unsigned open = engaged(s, now_us), most = sessions_most(s, broker, now_us);
    return open < most ? most - open : 0;
}

bool sessions_are_too_many(const struct sessions *s, uint64_t broker, uint64_t now_us)
{
    return sessions_open(s, now_us) > sessions_most(s, broker, now_us);
}

bool sessions_are_enough(const struct sessions *s, unsigned wanted, unsigned left,
                         uint64_t broker, uint64_t now_us)
{
    unsigned least = wanted < SESSIONS_BEGIN ? wanted : SESSIONS_BEGIN;
    unsigned few = sessions_most(s, broker, now_us) / 5;
    return left > 0 && left >= (least < few ? least : few);
}

static void add(uint16_t *sum, unsigned n)
{
    *sum = n < (unsigned)(UINT16_MAX - *sum) ? (uint16_t)(*sum + n) : UINT16_MAX;
}

void sessions_count(struct sessions *s, unsigned n, uint64_t now_us)
{
    uint64_t slot = now_us / slot_us;
    for (unsigned i = 0; i < SESSIONS_SLOTS && s->slot < slot; i++) {
        uint64_t gone = slot - i;
        if (gone > s->slot)
            s->opened[gone % SESSIONS_SLOTS] = s->others[gone % SESSIONS_SLOTS] = 0;
    }
    s->slot = slot;
    add(&s->opened[slot % SESSIONS_SLOTS], n);
}

void sessions_count_others(struct sessions *s, unsigned n, uint64_t now_us)
{
    sessions_count(s, n, now_us);
    add(&s->others[s->slot % SESSIONS_SLOTS], n);
}

void sessions_return(struct sessions *s, unsigned n, uint64_t now_us)
{
    for (unsigned back = 0; back < SESSIONS_SLOTS && n > 0; back++) {
        if (!is_of_life(s, back, now_us))
            continue;
        uint16_t *opened = &s->opened[(s->slot - back) % SESSIONS_SLOTS];
        unsigned less = n < *opened ? n : *opened;
        *opened -= (uint16_t)less;
        n -= less;
    }
}

void sessions_saw(struct sessions *s, unsigned open)
{
    s->seen = open;
}

void sessions_full(struct sessions *s, uint64_t broker, uint64_t now_us)
{
    unsigned open = sessions_open(s, now_us);
    bool known =
        s->borne > 0 && now_us - s->borne_us < SESSIONS_BORNE_S * UINT64_C(1000000);
    s->borne_by = known && s->borne_by != broker ? 0 : broker;
    open = open < s->seen ? open : s->seen;
    s->borne = open > 0 ? open : 1;
    s->borne_us = now_us;
}

void sessions_cut(struct sessions *s, unsigned n, uint64_t broker, uint64_t now_us)
{
    uint64_t gone_us = now_us - s->cut_us;
    bool again =
        s->cut_s > 0 && gone_us < (s->cut_s + SESSIONS_BORNE_S) * UINT64_C(1000000);
    if (again && gone_us < SESSIONS_CUT_S * UINT64_C(1000000))
        return; /* the same one, as another round or program saw it */
    s->cut_by = again && s->cut_by != broker ? 0 : broker;
    s->cut_s = again ? SESSIONS_BORNE_S : SESSIONS_CUT_S;
    s->cut = n;
    s->cut_us = now_us;
}

static void learn_cut(struct sessions *s, const struct sessions *other)
{
    if (other->cut_s == 0 || other->cut_us < s->cut_us)
        return;
    s->cut = other->cut;
    s->cut_s = other->cut_s;
    s->cut_us = other->cut_us;
    s->cut_by = other->cut_by;
}

void sessions_learn(struct sessions *s, const struct sessions *other)
{
    learn_cut(s, other);
    if (other->borne == 0 || other->borne_us < s->borne_us)
        return;
    s->borne = other->borne;
    s->borne_us = other->borne_us;
    s->borne_by = other->borne_by;
}

bool sessions_are_of_now(const struct sessions *s, uint64_t now_us)
{
    return s->slot <= now_us / slot_us && s->borne_us <= now_us && s->cut_us <= now_us;
}

/* Until half of what may be is left. */
static uint64_t half_wait_ms(const struct sessions *s, uint64_t broker, uint64_t now_us)
{
    unsigned half = sessions_most(s, broker, now_us) / 2,
             open = sessions_open(s, now_us);
    unsigned others = sum_of(s, s->others, now_us);
    for (unsigned back = SESSIONS_SLOTS; back-- > 0;) {
        size_t i = (s->slot - back) % SESSIONS_SLOTS;
        if (!is_of_life(s, back, now_us) || s->opened[i] == 0)
            continue;
        open -= s->opened[i];
        others -= s->others[i];
        if (open + to_come(others) <= half)
            return ((s->slot - back + SESSIONS_SLOTS) * slot_us - now_us) / 1000 + 1;
    }
    return 0;
}

uint64_t sessions_wait_ms(const struct sessions *s, uint64_t broker, uint64_t now_us)
{
    uint64_t half_ms = half_wait_ms(s, broker, now_us);
    uint64_t cut_us = cut_left_us(s, broker, now_us);
    uint64_t cut_ms = cut_us > 0 ? cut_us / 1000 + 1 : 0;
    return cut_ms > half_ms ? cut_ms : half_ms;
}

void sessions_words(const struct sessions *s, uint64_t broker, uint64_t now_us,
                    char *buf, size_t cap)
{
    unsigned again_s = (unsigned)(sessions_wait_ms(s, broker, now_us) / 1000 + 1);
    if (cut_left_us(s, broker, now_us) > 0)
        (void)snprintf(buf, cap,
                       "this network cut us off after %u new connections in a second: "
                       "no ports are tried, again in %u s",
                       s->cut, again_s);
    else if (sessions_borne(s, broker, now_us) == 0)
        (void)snprintf(
            buf, cap,
            "enough ports were tried from here for this minute: again in %u s",
            again_s);
    else
        (void)snprintf(buf, cap,
                       "this network takes only about %u new connections at once: few "
                       "ports are tried, again in %u s",
                       s->borne, again_s);
}

void sessions_enter(struct sessions *s, uint64_t network)
{
    if (s->network == network)
        return;
    memset(s, 0, sizeof(*s));
    s->network = network;
}

struct sessions *sessions_of(struct sessions all[static SESSIONS_NETWORKS],
                             uint64_t network)
{
    struct sessions *oldest = &all[0];
    for (unsigned i = 0; i < SESSIONS_NETWORKS; i++) {
        if (all[i].network == network)
            return &all[i];
        if (all[i].slot < oldest->slot)
            oldest = &all[i];
    }
    sessions_enter(oldest, network);
    return oldest;
}
