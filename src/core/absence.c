/* The patience with silent clients; arithmetic over times. */
#include "core/absence.h"

uint64_t absence_patience_us(const struct absence *a)
{
    uint64_t us = a->sleeps ? ABSENCE_ASLEEP_US : ABSENCE_US;
    if (a->told_us != 0)
        us = a->told_us;
    return a->streams || us < ABSENCE_IDLE_US ? us : ABSENCE_IDLE_US;
}

enum absence_verdict absence_judge(const struct absence *a, uint64_t silent_us)
{
    uint64_t end = absence_patience_us(a);
    uint64_t probe = end / 2 < ABSENCE_PROBE_US ? end / 2 : ABSENCE_PROBE_US;
    if (silent_us > end)
        return ABSENCE_OVER;
    return silent_us > end - probe ? ABSENCE_PROBE : ABSENCE_FINE;
}
