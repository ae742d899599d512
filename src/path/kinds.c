/* The table of path kinds, as core/kinds.h lists them. */
#include "path/kind.h"

#define ROW(kind, id, name, delay_ms, flags) [PATH_##kind] = &id##_kind,

const struct kind_ops *const kind_table[PATH_KIND_COUNT] = {PATH_KINDS(ROW)};
