/*
 * A file that a person named: it may be a pipe into which nobody writes, or a
 * directory. What stands in it is not known here.
 */
#ifndef POSTERN_IO_GIVEN_FILE_H
#define POSTERN_IO_GIVEN_FILE_H

#include "core/err.h"

/*
 * Opens it for reading `what` ("the link", for words; or NULL): a descriptor, or a
 * negative error with `f`, also for a directory, and for a pipe into which nothing is
 * written for half a minute; that it is waited for is said. Blocks meanwhile.
 */
MUST_CHECK int given_file_open(const char *path, const char *what, struct fault *f);

#endif
