/*
 * The table of path kinds, in order of preference among equals. One that is only a plan
 * of an engine is a row here, any other an engine in path/ too; nothing else lists
 * them.
 */
#ifndef POSTERN_CORE_KINDS_H
#define POSTERN_CORE_KINDS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

/* Of a kind, below. */
enum {
    PATH_BY_BROKER = 1, /* the broker carries the bytes; all others are direct */
    PATH_OVER_UDP = 2,  /* packets in UDP; the others carry them in TCP */
    PATH_OPTIONAL = 4, /* off unless both sides switch it on, by an option of its own */
};

/*
 * All kinds: constant, engine in path/ (relay: relay_engine), name for people and
 * Offers, how many milliseconds it waits for a cheaper one, flags, and what it differs
 * in from others of its engine (struct meeting_plan). docs/METHODS.md has each at
 * length.
 *
 * tcp-punch: the host's SYN passes its own NATs and dies before the client's, one
 * router later in each step, since nobody knows how many there are; in the last it goes
 * all the way (RFC 9293 section 3.5, RFC 5382). First comes the prearranged connection
 * of firewalled-pair-central-station, where both sides have the privileged helper,
 * which also passes NATs that swallow SYNs from outside. jit-listen: just-in-time
 * listening (Woodstock, nls-jitl). The host opens its own firewall and listens for
 * under a second for that client alone; whoever else touches the port is sent away and
 * ends it. -client: the other way round, the host never listens. udp-knock, tcp-knock:
 * a packet with a number to a closed port of the host, whose filter knows it, reports
 * it and drops it; the host sends back to where it came from (US20050238034), a SYN to
 * a socket that has its own out. mapped, mapped-tcp: the host's router is asked to let
 * one port in (PCP, NAT-PMP, UPnP-IGD), for this client alone where that can be said;
 * by UDP else the client's. dial-out: the non-listening server of nls-jitl: the client
 * listens, the host dials. spoof: each side sends with the broker's address as source,
 * which the other's firewall has let in (firewalled-pair-central-station, figure 2);
 * docs/SECURITY.md says when.
 */
// clang-format off
#define PATH_KINDS(X)                                                                  \
    X(UDP_PUNCH, udp_punch, "udp-punch", 0, PATH_OVER_UDP, (0))                        \
    X(TCP_PUNCH, tcp_meet, "tcp-punch", 150, 0,                                        \
      (.host_opens = true, .predicts = true, .steps = 6, .step_ms = 300,               \
       .hops = {MEETING_HOPS_ARRANGED, MEETING_HOPS_BACK, 2, 3, 4, 0}))                \
    X(JIT_LISTEN, tcp_meet, "jit-listen", 250, 0,                                      \
      (.host_opens = true, .listens = true, .steps = 1, .hops = {2},                   \
       .step_ms = MEETING_WINDOW_MS))                                                  \
    X(JIT_LISTEN_CLIENT, tcp_meet, "jit-listen-client", 500, 0,                        \
      (.listens = true, .steps = 1, .hops = {2}, .step_ms = MEETING_WINDOW_MS))        \
    X(UDP_KNOCK, udp_meet, "udp-knock", 300, PATH_OVER_UDP,                            \
      (.knocks = true, .steps = MEETING_TURNS, .step_ms = MEETING_TURN_MS))            \
    X(TCP_KNOCK, tcp_meet, "tcp-knock", 500, 0,                                        \
      (.host_opens = true, .knocks = true, .steps = 1, .step_ms = 2500))               \
    X(MAPPED, udp_meet, "mapped", 300, PATH_OVER_UDP,                                  \
      (.maps = true, .steps = MEETING_TURNS, .step_ms = MEETING_TURN_MS))              \
    X(MAPPED_TCP, tcp_meet, "mapped-tcp", 600, 0,                                      \
      (.host_opens = true, .listens = true, .lasts = true, .maps = true, .steps = 1,   \
       .step_ms = 3000))                                                               \
    X(DIAL_OUT, tcp_meet, "dial-out", 0, PATH_OPTIONAL,                                \
      (.listens = true, .lasts = true, .steps = 1, .step_ms = 10000))                  \
    X(SPOOF, udp_meet, "spoof", 300, PATH_OPTIONAL | PATH_OVER_UDP,                    \
      (.spoofs = true, .steps = MEETING_TURNS, .step_ms = MEETING_TURN_MS))            \
    X(RELAY, relay, "relay", 0, PATH_BY_BROKER, (0))
// clang-format on

#define PATH_KIND_CONSTANT(kind, engine, name, delay_ms, flags, plan) PATH_##kind,
enum path_kind {
    PATH_KINDS(PATH_KIND_CONSTANT) PATH_KIND_COUNT,
    PATH_KIND_NONE = PATH_KIND_COUNT,
};

#define PATH_KINDS_ALL ((1u << PATH_KIND_COUNT) - 1)
#define PATH_KIND_OPTIONAL(kind, engine, name, delay_ms, flags, plan)                  \
    | ((flags)&PATH_OPTIONAL ? 1u << PATH_##kind : 0)
#define PATH_KINDS_OPTIONAL (0u PATH_KINDS(PATH_KIND_OPTIONAL))
#define PATH_KIND_UDP(kind, engine, name, delay_ms, flags, plan)                       \
    | ((flags)&PATH_OVER_UDP ? 1u << PATH_##kind : 0)
#define PATH_KINDS_UDP (0u PATH_KINDS(PATH_KIND_UDP))
#define PATH_KINDS_DEFAULT (PATH_KINDS_ALL & ~PATH_KINDS_OPTIONAL)

const char *path_kind_name(enum path_kind k);
/* PATH_KIND_NONE for a name that this version does not know. */
enum path_kind path_kind_from_name(const char *name);
/* True for kinds that go from device to device without the broker carrying bytes. */
bool path_kind_is_direct(enum path_kind k);
/*
 * How long a kind waits for a cheaper one before it starts, in microseconds: what costs
 * more packets is spared when UDP punching comes through at once.
 */
uint32_t path_kind_delay_us(enum path_kind k);
/* Parses "a,b,c" into a bit mask; fills `f` when a name is unknown or none is given. */
MUST_CHECK int path_kinds_parse(uint32_t *mask, const char *list, struct fault *f);

#endif
