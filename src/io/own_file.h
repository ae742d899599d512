/*
 * Files in a directory of somebody's. What root makes there (sudo) is that user's, who
 * goes on with it; and what the user put there leads root nowhere else: no link is
 * followed, and no file of a third is opened.
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
 * open(2) of `path` in `dir` or one below, which is made with mode 0600 where it is
 * missing; `mode` is O_RDWR or so. Close it. Negative, with errno, on failure: ELOOP
 * where own_file_check would fail.
 */
MUST_CHECK int own_file_open(const char *dir, const char *path, int mode);
/* The same to read one that is there. */
MUST_CHECK int own_file_read(const char *dir, const char *path);
/*
 * What stands at `path` is a file, no link, and its directory's owner's; or this user's
 * or root's, without a second name elsewhere. POSTERN_ERR_PERM with what it is. Nothing
 * there: 0.
 */
MUST_CHECK int own_file_check(const char *dir, const char *path, struct fault *f);

/*
 * Of a file that could not be opened: it is another's, and the directory this user's.
 * POSTERN_ERR_PERM with the chown to run; else 0, and errno is as it was.
 */
MUST_CHECK int own_file_of_another(const char *path, struct fault *f);

#endif
