/* Virtual time: one agenda in microseconds. What happens when its time has come is the
 * owners' business. */
#ifndef POSTERN_SIM_CLOCK_H
#define POSTERN_SIM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/agenda.h"

struct vclock {
    struct agenda agenda;
    uint64_t now_us, rng;
};

/* Zeroed but for cb and ctx: not set. */
struct valarm {
    struct agenda_entry entry; /* first */
    void (*cb)(void *ctx);
    void *ctx;
};

void vclock_init(struct vclock *c, uint64_t seed);
/* At that time, or at once when it is past; one that is set is moved. */
void valarm_set(struct vclock *c, struct valarm *a, uint64_t at_us);
void valarm_off(struct vclock *c, struct valarm *a);
bool valarm_is_set(const struct valarm *a);
/* UINT64_MAX: nothing is to happen. */
uint64_t vclock_next_us(const struct vclock *c);
/* The next thing that is due by `until_us`; false, and that is the time, when there is
 * none. */
bool vclock_step(struct vclock *c, uint64_t until_us);

/* Uniform below `bound`. */
uint64_t vclock_random(struct vclock *c, uint64_t bound);
bool vclock_chance(struct vclock *c, unsigned permille);

#endif
