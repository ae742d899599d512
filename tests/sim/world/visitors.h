/*
 * People who come through the portal: anna, whose account may use the echo and who has
 * a stream through its port; and an intruder, who has an account for something else,
 * and tries to get at what is hers.
 */
#ifndef POSTERN_SIM_VISITORS_H
#define POSTERN_SIM_VISITORS_H

#include "browser.h"
#include "rig.h"

struct visitors {
    struct rig *rig;
    struct talker *talker;
    struct browser anna, bob; /* `bob` is the intruder's */
    uint16_t port;            /* where the echo was opened for anna */
    uint64_t longest_us;      /* that it took her to get in */
    struct task *intruder;
    unsigned tries, talks;
    enum {
        INTRUDER_LOST, /* no answer: the network */
        INTRUDER_REFUSED,
        INTRUDER_ENTERED,
    } came_to;
    const char *step;
    int knocks[96];
};

/* An account for these services, whose password is "password of NAME". */
void visitors_account(struct rig *r, const char *name, const char *services);
/* From a task. False: it is not logged in. */
bool visitors_log_in(struct browser *b, const char *name);
/* Makes the accounts; the broker has a portal, the host two services. */
void visitors_begin(struct visitors *v, struct rig *r);
/* Anna logs in where she is not, opens her port where it is not open, and then is that
 * talker. */
void visitors_talk(struct visitors *v, struct talker *t);
/* The intruder's next try, unless one is under way; what came of the last is looked at.
 */
void visitors_intrude(struct visitors *v);
/* The network is whole: each try is refused in words, a crowd of strangers keeps anna
 * out for no time and takes no more than its places, and she logs out. */
void visitors_end(struct visitors *v, bool crowd);
/* Anna comes once more, and goes. */
void visitors_use(struct visitors *v);

#endif
