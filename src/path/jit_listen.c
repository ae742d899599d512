/*
 * jit-listen: just-in-time listening (Woodstock, nls-jitl). When the broker has
 * introduced a client, the host sends a packet towards it, which opens its own
 * firewall, and listens for under a second for that client alone: whoever else touches
 * the port is sent away and ends it, and so do success, time, and a wrong first
 * message.
 */
#include "path/meet.h"

static const struct meet_plan plan = {
    .kind = PATH_JIT_LISTEN,
    .host_opens = true,
    .listens = true,
    .steps = 1,
    .hops = {2},
    .step_ms = MEET_WINDOW_MS,
};

const struct kind_ops jit_listen_kind = MEET_KIND(plan);
