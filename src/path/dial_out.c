/*
 * dial-out: the non-listening server of Woodstock (nls-jitl). The client listens, and
 * tells the host where, anew whenever it moves; the host, which never listens, dials
 * out to it. Off unless both sides switch it on.
 */
#include "path/meet.h"

static const struct meet_plan plan = {
    .kind = PATH_DIAL_OUT,
    .host_opens = false,
    .listens = true,
    .lasts = true,
    .steps = 1,
    .step_ms = 10000,
};

const struct kind_ops dial_out_kind = MEET_KIND(plan);
