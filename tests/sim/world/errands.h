/*
 * What people do once, while everything is in order: ask for what they may not have,
 * take a device off the list, and decide as the owner in the portal. Each refusal comes
 * at once, and what was decided counts at once.
 */
#ifndef POSTERN_SIM_ERRANDS_H
#define POSTERN_SIM_ERRANDS_H

#include "rig.h"

/* No such service, one where nobody listens, one that the device may not use, and a
 * device that was taken off the list. Two devices more connect from the client's
 * machine, one after the other. */
void errands_refusals(struct rig *r);
/* Makes olga's account, who owns the host. */
void errands_owner_begin(struct rig *r);
/* She lets a device in and takes it off again, and somebody who is no owner cannot. The
 * device uses the echo once. One device more connects from the client's machine. */
void errands_owner(struct rig *r);

#endif
