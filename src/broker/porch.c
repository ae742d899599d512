/* Whose turn it is, and who goes; see porch.h. */
#include "broker/porch.h"

#include <stdbool.h>

#include "core/rng.h"

void porch_init(struct porch *p, struct addr_limits *limits, uint64_t seed)
{
    *p = (struct porch){.limits = limits, .rng = seed};
    list_init(&p->guests);
}

void porch_leave(struct porch *p, struct porch_guest *g)
{
    addr_limits_wait(p->limits, &g->place, false);
    list_remove(&g->link);
    p->count--;
}

/* Any of those whose address has as many here as `crowd`. */
static struct porch_guest *any_of(struct porch *p, uint32_t crowd)
{
    struct porch_guest *found = NULL;
    uint32_t seen = 0;
    for (struct list *n = p->guests.next; n != &p->guests; n = n->next) {
        struct porch_guest *g = LIST_OWNER(n, struct porch_guest, link);
        if (addr_limits_waiting(p->limits, &g->place) >= crowd &&
            rng_below(&p->rng, ++seen) == 0)
            found = g;
    }
    return found;
}

static uint32_t largest_crowd(const struct porch *p)
{
    uint32_t most = 0;
    for (struct list *n = p->guests.next; n != &p->guests; n = n->next) {
        struct porch_guest *g = LIST_OWNER(n, struct porch_guest, link);
        uint32_t crowd = addr_limits_waiting(p->limits, &g->place);
        if (crowd > most)
            most = crowd;
    }
    return most;
}

struct porch_guest *porch_enter(struct porch *p, struct porch_guest *g)
{
    struct porch_guest *out = NULL;
    list_push(&p->guests, &g->link);
    p->count++;
    addr_limits_wait(p->limits, &g->place, true);
    uint32_t crowd = addr_limits_waiting(p->limits, &g->place);
    if (crowd > LIMIT_LINE_PER_ADDRESS)
        out = any_of(p, crowd);
    else if (p->count > LIMIT_LINE)
        out = any_of(p, largest_crowd(p));
    if (out != NULL)
        porch_leave(p, out);
    return out;
}

struct porch_guest *porch_next(struct porch *p, uint64_t now_ms)
{
    struct porch_guest *next = NULL;
    uint32_t alike = 0;
    bool spare =
        bucket_take(&p->spare, LIMIT_RATE_SPARE, now_ms, 0) && p->spare.level > 0;
    for (struct list *n = p->guests.next; n != &p->guests; n = n->next) {
        struct porch_guest *g = LIST_OWNER(n, struct porch_guest, link);
        if (addr_limits_connect(p->limits, &g->place, now_ms)) {
            porch_leave(p, g);
            return g;
        }
        int order = next == NULL
                        ? -1
                        : addr_limits_spared_cmp(p->limits, &g->place, &next->place);
        alike = order < 0 ? 1 : alike + (order == 0);
        if (order < 0 || (order == 0 && rng_below(&p->rng, alike) == 0))
            next = g;
    }
    if (next == NULL || !spare)
        return NULL;
    (void)bucket_take(&p->spare, LIMIT_RATE_SPARE, now_ms, 1);
    addr_limits_note_spared(p->limits, &next->place, now_ms);
    porch_leave(p, next);
    return next;
}
