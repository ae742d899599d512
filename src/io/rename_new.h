/* A name for a file that nothing else has yet. */
#ifndef POSTERN_IO_RENAME_NEW_H
#define POSTERN_IO_RENAME_NEW_H

/*
 * renameat2(2) with RENAME_NOREPLACE, which not every libc has: 0, or -1 with errno;
 * EEXIST where `to` is there, EINVAL on a file system that cannot do it.
 */
int rename_new(int from_dir, const char *from, int to_dir, const char *to);

#endif
