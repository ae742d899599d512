/*
 * Directories whose files are relied on: whose they are, and whether others could
 * change what is in them or put others in their place. What lies there, but for which
 * files hold secrets, is not known here.
 */
#ifndef POSTERN_IO_OWN_DIR_H
#define POSTERN_IO_OWN_DIR_H

#include <sys/types.h>

#include "core/err.h"

#define OWN_DIR_ANYBODY ((uid_t)-1)

/*
 * `dir` is the path of a directory without a link in it. Only its owner may write to
 * it, nobody else may read a file with keys in it, and only its owner, the owners of
 * those above it and root may put another in its place. It is that of `owner`, if one
 * is named. POSTERN_ERR_PERM where that does not hold, with the cure. One that is not
 * there is none of its business: 0.
 */
MUST_CHECK int own_dir_check(const char *dir, uid_t owner, struct fault *f);

#endif
