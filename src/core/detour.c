/* Growing pauses, and two answers in a row. */
#include "core/detour.h"

#include "core/least.h"

void detour_begin(struct detour_plan *d, uint64_t now_ms)
{
    bool relapsed = d->back_ms != 0 && now_ms - d->back_ms < DETOUR_HEALTHY_MS;
    uint64_t first_ms = relapsed ? 2ull * d->first_ms : DETOUR_FIRST_MS;
    d->first_ms = (uint32_t)min64(first_ms, DETOUR_LONGEST_MS);
    d->pause_ms = d->first_ms;
    d->answers = 0;
    d->ask_ms = now_ms + d->first_ms;
}

bool detour_on_asked(struct detour_plan *d, bool answered, uint64_t now_ms)
{
    d->answers = answered ? d->answers + 1 : 0;
    if (d->answers >= DETOUR_ANSWERS) {
        d->back_ms = now_ms;
        return true;
    }
    if (!answered)
        d->pause_ms = (uint32_t)min64(2ull * d->pause_ms, DETOUR_LONGEST_MS);
    d->ask_ms = now_ms + (answered ? (uint32_t)DETOUR_AGAIN_MS : d->pause_ms);
    return false;
}
