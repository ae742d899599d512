/*
 * What the broker's public name stands for, asked beside its work: nobody waits for a
 * DNS server that is silent. Knows neither links nor devices.
 */
#ifndef POSTERN_BROKER_OWN_NAME_H
#define POSTERN_BROKER_OWN_NAME_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/plan.h"
#include "io/loop.h"

struct resolve;

struct own_name {
    struct loop *loop;
    struct plan *plan; /* borrowed */
    struct resolve *asked;
    struct timer again;
    uint32_t pause_ms;
    bool told; /* that it is not resolved */
};

/*
 * Asks until there is an answer, which the plan then holds for good; does nothing where
 * the broker has no name. What is wrong with it is said once.
 */
void own_name_start(struct own_name *n, struct plan *plan, struct loop *loop);
/* Also of what is all zero. */
void own_name_stop(struct own_name *n);

#endif
