/* The table of path kinds: a row each. */
#include "path/kind.h"

const struct kind_ops *const kind_table[PATH_KIND_COUNT] = {
    [PATH_UDP_PUNCH] = &udp_punch_kind,
    [PATH_RELAY] = &relay_kind,
};
