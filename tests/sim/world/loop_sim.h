/* What the other files of the second io/ need of its loop. */
#ifndef POSTERN_SIM_LOOP_SIM_H
#define POSTERN_SIM_LOOP_SIM_H

#include "house.h"

struct machine *loop_machine(struct loop *l);
/* A job under way keeps the loop going. */
void loop_job_begins(struct loop *l);
void loop_job_ended(struct loop *l);

/* Addresses, cables or routes did; netmon.c. */
void machine_network_changed(struct machine *m);

#endif
