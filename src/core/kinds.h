/*
 * The names of the path kinds, in order of preference among equals. A kind's code is
 * one file in path/ and one row in path/kinds.c.
 */
#ifndef POSTERN_CORE_KINDS_H
#define POSTERN_CORE_KINDS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

enum path_kind {
    PATH_UDP_PUNCH,
    PATH_TCP_PUNCH,
    PATH_JIT_LISTEN,
    PATH_JIT_LISTEN_CLIENT,
    PATH_UDP_KNOCK,
    PATH_TCP_KNOCK,
    PATH_MAPPED,
    PATH_MAPPED_TCP,
    PATH_DIAL_OUT,
    PATH_SPOOF,
    PATH_RELAY,
    PATH_KIND_COUNT,
    PATH_KIND_NONE = PATH_KIND_COUNT,
};

#define PATH_KINDS_ALL ((1u << PATH_KIND_COUNT) - 1)
/* Off unless both sides switch them on. */
#define PATH_KINDS_OPTIONAL (1u << PATH_DIAL_OUT | 1u << PATH_SPOOF)
/* What carries packets in UDP; the relay and the other direct kinds do in TCP. */
#define PATH_KINDS_UDP                                                                 \
    (1u << PATH_UDP_PUNCH | 1u << PATH_UDP_KNOCK | 1u << PATH_MAPPED | 1u << PATH_SPOOF)
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
