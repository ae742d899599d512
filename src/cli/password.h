/* A new password from a person, a file or a pipe. */
#ifndef POSTERN_CLI_PASSWORD_H
#define POSTERN_CLI_PASSWORD_H

#include <stddef.h>

#include "core/err.h"

/*
 * The first line of `file`, where "-" is stdin. Without a file: asked for twice on the
 * terminal, unseen; or the first line of a stdin that is none. `out` is NUL-terminated;
 * wipe it. POSTERN_ERR_INVALID when it is shorter than `min` bytes or does not fit.
 */
MUST_CHECK int password_read(char *out, size_t cap, size_t min, const char *file,
                             struct fault *f);

#endif
