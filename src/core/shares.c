/* A short list. */
#include "core/shares.h"

#include <stdbool.h>
#include <stddef.h>

static bool counts(const struct share *one, uint64_t now_us)
{
    return one->had > 0 && now_us - one->since_us < SHARES_LIFE_S * UINT64_C(1000000);
}

static unsigned had(const struct shares *s, uint64_t who, uint64_t now_us)
{
    for (size_t i = 0; i < SHARES_MAX; i++)
        if (s->of[i].who == who && counts(&s->of[i], now_us))
            return s->of[i].had;
    return 0;
}

unsigned shares_allow(const struct shares *s, uint64_t who, unsigned left,
                      uint64_t now_us)
{
    unsigned before = had(s, who, now_us);
    unsigned fair = 2 * left > before ? (2 * left - before + 2) / 3 : 0;
    unsigned spare = left > SHARES_KEPT ? left - SHARES_KEPT : 0;
    return fair > spare ? fair : spare; /* never more than is left */
}

void shares_count(struct shares *s, uint64_t who, unsigned n, uint64_t now_us)
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
    if (least->who != who || least->had == 0)
        *least = (struct share){.who = who};
    least->since_us = now_us;
    least->had += n;
}

void shares_return(struct shares *s, uint64_t who, unsigned n)
{
    for (size_t i = 0; i < SHARES_MAX; i++)
        if (s->of[i].who == who)
            s->of[i].had -= n < s->of[i].had ? n : s->of[i].had;
}
