/* Sockets that are files (unix(7)): at a path of any length, listened at and connected.
 */
#ifndef POSTERN_IO_SOCKFILE_H
#define POSTERN_IO_SOCKFILE_H

#include <stdbool.h>
#include <sys/types.h>

/* Which file a listening socket has. */
struct sockfile {
    dev_t dev;
    ino_t ino;
};

/*
 * Listens at `path`, mode 0600, in the place of a socket that is there; with
 * `dead_only` only where nobody listens at that: else EADDRINUSE. Non-blocking and
 * close-on-exec, or -1 with errno; what was there before is left alone then.
 */
int sockfile_listen(const char *path, int backlog, bool dead_only, struct sockfile *f);
/* Whether that file still is there, and no other's who took the place. */
bool sockfile_is(const char *path, const struct sockfile *f);
/*
 * A connection, non-blocking, or -1 with errno: EAGAIN where too many wait there. With
 * `patience_s` a blocking one, which waits for so long.
 */
int sockfile_connect(const char *path, int patience_s);

#endif
