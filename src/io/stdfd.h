/*
 * The standard descriptors of a program that was started without some of them (`>&-`).
 */
#ifndef POSTERN_IO_STDFD_H
#define POSTERN_IO_STDFD_H

#include <stdbool.h>

/*
 * The first thing that main does: opens /dev/null on each of 0, 1 and 2 that is closed,
 * for this program and those that it starts, so that no file or socket gets such a
 * number and is written to as if it were the output. Ends the process when even that
 * cannot be done.
 */
void stdfd_fill(void);

/* It was closed when this program began: what is written there reaches nobody. */
bool stdfd_was_closed(int fd);

/* It is the very socket that stdin is, as inetd and socat start programs. */
bool stdfd_is_stdin(int fd);

#endif
