/*
 * Refusals that no scene of people in order meets: who speaks to the broker as no
 * program of ours does, and a second host, an office with an agent, whose services lead
 * nowhere. Each hears what is to be said then, and the others' service goes on.
 */
#ifndef POSTERN_SIM_REBUFFS_H
#define POSTERN_SIM_REBUFFS_H

#include "rig.h"

/* Another version, a host without the token, words that are none, a message before its
 * time, a flood of them, and of introductions: from the visitor's machine. */
void rebuffs_of_broker(struct rig *r);
/* At the intruder's machine, with the visitor's as a host of its LAN, which the agent
 * takes off its list. One device more connects from the client's machine. */
void rebuffs_of_office(struct rig *r);

#endif
