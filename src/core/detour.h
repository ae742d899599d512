/*
 * When a device whose first way out fell silent, and which goes by another one since,
 * asks whether the first answers again. Knows times and answers, neither interfaces nor
 * addresses.
 *
 * One that answers once may be on the brink: twice in a row, a moment apart, and it is
 * taken again. One that was taken again, and soon was silent again, is asked ever more
 * seldom, since each change costs its streams a moment.
 */
#ifndef POSTERN_CORE_DETOUR_H
#define POSTERN_CORE_DETOUR_H

#include <stdbool.h>
#include <stdint.h>

enum {
    DETOUR_FIRST_MS = 10000,   /* until it is asked first */
    DETOUR_LONGEST_MS = 60000, /* between questions: it may be the cheaper way */
    DETOUR_AGAIN_MS = 2000,    /* the second question */
    DETOUR_ANSWERS = 2,
    DETOUR_HEALTHY_MS = 300000, /* used again for so long: it is as new */
};

/* All zero: the first way is used, and was never silent. */
struct detour_plan {
    uint64_t back_ms; /* when the first way was taken again; 0: never */
    uint64_t ask_ms;
    uint32_t first_ms, pause_ms;
    unsigned answers; /* in a row */
};

/* The first way is silent, and another one is used from now on. */
void detour_begin(struct detour_plan *d, uint64_t now_ms);
/* The first way was asked, and has answered or not. True: it is to be used again. */
bool detour_on_asked(struct detour_plan *d, bool answered, uint64_t now_ms);
/* When it is to be asked. */
static inline uint64_t detour_ask_ms(const struct detour_plan *d)
{
    return d->ask_ms;
}

#endif
