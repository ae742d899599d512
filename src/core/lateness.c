/* What is late is remembered until something is not; arithmetic over times. */
#include "core/lateness.h"

static const uint64_t ease_us = 100000;

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t lateness_us(const struct lateness *l, uint64_t now_us)
{
    return now_us - l->noted_us < LATENESS_KEPT_US ? l->most_us : 0;
}

static void ease(struct lateness *l, uint64_t took_us, uint64_t now_us)
{
    if (took_us >= l->most_us || now_us - l->eased_us < ease_us)
        return;
    l->eased_us = now_us;
    l->most_us = l->most_us / 2 > took_us ? l->most_us / 2 : took_us;
    if (l->most_us < LATENESS_MIN_US)
        l->most_us = 0;
}

void lateness_note(struct lateness *l, uint64_t took_us, uint64_t least_us,
                   uint64_t now_us)
{
    if (took_us >= LATENESS_SLEPT_US || least_us == 0)
        return;
    if (took_us <= 2 * least_us + LATENESS_MIN_US) {
        ease(l, took_us, now_us);
        return;
    }
    uint64_t before_us = lateness_us(l, now_us);
    uint64_t us = least_of(took_us, LATENESS_MAX_US);
    l->most_us = us > before_us ? us : before_us;
    l->noted_us = now_us;
}
