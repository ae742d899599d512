/*
 * The checker's own books beside each device: what it was told, what it sent to whom,
 * what was answered. Written apart from core/punch.c, so that both must be wrong in the
 * same way for a fault to pass.
 */
#ifndef POSTERN_SIM_BOOK_H
#define POSTERN_SIM_BOOK_H

#include "agent.h"

/* A new generation of either side: counts begin anew. */
void book_reset(struct agent *a);
/* `addr` is a candidate, or the source of an authentic check. */
void book_allow(struct agent *a, const struct addr *addr);
void book_on_departure(struct agent *a, const struct punch_packet *p);
/* Before the device sees it, and after. */
void book_on_arrival(struct agent *a, unsigned sock, const struct world_packet *p);
void book_check_arrival(struct agent *a, unsigned sock, const struct world_packet *p,
                        int taken);
/* What must hold whenever the device has done all that is due. */
void book_check(struct agent *a);

#endif
