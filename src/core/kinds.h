/*
 * The table of path kinds, in order of preference among equals. A kind is a row here
 * and a file in path/; nothing else lists them.
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
 * All kinds: constant, what its operations are called in path/ (relay: relay_kind), its
 * name for people and Offers, how many milliseconds it waits for a cheaper one, flags.
 */
// clang-format off
#define PATH_KINDS(X)                                                                  \
    X(UDP_PUNCH,         udp_punch,         "udp-punch",         0,   PATH_OVER_UDP)   \
    X(TCP_PUNCH,         tcp_punch,         "tcp-punch",         150, 0)               \
    X(JIT_LISTEN,        jit_listen,        "jit-listen",        250, 0)               \
    X(JIT_LISTEN_CLIENT, jit_listen_client, "jit-listen-client", 500, 0)               \
    X(UDP_KNOCK,         udp_knock,         "udp-knock",         300, PATH_OVER_UDP)   \
    X(TCP_KNOCK,         tcp_knock,         "tcp-knock",         500, 0)               \
    X(MAPPED,            mapped,            "mapped",            300, PATH_OVER_UDP)   \
    X(MAPPED_TCP,        mapped_tcp,        "mapped-tcp",        600, 0)               \
    X(DIAL_OUT,          dial_out,          "dial-out",          0,   PATH_OPTIONAL)   \
    X(SPOOF,             spoof,             "spoof",             300, PATH_OPTIONAL | PATH_OVER_UDP) \
    X(RELAY,             relay,             "relay",             0,   PATH_BY_BROKER)
// clang-format on

#define PATH_KIND_CONSTANT(kind, id, name, delay_ms, flags) PATH_##kind,
enum path_kind {
    PATH_KINDS(PATH_KIND_CONSTANT) PATH_KIND_COUNT,
    PATH_KIND_NONE = PATH_KIND_COUNT,
};

#define PATH_KINDS_ALL ((1u << PATH_KIND_COUNT) - 1)
#define PATH_KIND_OPTIONAL(kind, id, name, delay_ms, flags)                            \
    | ((flags)&PATH_OPTIONAL ? 1u << PATH_##kind : 0)
#define PATH_KINDS_OPTIONAL (0u PATH_KINDS(PATH_KIND_OPTIONAL))
#define PATH_KIND_UDP(kind, id, name, delay_ms, flags)                                 \
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
