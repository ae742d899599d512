/*
 * `postern up` on the client's device, which others of its commands use: where its
 * services are and whether names lead there, what `status` says of the host, its end
 * and its next beginning. It stands in the rig in place of `connect`.
 */
#ifndef POSTERN_SIM_DAEMON_H
#define POSTERN_SIM_DAEMON_H

#include "rig.h"

struct daemon {
    struct rig *rig;
    uint32_t ip;          /* the echo's local address, which no restart changes */
    uint16_t port, clock; /* the clock has the same */
    bool hung;            /* once */
};

void daemon_start(struct daemon *d, struct rig *r);
/* Ends it in order, or kills it, and begins it anew after a while. */
void daemon_restart(struct daemon *d, uint64_t after_us);
void daemon_crash(struct daemon *d, uint64_t after_us);
/* It stands still, as under SIGSTOP, or goes on. */
void daemon_hang(struct daemon *d, bool begins);
/*
 * `status` must agree with what is known: a host of which `t`, a stream through a local
 * address, just heard is online; one that has not answered it for long is not, nor one
 * that is away and whose end was noticed: the stream broke.
 */
void daemon_look(struct daemon *d, const struct talker *t, bool away);
/* The host is there, and has had the time to be found. */
void daemon_expect_online(struct daemon *d);
/* A command that it carries, and what it says then. */
void daemon_use(struct daemon *d);

#endif
