/*
 * A program of this machine that takes the connections to a service by itself: each is
 * handed to it by the running `serve`, so that it listens nowhere and no other user of
 * the machine reaches it. What is spoken on them is not known here.
 */
#ifndef POSTERN_HOST_TAKER_H
#define POSTERN_HOST_TAKER_H

#include "io/loop.h"
#include "io/statedir.h"

/* -------------------------------------------------------------------- in `serve` */

/*
 * Hands a fresh connection to whoever has the other end of `taker`, with the name of
 * who comes. Our end of it, or -1 when it takes none.
 */
int taker_give(int taker, const char *who);

/* ------------------------------------------------------------------ in the program */

struct taker;

struct taker_events {
    /* `fd` is connected, non-blocking and yours; `who`: a device or account. */
    void (*on_connection)(void *ctx, int fd, const char *who);
    /* `serve` had ended, which was said, and is back: it is published again. */
    void (*on_back)(void *ctx);
};

/*
 * Publishes `service`, a SERVICE text (docs/CLI.md), through the `serve` of that state
 * directory until taker_close; when that ends, and starts again, through the next one.
 * The texts live as long as the taker. POSTERN_ERR_NOTFOUND when none runs; _INUSE when
 * the service's name is taken.
 */
MUST_CHECK int taker_open(struct taker **out, struct loop *loop,
                          const struct statedir *state, const char *service,
                          const char *program, const struct taker_events *events,
                          void *ctx, struct fault *f);
/* NULL is fine. */
void taker_close(struct taker *t);

#endif
