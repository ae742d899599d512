/*
 * A hosts file of the machine with a block of ours in it (core/hosts_text.h): read,
 * changed and put in its place. Which names there are is not known here.
 */
#ifndef POSTERN_IO_HOSTS_FILE_H
#define POSTERN_IO_HOSTS_FILE_H

#include "core/hosts_text.h"

#define HOSTS_FILE "/etc/hosts"

/*
 * Makes the block of `owner` in the file at `path` say these names; with n = 0 there is
 * none afterwards. How it is written: io/textfile.h; a link is followed inside the
 * file's directory and refused where it leads out of it.
 * POSTERN_ERR_PERM, _FULL, _INVALID and others, with `f` filled.
 */
MUST_CHECK int hosts_file_set(const char *path, const char *owner,
                              const struct hosts_name *names, size_t n,
                              struct fault *f);

/*
 * The owner of the first block in the file at `path` behind the first `skip` ones.
 * POSTERN_ERR_NOTFOUND when there is none, and other errors with `f` filled.
 */
MUST_CHECK int hosts_file_owner(const char *path, size_t skip, char *owner, size_t cap,
                                struct fault *f);

/*
 * May what leads to 127.0.0.0/8 here be written into the file? False where a process
 * above this one sees the same file and another network (ip netns exec): there it would
 * mislead. Asks /proc, so call it before privileges are given up.
 */
MUST_CHECK bool hosts_file_is_of_this_network(const char *path);

#endif
