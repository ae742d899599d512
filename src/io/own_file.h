/*
 * Files in a directory of somebody's, made by root there (sudo): they are that user's,
 * who goes on with them.
 */
#ifndef POSTERN_IO_OWN_FILE_H
#define POSTERN_IO_OWN_FILE_H

#include "core/err.h"

/*
 * Gives `fd` to the owner of `dir`, where this is root. For what was made just now
 * (O_EXCL) only: the user may have put anything else there.
 */
void own_file_give(const char *dir, int fd);
/*
 * open(2) of `path` in `dir`, which is made with mode 0600 where it is missing; `mode`
 * is O_RDWR or so. Close it. Negative, with errno, on failure.
 */
MUST_CHECK int own_file_open(const char *dir, const char *path, int mode);

#endif
