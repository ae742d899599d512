/* Runs the command that gets a certificate, in the background, one line when it fails.
 */
#ifndef POSTERN_HOST_CERTS_COMMAND_H
#define POSTERN_HOST_CERTS_COMMAND_H

#include <stdbool.h>

#include "core/err.h"
#include "io/loop.h"

struct renewal;

struct renewal_config {
    struct loop *loop;
    const char *command; /* for /bin/sh -c */
    const char *service; /* POSTERN_SERVICE */
    const char *name;    /* POSTERN_NAME: what the certificate is for */
    const char *certificate, *key;
    /* From the loop, once; `r` is gone afterwards. Not after renewal_cancel. */
    void (*on_end)(void *ctx, struct renewal *r, bool success);
    void *ctx;
};

/* Everything is copied. */
MUST_CHECK int renewal_start(struct renewal **out, const struct renewal_config *c);
/* Ends the command. NULL is fine. */
void renewal_cancel(struct renewal *r);

#endif
