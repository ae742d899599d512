/* `postern share`: a directory as a web page that joined devices may read. */
#ifndef POSTERN_HOST_FOLDER_H
#define POSTERN_HOST_FOLDER_H

#include "core/err.h"
#include "io/events.h"
#include "io/statedir.h"

#define FOLDER_SERVICE "share"
#define FOLDER_PORT "80"

/*
 * Through the `serve` of that state directory, until it is ended: 0 after a signal.
 * Nothing can be written; no symbolic link is followed; names that begin with a dot are
 * not there.
 */
MUST_CHECK int folder_run(const struct statedir *state, const char *dir,
                          struct events *out, struct fault *f);

#endif
