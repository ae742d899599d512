/*
 * One listening socket on the loop: accepts what comes and hands it on. Without
 * descriptors or memory it neither turns nor repeats itself in the log: it stops
 * listening for a while, says so once, and later how often. Who waits is served when
 * others have ended, or told in time that he is not. Who may come in is not
 * known here.
 */
#ifndef POSTERN_IO_ACCEPTOR_H
#define POSTERN_IO_ACCEPTOR_H

#include <stdbool.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

struct acceptor;

struct acceptor_config {
    struct loop *loop;
    int fd; /* listening and non-blocking, of any family; taken over, also on failure */
    const char *who; /* for the log, as in "the broker"; borrowed */
    /*
     * From the loop. `fd` is the callee's: non-blocking, close-on-exec. `from` is
     * borrowed, and ADDR_NONE where the other end has none. The acceptor may be closed
     * here.
     */
    void (*on_connection)(void *ctx, int fd, const struct addr *from);
    /*
     * There is no descriptor left: true when the callee has closed one, and the next
     * connection is accepted at once. NULL: others are waited for.
     */
    bool (*make_room)(void *ctx);
    /*
     * So many descriptors are left to the rest of the program, at most a sixteenth of
     * all: with no more than those it is as if there were none. 0: all may be taken.
     */
    unsigned keep;
    /* With `keep`: when nobody was let in for so long, who waits is reset. 0: never. */
    unsigned patience_ms;
    void *ctx;
};

MUST_CHECK int acceptor_open(struct acceptor **out, const struct acceptor_config *c);
/* Closes the socket at once; no callback follows. NULL is fine. */
void acceptor_close(struct acceptor *a);
/* The listening socket, borrowed. */
int acceptor_fd(const struct acceptor *a);

#endif
