/* What the kernel said of a socket, in the words of core/err.h. */
#ifndef POSTERN_IO_OSERR_H
#define POSTERN_IO_OSERR_H

#include "core/err.h"

/*
 * The one map from errno: POSTERN_ERR_AGAIN (also of a connect under way and of a
 * signal), _REFUSED, _UNREACHABLE (no way there, or no such address or family on this
 * machine), _TIMEOUT, _RESET, _INUSE, _PERM, _LIMIT (memory or descriptors), else _IO.
 * Never 0.
 */
int oserr(int err);

#endif
