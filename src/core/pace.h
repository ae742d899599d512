/*
 * So many at once, and then one each so many milliseconds: for what others can make us
 * do again and again. Knows times; knows neither what is done nor who asks for it.
 */
#ifndef POSTERN_CORE_PACE_H
#define POSTERN_CORE_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace_policy {
    uint32_t at_once, every_ms;
};

/* All zero is full. */
struct pace {
    uint64_t full_ms; /* when it is, if nothing is taken until then */
};

/* The earliest time at which one may be taken: `now_ms`, or later. */
uint64_t pace_free_ms(const struct pace *p, const struct pace_policy *policy,
                      uint64_t now_ms);
/* One is done, whether it was free or not. */
void pace_spend(struct pace *p, const struct pace_policy *policy, uint64_t now_ms);
/* Spends one that is free now; false: none is. */
bool pace_take(struct pace *p, const struct pace_policy *policy, uint64_t now_ms);
/* So many that were spent are not: they may be taken again. */
void pace_give_back(struct pace *p, const struct pace_policy *policy, unsigned n);

#endif
