/* A short list. */
#include "core/shares.h"

#include <stddef.h>

static bool counts(const struct share *one, uint64_t now_us)
{
    return (one->had > 0 || one->waits) &&
           now_us - one->since_us < SHARES_LIFE_S * UINT64_C(1000000);
}

static unsigned had(const struct shares *s, uint64_t who, uint64_t now_us)
{
    for (size_t i = 0; i < SHARES_MAX; i++)
        if (s->of[i].who == who && counts(&s->of[i], now_us))
            return s->of[i].had;
    return 0;
}

/* By one that has had less than so many. */
static bool is_awaited(const struct shares *s, unsigned before, uint64_t now_us)
{
    for (size_t i = 0; i < SHARES_MAX; i++)
        if (s->of[i].waits && s->of[i].had < before && counts(&s->of[i], now_us))
            return true;
    return false;
}

unsigned shares_allow(const struct shares *s, uint64_t who, unsigned left, unsigned all,
                      uint64_t now_us)
{
    unsigned before = had(s, who, now_us), kept = all * SHARES_KEPT / 100;
    unsigned fair = left > 2 * before ? (left - 2 * before + 2) / 3 : 0;
    if (before == 0)
        fair = (2 * left + 2) / 3;
    unsigned spare = left > kept && !is_awaited(s, before, now_us) ? left - kept : 0;
    return fair > spare ? fair : spare; /* never more than is left */
}

/* Its own place, or that of who has had least. */
static struct share *place_of(struct shares *s, uint64_t who, uint64_t now_us)
{
    struct share *least = &s->of[0];
    for (size_t i = 0; i < SHARES_MAX; i++) {
        struct share *one = &s->of[i];
        if (!counts(one, now_us))
            *one = (struct share){.who = one->who};
        if (one->who == who) {
            least = one;
            break;
        }
        if (one->had < least->had)
            least = one;
    }
    if (least->who != who)
        *least = (struct share){.who = who};
    return least;
}

void shares_count(struct shares *s, uint64_t who, unsigned n, uint64_t now_us)
{
    struct share *one = place_of(s, who, now_us);
    if (n == 0)
        return;
    one->since_us = now_us;
    one->had += n;
    one->waits = false;
}

void shares_wait(struct shares *s, uint64_t who, uint64_t now_us)
{
    struct share *one = place_of(s, who, now_us);
    one->since_us = now_us;
    one->waits = true;
}

void shares_return(struct shares *s, uint64_t who, unsigned n)
{
    for (size_t i = 0; i < SHARES_MAX; i++)
        if (s->of[i].who == who)
            s->of[i].had -= n < s->of[i].had ? n : s->of[i].had;
}
