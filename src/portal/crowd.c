/* Counting by blocks of addresses; see crowd.h. */
#include "portal/crowd.h"

#include <string.h>

unsigned crowd_distance(const struct addr *a, const struct addr *b)
{
    size_t narrowest = a->family == ADDR_V4 ? 4 : a->scope != 0 ? 16 : 8;
    unsigned levels = a->family == ADDR_V4 ? 2 : a->scope != 0 ? 1 : CROWD_LEVELS;
    if (a->family == ADDR_NONE || a->family != b->family || a->scope != b->scope)
        return CROWD_LEVELS;
    for (unsigned level = 0; level < levels; level++)
        if (memcmp(a->ip, b->ip, narrowest - level) == 0)
            return level;
    return CROWD_LEVELS;
}

void crowd_add(struct crowd *c, const struct addr *other)
{
    for (unsigned level = crowd_distance(&c->around, other); level < CROWD_LEVELS;
         level++)
        c->count[level]++;
}

unsigned crowd_full(const struct crowd *c, unsigned max)
{
    unsigned level = 0;
    while (level < CROWD_LEVELS && c->count[level] < max << 2 * level)
        level++;
    return level;
}
