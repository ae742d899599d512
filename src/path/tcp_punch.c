/*
 * tcp-punch: a TCP connection through two NATs or firewalls. The host's SYN passes its
 * own NATs and dies before the client's (firewalled-pair-central-station's prearranged
 * connection, in its form without privileges: the one-way opener); the kernel's end
 * then waits for the client's SYN and answers it as if it were the answer to its own.
 * How many NATs there are nobody knows: the SYN dies one router later in each step, and
 * where both sides have the privileged helper the first step is the prearranged form
 * itself, which also passes NATs that swallow inbound SYNs;
 * in the last it goes all the way: simultaneous open (RFC 9293 section 3.5, RFC 5382).
 */
#include "path/meet.h"

static const struct meet_plan plan = {
    .kind = PATH_TCP_PUNCH,
    .host_opens = true,
    .steps = 6,
    .hops = {MEET_HOPS_ARRANGED, MEET_HOPS_ARRANGED_BACK, 2, 3, 4, 0},
    .step_ms = 300,
    .predicts = true,
};

const struct kind_ops tcp_punch_kind = MEET_KIND(plan);
