/*
 * A text file that others own too (/etc/hosts, ~/.ssh/config), read whole and put in
 * its place changed. What it says is not known here.
 */
#ifndef POSTERN_IO_TEXTFILE_H
#define POSTERN_IO_TEXTFILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "core/err.h"

struct textfile {
    char path[PATH_MAX]; /* of the file itself: no link */
    char dir[PATH_MAX];
    int dir_fd, fd;
    struct stat st;
    char *text; /* not ended by a zero byte */
    size_t len;
};

/*
 * Reads it; at most 64 MiB. A link is followed, with `inside` only where it stays in
 * its directory. Until textfile_free the directory is locked against others who use
 * this. textfile_free in any case.
 */
MUST_CHECK int textfile_read(struct textfile *t, const char *path, bool inside,
                             struct fault *f);
/*
 * A new file takes the place of the old one, with its mode, owner and attributes; where
 * that cannot be, as when the file is a mount of its own, what differs is written into
 * it. Nothing is written where nothing differs. POSTERN_ERR_PERM, _FULL, ... with `f`.
 */
MUST_CHECK int textfile_write(const struct textfile *t, const char *text, size_t len,
                              struct fault *f);
void textfile_free(struct textfile *t);

#endif
