/* The table of path kinds: a row each. */
#include "path/kind.h"

const struct kind_ops *const kind_table[PATH_KIND_COUNT] = {
    [PATH_UDP_PUNCH] = &udp_punch_kind,
    [PATH_TCP_PUNCH] = &tcp_punch_kind,
    [PATH_JIT_LISTEN] = &jit_listen_kind,
    [PATH_JIT_LISTEN_CLIENT] = &jit_listen_client_kind,
    [PATH_TCP_KNOCK] = &tcp_knock_kind,
    [PATH_UDP_KNOCK] = &udp_knock_kind,
    [PATH_MAPPED] = &mapped_kind,
    [PATH_MAPPED_TCP] = &mapped_tcp_kind,
    [PATH_DIAL_OUT] = &dial_out_kind,
    [PATH_SPOOF] = &spoof_kind,
    [PATH_RELAY] = &relay_kind,
};
