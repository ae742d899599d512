/* Sorts by the narrowest block first, and lets the wider ones take turns; see
 * candidates.h. */
#include "portal/candidates.h"

#include <stdlib.h>
#include <string.h>

static int by_number(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

/* Those of one proof, and of one block of so many bytes, together. */
static int compare(const struct candidate *a, const struct candidate *b, size_t v4,
                   size_t v6)
{
    int order = by_number(a->proof, b->proof);
    if (order == 0 && v4 > 0)
        order = by_number(a->from.family, b->from.family);
    if (order == 0)
        order = memcmp(a->from.ip, b->from.ip, a->from.family == ADDR_V6 ? v6 : v4);
    if (order == 0)
        order = by_number(a->turn, b->turn);
    return order != 0 ? order : by_number(a->host, b->host);
}

static int by_address(const void *a, const void *b)
{
    return compare(a, b, 4, 8);
}

static int by_block(const void *a, const void *b)
{
    return compare(a, b, 3, 6);
}

static int by_wide_block(const void *a, const void *b)
{
    return compare(a, b, 2, 4);
}

static int by_turn(const void *a, const void *b)
{
    return compare(a, b, 0, 0);
}

static bool is_together(const struct candidate *a, const struct candidate *b, size_t v4,
                        size_t v6)
{
    return a->proof == b->proof && a->from.family == b->from.family &&
           memcmp(a->from.ip, b->from.ip, a->from.family == ADDR_V6 ? v6 : v4) == 0;
}

void candidates_order(struct candidate *cs, size_t count)
{
    static const struct {
        int (*compare)(const void *a, const void *b);
        size_t v4, v6;
    } levels[] = {{by_address, 4, 8}, {by_block, 3, 6}, {by_wide_block, 2, 4}};
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++)
        cs[i].turn = 0;
    for (size_t l = 0; l < sizeof(levels) / sizeof(levels[0]); l++) {
        qsort(cs, count, sizeof(cs[0]), levels[l].compare);
        for (size_t i = 0; i < count; i++) {
            bool same =
                i > 0 && is_together(&cs[i - 1], &cs[i], levels[l].v4, levels[l].v6);
            cs[i].turn = same ? cs[i - 1].turn + 1 : 0;
        }
    }
    qsort(cs, count, sizeof(cs[0]), by_turn);
}
