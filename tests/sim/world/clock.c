/* See clock.h. */
#include "clock.h"

#include "core/rng.h"

enum { START_US = 1000000000 }; /* no program ever sees a clock that began just now */

void vclock_init(struct vclock *c, uint64_t seed)
{
    *c = (struct vclock){.now_us = START_US, .rng = seed};
}

void valarm_set(struct vclock *c, struct valarm *a, uint64_t at_us)
{
    agenda_leave(&c->agenda, &a->entry);
    agenda_enter(&c->agenda, &a->entry, at_us > c->now_us ? at_us : c->now_us);
}

void valarm_off(struct vclock *c, struct valarm *a)
{
    agenda_leave(&c->agenda, &a->entry);
}

bool valarm_is_set(const struct valarm *a)
{
    return a->entry.entered;
}

uint64_t vclock_next_us(const struct vclock *c)
{
    return c->agenda.first != NULL ? c->agenda.first->due : UINT64_MAX;
}

bool vclock_step(struct vclock *c, uint64_t until_us)
{
    uint64_t due = vclock_next_us(c);
    struct agenda_entry *e = agenda_take(&c->agenda, until_us, UINT64_MAX);
    if (e == NULL) {
        if (until_us > c->now_us)
            c->now_us = until_us;
        return false;
    }
    struct valarm *a = (struct valarm *)(void *)e;
    c->now_us = due;
    a->cb(a->ctx);
    return true;
}

uint64_t vclock_random(struct vclock *c, uint64_t bound)
{
    return rng_below(&c->rng, bound);
}

bool vclock_chance(struct vclock *c, unsigned permille)
{
    return permille > 0 && rng_below(&c->rng, 1000) < permille;
}
