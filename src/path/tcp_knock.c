/*
 * tcp-knock: the client sends a SYN to a closed port of the host, whose packet filter
 * knows it by its sequence number, reports it and drops it; the host connects to the
 * port that it came from (US20050238034, TCP). The client's socket, which has its SYN
 * out, takes the host's for a simultaneous open (RFC 9293 section 3.5).
 */
#include "path/meet.h"

static const struct meet_plan plan = {
    .kind = PATH_TCP_KNOCK,
    .host_opens = true,
    .steps = 1,
    .step_ms = 2500,
    .knocks = true,
};

const struct kind_ops tcp_knock_kind = MEET_KIND(plan);
