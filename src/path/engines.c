/* The table of path kinds, as core/kinds.h lists them. */
#include "path/kind.h"

#define ROW(kind, engine, name, delay_ms, flags, plan) [PATH_##kind] = &engine##_engine,

const struct kind_ops *const kind_table[PATH_KIND_COUNT] = {PATH_KINDS(ROW)};
