/*
 * mapped-tcp: mapped where UDP is dead. The host asks its router for one TCP port, for
 * this client alone where the protocol can say so, and listens there for as long as a
 * try lasts; other addresses are reset.
 */
#include "path/meet.h"

static const struct meet_plan plan = {
    .kind = PATH_MAPPED_TCP,
    .host_opens = true,
    .listens = true,
    .lasts = true,
    .maps = true,
    .steps = 1,
    .step_ms = 3000,
};

const struct kind_ops mapped_tcp_kind = MEET_KIND(plan);
