/* A count by time for the hard bound, and a moment of rest for the refill. */
#include "core/sessions.h"

#include <stdio.h>

static const uint64_t slot_us = SESSIONS_SLOT_S * UINT64_C(1000000);
static const uint64_t every_us = SESSIONS_LIFE_S * UINT64_C(1000000) / SESSIONS_REFILL;

static bool is_of_life(const struct sessions *s, unsigned back, uint64_t now_us)
{
    return s->slot >= back && s->slot - back + SESSIONS_SLOTS > now_us / slot_us;
}

unsigned sessions_open(const struct sessions *s, uint64_t now_us)
{
    unsigned n = 0;
    for (unsigned back = 0; back < SESSIONS_SLOTS; back++)
        if (is_of_life(s, back, now_us))
            n += s->opened[(s->slot - back) % SESSIONS_SLOTS];
    return n;
}

static unsigned most_of(const struct sessions *s)
{
    return s->borne > 0 ? s->borne / 4 : SESSIONS_AT_ONCE;
}

unsigned sessions_left(const struct sessions *s, uint64_t now_us)
{
    unsigned open = sessions_open(s, now_us);
    unsigned most = most_of(s);
    uint64_t behind = s->spent_us > now_us ? s->spent_us - now_us : 0;
    uint64_t spent = (behind + every_us - 1) / every_us;
    unsigned rest = spent < SESSIONS_AT_ONCE ? SESSIONS_AT_ONCE - (unsigned)spent : 0;
    unsigned left = open < most ? most - open : 0;
    return left < rest ? left : rest;
}

bool sessions_are_enough(const struct sessions *s, unsigned wanted, uint64_t now_us)
{
    unsigned least = wanted < SESSIONS_LEAST ? wanted : SESSIONS_LEAST;
    unsigned most = most_of(s);
    return most > 0 && sessions_left(s, now_us) >= (least < most ? least : most);
}

bool sessions_take(struct sessions *s, uint64_t now_us)
{
    uint64_t slot = now_us / slot_us;
    if (sessions_left(s, now_us) == 0)
        return false;
    for (unsigned i = 0; i < SESSIONS_SLOTS && s->slot < slot; i++) {
        uint64_t gone = slot - i;
        if (gone > s->slot)
            s->opened[gone % SESSIONS_SLOTS] = 0;
    }
    s->slot = slot;
    s->opened[slot % SESSIONS_SLOTS]++;
    s->spent_us = (s->spent_us > now_us ? s->spent_us : now_us) + every_us;
    return true;
}

void sessions_full(struct sessions *s, uint64_t now_us)
{
    unsigned open = sessions_open(s, now_us);
    s->borne = open > 0 ? open : 1;
}

void sessions_words(const struct sessions *s, char *buf, size_t cap)
{
    if (s->borne == 0)
        (void)snprintf(buf, cap, "enough ports were tried from here for this minute");
    else
        (void)snprintf(buf, cap,
                       "this network takes only about %u new connections at once: few "
                       "ports are tried",
                       s->borne);
}

void sessions_forget(struct sessions *s)
{
    s->borne = 0;
}
