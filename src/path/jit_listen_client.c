/*
 * jit-listen-client: the reverse of jit-listen. The client opens the temporary port,
 * the host connects out: the host never listens (nls-jitl's non-listening server).
 */
#include "path/meet.h"

static const struct meet_plan plan = {
    .kind = PATH_JIT_LISTEN_CLIENT,
    .host_opens = false,
    .listens = true,
    .steps = 1,
    .hops = {2},
    .step_ms = MEET_WINDOW_MS,
};

const struct kind_ops jit_listen_client_kind = MEET_KIND(plan);
